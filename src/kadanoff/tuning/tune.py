"""``tune``: critical weights in place, and torch parameter groups to hand to an optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from kadanoff.tuning.initialise import initialise

__all__ = ["parameter_groups", "tune"]


def tune(
    model: torch.nn.Module,
    sample: Any,
    optimizer: str | None = None,
    *,
    seed: int = 0,
    tolerance: float = 0.05,
    probes: int = 4,
    progress: Callable[..., None] | None = None,
) -> list[dict[str, Any]]:
    """Bring a model to criticality in place and return parameter groups for its optimiser.

    Parameters
    ----------
    model, sample, seed, tolerance, probes, progress
        See :func:`kadanoff.tuning.initialise.initialise`, which also returns what was changed.
    optimizer : str, optional
        Name of the optimiser the groups are meant for.

    Returns
    -------
    list of dict
        ``{"name", "params"}`` of the weight matrices, and ``{"name", "params", "weight_decay": 0}``
        of biases and normalisation gains. Every trainable parameter is in one of them.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    >>> groups = tune(model, torch.eye(8))
    >>> optimiser = torch.optim.SGD(groups, lr=0.1)
    """
    initialise(model, sample, seed=seed, tolerance=tolerance, probes=probes, progress=progress)
    return parameter_groups(model)


def parameter_groups(model: torch.nn.Module) -> list[dict[str, Any]]:
    """Split the trainable parameters into matrices, and vectors that should not decay."""
    trainable = [p for p in model.parameters() if p.requires_grad]
    matrices = [p for p in trainable if p.ndim > 1]
    vectors = [p for p in trainable if p.ndim <= 1]
    groups: list[dict[str, Any]] = []
    if matrices:
        groups.append({"name": "weights", "params": matrices})
    if vectors:
        groups.append({"name": "vectors", "params": vectors, "weight_decay": 0.0})
    return groups
