"""Cholesky factors of positive semi-definite matrices of any rank: the only place that makes them.

Singular is the normal case: repeated inputs, tokens that occur twice, fewer dimensions than rows.
A jitter on the diagonal would break small quantities (χ near correlation 1), so a pivot that is
rounding counts as zero instead, and its row becomes a combination of others.

============================  ==============================================================
:func:`pivoted`               one matrix of a few samples, which of them first being the point
:func:`batch_factors`         many small matrices at once, in the order of their rows
:func:`batch_factor_inverse`  the same with generalised inverses
:func:`gram_factor`           one Gram matrix of up to thousands of rows, by LAPACK
============================  ==============================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["GramFactor", "batch_factor_inverse", "batch_factors", "gram_factor", "pivoted"]

# entries below this share of the largest standard deviation are rounding
_ROUNDING = 1e-15
# the same of a pivot, where rows are sums of many products: a share of its own diagonal entry
_NEGLIGIBLE = 1e-12


def pivoted(K: Tensor, floor: float = 1e-14) -> tuple[list[int], Tensor]:
    """A factor of K, the sample with the most variance left taken next.

    Parameters
    ----------
    K : Tensor, shape (N, N)
    floor : float
        A variance left is zero below this share of the largest variance.

    Returns
    -------
    order : list of N int
        Samples in the order taken; those after the rank follow as they come.
    L : Tensor, shape (N, rank)
        L Lᵀ = K. Rows are in the order of K: sample ``order[s]`` depends on the first s + 1
        coordinates alone.
    """
    rest = K.clone()
    scale = float(K.diagonal().max())
    order: list[int] = []
    columns: list[Tensor] = []
    free = list(range(len(K)))
    while free:
        at = max(free, key=lambda s: float(rest[s, s]))
        pivot = float(rest[at, at])
        if pivot <= floor * scale or pivot <= 0:
            break
        column = rest[:, at] / math.sqrt(pivot)
        rest = rest - column[:, None] * column
        columns.append(column)
        order.append(at)
        free.remove(at)
    if not columns:
        return free, K.new_zeros(len(K), 0)
    L = torch.stack(columns, 1)
    small = L.abs() < _ROUNDING * math.sqrt(scale)
    return order + free, torch.where(small, torch.zeros_like(L), L)


def batch_factors(K: Tensor) -> Tensor:
    """Lower Cholesky factors of many blocks, singular or regular, in the order of the samples.

    Parameters
    ----------
    K : Tensor, shape (..., m, m)

    Returns
    -------
    Tensor, shape (..., m, m)
        Columns of coordinates that a singular block does not need are zero.
    """
    largest = K.diagonal(dim1=-2, dim2=-1).amax(-1, keepdim=True)
    return _columns(K, (_ROUNDING * largest).expand(K.shape[:-1]))[0]


def batch_factor_inverse(A: Tensor, floor: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Lower Cholesky factors of many blocks, and their inverses.

    Parameters
    ----------
    A : Tensor, shape (..., k, k)
    floor : Tensor, shape (..., k), optional
        Pivots below it count as zero, besides those that are rounding of A's diagonal.

    Returns
    -------
    L, L_inverse : Tensor, shape (..., k, k)
        L Lᵀ = A. Where A is singular a column of L and the row of ``L_inverse`` are zero, which
        makes L_inverseᵀ L_inverse a generalised inverse of A.
    """
    if A.shape[-1] == 1:
        return _single(A, floor)
    rounding = _NEGLIGIBLE * A.diagonal(dim1=-2, dim2=-1)
    L, scales = _columns(A, rounding if floor is None else torch.maximum(floor, rounding))
    inverse = torch.zeros_like(A)
    for j, scale in enumerate(scales):
        row = -(L[..., j : j + 1, :j] @ inverse[..., :j, :]).squeeze(-2)
        row[..., j] += 1.0
        inverse[..., j, :] = row * scale[..., None]
    return L, inverse


def _single(A: Tensor, floor: Tensor | None) -> tuple[Tensor, Tensor]:
    root = A.clamp_min(0).sqrt()
    if floor is not None:
        root = torch.where(A[..., 0] > floor, root[..., 0], 0.0)[..., None]
    return root, torch.where(root > 0, 1 / root, torch.zeros_like(root))


def _columns(A: Tensor, floor: Tensor) -> tuple[Tensor, list[Tensor]]:
    """L column by column, and what each was multiplied by: 1/√pivot, or 0 below the floor."""
    rest = A.clone()
    L = torch.zeros_like(A)
    scales: list[Tensor] = []
    size = A.shape[-1]
    for j in range(size):
        pivot = rest[..., j, j]
        good = pivot > floor[..., j]
        scale = torch.where(good, pivot, torch.ones_like(pivot)).rsqrt() * good
        column = rest[..., j:, j] * scale[..., None]
        L[..., j:, j] = column
        scales.append(scale)
        if j + 1 < size:
            rest[..., j:, j:] -= column[..., :, None] * column[..., None, :]
    return L, scales


@dataclass(frozen=True)
class GramFactor:
    """L (M, r) with L Lᵀ = G, and the r independent rows that G is spanned by.

    ``rows`` is None if all are.
    """

    L: Tensor
    rows: Tensor | None

    def basis(self, X: Tensor) -> Tensor:
        """Q (r, n) with X = L Q: orthonormal if G is X Xᵀ."""
        square = self.L if self.rows is None else self.L[self.rows]
        X = X if self.rows is None else X[self.rows]
        return torch.linalg.solve_triangular(square, X, upper=False)


def gram_factor(G: Tensor, size: Tensor | None = None) -> GramFactor:
    """Factor one Gram matrix of many rows, which may repeat each other.

    Parameters
    ----------
    G : Tensor, shape (M, M)
        float64.
    size : Tensor, shape (M,), optional
        What a diagonal entry is small beside, if not beside itself: rows of which little is left
        once known directions are taken out.
    """
    diagonal = G.diagonal()
    floor = _NEGLIGIBLE * diagonal
    if size is not None:
        floor = torch.maximum(floor, size)
    L, info = torch.linalg.cholesky_ex(G)
    if int(info) == 0 and bool((L.diagonal().square() > floor).all()):
        return GramFactor(L, None)
    return _independent_rows(G, floor)


def _independent_rows(G: Tensor, floor: Tensor) -> GramFactor:
    """Cholesky with pivoting (LAPACK's dpstrf), rows of each one's own scale, down to the floor."""
    from scipy.linalg.lapack import dpstrf  # pyright: ignore[reportAttributeAccessIssue]

    diagonal = G.diagonal().clamp_min(0)
    alive = diagonal > floor
    scale = torch.where(alive, diagonal, torch.ones_like(diagonal)).sqrt()
    weight = alive / scale
    # a row's share of rounding grows as what is left of it shrinks
    tolerance = float((floor / diagonal.clamp_min(1e-300))[alive].max()) if alive.any() else 1.0
    unit = weight[:, None] * G * weight
    U, pivots, rank, _ = dpstrf(unit.cpu().numpy(), tol=max(tolerance, _NEGLIGIBLE))
    rank = max(int(rank), 0)
    order = torch.from_numpy(pivots.astype("int64") - 1).to(G.device)
    upper = torch.from_numpy(U).to(G.device).triu()[:rank]
    L = torch.zeros(len(G), rank, dtype=G.dtype, device=G.device)
    L[order] = upper.mT
    # rows that are zero were put last by the pivoting; their entries are zero already
    L = L * torch.where(alive, scale, torch.zeros_like(scale))[:, None]
    kept = order[:rank]
    live = alive[kept]
    if not bool(live.all()):
        L, kept = L[:, live], kept[live]
    return GramFactor(L, kept)
