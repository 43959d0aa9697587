r"""dNTK and ddNTK statistics: directional derivatives along gradients, by products with W alone.

With v_q = λ ∂z_q/∂θ the gradient of output q (its row of the next map, at its own input a_q),

.. math:: \widehat{dH}_{0qr} = \partial_{v_q}\partial_{v_r} z_0, \qquad
          \widehat{dd_I H}_{0qrs} = \partial_{v_q}\partial_{v_r}\partial_{v_s} z_0, \qquad
          \widehat{dd_{II}H}_{1234} =
          (\partial_{v_3}\nabla z_1)\,\lambda\,(\partial_{v_4}\nabla z_2).

Two neurons i, k of the layer, or two rows of the map into it, stand for all; :class:`_Functionals`
numbers their gradients, and :class:`_Estimates` turns tangents along them
(:mod:`kadanoff.ensembles.directional`) into one estimate of each tensor. Without skips the last map
is averaged analytically where it enters twice, P and Q, and probed by two rows otherwise.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import combinations_with_replacement, product

import torch
from torch import Tensor

from kadanoff.ensembles.directional import Tangents, Triples
from kadanoff.ensembles.tangent import probe_rows
from kadanoff.ensembles.trunk import Trunk

__all__ = ["differential", "whole_differential"]


class _Functionals:
    """The functionals whose gradients are wanted, by number, and the pairs among them.

    Number p N + a is row p, 0 or 1, at input a. Q needs N² more: number 2 N + b N + c is taken at
    input b, and its row stands for the preactivation at input c that Q multiplies with.

    Attributes
    ----------
    samples : list of int
        The input each functional is taken at.
    pairs : list of (int, int)
        Those of two rows first, unordered, and then a row with one of the N² more.
    """

    def __init__(self, N: int, rows: bool, more: bool) -> None:
        self.N, self.rows = N, 2 * N
        self.samples = [*range(N)] * 2
        self.pairs = [*combinations_with_replacement(range(2 * N), 2)] if rows else []
        self.two_rows = len(self.pairs)
        if more:
            self.samples += [b for b in range(N) for _ in range(N)]
            self.pairs += product(range(2 * N), range(2 * N, 2 * N + N * N))
        self._place = {pair: place for place, pair in enumerate(self.pairs)}

    def place(self, q: int, r: int) -> int:
        """Where the pair of two rows' functionals is."""
        return self._place[min(q, r), max(q, r)]

    def same_row(self) -> list[int]:
        """Where the pairs (row, input 1), (row, input 2) are."""
        N = self.N
        return [
            self.place(p * N + a, p * N + b) for p, a, b in product(range(2), range(N), range(N))
        ]

    def triples(self) -> list[Triples]:
        """For R: i0 = i1 one row and i2 = i3 the other, both ways round."""
        return [self._triples(0, self.N), self._triples(self.N, 0)]

    def _triples(self, one: int, two: int) -> Triples:
        N = self.N
        found = [(one + a, two + b, two + c) for a, b, c in product(range(N), repeat=3)]
        members = [[triple[x] for triple in found] for x in range(3)]
        others = [
            [self.place(triple[x], triple[y]) for triple in found]
            for x, y in ((1, 2), (0, 2), (0, 1))
        ]
        return Triples(members, others)


class _Estimates(ABC):
    """One estimate of P … U for every network, from tangents along the gradients of two rows.

    Parameters
    ----------
    trunk : Trunk
    top : int
        The node whose derivative ``delta`` is.
    delta : Tensor, shape (S, k, n)
        Of every functional by z of that node.
    index : _Functionals
    """

    def __init__(self, trunk: Trunk, top: int, delta: Tensor, index: _Functionals) -> None:
        self.trunk, self.top, self.index = trunk, top, index
        self.tangents = Tangents(trunk, top, delta, index.samples)
        self.first = self.tangents.first()
        self.plain2: list[Tensor] = []
        self.sigma2: list[Tensor] = []
        if index.pairs:
            q, r = (list(side) for side in zip(*index.pairs, strict=True))
            self.plain2, self.sigma2 = self.tangents.second(self.first, q, r)

    @abstractmethod
    def P(self) -> Tensor:
        """(S, N, N, N, N), slots 0, 1, 2, 3; so are Q and R."""

    @abstractmethod
    def Q(self) -> Tensor: ...

    @abstractmethod
    def R(self) -> Tensor: ...

    @abstractmethod
    def gram(self) -> Tensor:
        """n ⟨∂_q∇z_p, λ ∂_s∇z_r⟩ of the functionals p, q, r, s of two rows: (S, 2N, 2N, 2N, 2N)."""

    def named(self, names: set[str]) -> dict[str, Tensor]:
        """The estimates of ``names``."""
        out = {name: make() for name, make in self._direct().items() if name in names}
        if names & {"S", "T", "U"}:
            N = self.index.N
            G = self.gram().view(-1, 2, N, 2, N, 2, N, 2, N)
            G = (G + G.flip(1, 3, 5, 7)) / 2
            # slots of G: (row, sample) of z1, of v3, of z2, of v4
            found = {
                "S": G[:, 0, :, 1, :, 0, :, 1].permute(0, 1, 3, 2, 4),
                "T": G[:, 0, :, 0, :, 1, :, 1].permute(0, 1, 2, 4, 3),
                "U": G[:, 0, :, 1, :, 1, :, 0].permute(0, 1, 4, 3, 2),
            }
            out |= {name: value for name, value in found.items() if name in names}
        return out

    def _direct(self):
        return {"P": self.P, "Q": self.Q, "R": self.R}


class _NextMap(_Estimates):
    """Of the layer after node ``l``: two fresh rows of the map into it stand for its neurons."""

    def __init__(self, trunk: Trunk, l: int, names: set[str]) -> None:
        arch, s, d = trunk.arch, trunk.s[l], trunk.d[l]
        S, N, n = s.shape
        self.w = probe_rows(trunk, l, 2)
        self.scale = arch.lambda_W[l + 1] / n
        index = _Functionals(N, bool(names & {"P", "R"}), "Q" in names)
        self.starts = self.w[:, :, None].expand(S, 2, N, n).reshape(S, 2 * N, n)
        starts = self.starts
        if "Q" in names:
            # i2 = i3 integrated out: the row w_k is replaced by (C_W/n) σ of the fourth input
            fixed = s[:, None].expand(S, N, N, n).reshape(S, N * N, n) * (arch.C_W[l + 1] / n)
            starts = torch.cat([starts, fixed], 1)
        super().__init__(trunk, l, d[:, index.samples] * starts, index)
        if index.pairs:
            q, r = (list(side) for side in zip(*index.pairs, strict=True))
            self.sigma2.append(self.tangents.bent(l, self.first, q, r, self.plain2[l]))

    def P(self) -> Tensor:
        s, N = self.trunk.s[self.top], self.index.N
        y = self.trunk.arch.C_W[self.top + 1] * self.sigma2[self.top] @ s.mT[:, None]  # pair, 0, 3
        y = y[:, self.index.same_row()]
        return y.view(-1, 2, N, N, N, N).mean(1).permute(0, 3, 1, 2, 4)

    def Q(self) -> Tensor:
        N, n = self.index.N, self.w.shape[-1]
        rows, more = zip(*self.index.pairs[self.index.two_rows :], strict=True)
        bent = self.sigma2[self.top][:, self.index.two_rows :]
        of_row = self.w[:, [q // N for q in rows]]
        found = torch.einsum("spNn,spn->spN", bent, of_row)
        turned = self.trunk.d[self.top][:, None] * self.first[self.top][:, list(more)]
        found = found + self.scale * self.tangents.inner(self.top, list(rows), turned)
        # slots: row, sample 1, sample 2, sample 3, sample 0
        return n * found.view(-1, 2, N, N, N, N).mean(1).permute(0, 4, 1, 2, 3)

    def R(self) -> Tensor:
        N, n = self.index.N, self.w.shape[-1]
        found = []
        for p, triples in enumerate(self.index.triples()):
            y = self.tangents.third(self.first, triples, self.plain2, self.sigma2)
            y = self.tangents.bent_twice(self.top, self.first, triples, self.plain2, y)
            own = self.sigma2[self.top][:, triples.others[0]]
            found.append(
                torch.einsum("spNn,sn->spN", y, self.w[:, p])
                + self.scale * self.tangents.inner(self.top, triples.members[0], own)
            )
        return n / 2 * (found[0] + found[1]).view(-1, N, N, N, N).permute(0, 4, 1, 2, 3)

    def gram(self) -> Tensor:
        l, k, n = self.top, self.index.rows, self.w.shape[-1]
        s, d, at = self.trunk.s[l], self.trunk.d[l], self.index.samples[: self.index.rows]
        same = torch.eye(2).to(s).repeat_interleave(self.index.N, 0)
        same = same.repeat_interleave(self.index.N, 1)
        s_dot = d[:, at, None] * self.tangents.moved(l, self.first, k)
        s_dot = s_dot.reshape(len(s), k * k, n)
        turned = self.tangents.bend(l, self.first, k, self.starts)
        turned = turned + self.scale * same[..., None] * (d[:, at, None] * s[:, None, at])
        below = self.tangents.gradient_gram(self.first, k, turned)
        own = (s_dot @ s_dot.mT).view(below.shape) * same[:, None, :, None]
        return n * (below + self.scale * own)


class _OwnMap(_Estimates):
    """Of the layer at node ``top`` itself: two of its neurons stand for all.

    Preactivations that P and Q multiply with are summed over all neurons but the one they must
    differ from.
    """

    def __init__(self, trunk: Trunk, l: int, names: set[str]) -> None:
        top = trunk.node(l)
        self.z, self.width = trunk.z[top], trunk.arch.n[l]
        S, N, n = self.z.shape
        starts = self.z.new_zeros(S, 2, n)
        starts[:, 0, 0] = starts[:, 1, 1] = 1.0
        delta = starts.repeat_interleave(N, 1)
        if "Q" in names:
            fourth = self.z[:, None].expand(S, N, N, n).reshape(S, N * N, n)
            delta = torch.cat([delta, fourth], 1)
        index = _Functionals(N, bool(names & {"P", "Q", "R"}), "Q" in names)
        super().__init__(trunk, top, delta, index)

    def _own_rows(self) -> Tensor:
        """∂_1 ∂_2 z at input 0, both along the same row: (S, row, 1, 2, 0, n)."""
        N = self.index.N
        return self.plain2[self.top][:, self.index.same_row()].view(
            -1, 2, N, N, N, self.z.shape[-1]
        )

    def _alone(self, own: Tensor) -> Tensor:
        """What the row's own neuron gives with its own preactivation: (S, row, 1, 2, 0, 3)."""
        found = torch.stack([own[:, p, ..., p] for p in (0, 1)], 1)[..., None]
        return found * self.z[:, :, :2].permute(0, 2, 1)[:, :, None, None, None]

    def P(self) -> Tensor:
        own, N, n = self._own_rows(), self.index.N, self.z.shape[-1]
        every = (own.reshape(len(own), -1, n) @ self.z.mT).view(-1, 2, N, N, N, N)
        found = (every - self._alone(own)).mean(1)
        return self.width / (n - 1) * found.permute(0, 3, 1, 2, 4)

    def Q(self) -> Tensor:
        N, n = self.index.N, self.z.shape[-1]
        y = self.plain2[self.top][:, self.index.two_rows :]
        y = y.view(-1, 2, N, N, N, N, n)  # row, 1, 2, 3, 0
        found = torch.stack([y[:, p, ..., p] for p in (0, 1)], 1)
        found = found - self._alone(self._own_rows()).transpose(-1, -2)
        return self.width / (n - 1) * found.mean(1).permute(0, 4, 1, 2, 3)

    def R(self) -> Tensor:
        N = self.index.N
        third = [
            self.tangents.third(self.first, triples, self.plain2, self.sigma2)[..., p]
            for p, triples in enumerate(self.index.triples())
        ]
        total = (third[0] + third[1]).view(-1, N, N, N, N)
        return self.width / 2 * total.permute(0, 4, 1, 2, 3)

    def gram(self) -> Tensor:
        k = self.index.rows
        still = self.z.new_zeros(len(self.z), k, k, self.z.shape[-1])
        return self.width * self.tangents.gradient_gram(self.first, k, still)


def differential(trunk: Trunk, l: int, names: set[str]) -> dict[str, Tensor]:
    """One estimate of P … U at layer index ``l + 1`` for every network: (S, N, N, N, N) each.

    For networks without skips and independent weights: averaged over the rows of the last map.

    Parameters
    ----------
    trunk : Trunk
    l : int
        Layer index, 0 is layer 1.
    names : set of str
        Among P … U.
    """
    return _NextMap(trunk, l, names).named(names)


def whole_differential(trunk: Trunk, l: int, names: set[str]) -> dict[str, Tensor]:
    """As :func:`differential` at layer index ``l`` for any network, its own last map included.

    Parameters
    ----------
    trunk : Trunk
    l : int
        Layer index, 0 is layer 1.
    names : set of str
        Among P … U.
    """
    S, N, n = trunk.z[trunk.node(l)].shape
    if n < 2:
        return {name: trunk.z[0].new_full((S, N, N, N, N), torch.nan) for name in names}
    return _OwnMap(trunk, l, names).named(names)
