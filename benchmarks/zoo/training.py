"""The ordinary loop: fresh batches, a given optimiser, losses kept."""

from __future__ import annotations

import torch
from torch import nn

from .family import Family

__all__ = ["train"]


def train(
    family: Family,
    model: nn.Module,
    steps: int,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    seed: int = 0,
    batch: int | None = None,
) -> list[float]:
    """Train ``model`` in place; the loss of each step's batch before the step.

    Parameters
    ----------
    family : Family
    model : nn.Module
        Of that family.
    steps : int
    optimizer : optional
        The family's recipe if None.
    seed : int
        Of the batches: two runs with the same seed see the same data in the same order.
    batch : int, optional
        Samples a step; the family's ordinary number if None.
    """
    optimizer = family.recipe.build(model) if optimizer is None else optimizer
    losses = []
    for step in range(steps):
        inputs, targets = family.data(batch, seed=1_000_000 * (seed + 1) + step)
        loss = family.run(model, inputs, targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses
