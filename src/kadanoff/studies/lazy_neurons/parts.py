"""What is computed: plain values in and out, so that each part survives a kill."""

from __future__ import annotations

from typing import Any

__all__ = ["NOISE", "cells", "decode", "on_digits", "pull", "train_run"]

# share of training labels replaced at random
NOISE = (0.0, 0.4, 0.8)


def cells(full: bool) -> dict[str, tuple[str, int, dict[str, Any]]]:
    """Return name → (run in `kadanoff.studies.lazy_neurons.runs`, seeds, settings)."""
    text: dict[str, Any] = {"steps": 200, "every": 50, "batch": 8}
    vit: dict[str, Any] = {"steps": 150, "d": 32, "m": 128, "layers": 2, "batch": 32}
    gauss, wide, narrow, k, seeds, many = 600, 512, 128, 16, 3, 5
    if not full:
        text |= {"steps": 80, "every": 20, "d": 32, "batch": 8, "length": 32}
        vit |= {"steps": 25, "d": 16, "m": 64}
        gauss, wide, narrow, k, many = 150, 256, 64, 16, 3
    long = {"steps": 600} if full else {}
    found: dict[str, tuple[str, int, dict[str, Any]]] = {
        "text": ("on_text", seeds, text | {"m": wide} | long),
        "narrow": ("on_text", seeds, text | {"m": narrow}),
        "shallow": ("on_text", seeds, text | {"m": wide, "layers": 1}),
        "Top-k text": ("on_text", seeds, text | {"m": wide, "k": k}),
        "random symbols": ("on_text", seeds, text | {"m": wide, "inputs": "random"}),
        "endless chain": ("on_text", seeds, text | {"m": wide, "inputs": "fresh"}),
        "random labels": ("on_digits", seeds, vit | {"label_noise": 1.0}),
        "random images": ("on_digits", seeds, vit | {"inputs": "random"}),
        "MLP, digits": ("on_digits", seeds, vit | {"model": "mlp"}),
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
