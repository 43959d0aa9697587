"""Keeping few activations: Top-k and magnitude thresholds, as functions, modules and an MLP.

Both are seen by Kadanoff's recorder as one operation each, so that a model that uses
them is profiled and accelerated like one with a ReLU.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import handle_torch_function, has_torch_function_unary

from kadanoff.errors import UsageError

__all__ = [
    "Threshold",
    "TopK",
    "TopKMLP",
    "keep_columns",
    "keep_threshold",
    "keep_topk",
    "threshold",
    "topk",
]


def _count(k: int | float, width: int) -> int:
    if isinstance(k, float):
        if not 0.0 < k <= 1.0:
            raise UsageError(f"The fraction k = {k} is not in (0, 1].", "Pass e.g. k=0.05.")
        return max(1, round(k * width))
    if k < 1:
        raise UsageError(f"k = {k} keeps nothing.", "Pass k >= 1.")
    if k > width:
        raise UsageError(f"k = {k} exceeds the width {width}.", f"Pass k <= {width}.")
    return int(k)


def _topk_mask(a: Tensor, k: int) -> Tensor:
    size = a.abs()
    least = size.topk(k, dim=-1, sorted=True).values[..., -1:]
    keep = size >= least
    if keep.device.type == "cpu" and int(keep.count_nonzero()) * a.shape[-1] == k * keep.numel():
        return keep  # no ties; on a GPU asking would cost more than it saves
    keep = size > least
    tied = size == least
    # of equal entries those with the lowest index stay, on every device alike
    need = k - keep.sum(-1, keepdim=True)
    return keep | (tied & (tied.cumsum(-1) <= need))


def topk(a: Tensor, k: int | float) -> Tensor:
    """Keep the ``k`` entries of largest magnitude along the last axis; the rest become 0.

    Parameters
    ----------
    a : Tensor (..., width)
    k : int or float
        How many, or which fraction of the width. ``k = width`` returns ``a`` itself.

    Returns
    -------
    Tensor (..., width)
        The gradient passes through the kept entries alone. Ties: the lowest index stays.

    Raises
    ------
    UsageError
        k < 1, k > width, or a fraction outside (0, 1].

    Notes
    -----
    After a ReLU this is the Top-k Transformer of Li et al., arXiv:2210.06313.
    """
    if has_torch_function_unary(a):
        return handle_torch_function(topk, (a,), a, k)
    width = a.shape[-1]
    count = _count(k, width)
    if count == width:
        return a
    return torch.where(_topk_mask(a.detach(), count), a, 0.0)


def threshold(a: Tensor, tau: float) -> Tensor:
    """Zero the entries of ``a`` with magnitude below ``tau`` (TEAL, CATS); the rest stay.

    Raises
    ------
    UsageError
        ``tau`` is negative or not finite.
    """
    if has_torch_function_unary(a):
        return handle_torch_function(threshold, (a,), a, tau)
    return torch.where(a.detach().abs() >= _tau(tau), a, 0.0)


def _tau(tau: float) -> float:
    if not (tau >= 0.0 and math.isfinite(tau)):
        raise UsageError(f"The threshold {tau} is negative or not finite.", "Pass tau >= 0.")
    return float(tau)


def keep_topk(z: Tensor, k: int | float, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Zero a preactivation unless its activation is among the ``k`` largest in magnitude.

    For an activation with σ(0) = 0 this equals ``topk(activation(z), k)`` once the activation has
    been applied, whatever function the model's own code calls for it.

    Parameters
    ----------
    z : Tensor, shape (..., m)
        Preactivations.
    k : int or float
        How many to keep, or which fraction of m.
    activation : callable
        σ, entry by entry.
    """
    if has_torch_function_unary(z):
        return handle_torch_function(keep_topk, (z,), z, k, activation)
    width = z.shape[-1]
    count = _count(k, width)
    if count == width:
        return z
    return torch.where(_topk_mask(activation(z.detach()), count), z, 0.0)


def keep_threshold(z: Tensor, tau: float, activation: Callable[[Tensor], Tensor]) -> Tensor:
    """Zero a preactivation whose activation is below ``tau`` in magnitude (cf. `keep_topk`).

    Parameters
    ----------
    z : Tensor, shape (..., m)
        Preactivations.
    tau : float
    activation : callable
        σ, entry by entry.
    """
    if has_torch_function_unary(z):
        return handle_torch_function(keep_threshold, (z,), z, tau, activation)
    return torch.where(activation(z.detach()).abs() >= _tau(tau), z, 0.0)


def keep_columns(
    z: Tensor, start: int, stop: int, keep: Callable[..., Tensor], *options: Any
) -> Tensor:
    """``keep(z, *options)`` on the columns start:stop alone (two maps packed in one matrix).

    Parameters
    ----------
    z : Tensor, shape (..., columns)
    start, stop : int
    keep : callable
        `keep_topk` or `keep_threshold`.
    *options
        What it takes after z.
    """
    if has_torch_function_unary(z):
        return handle_torch_function(keep_columns, (z,), z, start, stop, keep, *options)
    kept = keep(z[..., start:stop], *options)
    return torch.cat([z[..., :start], kept, z[..., stop:]], -1)


class TopK(nn.Module):
    """Top-k activation: static or annealed, per token.

    Parameters
    ----------
    k : int or float
        Entries kept (or fraction of the width) once annealing has ended.
    start : int or float, optional
        Entries kept at the first step; default: ``k``, no annealing.
    steps : int
        Forward passes in training mode over which the number falls geometrically from ``start``
        to ``k``. In evaluation mode nothing is counted and the current number is used.
    """

    step: Tensor

    def __init__(self, k: int | float, start: int | float | None = None, steps: int = 0) -> None:
        super().__init__()
        for value in (k,) if start is None else (k, start):
            _count(value, 2**62 if isinstance(value, int) else 1)
        if steps < 0 or (start is not None and steps == 0):
            raise UsageError(f"steps = {steps} anneals nothing.", "Pass steps >= 1 with start.")
        self.k, self.start, self.steps = k, start, steps
        self.register_buffer("step", torch.zeros((), dtype=torch.long))

    def current(self, width: int) -> int:
        """Entries kept at this step, for this width."""
        last = _count(self.k, width)
        if self.start is None:
            return last
        first = _count(self.start, width)
        done = min(1.0, int(self.step) / self.steps)
        return max(1, round(first * (last / first) ** done))

    def forward(self, a: Tensor) -> Tensor:
        kept = self.current(a.shape[-1])
        if self.training and self.start is not None:
            self.step += 1
        return topk(a, kept)

    def extra_repr(self) -> str:
        return f"k={self.k}" + ("" if self.start is None else f", start={self.start}")


class Threshold(nn.Module):
    """Magnitude threshold as a module (see :func:`threshold`)."""

    def __init__(self, tau: float) -> None:
        super().__init__()
        self.tau = _tau(tau)

    def forward(self, a: Tensor) -> Tensor:
        return threshold(a, self.tau)

    def extra_repr(self) -> str:
        return f"tau={self.tau:.4g}"


class TopKMLP(nn.Module):
    """MLP block V · Top_k(σ(K x)), or V · (Top_k(σ(G x)) ⊙ (K x)) if ``gated``.

    Parameters
    ----------
    d, m : int
        Width of the stream and of the hidden layer.
    k : int, float or None
        Entries kept per token; None: the ordinary block.
    activation : nn.Module, optional
        Default ReLU.
    start, steps
        Annealing (see :class:`TopK`).
    """

    def __init__(
        self,
        d: int,
        m: int,
        k: int | float | None = None,
        activation: nn.Module | None = None,
        gated: bool = False,
        bias: bool = True,
        start: int | float | None = None,
        steps: int = 0,
    ) -> None:
        super().__init__()
        if k is not None:
            _count(k, m)
        self.up = nn.Linear(d, m, bias=bias)
        self.gate = nn.Linear(d, m, bias=bias) if gated else None
        self.activation = nn.ReLU() if activation is None else activation
        self.topk = nn.Identity() if k is None else TopK(k, start, steps)
        self.down = nn.Linear(m, d, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            return self.down(self.topk(self.activation(self.up(x))))
        return self.down(self.topk(self.activation(self.gate(x))) * self.up(x))
