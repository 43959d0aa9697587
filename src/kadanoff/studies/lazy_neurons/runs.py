"""The lazy-neuron paper's claims as runs that return numbers, at a scale two cores carry.

Every run is one seed and returns a dict; error bars come from repeating over seeds
(:func:`over_seeds`). Held in short form by ``tests/studies/lazy_neurons/test_runs.py``; the
claims are decided by the study ``lazy-neurons``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kadanoff.errors import UsageError
from kadanoff.sparsity.profiles import profile
from kadanoff.studies.lazy_neurons.toy import Chain, Decoder, Vit, digits, text, train

__all__ = ["calibration_error", "on_digits", "on_gaussian", "on_text", "over_seeds"]


def over_seeds(run: Callable[..., dict[str, Any]], seeds: Iterable[int], **options: Any) -> dict:
    """Mean and standard error over seeds of every number of ``run(seed=…, **options)``."""
    rows = [run(seed=seed, **options) for seed in seeds]
    if len(rows) < 2:
        raise UsageError("One seed has no error bar.", "Pass two or more.")
    table = {}
    for key, value in rows[0].items():
        if isinstance(value, float):
            values = torch.tensor([row[key] for row in rows], dtype=torch.float64)
            table[key] = (float(values.mean()), float(values.std() / len(rows) ** 0.5))
    return table


def on_text(
    seed: int = 0,
    steps: int = 300,
    d: int = 64,
    m: int = 512,
    layers: int = 3,
    k: int | None = None,
    inputs: str = "text",
    batch: int = 16,
    length: int = 48,
    every: int = 0,
    decay: bool = False,
    device: str = "cpu",
) -> dict[str, Any]:
    """Train a character decoder and watch which neurons fire.

    Parameters
    ----------
    inputs : {"text", "random", "fresh"}
        "random": a fixed set of 8 batches of uniform random symbols, which can only be memorised.
        "fresh": an endless chain (:class:`~kadanoff.studies.lazy_neurons.toy.Chain`), no sample
        twice.
    every : int
        Steps between two looks at the activations; default: half of ``steps``.
    decay : bool
        Let the learning rate fall to zero. Sparsity comes with the distance travelled: with a
        falling rate it stops early.

    Returns
    -------
    dict
        ``start`` and ``end`` (mean active fraction), ``first`` and ``last`` (end, first and last
        block), ``count`` (active neurons per token and block at the end), ``never`` (neurons that
        fire for no token of the probe), ``rare`` (for less than a tenth of them), ``seen`` (active
        fraction on training data), ``loss`` (nats a symbol, held out but for "random"), and the
        curve: ``steps``, ``active`` (a row a look, a column a block) and ``losses`` (held out, at
        every look).
    """
    generator = torch.Generator().manual_seed(1000 + seed)
    if inputs == "text":
        data: Any = text()
        n = len(data.symbols)
        probe = data.held_out(32, length)
    elif inputs == "fresh":
        data = Chain()
        n = data.n_symbols
        probe = data.batch(32, length, torch.Generator().manual_seed(5000 + seed))
    elif inputs == "random":
        n = 64
        fixed = torch.randint(n, (8, batch, length + 1), generator=generator)
        probe = (fixed[:2, :, :-1].flatten(0, 1), fixed[:2, :, 1:].flatten(0, 1))
    else:
        raise UsageError(f"There are no inputs {inputs!r}.", "Choose text, random or fresh.")

    def batches(step: int) -> tuple[Tensor, Tensor]:
        if inputs == "random":
            return fixed[step % 8, :, :-1], fixed[step % 8, :, 1:]
        return data.batch(batch, length, generator)

    model = Decoder(n, d, m, layers, length=length, k=k, seed=seed)
    seen: dict[int, Any] = {}
    losses = []

    def look(step: int) -> None:
        seen[step] = profile(model, probe[0])
        with torch.no_grad():
            logits = model(probe[0].to(device)).cpu()
        losses.append(float(F.cross_entropy(logits.reshape(-1, n), probe[1].reshape(-1))))

    train(
        model,
        batches,
        steps,
        device=device,
        at=look,
        every=every or max(1, steps // 2),
        decay=decay,
    )
    again = profile(model, batches(0)[0])
    end = seen[steps]
    return {
        "start": seen[0].active,
        "end": end.active,
        "first": end.layers[0].active,
        "last": end.layers[-1].active,
        "count": end.active * m,
        "never": sum(layer.never for layer in end.layers) / layers,
        "rare": sum(float((layer.frequency < 0.1).double().mean()) for layer in end.layers)
        / layers,
        "seen": again.active,
        "loss": losses[-1],
        "steps": list(seen),
        "active": [[layer.active for layer in row.layers] for row in seen.values()],
        "losses": losses,
    }


def calibration_error(probabilities: Tensor, y: Tensor, bins: int = 15) -> float:
    """ECE: Σ_b (n_b/n) |accuracy_b - confidence_b| over equal-width bins of the confidence."""
    confidence, guess = probabilities.max(-1)
    right = (guess == y).double()
    place = (confidence * bins).long().clamp(max=bins - 1)
    total = 0.0
    for index in range(bins):
        inside = place == index
        if bool(inside.any()):
            gap = right[inside].mean() - confidence[inside].double().mean()
            total += float(gap.abs()) * float(inside.double().mean())
    return total


def on_digits(
    seed: int = 0,
    steps: int = 300,
    model: str = "vit",
    k: int | None = None,
    label_noise: float = 0.0,
    inputs: str = "images",
    d: int = 48,
    m: int = 192,
    layers: int = 2,
    batch: int = 64,
    device: str = "cpu",
) -> dict[str, float]:
    """Train on digits; accuracy clean and corrupted, calibration error, active fractions.

    Parameters
    ----------
    model : {"vit", "mlp"}
        "mlp": the same number of plain ReLU layers, without norms.
    label_noise : float
        Fraction of training labels replaced at random (1: random labels).
    inputs : {"images", "random"}
        "random": every training image replaced by Gaussian noise; labels kept.

    Returns
    -------
    dict
        ``train`` and ``accuracy``, ``gaussian`` and ``impulse`` (accuracy on corrupted test
        images), ``ece``, ``start``, ``end``, ``last``.
    """
    data = digits(seed, label_noise)
    generator = torch.Generator().manual_seed(2000 + seed)
    x, y = data.x, data.y
    if inputs == "random":
        x = torch.randn(x.shape, generator=generator)
    elif inputs != "images":
        raise UsageError(f"There are no inputs {inputs!r}.", "Choose images or random.")
    if model == "vit":
        net: nn.Module = Vit(d, m, layers, k=k, seed=seed)
    elif model == "mlp":
        net = _plain_mlp(64, [m] * layers, 10, seed)
    else:
        raise UsageError(f"There is no model {model!r}.", "Choose vit or mlp.")

    def batches(step: int) -> tuple[Tensor, Tensor]:
        pick = torch.randint(len(x), (batch,), generator=generator)
        return x[pick], y[pick]

    probe = data.x_test if inputs == "images" else x[:300]
    start = profile(net, probe)
    train(net, batches, steps, device=device)
    end = profile(net, probe)

    def accuracy(inputs: Tensor, labels: Tensor) -> float:
        return float((scores(inputs).argmax(-1) == labels).double().mean())

    @torch.no_grad()
    def scores(inputs: Tensor) -> Tensor:
        return torch.softmax(net(inputs.to(device)).cpu(), -1)

    noise = torch.randn(data.x_test.shape, generator=generator)
    struck = torch.rand(data.x_test.shape, generator=generator) < 0.15
    extreme = torch.where(noise > 0, data.x_test.max(), data.x_test.min())
    return {
        "train": accuracy(x, y),
        "accuracy": accuracy(data.x_test, data.y_test),
        "gaussian": accuracy(data.x_test + 0.7 * noise, data.y_test),
        "impulse": accuracy(torch.where(struck, extreme, data.x_test), data.y_test),
        "ece": calibration_error(scores(data.x_test), data.y_test),
        "start": start.active,
        "end": end.active,
        "last": end.layers[-1].active,
    }


def _plain_mlp(n_in: int, widths: list[int], n_out: int, seed: int) -> nn.Sequential:
    sizes = [n_in, *widths, n_out]
    generator = torch.Generator().manual_seed(seed)
    parts: list[nn.Module] = []
    for a, b in zip(sizes[:-1], sizes[1:]):  # noqa: RUF007 - pairs of sizes, read as such
        linear = nn.Linear(a, b)
        with torch.no_grad():
            linear.weight.copy_((2 / a) ** 0.5 * torch.randn(b, a, generator=generator))
            linear.bias.zero_()
        parts += [linear, nn.ReLU()]
    return nn.Sequential(*parts[:-1])


def on_gaussian(
    seed: int = 0, steps: int = 600, labels: str = "teacher", device: str = "cpu"
) -> dict[str, float]:
    """Negative control: a plain MLP 64-128-512-10 on Gaussian inputs does not become sparse.

    ``labels``: "teacher" (a linear one) or "random" (fixed at random, memorised).
    """
    generator = torch.Generator().manual_seed(3000 + seed)
    x = torch.randn(1000, 64, generator=generator)
    if labels == "teacher":
        y = (x @ torch.randn(64, 10, generator=generator)).argmax(-1)
    elif labels == "random":
        y = torch.randint(10, (1000,), generator=generator)
    else:
        raise UsageError(f"There are no labels {labels!r}.", "Choose teacher or random.")
    model = _plain_mlp(64, [128, 512], 10, seed)

    def batches(step: int) -> tuple[Tensor, Tensor]:
        pick = torch.randint(1000, (100,), generator=generator)
        return x[pick], y[pick]

    start = profile(model, x)
    train(model, batches, steps, rate=1e-3, device=device)
    end = profile(model, x)
    with torch.no_grad():
        right = (model(x.to(device)).argmax(-1).cpu() == y).double().mean()
    return {
        "start": start.layers[-1].active,
        "end": end.layers[-1].active,
        "train": float(right),
    }
