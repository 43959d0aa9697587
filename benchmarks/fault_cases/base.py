"""A net with its data and recipe, sick and repaired; small nets that several cases start from."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from sklearn.datasets import load_diabetes, load_digits
from torch import Tensor, nn
from torch.nn import functional as F

from kadanoff.diagnosis.recipe import Recipe

__all__ = [
    "CASES",
    "Case",
    "Job",
    "conv",
    "digits",
    "fault",
    "mlp",
    "regression",
    "seeded",
    "waves",
]


@dataclass(frozen=True)
class Job:
    """What a practitioner runs: a model, training and test data, a loss and an optimiser.

    ``score`` of the trained model on the test data lies between 0 (knows nothing) and 1.
    """

    model: nn.Module
    train: tuple[Any, Tensor]
    test: tuple[Any, Tensor]
    loss: Callable[..., Tensor] | None = None
    recipe: Recipe = field(default_factory=Recipe)
    optimizer: Callable[[nn.Module], Any] | None = None
    score: str = "accuracy"
    mode: str = "train"

    def with_(self, **changes: Any) -> Job:
        """The same with some parts exchanged."""
        return replace(self, **changes)


@dataclass(frozen=True)
class Case:
    """A fault: how to make it, what must be named, and the remedy applied.

    ``make`` returns the sick job and the repaired one, which share nothing. ``names`` are codes
    of which one must stand among the causes. ``learns`` is False where no training can show it.
    """

    name: str
    names: tuple[str, ...]
    make: Callable[[], tuple[Job, Job | None]]
    told: bool = False
    held_out: bool = False


CASES: list[Case] = []


def fault(*names: str, told: bool = False, held_out: bool = False) -> Callable:
    """Enter a function that makes a sick and a repaired job.

    ``told``: the diagnosis is given the user's optimiser, as the fault lies there.
    """

    def enter(make: Callable[[], tuple[Job, Job | None]]) -> Callable:
        CASES.append(Case(make.__name__, names, make, told, held_out))
        return make

    return enter


def seeded(seed: int) -> torch.Generator:
    """A generator."""
    return torch.Generator().manual_seed(seed)


# -- data ----------------------------------------------------------------------------------------


def digits(image: bool = False, scale: float = 16.0, n: int = 256) -> tuple[tuple, tuple]:
    """Digits in 0 … 16/scale: training and test part."""
    data = load_digits()
    x = torch.tensor(data.data, dtype=torch.float32) / scale
    y = torch.tensor(data.target)
    if image:
        x = x.reshape(-1, 1, 8, 8)
    return (x[:n], y[:n]), (x[n : 2 * n], y[n : 2 * n])


def regression(n: int = 256) -> tuple[tuple, tuple]:
    """Diabetes progression, standardised."""
    data = load_diabetes()
    x = torch.tensor(data.data, dtype=torch.float32)
    y = torch.tensor(data.target, dtype=torch.float32)[:, None]
    x, y = (x - x.mean(0)) / x.std(0), (y - y.mean()) / y.std()
    return (x[:n], y[:n]), (x[n:], y[n:])


def waves(n: int = 256, width: int = 8) -> tuple[tuple, tuple]:
    """sin(x₁ + x₂) of normal inputs."""
    x = torch.randn(2 * n, width, generator=seeded(0))
    y = torch.sin(x[:, :1] + x[:, 1:2])
    return (x[:n], y[:n]), (x[n:], y[n:])


# -- nets ----------------------------------------------------------------------------------------


def mlp(
    widths: list[int], act: Callable[[], nn.Module] = nn.ReLU, tail: nn.Module | None = None,
    seed: int = 0, init: str = "default",
) -> nn.Sequential:  # fmt: skip
    """A plain net; ``init`` is ``default``, ``he`` or ``unit`` (variance 1/fan_in)."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for i, (a, b) in enumerate(itertools.pairwise(widths)):
        linear = nn.Linear(a, b)
        if init != "default":
            nn.init.normal_(linear.weight, std=math.sqrt((2 if init == "he" else 1) / a))
            nn.init.zeros_(linear.bias)
        layers += [linear] + ([act()] if i < len(widths) - 2 else [])
    return nn.Sequential(*layers, *([tail] if tail is not None else []))


def conv(norm: bool = True, seed: int = 0, c: int = 16, depth: int = 3) -> nn.Sequential:
    """A small ConvNet for digits."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    a = 1
    for _ in range(depth):
        layers += [nn.Conv2d(a, c, 3, padding=1)] + ([nn.BatchNorm2d(c)] if norm else [])
        layers += [nn.ReLU()]
        a = c
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * c, 10))


def output_of(model: nn.Module, x: Any) -> Any:
    """Call a model."""
    if isinstance(x, dict):
        return model(**x)
    return model(*x) if isinstance(x, tuple) else model(x)


def score_of(job: Job, model: nn.Module) -> float:
    """Score on the test data."""
    model.train(job.mode == "train" and any(isinstance(m, nn.BatchNorm2d) for m in model.modules()))
    x, y = job.test
    with torch.no_grad():
        z = output_of(model, x)
    z = z[0] if isinstance(z, tuple) else getattr(z, "logits", z)
    if not bool(torch.isfinite(z).all()):
        return 0.0
    if job.score == "accuracy":
        axis = 1 if z.ndim == 4 else -1
        if z.shape[axis] == 1:
            right = ((z.reshape(y.shape) > 0.5) == (y > 0.5)).float().mean()
            base = torch.stack([y.float().mean(), 1 - y.float().mean()]).max()
        else:
            right = (z.argmax(axis) == y).float().mean()
            base = torch.bincount(y.flatten()).max() / y.numel()
        return float(((right - base) / (1 - base)).clamp(0, 1))
    y = y.reshape(z.shape).float() if y.numel() == z.numel() else y.float()
    rest = F.mse_loss(z, y) / y.var(0, unbiased=False).mean().clamp_min(1e-12)
    return float((1 - rest).clamp(0, 1))
