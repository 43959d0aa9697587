"""What is computed: plain values in and out, so that each part survives a kill."""

from __future__ import annotations

from typing import Any

__all__ = [
    "NOISE",
    "cells",
    "decode",
    "on_digits",
    "plain_learners",
    "pull",
    "symbol_entropy",
    "train_run",
]

# share of training labels replaced at random
NOISE = (0.0, 0.4, 0.8)


def cells(full: bool) -> dict[str, tuple[str, int, dict[str, Any]]]:
    """Return name → (run in `kadanoff.studies.lazy_neurons.runs`, seeds, settings)."""
    text: dict[str, Any] = {"steps": 240, "every": 80, "batch": 8}
    # to competence: the nearest neighbours of this data set reach 97 %
    vit: dict[str, Any] = {"steps": 800, "d": 32, "m": 128, "layers": 2, "batch": 64}
    gauss, wide, narrow, k, seeds, many = 600, 512, 128, 16, 6, 8
    if not full:
        text |= {"steps": 80, "every": 20, "d": 32, "batch": 8, "length": 32}
        vit |= {"steps": 25, "d": 16, "m": 64, "batch": 32}
        gauss, wide, narrow, k, seeds, many = 150, 256, 64, 16, 3, 3
    long = {"steps": 640, "every": 80} if full else {}
    found: dict[str, tuple[str, int, dict[str, Any]]] = {
        "text": ("on_text", seeds, text | {"m": wide} | long),
        "narrow": ("on_text", seeds, text | {"m": narrow}),
        "shallow": ("on_text", seeds, text | {"m": wide, "layers": 1}),
        "Top-k text": ("on_text", seeds, text | {"m": wide, "k": k}),
        "random symbols": ("on_text", seeds, text | {"m": wide, "inputs": "random"}),
        "endless chain": ("on_text", seeds, text | {"m": wide, "inputs": "fresh"}),
        "random labels": ("on_digits", many, vit | {"label_noise": 1.0}),
        "random images": ("on_digits", many, vit | {"inputs": "random"}),
        "MLP, digits": ("on_digits", many, vit | {"model": "mlp"}),
        "MLP, Gaussian inputs": ("on_gaussian", seeds, {"steps": gauss}),
        "MLP, random labels": ("on_gaussian", seeds, {"steps": gauss, "labels": "random"}),
    }
    for noise in NOISE:
        for top in (None, 16 if full else 8):
            settings = vit | {"label_noise": noise, "k": top}
            found[on_digits(noise, top is not None)] = ("on_digits", many, settings)
    return found


def on_digits(noise: float, top: bool) -> str:
    """Name of the cell of a ViT on digits."""
    return f"{'Top-k' if top else 'dense'}, {noise:.0%} label noise"


def train_run(run: str, settings: dict[str, Any], seed: int, device: str) -> dict[str, Any]:
    """One training run."""
    from kadanoff.studies.lazy_neurons import runs

    return getattr(runs, run)(seed=seed, device=device, **settings)


def plain_learners(noise: float, seeds: list[int]) -> dict[str, list[float]]:
    """Accuracy on the same digits, a number a seed: always one class, ridge, 15 neighbours.

    ``gaussian`` and ``impulse`` are of the neighbours, on the corrupted images of the networks.
    """
    import torch
    from sklearn.linear_model import RidgeClassifier
    from sklearn.neighbors import KNeighborsClassifier

    from kadanoff.studies.lazy_neurons.toy import digits

    found: dict[str, list[float]] = {"one class": [], "ridge": [], "15 neighbours": []}
    found |= {"gaussian": [], "impulse": []}
    for seed in seeds:
        data = digits(seed, noise)
        x, y, x_test, y_test = (v.numpy() for v in (data.x, data.y, data.x_test, data.y_test))
        found["one class"].append(float((y_test == torch.mode(data.y).values.item()).mean()))
        found["ridge"].append(float(RidgeClassifier(alpha=10.0).fit(x, y).score(x_test, y_test)))
        neighbours = KNeighborsClassifier(15).fit(x, y)
        found["15 neighbours"].append(float(neighbours.score(x_test, y_test)))
        generator = torch.Generator().manual_seed(4000 + seed)
        noisy = torch.randn(data.x_test.shape, generator=generator)
        struck = torch.rand(data.x_test.shape, generator=generator) < 0.15
        extreme = torch.where(noisy > 0, data.x_test.max(), data.x_test.min())
        hit = torch.where(struck, extreme, data.x_test)
        found["gaussian"].append(
            float(neighbours.score((data.x_test + 0.7 * noisy).numpy(), y_test))
        )
        found["impulse"].append(float(neighbours.score(hit.numpy(), y_test)))
    return found


def symbol_entropy() -> dict[str, float]:
    """Held-out nats a character of the text by counts alone: single characters, and pairs."""
    import torch

    from kadanoff.studies.lazy_neurons.toy import text

    data = text()
    n = len(data.symbols)
    single = torch.bincount(data.train, minlength=n).double() + 1
    pairs = torch.bincount(data.train[:-1] * n + data.train[1:], minlength=n * n).double() + 0.1
    alone = (single / single.sum()).log()[data.valid[1:]]
    table = pairs.view(n, n)
    given = (table / table.sum(1, keepdim=True)).log()[data.valid[:-1], data.valid[1:]]
    return {"characters": -float(alone.mean()), "pairs": -float(given.mean())}


def pull(loss: str, seed: int) -> list[Any]:
    """Slope of the mean gradient against the activation: closed form, draws."""
    import torch

    from kadanoff.sparsity import drift, drift_monte_carlo

    p = torch.randn(128, generator=torch.Generator().manual_seed(seed)).relu().double()
    closed = float(drift(p, 0.1, 10, loss) @ p / (p @ p))
    slopes = []
    for draw in range(40):
        mean, _ = drift_monte_carlo(p, 0.1, 10, loss, n_draws=150, seed=1000 * seed + draw)
        slopes.append(float(mean @ p / (p @ p)))
    return [closed, slopes]


def decode(d: int, m: int, k: int, symbols: int, seed: int) -> dict[str, Any]:
    """Time a token of a Top-k decoder with all rows read, and with the active ones alone."""
    import time

    import torch

    from kadanoff.sparsity import accelerate, acceleration_of
    from kadanoff.studies.lazy_neurons.toy import Decoder, generate

    model = Decoder(64, d, m, 3, length=symbols + 8, k=k, seed=seed).eval()
    prompt = torch.arange(8).unsqueeze(0)
    fast: Any = accelerate(model, prompt[:, -1:])
    same = torch.equal(generate(model, prompt, symbols), generate(fast, prompt, symbols))
    saved = []
    for _ in range(7):
        start = time.perf_counter()
        generate(model, prompt, symbols)
        middle = time.perf_counter()
        generate(fast, prompt, symbols)
        saved.append(1 - (time.perf_counter() - middle) / (middle - start))
    return {
        "same": same,
        "saved": saved,
        "choices": [b.choice for b in acceleration_of(fast).blocks],
    }
