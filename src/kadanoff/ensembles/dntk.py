r"""dNTK and ddNTK statistics: directional derivatives along gradients, by products with W alone.

With v_q = λ ∂z_q/∂θ the gradient of output q (its row of the next map, at its own input a_q),

.. math:: \widehat{dH}_{0qr} = \partial_{v_q}\partial_{v_r} z_0, \qquad
          \widehat{dd_I H}_{0qrs} = \partial_{v_q}\partial_{v_r}\partial_{v_s} z_0, \qquad
          \widehat{dd_{II}H}_{1234} =
          (\partial_{v_3}\nabla z_1)\,\lambda\,(\partial_{v_4}\nabla z_2).

Tangents of the preactivations go forward through W, tangents of the gradients go back through
Wᵀ, so the code is the same for drawn and for implicit matrices. Without skips the last map is
averaged analytically where it enters twice, P and Q, and probed by two rows i, k otherwise.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from kadanoff.ensembles.tangent import probe_rows
from kadanoff.ensembles.trunk import Trunk

__all__ = ["differential", "whole_differential"]


class _Tangents:
    """Gradients of functionals of one node, and tangents of every node along them.

    ``back[j]`` is Wᵀδ of the map above node j, before σ'; ``delta[j]`` the derivative with respect
    to z of node j. Functional k is taken at input ``samples[k]``.
    """

    def __init__(self, trunk: Trunk, top: int, delta: Tensor, samples: list[int]) -> None:
        self.trunk, self.top, self.samples = trunk, top, samples
        # what is learnt of W here must not bias other layers' passes, which know only σ and z
        self.op = [copy.copy(op) for op in trunk.op[: top + 1]]
        self.back: list[Tensor] = []
        self.delta = [delta]
        skipped: dict[int, Tensor] = {}
        for j in range(top, 0, -1):
            m = trunk.maps[j]
            self.back.insert(0, self.op[j].transpose(self.delta[0]))
            if m.gamma:
                skipped[j - m.back] = m.gamma * self.delta[0]
            below = trunk.d[j - 1][:, samples] * self.back[0]
            self.delta.insert(0, below + skipped.pop(j - 1) if j - 1 in skipped else below)

    def scale(self, j: int) -> float:
        """λ_W / n of the map into node j."""
        return self.trunk.maps[j].lambda_W / self.trunk.maps[j].n_in

    def push(self, j: int, x: Tensor, z: list[Tensor]) -> Tensor:
        """Through the map into node j, and its skip: W x + γ z[j − back]; x (S, ..., n)."""
        S, n = x.shape[0], x.shape[-1]
        found = self.op[j].apply(x.reshape(S, -1, n)).view(*x.shape[:-1], -1)
        m = self.trunk.maps[j]
        return found + m.gamma * z[j - m.back] if m.gamma else found

    def first(self) -> list[Tensor]:
        """∂_q z at every node and input: (S, k, N, n)."""
        trunk = self.trunk
        out: list[Tensor] = []
        for j in range(self.top + 1):
            t = trunk.direct[j][:, self.samples][..., None] * self.delta[j][:, :, None]
            if j:
                t = t + self.push(j, trunk.d[j - 1][:, None] * out[-1], out)
            out.append(t)
        return out

    def inner(self, j: int, q: list[int], x: Tensor) -> Tensor:
        """σ_{a_q}(node j) · x, where x is (S, p, N, n): (S, p, N)."""
        return torch.einsum("spn,spNn->spN", self.trunk.s[j][:, [self.samples[i] for i in q]], x)

    def bent(self, j: int, first: list[Tensor], q: list[int], r: list[int], plain: Tensor):
        """∂_q ∂_r σ(z) at node j from ∂_q ∂_r z there."""
        curve = self.trunk.derivative(j, 2)[:, None] * first[j][:, q] * first[j][:, r]
        return curve + self.trunk.d[j][:, None] * plain

    def second(
        self, first: list[Tensor], q: list[int], r: list[int]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """∂_q ∂_r z at every node for the listed pairs (S, p, N, n), and ∂_q ∂_r σ(z) below the
        top.
        """
        plain = [torch.zeros_like(first[0][:, q])]
        sigma: list[Tensor] = []
        for j in range(1, self.top + 1):
            sigma.append(self.bent(j - 1, first, q, r, plain[-1]))
            d = self.trunk.d[j - 1][:, None]
            below_q, below_r = d * first[j - 1][:, q], d * first[j - 1][:, r]
            plain.append(
                self.push(j, sigma[-1], plain)
                + self.scale(j) * (
                    self.delta[j][:, q, None] * self.inner(j - 1, q, below_r)[..., None]
                    + self.delta[j][:, r, None] * self.inner(j - 1, r, below_q)[..., None]
                )
            )  # fmt: skip
        return plain, sigma

    def bent_twice(self, j: int, first, qrs: list[list[int]], plain2, where, plain3: Tensor):
        """∂_q ∂_r ∂_s σ(z) at node j from the tangents of z there."""
        trunk = self.trunk
        a, b, c = (first[j][:, i] for i in qrs)
        total = trunk.derivative(j, 3)[:, None] * a * b * c + trunk.d[j][:, None] * plain3
        for one, rest in zip((a, b, c), where, strict=True):
            total = total + trunk.derivative(j, 2)[:, None] * one * plain2[j][:, rest]
        return total

    def third(self, first, qrs: list[list[int]], plain2, sigma2, where: list[list[int]]) -> Tensor:
        """∂_q ∂_r ∂_s z at the top node: (S, p, N, n).

        ``where`` finds the pairs (r, s), (q, s), (q, r) of each triple in the second tangents.
        """
        plain = [torch.zeros_like(first[0][:, qrs[0]])]
        for j in range(1, self.top + 1):
            t = self.push(j, self.bent_twice(j - 1, first, qrs, plain2, where, plain[-1]), plain)
            for one, rest in zip(qrs, where, strict=True):
                dot = self.inner(j - 1, one, sigma2[j - 1][:, rest])
                t = t + self.scale(j) * self.delta[j][:, one, None] * dot[..., None]
            plain.append(t)
        return plain[-1]

    def moved(self, j: int, first: list[Tensor], k: int) -> Tensor:
        """∂_q z of node j at input a_p: (S, p, q, n)."""
        return first[j][:, :k][:, :, self.samples[:k]].transpose(1, 2)

    def gradient_gram(self, first: list[Tensor], k: int, turned: Tensor) -> Tensor:
        """⟨∂_q∇z_p, λ ∂_s∇z_r⟩ for the first k functionals: (S, k, k, k, k), slots p, q, r, s.

        ``turned``, (S, p, q, n), is ∂_q of the derivative δ_p at the top node; what its own map
        and those above it add is left out.
        """
        trunk = self.trunk
        S, at, shape = turned.shape[0], self.samples[:k], (turned.shape[0], k, k, k, k)

        def gram(x: Tensor, y: Tensor) -> Tensor:
            return x.reshape(S, -1, x.shape[-1]) @ y.reshape(S, -1, y.shape[-1]).mT

        total = turned.new_zeros(shape)
        skipped: dict[int, Tensor] = {}
        for j in range(self.top, -1, -1):
            delta, m = self.delta[j][:, :k], trunk.maps[j]
            direct = trunk.direct[j][:, at][:, :, at]
            total = total + gram(turned, turned).view(shape) * direct[:, :, None, :, None]
            if not j:
                break
            s_dot = trunk.d[j - 1][:, at, None] * self.moved(j - 1, first, k)
            s = trunk.s[j - 1][:, at]
            mixed = gram(turned, delta).view(S, k, k, k)  # p, q, r
            across = gram(s, s_dot).view(S, k, k, k)  # p, r, s
            one = mixed[..., None] * across[:, :, None]  # δ̇_pq·δ_r  σ_p·σ̇_rs
            both = (delta @ delta.mT)[:, :, None, :, None] * gram(s_dot, s_dot).view(shape)
            total = total + self.scale(j) * (one + one.permute(0, 3, 4, 1, 2) + both)
            n = turned.shape[-1]
            pulled = self.op[j].transpose(turned.reshape(S, -1, n)).view(S, k, k, -1)
            pulled = pulled + self.scale(j) * (delta @ delta.mT)[..., None] * s[:, None]
            if m.gamma:
                skipped[j - m.back] = m.gamma * turned
            turned = trunk.d[j - 1][:, at, None] * pulled
            turned = turned + self.bend(j - 1, first, k, self.back[j - 1][:, :k])
            if j - 1 in skipped:
                turned = turned + skipped.pop(j - 1)
        return total

    def bend(self, j: int, first: list[Tensor], k: int, back: Tensor) -> Tensor:
        """σ'' part of ∂_q δ_p at node j, ``back`` (S, p, n) the derivative by σ: (S, p, q, n)."""
        at = self.samples[:k]
        return self.trunk.derivative(j, 2)[:, at, None] * self.moved(j, first, k) * back[:, :, None]


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
    arch, s, d = trunk.arch, trunk.s[l], trunk.d[l]
    S, N, n = s.shape
    w = probe_rows(trunk, l, 2)
    starts = w[:, :, None].expand(S, 2, N, n).reshape(S, 2 * N, n)
    samples, rows = [*range(N)] * 2, [0] * N + [1] * N
    if "Q" in names:
        # i2 = i3 integrated out: the row w_k is replaced by (C_W/n) σ of the fourth input
        fixed = s[:, None].expand(S, N, N, n).reshape(S, N * N, n) * (arch.C_W[l + 1] / n)
        starts = torch.cat([starts, fixed], 1)
        samples = samples + [a for a in range(N) for _ in range(N)]
    T = _Tangents(trunk, l, trunk.d[l][:, samples] * starts, samples)
    first = T.first()
    listed = _row_pairs(N) if names & {"P", "R"} else []
    rest = [(p * N + a, 2 * N + b * N + c) for p in (0, 1) for a in range(N) for b in range(N)
            for c in range(N)] if "Q" in names else []  # fmt: skip
    listed = listed + rest
    out: dict[str, Tensor] = {}
    if listed:
        q, r = [p[0] for p in listed], [p[1] for p in listed]
        plain2, sigma2 = T.second(first, q, r)
        sigma2.append(T.bent(l, first, q, r, plain2[l]))
    find = {pair: i for i, pair in enumerate(listed)}
    if "P" in names:
        y = arch.C_W[l + 1] * sigma2[l] @ s.mT[:, None]  # pair, 0, 3
        y = y[:, _same_row(find, N)]
        out["P"] = y.view(S, 2, N, N, N, N).mean(1).permute(0, 3, 1, 2, 4)
    scale = arch.lambda_W[l + 1] / n
    if "Q" in names:
        at = [find[p] for p in rest]
        top = torch.einsum("spNn,spn->spN", sigma2[l][:, at], w[:, [p[0] // N for p in rest]])
        turned = d[:, None] * first[l][:, [p[1] for p in rest]]
        top = top + scale * T.inner(l, [p[0] for p in rest], turned)
        # slots: row, sample 1, sample 2, sample 3, sample 0
        out["Q"] = n * top.view(S, 2, N, N, N, N).mean(1).permute(0, 4, 1, 2, 3)
    if "R" in names:
        total = None
        for p, (qrs, where) in enumerate(_triples(find, N)):
            y = T.third(first, qrs, plain2, sigma2, where)
            y = T.bent_twice(l, first, qrs, plain2, where, y)
            top = torch.einsum("spNn,sn->spN", y, w[:, p])
            top = top + scale * T.inner(l, qrs[0], sigma2[l][:, where[0]])
            total = top if total is None else total + top
        assert total is not None
        out["R"] = n / 2 * total.view(S, N, N, N, N).permute(0, 4, 1, 2, 3)
    if names & {"S", "T", "U"}:
        k = 2 * N
        same = torch.tensor([[float(a == b) for b in rows] for a in rows]).to(s)
        at = samples[:k]
        s_dot = (d[:, at, None] * T.moved(l, first, k)).reshape(S, k * k, n)
        turned = T.bend(l, first, k, starts[:, :k])
        turned = turned + scale * same[..., None] * (d[:, at, None] * s[:, None, at])
        G = T.gradient_gram(first, k, turned)
        own = (s_dot @ s_dot.mT).view(S, k, k, k, k) * same[:, None, :, None]
        _contract(out, G + scale * own, N, n)
    return {name: value for name, value in out.items() if name in names}


def whole_differential(trunk: Trunk, l: int, names: set[str]) -> dict[str, Tensor]:
    """As :func:`differential` at layer index ``l`` for any network, its own last map included.

    Two neurons of the layer stand for i and k; preactivations that P and Q multiply with are summed
    over all neurons but the one they must differ from.

    Parameters
    ----------
    trunk : Trunk
    l : int
        Layer index, 0 is layer 1.
    names : set of str
        Among P … U.
    """
    top = trunk.node(l)
    z = trunk.z[top]
    S, N, n = z.shape
    width = trunk.arch.n[l]
    if n < 2:
        return {name: z.new_full((S, N, N, N, N), torch.nan) for name in names}
    starts = z.new_zeros(S, 2, n)
    starts[:, 0, 0] = starts[:, 1, 1] = 1.0
    samples, delta = [*range(N)] * 2, starts.repeat_interleave(N, 1)
    if "Q" in names:
        samples = samples + [a for a in range(N) for _ in range(N)]
        delta = torch.cat([delta, z[:, None].expand(S, N, N, n).reshape(S, N * N, n)], 1)
    T = _Tangents(trunk, top, delta, samples)
    first = T.first()
    rest = [(p * N + a, 2 * N + b * N + c) for p in (0, 1) for a in range(N) for b in range(N)
            for c in range(N)] if "Q" in names else []  # fmt: skip
    listed = (_row_pairs(N) if names & {"P", "Q", "R"} else []) + rest
    find = {pair: i for i, pair in enumerate(listed)}
    out: dict[str, Tensor] = {}
    if listed:
        plain2, sigma2 = T.second(first, [p[0] for p in listed], [p[1] for p in listed])
        second = plain2[top]
    if names & {"P", "Q"}:
        own = second[:, _same_row(find, N)].view(S, 2, N, N, N, n)  # row, 1, 2, 0
        alone = torch.stack([own[:, p, ..., p] for p in (0, 1)], 1)[..., None]
        alone = alone * z[:, :, :2].permute(0, 2, 1)[:, :, None, None, None]  # row, 1, 2, 0, 3
    if "P" in names:
        every = own.reshape(S, -1, n) @ z.mT
        P = every.view(S, 2, N, N, N, N) - alone
        out["P"] = width / (n - 1) * P.mean(1).permute(0, 3, 1, 2, 4)
    if "Q" in names:
        y = second[:, len(listed) - len(rest) :].view(S, 2, N, N, N, N, n)  # row, 1, 2, 3, 0
        Q = torch.stack([y[:, p, ..., p] for p in (0, 1)], 1) - alone.transpose(-1, -2)
        out["Q"] = width / (n - 1) * Q.mean(1).permute(0, 4, 1, 2, 3)
    if "R" in names:
        third = [
            T.third(first, qrs, plain2, sigma2, where)[..., p]
            for p, (qrs, where) in enumerate(_triples(find, N))
        ]
        total = (third[0] + third[1]).view(S, N, N, N, N)
        out["R"] = width / 2 * total.permute(0, 4, 1, 2, 3)
    if names & {"S", "T", "U"}:
        still = z.new_zeros(S, 2 * N, 2 * N, n)
        _contract(out, T.gradient_gram(first, 2 * N, still), N, width)
    return {name: value for name, value in out.items() if name in names}


def _row_pairs(N: int) -> list[tuple[int, int]]:
    """Unordered pairs of the functionals (row, sample) of two rows."""
    return [(a, b) for a in range(2 * N) for b in range(a, 2 * N)]


def _same_row(find: dict[tuple[int, int], int], N: int) -> list[int]:
    """Where the pairs (row, sample 1), (row, sample 2) are."""
    return [find[min(a, b), max(a, b)] for p in (0, N) for a in range(p, p + N)
            for b in range(p, p + N)]  # fmt: skip


def _triples(find: dict[tuple[int, int], int], N: int):
    """For R, i0 = i1 one row and i2 = i3 the other, both ways round: functionals, and pairs."""
    for one, two in ((0, N), (N, 0)):
        found = [(one + a, two + b, two + c) for a in range(N) for b in range(N) for c in range(N)]
        qrs = [[t[x] for t in found] for x in range(3)]
        where = [
            [find[min(t[x], t[y]), max(t[x], t[y])] for t in found]
            for x, y in ((1, 2), (0, 2), (0, 1))
        ]
        yield qrs, where


def _contract(out: dict[str, Tensor], G: Tensor, N: int, n: int) -> None:
    """S, T and U from products of moved gradients of two rows, (S, 2N, 2N, 2N, 2N)."""
    G = G.view(len(G), 2, N, 2, N, 2, N, 2, N)
    G = (G + G.flip(1, 3, 5, 7)) * (n / 2)
    # slots of G: (row, sample) of z1, of v3, of z2, of v4
    out["S"] = G[:, 0, :, 1, :, 0, :, 1].permute(0, 1, 3, 2, 4)
    out["T"] = G[:, 0, :, 0, :, 1, :, 1].permute(0, 1, 2, 4, 3)
    out["U"] = G[:, 0, :, 1, :, 1, :, 0].permute(0, 1, 4, 3, 2)
