"""``tune``: critical weights in place, and torch parameter groups to hand to an optimiser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from kadanoff.errors import UsageError
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
    s: float = 1.0,
    base: float | None = None,
) -> list[dict[str, Any]]:
    """Bring a model to criticality in place and return parameter groups for its optimiser.

    Parameters
    ----------
    model, sample, seed, tolerance, probes, progress
        See :func:`kadanoff.tuning.initialise.initialise`, which also returns what was changed.
    optimizer : {"sgd", "adam", "adamw", "muon"}, optional
        With one, each group carries its own learning rate by the equivalence principle (see
        :func:`kadanoff.tuning.rates.parameter_groups`); without, the groups only separate what
        should decay from what should not.
    s : float
        With an optimiser: 0 for NTK scaling, 1 for maximal-update scaling, or between.
    base : float, optional
        With an optimiser: the one number left to tune, the same at any width and depth.

    Returns
    -------
    list of dict
        As any ``torch.optim`` class takes them: ``params``, ``name``, with an optimiser ``lr``.
        Every trainable parameter is in exactly one group.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))
    >>> groups = tune(model, torch.eye(8))
    >>> optimiser = torch.optim.SGD(groups, lr=0.1)
    """
    from kadanoff.tuning import rates

    if optimizer is not None and optimizer not in rates.OPTIMIZERS:
        raise UsageError(
            f"Unknown optimizer {optimizer!r}.", f"Name one of {', '.join(rates.OPTIMIZERS)}."
        )
    initialise(model, sample, seed=seed, tolerance=tolerance, probes=probes, progress=progress)
    if optimizer is None:
        return parameter_groups(model)
    return rates.parameter_groups(model, sample, optimizer, s=s, base=base, seed=seed)


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
