"""Small training runs that the tests of watching share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kadanoff.watching import Watch


def classes(seed: int = 0, samples: int = 512, width: int = 16, count: int = 4) -> Any:
    """Points with labels by a random linear rule, which can be learned."""
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(samples, width, generator=g)
    return x, (x @ torch.randn(width, count, generator=g)).argmax(1)


def mlp(seed: int = 0, width: int = 32, depth: int = 3, n_in: int = 16, n_out: int = 4) -> Any:
    """A ReLU network of its own seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = []
        for _ in range(depth - 1):
            layers += [nn.Linear(n_in, width), nn.ReLU()]
            n_in = width
        return nn.Sequential(*layers, nn.Linear(n_in, n_out))


def train(
    model: nn.Module,
    data: tuple[Tensor, Tensor],
    optimizer: Any,
    steps: int = 100,
    *,
    batch: int = 32,
    seed: int = 0,
    each: Callable[[int], None] | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy,
    **settings: Any,
) -> Watch:
    """Train under a watch that keeps its findings to itself, and return it."""
    g = torch.Generator().manual_seed(seed)
    with Watch(model, data, **{"every": 10, "on_finding": None, "loss": loss} | settings) as w:
        for step in range(steps):
            if each is not None:
                each(step)
            rows = torch.randint(0, len(data[0]), (batch,), generator=g)
            optimizer.zero_grad()
            value = loss(model(data[0][rows]), data[1][rows])
            value.backward()
            optimizer.step()
            if not math.isfinite(value.item()):
                break
    return w


def codes(watch: Watch, notes: bool = False) -> list[str]:
    """What was found, by name."""
    return [f.code for f in watch.findings if notes or f.severity != "note"]


class Attention(nn.Module):
    """A one-head transformer block with its readout, written out."""

    def __init__(self, width: int = 16, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.inner = nn.Linear(8, width)
            self.query = nn.Linear(width, width, bias=False)
            self.key = nn.Linear(width, width, bias=False)
            self.value = nn.Linear(width, width)
            self.readout = nn.Linear(width, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Mean over positions of what each attends to."""
        h = self.inner(x)
        q, k, v = self.query(h), self.key(h), self.value(h)
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        return self.readout((h + weights @ v).mean(1))
