"""Speed and stability of training, read off the spectrum of the NTK."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.errors import ConvergenceError, DomainError, UsageError
from kadanoff.learning.dynamics import eigenbasis

__all__ = ["Modes", "largest_stable_rate", "modes", "torch_rate"]


@dataclass(frozen=True)
class Modes:
    """Eigenmodes of the training NTK, fastest first.

    Attributes
    ----------
    values : Tensor, shape (N,)
        Eigenvalues.
    time : Tensor, shape (N,)
        Time in which a mode's error shrinks by e: 1 / value under flow, and in steps
        -1 / log|1 - eta value| under descent (infinite where it never does).
    label_share : Tensor, shape (N,) or None
        Fraction of the labels' square in each mode.
    largest_stable_rate : float
        2 / largest eigenvalue.
    """

    values: Tensor
    time: Tensor
    label_share: Tensor | None
    largest_stable_rate: float

    def time_to_fit(self, share: float) -> float:
        """When so much of the labels' square is fitted: a mode's error falls by e in its time.

        Parameters
        ----------
        share : float
            Of the labels' square, 0 to 1.

        Returns
        -------
        float
            In the unit of ``time``; infinite where the modes that learn hold less than ``share``.

        Raises
        ------
        UsageError
            The modes were computed without labels.
        """
        if self.label_share is None:
            raise UsageError("Without labels there is nothing to fit.", "Give y: modes(theta, y).")
        learns = self.time < torch.inf
        if float(self.label_share[learns].sum()) < share:
            return math.inf
        finite = self.time[(self.time > 0) & learns]
        if not len(finite):
            return 0.0
        low, high = math.log(float(finite.min())) - 10, math.log(float(finite.max())) + 5
        for _ in range(50):
            middle = 0.5 * (low + high)
            left = float((self.label_share * (-2 * math.exp(middle) / self.time).exp()).sum())
            low, high = (middle, high) if left > 1 - share else (low, middle)
        return math.exp(high)


def modes(theta: Tensor, y: Tensor | None = None, eta: float | None = None) -> Modes:
    """Time scales of the eigenmodes of a training NTK, shape (N, N).

    Parameters
    ----------
    theta : Tensor, shape (N, N)
    y : Tensor, shape (N, n_L), optional
        Labels, whose power each mode is to hold.
    eta : float, optional
        Step of descent; None is gradient flow.

    Raises
    ------
    DataError
        The kernel is not square or not finite.
    """
    values, vectors = eigenbasis(theta, "training NTK")
    values, vectors = values.flip(0), vectors.flip(1)
    if eta is None:
        time = 1 / values
    else:
        factor = (1 - eta * values).abs()
        time = torch.where(factor < 1, -1 / factor.log(), torch.inf)
        time = torch.where(factor == 0, 0.0, time)
    share = None
    if y is not None:
        power = ((vectors.mT @ y) ** 2).sum(1)
        share = power / power.sum()
    top = float(values[0])
    return Modes(values, time, share, math.inf if top == 0 else 2 / top)


def largest_stable_rate(
    theta: Tensor,
    batch: int | None = None,
    *,
    reduction: str = "mean",
    tolerance: float = 1e-6,
    max_iterations: int = 20_000,
) -> float:
    r"""Largest step at which (stochastic) gradient descent on squared error does not diverge.

    Full batch: 2 / largest eigenvalue. With mini-batches drawn afresh each step the mean square of
    the error obeys a linear recursion, :math:`C \to C - \eta L(C) + \eta^2 M(C)`, with L from the
    mean gradient and M from the sampled one. Both maps keep positive matrices positive, so that
    the edge is the inverse of the largest eigenvalue of :math:`L^{-1} M`, found by power iteration
    without any search in the step.

    Parameters
    ----------
    theta : Tensor, shape (N, N)
        NTK of the training points.
    batch : int, optional
        Size of the mini-batch, drawn without replacement; None is the full batch.
    reduction : {"sum", "mean"}
        Whether the loss is the sum or the mean over the points of a batch of
        ``sum_i (z_i - y_i)^2 / 2``. The default is what :func:`torch_rate` takes. Steps for the
        sum over a mini-batch are N / batch times smaller in effect than those of the full sum.

    Returns
    -------
    float
        In units of that loss's step; see :func:`torch_rate` for ``torch.nn.MSELoss``.

    Notes
    -----
    The edge is that of the mean square, which rare large kicks decide; single runs may survive a
    little above. It holds while the NTK is that of the start.
    Tested by: tests/learning/test_spectrum.py (stochastic descent on both sides of the edge).
    """
    if reduction not in ("sum", "mean"):
        raise UsageError(f"Unknown reduction {reduction!r}.", "Choose 'sum' or 'mean'.")
    N = theta.shape[0]
    values, vectors = eigenbasis(theta, "training NTK")
    top = float(values.max())
    if top == 0:
        return math.inf
    size = N if batch is None else batch
    if not 1 <= size <= N:
        raise DomainError(
            f"batch = {batch} for {N} training points.", f"Pass a whole number from 1 to {N}."
        )
    scale = float(size) if reduction == "mean" else 1.0
    if size == N:
        return scale * 2 / top
    keep = values > top * N * 1e-14
    h, v = values[keep], vectors[:, keep]
    root = v * h.sqrt()  # (N, r): Theta = root root^T
    once = size / N
    twice = once * (size - 1) / (N - 1)
    lyapunov = once * (h[:, None] + h[None, :])
    C = torch.diag(h / h.sum())
    rate = 0.0
    for _ in range(max_iterations):
        G = root @ C @ root.mT
        sampled = twice * (h.sqrt()[:, None] * (v.mT @ G @ v) * h.sqrt()[None, :])
        sampled = sampled + (once - twice) * (root.mT * G.diagonal()) @ root
        new = sampled / lyapunov
        norm = float(new.trace())
        C = new / norm
        if abs(norm - rate) <= tolerance * norm:
            return scale / norm
        rate = norm
    raise ConvergenceError(
        f"The stability edge did not settle to {tolerance:g} in {max_iterations} iterations.",
        "Raise max_iterations or the tolerance.",
    )


def torch_rate(rate: float, n_outputs: int) -> float:
    """The ``lr`` of plain SGD with ``torch.nn.MSELoss()`` for a rate of ``reduction="mean"``.

    torch averages (z - y)^2 over points and outputs, without the 1/2.
    """
    return rate * n_outputs / 2
