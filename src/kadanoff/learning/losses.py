"""The training loss, predicted by the kernel and measured on real networks, side by side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.errors import UsageError
from kadanoff.learning.dynamics import as_targets
from kadanoff.learning.gradient_descent import expected_loss
from kadanoff.learning.prediction import blocks
from kadanoff.learning.trained import train_ensemble

__all__ = ["LossCurve", "loss_curve"]


@dataclass(frozen=True)
class LossCurve:
    """Mean over networks of ``sum (z - y)^2 / 2`` over training points and outputs.

    Attributes
    ----------
    steps : Tensor of int, shape (T,)
    predicted : Tensor, shape (T,)
        At infinite width.
    measured, stderr : Tensor or None, shape (T,)
        Of networks of the given width, and the standard error of their mean.
    modes : Tensor or None, shape (T, N)
        Measured part of the loss in each eigenmode of the infinite-width NTK, fastest first.
    predicted_modes : Tensor, shape (T, N)
    eta : float
    networks : int
    """

    steps: Tensor
    predicted: Tensor
    predicted_modes: Tensor
    eta: float
    networks: int = 0
    measured: Tensor | None = None
    stderr: Tensor | None = None
    modes: Tensor | None = None


def loss_curve(
    arch: Network,
    X: Tensor,
    y: Tensor,
    *,
    eta: float,
    steps: int,
    networks: int = 0,
    points: int = 20,
    ridge: float = 0.0,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    progress: Callable[..., None] | None = None,
) -> LossCurve:
    """Predicted loss of full-batch descent and, with ``networks`` > 0, the measured one beside it.

    Parameters
    ----------
    X : Tensor, shape (N, n_0); y as in :func:`~kadanoff.learning.predict`.
    eta : float
        Step for the loss ``sum (z - y)^2 / 2``.
    steps : int
        Length of the curve; ``points`` of them, evenly spaced in the logarithm, are kept.
    networks : int
        Real networks to train, in pairs with opposite readouts (at least two pairs); 0 for none.

    Returns
    -------
    LossCurve

    Raises
    ------
    UsageError
        ``eta`` is not stable, or there are too few networks for an error bar.
    AnalysisError
        A network diverged.
    """
    if networks and (networks < 4 or networks % 2):
        raise UsageError(
            f"{networks} networks make no pairs with an error bar.", "Pass an even number >= 4."
        )
    X = arch.inputs(X)
    target = as_targets(y, X.shape[0], arch.n_out).y
    kept = torch.logspace(0, math.log10(max(steps, 1)), points).round().long()
    kept = torch.cat([torch.zeros(1, dtype=torch.long), kept]).unique()
    b = blocks(arch, X, target, X[:1], ridge)
    predicted = expected_loss(b, kept.double(), eta)
    values, vectors = b.modes
    start = ((vectors.mT @ target) ** 2).sum(1)
    start = start + target.shape[1] * (vectors * (b.K_AA @ vectors)).sum(0)
    left = torch.stack([1 - values * b.filter(float(t), eta) for t in kept])
    by_mode = (0.5 * left**2 * start).flip(1)
    if not networks:
        return LossCurve(kept, predicted, by_mode, eta)
    wanted = {int(t): k for k, t in enumerate(kept)}
    pairs = networks // 2
    found: list[list[Tensor]] = [[] for _ in wanted]

    def record(step: int, error: Tensor) -> None:
        if step in wanted:
            rotated = vectors.mT.flip(0) @ error.double()
            found[wanted[step]].append(0.5 * (rotated**2).sum(2))

    train_ensemble(
        arch,
        X,
        target,
        X[:1],
        eta=eta,
        steps=steps,
        n_networks=networks,
        seed=seed,
        ridge=ridge,
        record=record,
        dtype=dtype,
        block=min(networks, 256),
        progress=progress,
    )
    # partners sit half a block apart
    halves = [[torch.stack(part.chunk(2)).mean(0) for part in parts] for parts in found]
    each = torch.stack([torch.cat(parts) for parts in halves])  # (T, pairs, N)
    total = each.sum(2)
    return LossCurve(
        kept,
        predicted,
        by_mode,
        eta,
        networks,
        total.mean(1),
        total.std(1) / math.sqrt(pairs),
        each.mean(1),
    )
