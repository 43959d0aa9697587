r"""A matrix with orthonormal columns or rows, known only by the questions it has answered.

Let Ω be Haar-distributed of order M. After :math:`\Omega q_i = y_i`, with orthonormal q and y, it
is on what is left a Haar matrix from the complement of the q onto that of the y: a new question is
answered by the known frames on their span, and for the rest by a uniformly distributed frame
orthogonal to the y. As :math:`\Omega^T y_i = q_i`, questions from the other side extend the same
pair of frames. The weight (R, C) is σ√M times a corner of Ω, M = max(R, C).

The same law for many described networks at once: :mod:`kadanoff.ensembles.haar`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kadanoff.ensembles.undrawn import Known, residue
from kadanoff.gaussian.cholesky import gram_factor
from kadanoff.program.matrix import Matrix, Pool, Side, cheaper_undrawn

__all__ = ["Orthogonal"]


class Orthogonal(Matrix):
    """Orthonormal rows or columns times ``std`` √max(R, C), undrawn.

    Parameters
    ----------
    rows, columns, std, normal, pool, always
        As of :class:`~kadanoff.program.matrix.Matrix`; ``std``² is the mean square entry.
    """

    def __init__(
        self,
        rows: int,
        columns: int,
        std: float,
        normal: Callable[..., Tensor],
        pool: Pool | None = None,
        always: bool = False,
    ) -> None:
        super().__init__(rows, columns, std, normal, pool, always)
        self.order = max(rows, columns)
        self.scale = std * self.order**0.5

    def undrawn(self, M: int) -> bool:
        """Whether M more rows should be answered without drawing the matrix."""
        if self.W is not None:
            return False
        asked = self.asked + M
        # drawing takes a QR factorisation of the larger side
        few = 4 * asked < min(self.rows, self.columns)
        return self.always or few or cheaper_undrawn(asked, self.rows, self.columns)

    def _answer(self, X: Tensor, side: Side, keep: bool) -> tuple[Tensor, Tensor | None]:
        if self.W is not None:
            return super()._answer(X, side, keep)
        known = self.known["right"]
        if known is not None and side == "left":
            known = known[1], known[0]
        answer, known = self._extended(X.double(), known)
        if keep:
            self.known["right"] = known if side == "right" else (known[1], known[0])
        return (self.scale * answer[:, : self.width(side)]).to(X.dtype), None

    def _extended(self, X: Tensor, known: Known | None) -> tuple[Tensor, Known]:
        """Ω x for the rows of X, filled up with zeros, and the frames known afterwards."""
        rest, share, floor = F.pad(X, (0, self.order - X.shape[-1])), None, None
        if known is not None:
            rest, share, floor = residue(rest, known[0], mean=self._mean)
        found = gram_factor(self._mean(rest @ rest.mT), floor)
        question = found.basis(rest)
        noise = self.normal((len(question), self.order), torch.float64)
        if known is not None:
            noise = residue(noise, known[1], mean=self._mean)[0]
        # rows of a Gaussian matrix made orthonormal in turn are uniform
        image = gram_factor(self._mean(noise @ noise.mT)).basis(noise)
        answer = found.L @ image
        if known is None or share is None:
            return answer, (question, image)
        frames = torch.cat([known[0], question]), torch.cat([known[1], image])
        return answer + share @ known[1], frames

    def materialise(self, fresh: Tensor) -> Tensor:
        """The matrix itself, given its answers so far.

        Parameters
        ----------
        fresh : Tensor, shape (R, C)
            A draw of its law, used if nothing has been asked.
        """
        known = self.known["right"]
        W = fresh
        if known is not None and len(known[0]):
            W = self._given(known).to(fresh.dtype)
        self.known = {"right": None, "left": None}
        self.W = W
        return W

    def _given(self, known: Known) -> Tensor:
        """Ω = Yᵀ Q + (Haar from the complement of Q onto that of Y), its corner."""
        Q, Y = known
        k, M = len(Q), self.order
        here, there = (torch.linalg.qr(frame.mT, mode="complete")[0][:, k:] for frame in (Q, Y))
        inner, r = torch.linalg.qr(self.normal((M - k, M - k), torch.float64))
        whole = Y.mT @ Q + there @ (inner * r.diagonal().sign()) @ here.mT
        return self.scale * whole[: self.rows, : self.columns]
