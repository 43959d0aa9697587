"""What is computed: real images as bits, networks trained on them, and their spectra."""

from __future__ import annotations

import math
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

__all__ = ["bits_of_digits", "classifier", "effective_dimensions", "function_on_bits"]


def bits_of_digits(bits: int, seed: int) -> dict[str, Any]:
    """Digits as few bits: train and test, with labels ±1 for even and odd.

    A bit says whether a pixel is brighter than its median; the pixels are those that tell most
    about the label, on the training half.
    """
    from sklearn.datasets import load_digits
    from sklearn.feature_selection import mutual_info_classif

    raw: Any = load_digits()
    order = np.random.default_rng(seed).permutation(len(raw.data))
    x, y = raw.data[order], np.where(raw.target[order] % 2 == 0, 1.0, -1.0)
    cut = len(x) * 2 // 3
    X = np.where(x > np.median(x[:cut], 0), 1.0, -1.0)
    told = mutual_info_classif(
        X[:cut], y[:cut], discrete_features=cast(Any, True), random_state=seed
    )
    best = np.sort(np.argsort(told)[-bits:])
    return {"x": X[:cut][:, best], "y": y[:cut], "x_test": X[cut:][:, best], "y_test": y[cut:]}


def _train(model: nn.Module, x: Tensor, loss: Any, steps: int, seed: int, rate: float) -> None:
    """Adam with a falling rate on batches of 128; ``loss`` is (outputs, picked rows) ↦ scalar."""
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
        pick = torch.randint(len(x), (128,), generator=generator)
        value = loss(model(x[pick]), pick)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()


def _network(widths: list[int], seed: int) -> nn.Sequential:
    """Critical ReLU network, C_W = 2, no biases at the start."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for a, b in zip(widths[:-1], widths[1:]):  # noqa: RUF007 - pairs of sizes, read as such
        linear = nn.Linear(a, b)
        with torch.no_grad():
            linear.weight.copy_((2 / a) ** 0.5 * torch.randn(b, a, generator=generator))
            linear.bias.zero_()
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def function_on_bits(bits: int, kept: int, steps: int, seed: int) -> dict[str, Any]:
    """Walsh spectra of one network at random, trained on real and on shuffled labels; its NTK."""
    import kadanoff as kd
    from kadanoff.studies.sparsity_principle.hypercube import (
        effective_couplings,
        inverse_walsh,
        points,
        walsh,
        weight_by_degree,
    )

    data = bits_of_digits(bits, seed)
    x = torch.tensor(data["x"], dtype=torch.float32)
    y = torch.tensor(data["y"], dtype=torch.float32)
    shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))]
    corners = torch.tensor(points(bits), dtype=torch.float32)
    # the number of each test image's corner: points() counts in binary
    place = {tuple(row): k for k, row in enumerate(points(bits).astype(int).tolist())}
    at = np.array([place[tuple(row)] for row in data["x_test"].astype(int).tolist()])
    out: dict[str, Any] = {"spectra": {}, "couplings": {}, "degree": {}}
    share = {}
    for name, labels in (("random", None), ("real labels", y), ("shuffled labels", shuffled)):
        model = _network([bits, 64, 64, 1], seed)
        if labels is not None:

            def loss(z: Tensor, pick: Tensor, labels: Tensor = labels) -> Tensor:
                return nn.functional.softplus(-labels[pick] * z[:, 0]).mean()

            _train(model, x, loss, steps, seed, 3e-3)
        with torch.no_grad():
            # what the network says of a corner: the mean label it expects
            f = torch.tanh(model(corners)[:, 0] / 2).double().numpy()
        spectrum = walsh(f)
        weight = np.asarray(weight_by_degree(spectrum))
        out["couplings"][name] = float(effective_couplings(spectrum))
        out["spectra"][name] = weight.tolist()
        out["degree"][name] = float((weight * np.arange(len(weight))).sum() / weight.sum())
        if name != "shuffled labels":
            subset = x[:300].double()
            gram = (
                kd.empirical_ntk(model.double(), subset, subset).detach().numpy().reshape(300, 300)
            )
            vectors = np.linalg.eigh(gram)[1][:, -10:]
            target = data["y"][:300] / math.sqrt(300)
            share[name] = float(((vectors.T @ target) ** 2).sum())
        if name == "real labels":
            small = np.zeros_like(spectrum)
            largest = np.argsort(np.abs(spectrum))[-kept:]
            small[largest] = spectrum[largest]
            out["accuracy"] = float((np.sign(f[at]) == data["y_test"]).mean())
            few = np.sign(inverse_walsh(small))
            out["accuracy few"] = float((few[at] == data["y_test"]).mean())
    out["share"] = share
    out |= _plain(data)
    return out


def _plain(data: dict[str, Any]) -> dict[str, float]:
    """Held-out accuracy of one class, a linear rule and 15 neighbours on the same bits."""
    from sklearn.linear_model import RidgeClassifier
    from sklearn.neighbors import KNeighborsClassifier

    x, y, x_test, y_test = (data[name] for name in ("x", "y", "x_test", "y_test"))
    most = 1.0 if y.sum() > 0 else -1.0
    return {
        "one class": float((y_test == most).mean()),
        "linear": float(RidgeClassifier().fit(x, y).score(x_test, y_test)),
        "15 neighbours": float(KNeighborsClassifier(15).fit(x, y).score(x_test, y_test)),
    }


def classifier(depth: int, width: int, steps: int, seed: int) -> dict[str, Any]:
    """Effective dimensions of every layer's Gram matrix on held-out digits, random and trained."""
    from kadanoff.studies.lazy_neurons.toy import digits

    data = digits(seed)
    model = _network([64, *[width] * depth, 10], seed)
    before = _dimensions(model, data.x_test)

    def loss(z: Tensor, pick: Tensor) -> Tensor:
        return nn.functional.cross_entropy(z, data.y[pick])

    _train(model, data.x, loss, steps, seed, 1e-3)
    with torch.no_grad():
        right = (model(data.x_test).argmax(1) == data.y_test).double().mean()
    return {
        "random": before,
        "trained": _dimensions(model, data.x_test),
        "accuracy": float(right),
    }


@torch.no_grad()
def _dimensions(model: nn.Sequential, x: Tensor) -> list[float]:
    found = [effective_dimensions(x)]
    for layer in list(model)[:-1]:
        x = layer(x)
        if isinstance(layer, nn.ReLU):
            found.append(effective_dimensions(x))
    return found


def effective_dimensions(x: Tensor) -> float:
    """(Σ λ)²/Σ λ² of the covariance of rows: how many directions share the variance."""
    centred = (x - x.mean(0)).double()
    gram = centred.T @ centred
    return float(gram.trace() ** 2 / gram.square().sum())
