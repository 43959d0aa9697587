r"""A matrix of independent normal entries, known only by the questions it has answered.

**Forward.** Let the rows of X (M, n) be all that W (n', n), entries N(0, σ²), is asked. The
columns of W are i.i.d., so Z = X Wᵀ has n' independent columns, each N(0, σ² X Xᵀ): with
X Xᵀ = L Lᵀ and g (r, n') standard normal,

.. math:: Z = \sigma L g .

**Backward.** With Q = L⁻¹X orthonormal, the question fixes W on the span of Q: W Qᵀ = σ gᵀ. The
part of W on the complement, W (1 − QᵀQ), is independent of it. So for cotangents δ (M, n') with
δ δᵀ = R Rᵀ and ν standard normal,

.. math:: \delta W = \sigma\,[(\delta g^T)\, Q + R\,\nu\,(1 - Q^T Q)] .

**Any number of questions from either side**: :mod:`kadanoff.ensembles.undrawn`.

**Pooled.** ``pool`` averages every product over a wide axis over replicas that run side by side:
the Gram matrices of S networks of width n, or of one of width S n. The projection off the known
directions is averaged too; without it gradients would grow by M/(S n) a map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from kadanoff.devices import check_room
from kadanoff.ensembles.undrawn import Known, answered, fresh_part, remembered, residue
from kadanoff.gaussian.cholesky import GramFactor, gram_factor

__all__ = ["Matrix", "Question", "Side", "cheaper_undrawn"]

_MANY = 4096  # rows from which memory is looked at
Side = Literal["right", "left"]
Pool = Callable[[Tensor], Tensor]


def cheaper_undrawn(M: int, n: int, width: int) -> bool:
    """Whether answering M rows costs less than drawing the n × width matrix.

    Both laws together cost about 7.5 M² (n + n') + M³ flops; the map itself 6 M n n', and drawing
    20 flops an entry.

    Parameters
    ----------
    M : int
        Rows asked so far and now.
    n, width : int
        Numbers in a question and in an answer.
    """
    return 7.5 * M * M * (n + width) + M**3 < (6 * M + 20) * n * width


class Switch(Protocol):
    """What a backward pass is for."""

    recording: bool
    keeping: bool
    pairing: bool


@dataclass
class Question:
    """Rows asked of one side, kept until their cotangents come back."""

    X: Tensor
    side: Side
    gram: Tensor | None  # X Xᵀ, float64


class Matrix:
    """Entries N(0, std²), R × C, undrawn.

    Parameters
    ----------
    rows, columns : int
        R, C. As a map, W takes C numbers to R ("right" questions, X of shape (M, C)); transposed,
        R numbers to C ("left" questions, X of shape (M, R)).
    std : float
    normal : callable
        ``normal((r, n), dtype)``: standard normal numbers, a new piece of one stream each time.
    pool : callable, optional
        Average over replicas.
    always : bool
        Answer undrawn also where drawing is cheaper; always so if pooled.
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
        self.rows, self.columns, self.std = rows, columns, std
        self.normal, self.pool, self.always = normal, pool, always or pool is not None
        # orthonormal questions (k, n) and their answers (k, n'), by side
        self.known: dict[Side, Known | None] = {"right": None, "left": None}
        self._forward = dict(self.known)  # without what backward passes have asked
        self.asked = 0  # rows asked in forward passes
        self.uses = 0
        self.W: Tensor | None = None
        self.squares: Tensor | None = None
        self.pairs: list[tuple[Tensor, Tensor]] = []  # (rows' side, columns' side) of ∂W
        self.functionals: list[list[tuple[Tensor, Tensor]]] = []

    # -- questions -----------------------------------------------------------------------------

    def width(self, side: Side) -> int:
        """Numbers in an answer to a question of this side."""
        return self.rows if side == "right" else self.columns

    def undrawn(self, M: int) -> bool:
        """Whether M more rows should be answered without drawing the matrix."""
        if self.W is not None:
            return False
        if self.always:
            return True
        return cheaper_undrawn(self.asked + M, self.rows, self.columns)

    def ask(self, X: Tensor, side: Side) -> tuple[Tensor, Question]:
        """W x for the rows of X, and the question to give back with its cotangents."""
        self.asked += len(X)
        self.uses += 1
        answer, gram = self._answer(X, side, keep=True)
        self._forward = dict(self.known)
        return answer, Question(X, side, gram)

    def back(
        self, question: Question, delta: Tensor, wanted: bool, switch: Switch
    ) -> Tensor | None:
        """The cotangents of a question's rows, given those of its answers.

        Parameters
        ----------
        delta : Tensor, shape (M, width)
        wanted : bool
            Whether the rows' own cotangents are needed (data needs none).
        switch : Switch
            Whether ∂𝓛/∂W counts, and whether the answers must be remembered.
        """
        other: Side = "left" if question.side == "right" else "right"
        answer, gram = None, None
        if wanted:
            # a matrix of one use is asked once a pass: nothing need be remembered
            keep = self.uses > 1 or switch.keeping
            answer, gram = self._answer(delta, other, keep)
            if switch.keeping:
                self._forward = dict(self.known)
        if switch.recording:
            self._record(question, delta, gram, switch.pairing)
        return answer

    def _answer(self, X: Tensor, side: Side, keep: bool) -> tuple[Tensor, Tensor | None]:
        if self.W is not None:
            W = self.W.to(X.dtype)
            return (X @ W.mT if side == "right" else X @ W), None
        other: Side = "left" if side == "right" else "right"
        n, width = X.shape[-1], self.width(side)
        dtype = torch.promote_types(X.dtype, torch.float32)
        rest = X.double()
        share, floor, mine = None, None, self.known[side]
        if mine is not None:
            eps = 64 * torch.finfo(dtype).eps
            rest, share, floor = residue(rest, mine[0].double(), max(eps * eps, 1e-24), self._mean)
        whole = len(X) >= n and self.pool is None and mine is None
        gram = None
        if whole:
            # more rows than directions: one fresh answer a direction
            found = GramFactor(rest, None)
            r = n
        else:
            _check_room(len(X), self.pool is not None)
            gram = self._mean(rest @ rest.mT)
            found = gram_factor(gram, floor)
            r = found.L.shape[1]
        given = self.known[other]
        fresh = fresh_part(self.normal((r, width), dtype).mul_(self.std), given, self._mean)
        answer = answered(rest.to(dtype), found.L.to(dtype) @ fresh, given, self._mean)
        if keep and r:
            if whole:
                basis = torch.eye(n, dtype=dtype, device=X.device)
            else:
                basis = found.basis(rest).to(dtype)
            self.known[side] = remembered(mine, basis, fresh, given, self._mean)
        if share is not None and mine is not None:
            answer = answer + share.to(dtype) @ mine[1]
            gram = None  # of the rest alone
        return answer.to(X.dtype), gram

    def _mean(self, product: Tensor) -> Tensor:
        return product if self.pool is None else self.pool(product)

    # -- gradients -----------------------------------------------------------------------------

    def _record(
        self, question: Question, delta: Tensor, gram: Tensor | None, pairing: bool
    ) -> None:
        """Add this use to ∂W = Σ δᵢ xᵢᵀ."""
        right = question.side == "right"
        if self.uses > 1 or self.W is not None or pairing:
            pair = (delta, question.X) if right else (question.X, delta)
            self.pairs.append((pair[0].detach(), pair[1].detach()))
            return
        X, D = question.X.double(), delta.double()
        if len(X) > min(self.rows, self.columns):
            self.squares = (D.mT @ X).square().sum()
            return
        # |∂W|² = Σ (X Xᵀ) ∘ (δ δᵀ): no matrix of W's size
        G = X @ X.mT if question.gram is None or self.pool is not None else question.gram
        H = D @ D.mT if gram is None or self.pool is not None else gram
        self.squares = (G * H).sum()

    def gradient_square(self) -> Tensor | None:
        """|∂𝓛/∂W|² of what was recorded; None if nothing was."""
        if not self.pairs:
            return self.squares
        U = torch.cat([u for u, _ in self.pairs]).double()
        V = torch.cat([v for _, v in self.pairs]).double()
        if len(U) < min(self.rows, self.columns):
            return ((U @ U.mT) * (V @ V.mT)).sum()
        return (U.mT @ V).square().sum()

    def set_apart(self) -> None:
        """Keep what this pass recorded as one functional's, and start the next one's."""
        self.functionals.append(self.pairs)
        self.pairs = []

    def tangent(self) -> Tensor:
        """Σ ∂f_k/∂W ∂f_l/∂W of the functionals set apart: (K, K), float64.

        Σ (u_i·u_j)(v_i·v_j) over the rows i of f_k and j of f_l: no matrix of W's size.
        """
        K = len(self.functionals)
        device = next((u.device for pairs in self.functionals for u, _ in pairs), None)
        total = torch.zeros(K, K, dtype=torch.float64, device=device)
        joined = [_joined(pairs) for pairs in self.functionals]
        for k, a in enumerate(joined):
            for l, b in enumerate(joined[: k + 1]):
                if a is not None and b is not None:
                    total[k, l] = total[l, k] = ((a[0] @ b[0].mT) * (a[1] @ b[1].mT)).sum()
        return total

    def gradient(self) -> Tensor | None:
        """∂𝓛/∂W (R, C) of what was recorded in pairs."""
        if not self.pairs:
            return None
        total = self.pairs[0][0].mT @ self.pairs[0][1]
        for u, v in self.pairs[1:]:
            total = total + u.mT @ v
        return total

    def forget(self) -> None:
        """Start a new backward pass: cotangents asked before, and what they recorded, are gone.

        Each pass alone has its exact law; what different passes have answered is independent
        given the forward pass.
        """
        self.known = dict(self._forward)
        self.squares, self.pairs = None, []

    # -- drawing it after all ------------------------------------------------------------------

    def materialise(self, fresh: Tensor) -> Tensor:
        """The matrix itself, given its answers so far.

        Parameters
        ----------
        fresh : Tensor, shape (R, C)
            A draw of its law, which knows of no answers.
        """
        W = fresh
        right, left = self.known["right"], self.known["left"]
        if left is not None:
            P, Z = left
            W = W - P.mT.to(W.dtype) @ (P.to(W.dtype) @ W - Z.to(W.dtype))
        if right is not None:
            Q, Y = right
            W = W - (W @ Q.mT.to(W.dtype) - Y.mT.to(W.dtype)) @ Q.to(W.dtype)
        self.known = {"right": None, "left": None}
        self.W = W
        return W


def _check_room(M: int, pooled: bool) -> None:
    """Refuse Gram matrices that main memory has no room for.

    Raises
    ------
    AnalysisError
    """
    if M < _MANY:
        return  # a few hundred MB at most
    remedy = "Use fewer or smaller samples: it takes the square of their positions."
    if pooled:
        remedy += " limit=False draws the weights of maps that see so many rows."
    # the product, its factor, and a copy of each while they are made
    check_room(4 * 8 * M * M, f"The Gram matrix of {M:,} rows of one map", remedy)


def _joined(pairs: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor] | None:
    """All rows of a functional's pairs, either side by itself, float64; None without any."""
    if not pairs:
        return None
    left, right = zip(*pairs, strict=True)
    return torch.cat(left).double(), torch.cat(right).double()
