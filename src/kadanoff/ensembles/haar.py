r"""Orthogonal weight matrices of many networks, known only by their action.

A Haar-distributed matrix Ω of order M that has been asked for :math:`\Omega q_i = y_i`, with
orthonormal q and y, is on what is left a Haar matrix from the complement of the q onto that of
the y. So a new question :math:`\Omega x` is answered by the known frame on the span of the q, and
by a uniformly distributed direction orthogonal to the y for the rest. As
:math:`\Omega^T y_i = q_i`, questions from the other side extend the same pair of frames. One
question costs O(M k) with k directions known, instead of the O(M³) of drawing Ω.

The weights of a map are :math:`\sqrt{C_W M/n_{\rm in}}` times the corner
:math:`n_{\rm out}\times n_{\rm in}` of Ω with :math:`M = \max(n_{\rm in}, n_{\rm out})`, which has
orthonormal columns or rows.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kadanoff.ensembles.normals import Normals
from kadanoff.ensembles.undrawn import Known, residue
from kadanoff.gaussian.cholesky import batch_factor_inverse

__all__ = ["Haar"]


class Haar:
    """Orthogonal matrices with entries of variance C_W / n_in and Gaussian biases, undrawn."""

    def __init__(
        self, S: int, n_out: int, n_in: int, C_W: float, C_b: float, normals: Normals
    ) -> None:
        self.S, self.n_out, self.n_in = S, n_out, n_in
        self.order = max(n_out, n_in)
        self.scale = math.sqrt(C_W * self.order / n_in)
        self.normals = normals
        self.b = normals.normal(S, n_out) * math.sqrt(C_b) if C_b else None
        # matched orthonormal frames in the spaces of inputs and outputs
        self.frames: Known | None = None

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
        answer, known = self._ask(X, self.frames)
        if keep:
            self.frames = known
        answer = self.scale * answer[..., : self.n_out]
        return answer if self.b is None or not bias else answer + self.b[:, None]

    def transpose(self, D: Tensor, keep: bool = True) -> Tensor:
        """Wᵀδ for the rows of D (S, k, n_out): (S, k, n_in)."""
        known = None if self.frames is None else (self.frames[1], self.frames[0])
        answer, known = self._ask(D, known)
        if keep:
            self.frames = known[1], known[0]
        return self.scale * answer[..., : self.n_in]

    def _ask(self, X: Tensor, known: Known | None) -> tuple[Tensor, Known]:
        """Ω x for the rows of X, padded with zeros, and the frames known afterwards."""
        rest = torch.nn.functional.pad(X, (0, self.order - X.shape[-1]))
        share, floor = None, None
        if known is not None:
            rest, share, floor = residue(rest, known[0])
        L, inverse = batch_factor_inverse(rest @ rest.mT, floor)
        question = inverse @ rest
        noise = self.normals.normal(self.S, X.shape[1], self.order)
        # a direction that the frame has already needs no image
        noise = noise * (inverse.diagonal(dim1=-2, dim2=-1) > 0)[..., None]
        if known is not None:
            noise = residue(noise, known[1])[0]
        # rows of a Gaussian matrix made orthonormal in turn are uniform
        image = batch_factor_inverse(noise @ noise.mT)[1] @ noise
        answer = L @ image
        if known is None or share is None:
            return answer, (question, image)
        frames = torch.cat([known[0], question], 1), torch.cat([known[1], image], 1)
        return answer + share @ known[1], frames
