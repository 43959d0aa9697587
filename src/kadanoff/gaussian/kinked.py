"""Gauss-Legendre panels for integrands with kinks, cut wherever a kink may lie."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from kadanoff.gaussian.cholesky import pivoted
from kadanoff.gaussian.single import legendre

__all__ = ["PANEL_ORDERS", "panels"]

# orders of the finer and of the coarser rule
PANEL_ORDERS = (18, 14)
_REACH = 8.5  # a Gaussian weighs 3e-16 beyond, polynomial growth included
_CHUNK = 100_000
# cuts around a smeared kink, in units of its width
_GUARD = (-8.0, -5.0, -2.5, 0.0, 2.5, 5.0, 8.0)
_WIDE_GUARD = (-6.0, -2.0, 2.0, 6.0)
# a turnover of this width and above needs no cuts; from the second one on, few; below the last, one
_SMOOTH, _WIDE, _SHARP = 2.0, 0.2, 1e-9
_LEAST_WEIGHT = 1e-18


def panels(
    K: Tensor, kinks: Sequence[float], order: int, mean: Tensor | None = None
) -> Iterator[tuple[Tensor, Tensor]]:
    """Nodes z (M, N) and weights (M,) of N(mean, K), for integrands with kinks, in parts.

    Coordinates are those of a pivoted Cholesky factor L: sample s depends on x_1 ... x_s. Given
    the earlier coordinates the kinks of sample s are points in x_s. Averaging over x_s leaves a
    turnover of width |L_s,later| in the earlier ones, which gets cuts of its own.

    Parameters
    ----------
    K : Tensor, shape (N, N)
    kinks : sequence of float
        Where the integrand, as a function of any one z, or one of its derivatives jumps.
    order : int
        Nodes a panel.
    mean : Tensor, shape (N,), optional
    """
    if mean is None:
        mean = torch.zeros(len(K), dtype=torch.float64)
    L = pivoted(K)[1]
    x = torch.zeros(1, 0, dtype=torch.float64)
    w = torch.ones(1, dtype=torch.float64)
    t, weight = legendre(order)
    for k in range(L.shape[1]):
        edges = _cuts(L, k, x, mean, kinks)
        width = edges.diff(dim=1)
        nodes = (edges[:, :-1, None] + width[..., None] * t).flatten(1)
        density = torch.exp(-0.5 * nodes**2) / math.sqrt(2 * math.pi)
        both = w[:, None] * (width[..., None] * weight).flatten(1) * density
        row, column = (both > _LEAST_WEIGHT).nonzero(as_tuple=True)
        x = torch.cat([x[row], nodes[row, column][:, None]], 1)
        w = both[row, column]
    for start in range(0, len(x), _CHUNK):
        part = slice(start, start + _CHUNK)
        yield mean + x[part] @ L.T, w[part]


def _cuts(L: Tensor, k: int, x: Tensor, mean: Tensor, kinks: Sequence[float]) -> Tensor:
    """Edges of the panels of coordinate k, for each choice x (M, k) of the earlier ones."""
    cuts = [x.new_full((len(x), 1), edge) for edge in (-_REACH, -3.0, 3.0, _REACH)]
    for s in range(len(L)):
        slope = float(L[s, k])
        if abs(slope) < 1e-12:
            continue
        # how wide the later coordinates smear the kink, in units of x_k
        smear = float(L[s, k + 1 :].norm()) / abs(slope)
        for kink in kinks:
            at = (kink - mean[s] - x @ L[s, :k]) / slope
            cuts += [(at + offset)[:, None] for offset in _offsets(smear)]
    return torch.cat(cuts, 1).clamp(-_REACH, _REACH).sort(1).values


def _offsets(smear: float) -> list[float]:
    """Where to cut around a kink that is smeared so wide."""
    if smear > _SMOOTH:
        return []
    if smear < _SHARP:
        return [0.0]
    guard = _GUARD if smear < _WIDE else _WIDE_GUARD
    return [smear * g for g in guard]
