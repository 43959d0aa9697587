"""What the study of the book measures: simulated and trained networks beside the recursions."""

from __future__ import annotations

import math
from typing import Any

import torch

import kadanoff as kd
from kadanoff.critical import criticality
from kadanoff.ensembles import scaling
from kadanoff.learning.correction import measure_correction, network_ntk
from kadanoff.learning.trained import draw_batch, train_weights
from kadanoff.rgflow.growth import compare_asymptotics

__all__ = [
    "agreement",
    "classes",
    "collapse",
    "kernel",
    "laws",
    "movement",
    "orthogonal",
    "prediction",
    "tangent",
    "trained",
    "vertex",
]

ONE = torch.ones(1, 4, dtype=torch.float64)


def classes(name: str) -> dict[str, Any]:
    """Critical initialisation and universality class of an activation."""
    point = criticality(name)
    if not point.exists:
        return {"class": "not critical", "C_b": None, "C_W": None}
    return {"class": point.universality_class, "C_b": float(point.C_b), "C_W": float(point.C_W)}


def kernel(name: str, C_W: float, depth: int, width: int, networks: int, seed: int) -> Any:
    """The kernel with depth at K = 1 in the first layer: infinite width and simulated means."""
    arch = kd.MLP(4, [width] * (depth - 1), 1, name, C_W=C_W)
    X = ONE / C_W**0.5
    found = kd.ensemble(arch, X, networks, seed=seed, observables=["K"])
    flow = kd.flow(arch, X)
    return {
        "layers": list(range(1, depth + 1)),
        "predicted": flow.K.flatten(),
        "measured": found.K.value.flatten(),
        "stderr": found.K.stderr.flatten(),
    }


def vertex(name: str, depth: int, widths: list[int], networks: int, seed: int) -> Any:
    """V/K² at criticality: predicted at infinite width; simulated, and extrapolated in 1/n."""
    point = criticality(name)
    arch = kd.MLP(4, [widths[0]] * (depth - 1), 1, name, C_b=float(point.C_b), C_W=float(point.C_W))
    K = float(point.K_star) if 0 < float(point.K_star) < math.inf else 1.0
    X = ONE * ((K - float(point.C_b)) / float(point.C_W)) ** 0.5
    flow = kd.flow(arch, X, order=1)
    assert flow.V is not None
    found = scaling(arch, X, widths, networks, seed=seed, observables=["V"])
    scale = flow.K.flatten() ** 2
    limit = found.limit["V"]
    return {
        "layers": list(range(1, depth + 1)),
        "predicted": flow.V.flatten() / scale,
        "limit": limit.value.flatten() / scale,
        "stderr": limit.stderr.flatten() / scale,
        "remainder": found.remainder["V"].flatten() / scale,
        "finite": [
            [w, e.V.value.flatten() / scale, e.V.stderr.flatten() / scale]
            for w, e in zip(found.widths, found.ensembles, strict=True)
        ],
    }


def collapse(width: int, depth: int, networks: int, seed: int) -> Any:
    """Relative variance of the ReLU metric of one width, layer by layer."""
    arch = kd.MLP(4, [width] * (depth - 1), 1, "relu", C_W=2.0)
    found = kd.ensemble(arch, ONE / 2**0.5, networks, seed=seed, observables=["V"])
    return {
        "ratio": [l / width for l in range(depth)],
        "value": found.V.value.flatten() / width,
        "stderr": found.V.stderr.flatten() / width,
    }


def agreement(names: str, depth: int, widths: list[int], networks: int, seed: int) -> Any:
    """Every observable of ``names`` at the last layer of a tanh network, against its limit."""
    arch = kd.MLP(
        4,
        [widths[0]] * (depth - 1),
        1,
        "tanh",
        C_W=1.0,
        lambda_b=[1.0 / l for l in range(1, depth + 1)],
    )
    flow = kd.flow(arch, ONE, order=1)
    found = scaling(arch, ONE, widths, networks, seed=seed, observables=list(names), layers=[depth])
    lines = kd.compare(flow, found).lines
    return [[x.observable, x.predicted, x.measured, x.stderr, x.systematic] for x in lines]


def tangent(name: str, depth: int, width: int, networks: int, seed: int) -> Any:
    """Mean NTK with depth, equal rates and the book's rates: infinite width and simulated."""
    out = {}
    for kind in ("equal", "scaled"):
        rates: Any = {"lambda_b": 1.0, "lambda_W": 1.0}
        if kind == "scaled" and name == "tanh":
            rates = {"lambda_b": [1.0 / l for l in range(1, depth + 1)], "lambda_W": 1.0}
        elif kind == "scaled":
            rates = {"lambda_b": 1.0 / depth, "lambda_W": 1.0 / depth}
        C_W = 1.0 if name == "tanh" else 2.0
        arch = kd.MLP(4, [width] * (depth - 1), 1, name, C_W=C_W, **rates)
        X = ONE / C_W**0.5
        found = kd.ensemble(arch, X, networks, seed=seed, observables=["Theta"])
        out[kind] = {
            "predicted": kd.flow(arch, X).Theta.flatten(),
            "measured": found.Theta.value.flatten(),
            "stderr": found.Theta.stderr.flatten(),
        }
    return out


def laws(name: str, depth: int) -> Any:
    """Growth with depth: [ratio, coefficient, what the recursion does at this depth]."""
    return [[g.ratio, g.coefficient, g.measured] for g in compare_asymptotics(name, depth)]


def task(width: int) -> tuple[Any, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two training points, one test point and two outputs for a tanh network."""
    arch = kd.MLP(2, [width], 2, "tanh", C_b=0.3, C_W=1.5, lambda_b=0.3, lambda_W=0.9)
    X = torch.tensor([[1.2, 0.3], [-0.5, 1.1], [0.6, 1.0]], dtype=torch.float64)
    y = 2 * torch.tensor([[1.0, 0.4], [-0.7, 0.8]], dtype=torch.float64)
    return arch, X[:2], y, X[2:]


def step_size() -> float:
    """Half of the inverse of the sharpest direction at infinite width."""
    arch, X, _, _ = task(8)
    return 0.5 / float(torch.linalg.eigvalsh(kd.flow(arch, X).Theta[-1])[-1])


def movement(width: int, networks: int, seed: int) -> Any:
    """How far the NTK moves in training, relative to its size: mean over networks, and RMS."""
    arch, X, y, _ = task(width)
    generator = torch.Generator().manual_seed(seed)
    weights = draw_batch(arch, networks, generator, antithetic=True)
    before = network_ntk(arch, weights, X)
    train_weights(arch, weights, X, y, 0.5 * step_size(), 2000, tolerance=1e-3)
    change = network_ntk(arch, weights, X) - before
    size = before.mean(0).diagonal().mean()
    # the trace over points and outputs; partners of a pair count as one network
    trace = change.diagonal(dim1=1, dim2=2).mean(1) / size
    pairs = trace.view(2, -1).mean(0)
    rms = change.square().mean((1, 2)).mean().sqrt() / size
    return [float(pairs.mean()), float(pairs.std() / len(pairs) ** 0.5), float(rms)]


def trained(width: int, pairs: int, seed: int, algorithm: str = "descent") -> Any:
    """n (mean output of trained networks − infinite width) at the test point, both outputs.

    Parameters
    ----------
    width : int
    pairs : int
        Networks and their mirror images.
    seed : int
    algorithm : {"descent", "giant_leap"}
        The way to the end of training.
    """
    arch, X, y, X_test = task(width)
    flow = kd.flow(arch, torch.cat([X, X_test]))
    found = measure_correction(
        arch,
        flow.K[-1],
        flow.Theta[-1],
        X,
        y,
        X_test,
        eta=step_size(),
        pairs=pairs,
        seed=seed,
        tolerance=1e-6,
        algorithm=algorithm,
    )
    return [found.value[0], found.stderr[0]]


def prediction() -> Any:
    """The same correction by theory, with its terms."""
    width = 1000
    arch, X, y, X_test = task(width)
    found = kd.predict(arch, X, y, X_test, order=1, eta=step_size())
    leading = kd.predict(arch, X, y, X_test, order=0, eta=step_size())
    return (found.mean - leading.mean)[0] * width


def orthogonal(depth: int, width: int, networks: int, seed: int) -> Any:
    """V/K² of critical tanh with orthogonal weights: predicted, and simulated at one width."""
    arch = kd.MLP(width, [width] * (depth - 1), width, "tanh", C_W=1.0, init="orthogonal")
    X = torch.ones(1, width, dtype=torch.float64)
    flow = kd.flow(arch, X, order=1)
    assert flow.V is not None
    found = kd.ensemble(arch, X, networks, "weights", seed=seed, observables=["V", "K"])
    scale = flow.K.flatten() ** 2
    return {
        "layers": list(range(1, depth + 1)),
        "predicted": flow.V.flatten() / scale,
        "measured": found.V.value.flatten() / scale,
        "stderr": found.V.stderr.flatten() / scale,
    }
