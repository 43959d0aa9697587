"""Weight matrices of many networks at once: drawn, or known only by their action.

Both classes answer the same two questions, W x and Wᵀδ, for a batch of networks and several
vectors a network (rows); :class:`kadanoff.ensembles.haar.Haar` does so for orthogonal weights.
:class:`DrawnMatrix` holds numbers. :class:`Implicit` holds nothing at first: it answers by the law
of :mod:`kadanoff.ensembles.undrawn`. A new question costs one new normal vector, O(n) instead of
the O(n²) of a drawn matrix, and the joint law of all answers is exact.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kadanoff.ensembles.normals import Normals
from kadanoff.ensembles.undrawn import Known, answered, fresh_part, remembered, residue
from kadanoff.gaussian.cholesky import batch_factor_inverse

__all__ = ["DrawnMatrix", "Implicit"]


class DrawnMatrix:
    """Matrices W (S, n_out, n_in) and biases b (S, n_out) that have been drawn."""

    def __init__(self, W: Tensor, b: Tensor | None) -> None:
        self.W, self.b = W, b

    def apply(self, X: Tensor, bias: bool = False, keep: bool = True) -> Tensor:
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

    def transpose(self, D: Tensor, keep: bool = True) -> Tensor:
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
        self.right: Known | None = None
        self.left: Known | None = None

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

    def _ask(
        self, X: Tensor, known: Known | None, other: Known | None, width: int, keep: bool
    ) -> tuple[Tensor, Known | None]:
        rest, share, floor = X, None, None
        if known is not None:
            rest, share, floor = residue(X, known[0])
        L, inverse = batch_factor_inverse(rest @ rest.mT, floor)
        noise = self.normals.normal(self.S, X.shape[1], width)
        noise *= self.std
        fresh = fresh_part(noise, other)
        answer = answered(rest, L @ fresh, other)
        if share is not None and known is not None:
            answer = share @ known[1] + answer
        if keep:
            known = remembered(known, inverse @ rest, fresh, other)
        return answer, known
