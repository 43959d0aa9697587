r"""X = L Q with orthonormal rows Q, for rows X that may repeat each other.

Repeated tokens, padding and copied pixels make the Gram matrix X Xᵀ singular: that is the normal
case, not an accident. Adding a jitter to its diagonal would break small quantities (χ near
correlation 1), so a pivot that is rounding counts as zero and its row is a combination of others.
For many matrices of a few rows at once see :func:`kadanoff.ensembles.matrices.cholesky`; here it
is one matrix of up to thousands of rows, for which LAPACK is faster.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Factor", "factor"]

_NEGLIGIBLE = 1e-12  # of a row's own square: below it a pivot is rounding


@dataclass(frozen=True)
class Factor:
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


def factor(G: Tensor, size: Tensor | None = None) -> Factor:
    """Factor a positive semi-definite Gram matrix.

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
        return Factor(L, None)
    return _pivoted(G, floor)


def _pivoted(G: Tensor, floor: Tensor) -> Factor:
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
    return Factor(L, kept)
