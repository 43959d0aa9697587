r"""Weight matrices of many networks at once: drawn, or known only by their action.

Both classes answer the same two questions, W x and Wᵀδ, for a batch of networks and several
vectors a network (rows); :class:`kadanoff.ensembles.haar.Haar` does so for orthogonal weights.
:class:`Drawn` holds numbers. :class:`Implicit` holds nothing at first: a Gaussian matrix that has
been asked for :math:`W Q = Y` and :math:`P^T W = Z^T` with orthonormal Q and P is still Gaussian,
and

.. math:: W = Y Q^T + P Z^T (1 - Q Q^T) + \sqrt{C_W/n}\,(1 - P P^T)\, G\, (1 - Q Q^T)

in law, with G standard normal. A new question costs one new normal vector, O(n) instead of the
O(n²) of a drawn matrix, and the joint law of all answers is exact.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from kadanoff.ensembles.normals import Normals

__all__ = ["Drawn", "Implicit", "cholesky", "residue"]

_NEGLIGIBLE = 1e-12  # of the original diagonal: below it a pivot is rounding


def cholesky(A: Tensor, floor: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Cholesky factor of small positive semidefinite matrices, and its inverse.

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
    k = A.shape[-1]
    if k == 1:
        root = A.clamp_min(0).sqrt()
        if floor is not None:
            root = torch.where(A[..., 0] > floor, root[..., 0], 0.0)[..., None]
        return root, torch.where(root > 0, 1 / root, torch.zeros_like(root))
    S = A.clone()
    rounding = _NEGLIGIBLE * A.diagonal(dim1=-2, dim2=-1)
    floor = rounding if floor is None else torch.maximum(floor, rounding)
    L = torch.zeros_like(A)
    inverse = torch.zeros_like(A)
    for j in range(k):
        pivot = S[..., j, j]
        good = pivot > floor[..., j]
        scale = torch.where(good, pivot, torch.ones_like(pivot)).rsqrt() * good
        column = S[..., j:, j] * scale[..., None]
        L[..., j:, j] = column
        if j + 1 < k:
            S[..., j:, j:] -= column[..., :, None] * column[..., None, :]
        row = -(L[..., j : j + 1, :j] @ inverse[..., :j, :]).squeeze(-2)
        row[..., j] += 1.0
        inverse[..., j, :] = row * scale[..., None]
    return L, inverse


def residue(X: Tensor, Q: Tensor | None) -> tuple[Tensor, Any, Tensor | None]:
    """What the orthonormal rows of Q leave of the rows of X, their share X Qᵀ, and a floor.

    Squared lengths below the floor (..., k) are rounding of what was taken out.
    """
    if Q is None:
        return X, None, None
    floor = 1e-24 * (X * X).sum(-1)
    share = X @ Q.mT
    X = X - share @ Q
    if Q.shape[1] > 1:
        # once more: what is left may be small beside what was taken out
        again = X @ Q.mT
        X, share = X - again @ Q, share + again
    return X, share, floor


class Drawn:
    """Matrices W (S, n_out, n_in) and biases b (S, n_out) that have been drawn."""

    def __init__(self, W: Tensor, b: Tensor | None) -> None:
        self.W, self.b = W, b

    def apply(self, X: Tensor, bias: bool = False, keep: bool = False) -> Tensor:
        """W x (+ b) for the rows of X (S, k, n_in): (S, k, n_out).

        Parameters
        ----------
        X : Tensor, shape (S, k, n_in)
        bias : bool
            Whether b is added.
        keep : bool
            Of no effect: a drawn matrix remembers.
        """
        found = X @ self.W.mT
        return found if self.b is None or not bias else found + self.b[:, None]

    def transpose(self, D: Tensor, keep: bool = False) -> Tensor:
        """Wᵀδ for the rows of D (S, k, n_out): (S, k, n_in)."""
        return D @ self.W


class Implicit:
    """Gaussian matrices with entries of variance C_W / n_in, biases of variance C_b, undrawn.

    The bias is one more column, of inputs √(C_b n_in / C_W), so that every entry has the same
    variance.
    """

    def __init__(
        self, S: int, n_out: int, n_in: int, C_W: float, C_b: float, normals: Normals
    ) -> None:
        self.std = math.sqrt(C_W / n_in)
        self.bias = math.sqrt(C_b) / self.std if C_b else 0.0
        self.n_out, self.n_in, self.S = n_out, n_in, S
        self.normals = normals
        # orthonormal questions asked so far, and their answers, on either side
        self.right: tuple[Tensor, Tensor] | None = None
        self.left: tuple[Tensor, Tensor] | None = None

    def apply(self, X: Tensor, bias: bool = False, keep: bool = True) -> Tensor:
        """W x (+ b) for the rows of X (S, k, n_in): (S, k, n_out).

        ``keep=False`` forgets the question: right if nothing else will be asked of W.

        Parameters
        ----------
        X : Tensor, shape (S, k, n_in)
        bias : bool
            Whether b is added.
        keep : bool
            Whether what was asked constrains later answers.
        """
        if self.bias:
            last = X.new_full((*X.shape[:-1], 1), self.bias if bias else 0.0)
            X = torch.cat([X, last], -1)
        answer, self.right = self._ask(X, self.right, self.left, self.n_out, keep)
        return answer

    def transpose(self, D: Tensor, keep: bool = True) -> Tensor:
        """Wᵀδ for the rows of D (S, k, n_out): (S, k, n_in)."""
        width = self.n_in + bool(self.bias)
        answer, self.left = self._ask(D, self.left, self.right, width, keep)
        return answer[..., : self.n_in]

    def _ask(self, X: Tensor, known, other, width: int, keep: bool):
        X, share, floor = residue(X, None if known is None else known[0])
        total = None if known is None else share @ known[1]
        L, inverse = cholesky(X @ X.mT, floor)
        fresh = self.normals.normal(self.S, X.shape[1], width)
        fresh *= self.std
        if other is not None:
            P, Z = other
            fresh = fresh - (fresh @ P.mT) @ P
        new = L @ fresh
        if other is not None:
            new = new + (X @ Z.mT) @ P
        if keep:
            Qn = inverse @ X
            Yn = fresh if other is None else fresh + (Qn @ Z.mT) @ P
            known = (Qn, Yn) if known is None else (
                torch.cat([known[0], Qn], 1), torch.cat([known[1], Yn], 1)
            )  # fmt: skip
        return new if total is None else total + new, known
