r"""dNTK and ddNTK statistics: directional derivatives along gradients, by products with W alone.

With v_q = λ ∂z_q/∂θ the gradient of output q (its row of the next map, at its own input a_q),

.. math:: \widehat{dH}_{0qr} = \partial_{v_q}\partial_{v_r} z_0, \qquad
          \widehat{dd_I H}_{0qrs} = \partial_{v_q}\partial_{v_r}\partial_{v_s} z_0, \qquad
          \widehat{dd_{II}H}_{1234} =
          (\partial_{v_3}\nabla z_1)\,\lambda\,(\partial_{v_4}\nabla z_2).

Tangents of the preactivations go forward through W, tangents of the gradients go back through
Wᵀ, so the code is the same for drawn and for implicit matrices. The last map is averaged
analytically where it enters twice, P and Q, and probed by two rows i, k otherwise.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from kadanoff.ensembles.tangent import probe_rows
from kadanoff.ensembles.trunk import Trunk

__all__ = ["differential"]


class _Tangents:
    """Gradients of the functionals ``starts`` of σ(z) at layer index l, and tangents along them."""

    def __init__(self, trunk: Trunk, l: int, starts: Tensor, samples: list[int]) -> None:
        self.trunk, self.l, self.samples = trunk, l, samples
        # what is learnt of W here must not bias other layers' passes, which know only σ and z
        self.op = [copy.copy(op) for op in trunk.op[: l + 1]]
        self.back = [starts]  # Wᵀδ of the layer above, before σ'
        self.delta = [trunk.d[l][:, samples] * starts]
        for j in range(l, 0, -1):
            self.back.insert(0, self.op[j].transpose(self.delta[0]))
            self.delta.insert(0, trunk.d[j - 1][:, samples] * self.back[0])

    def scale(self, j: int) -> float:
        """λ_W / n of the map into layer index j."""
        return self.trunk.arch.lambda_W[j] / self.trunk.arch.n[j]

    def push(self, j: int, x: Tensor) -> Tensor:
        """Through the map into layer index j; x (S, ..., n)."""
        S, n = x.shape[0], x.shape[-1]
        return self.op[j].apply(x.reshape(S, -1, n)).view(*x.shape[:-1], -1)

    def first(self) -> list[Tensor]:
        """∂_q z at every layer and input: (S, k, N, n)."""
        trunk = self.trunk
        out: list[Tensor] = []
        for j in range(self.l + 1):
            t = trunk.direct[j][:, self.samples][..., None] * self.delta[j][:, :, None]
            if j:
                t = t + self.push(j, trunk.d[j - 1][:, None] * out[-1])
            out.append(t)
        return out

    def inner(self, j: int, q: list[int], x: Tensor) -> Tensor:
        """σ_{a_q}(layer j) · x, where x is (S, p, N, n): (S, p, N)."""
        return torch.einsum("spn,spNn->spN", self.trunk.s[j][:, [self.samples[i] for i in q]], x)

    def second(self, first: list[Tensor], q: list[int], r: list[int]) -> list[Tensor]:
        """∂_q ∂_r σ(z) at every layer and input for the listed pairs: (S, p, N, n)."""
        trunk = self.trunk
        t = torch.zeros_like(first[0][:, q])
        out: list[Tensor] = []
        for j in range(self.l + 1):
            tq, tr = first[j][:, q], first[j][:, r]
            if j:
                d = trunk.d[j - 1][:, None]
                below_q, below_r = d * first[j - 1][:, q], d * first[j - 1][:, r]
                t = self.push(j, out[-1]) + self.scale(j) * (
                    self.delta[j][:, q, None] * self.inner(j - 1, q, below_r)[..., None]
                    + self.delta[j][:, r, None] * self.inner(j - 1, r, below_q)[..., None]
                )
            curve = trunk.derivative(j, 2)[:, None] * tq * tr
            out.append(curve + trunk.d[j][:, None] * t)
            self._plain.append(t)
        return out

    def pairs(self, first: list[Tensor], q: list[int], r: list[int]):
        """As :meth:`second`, with the tangents of z beside those of σ(z)."""
        self._plain: list[Tensor] = []
        return self.second(first, q, r), self._plain

    def third(self, first, qrs: list[list[int]], sigma2, plain2, where: list[list[int]]) -> Tensor:
        """∂_q ∂_r ∂_s σ(z) at the top layer: (S, p, N, n).

        ``where`` finds the pairs (r, s), (q, s), (q, r) of each triple in the second tangents.
        """
        trunk = self.trunk
        total = t = torch.zeros_like(first[0][:, qrs[0]])
        for j in range(self.l + 1):
            if j:
                t = self.push(j, total)
                for one, rest in zip(qrs, where, strict=True):
                    dot = self.inner(j - 1, one, sigma2[j - 1][:, rest])
                    t = t + self.scale(j) * self.delta[j][:, one, None] * dot[..., None]
            a, b, c = (first[j][:, i] for i in qrs)
            total = trunk.derivative(j, 3)[:, None] * a * b * c + trunk.d[j][:, None] * t
            for one, rest in zip((a, b, c), where, strict=True):
                total = total + trunk.derivative(j, 2)[:, None] * one * plain2[j][:, rest]
        return total

    def gradient_gram(self, first: list[Tensor], k: int, rows: list[int]) -> Tensor:
        """⟨∂_q∇z_p, λ ∂_s∇z_r⟩ for the first k functionals: (S, k, k, k, k), slots p, q, r, s."""
        trunk = self.trunk
        S, n = self.delta[0].shape[0], self.delta[0].shape[-1]
        at = self.samples[:k]
        same = torch.tensor([[float(a == b) for b in rows[:k]] for a in rows[:k]])
        same = same.to(self.delta[0])

        def moved(j: int) -> Tensor:  # ∂_q z at input a_p: (S, p, q, n)
            return first[j][:, :k][:, :, at].transpose(1, 2)

        def gram(x: Tensor, y: Tensor) -> Tensor:
            return x.reshape(S, -1, x.shape[-1]) @ y.reshape(S, -1, y.shape[-1]).mT

        l = self.l
        s_dot = trunk.d[l][:, at, None] * moved(l)
        shape = (S, k, k, k, k)
        total = self.scale(l + 1) * gram(s_dot, s_dot).view(shape) * same[:, None, :, None]
        pulled = self.scale(l + 1) * same[..., None] * trunk.s[l][:, None, at]
        for j in range(l, -1, -1):
            g, delta = self.back[j][:, :k, None], self.delta[j][:, :k]
            d_dot = trunk.derivative(j, 2)[:, at, None] * moved(j) * g
            d_dot = d_dot + trunk.d[j][:, at, None] * pulled
            direct = trunk.direct[j][:, at][:, :, at]
            total = total + gram(d_dot, d_dot).view(shape) * direct[:, :, None, :, None]
            if j:
                s_dot = trunk.d[j - 1][:, at, None] * moved(j - 1)
                s = trunk.s[j - 1][:, at]
                mixed = gram(d_dot, delta).view(S, k, k, k)  # p, q, r
                turned = gram(s, s_dot).view(S, k, k, k)  # p, r, s
                one = mixed[..., None] * turned[:, :, None]  # δ̇_pq·δ_r  σ_p·σ̇_rs
                both = (delta @ delta.mT)[:, :, None, :, None] * gram(s_dot, s_dot).view(shape)
                total = total + self.scale(j) * (one + one.permute(0, 3, 4, 1, 2) + both)
                n = d_dot.shape[-1]
                pulled = self.op[j].transpose(d_dot.reshape(S, -1, n)).view(S, k, k, -1)
                dots = (delta @ delta.mT)[..., None]  # p, q
                pulled = pulled + self.scale(j) * dots * s[:, None]
        return total


def differential(trunk: Trunk, l: int, names: set[str]) -> dict[str, Tensor]:
    """One estimate of P … U at layer index ``l + 1`` for every network: (S, N, N, N, N) each."""
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
    T = _Tangents(trunk, l, starts, samples)
    first = T.first()
    pairs = {(p * N + a, q * N + b) for p in (0, 1) for q in (0, 1) for a in range(N)
             for b in range(N) if p * N + a <= q * N + b}  # fmt: skip
    listed = sorted(pairs) if names & {"P", "R"} else []
    rest = [(p * N + a, 2 * N + b * N + c) for p in (0, 1) for a in range(N) for b in range(N)
            for c in range(N)] if "Q" in names else []  # fmt: skip
    listed = listed + rest
    out: dict[str, Tensor] = {}
    if listed:
        q, r = [p[0] for p in listed], [p[1] for p in listed]
        sigma2, plain2 = T.pairs(first, q, r)
        find = {pair: i for i, pair in enumerate(listed)}

    def pair(a: int, b: int) -> int:
        return find[min(a, b), max(a, b)]

    if "P" in names:
        y = arch.C_W[l + 1] * sigma2[l] @ s.mT[:, None]  # pair, 0, 3
        at = [pair(p * N + a, p * N + b) for p in (0, 1) for a in range(N) for b in range(N)]
        out["P"] = y[:, at].view(S, 2, N, N, N, N).mean(1).permute(0, 3, 1, 2, 4)
    scale = arch.lambda_W[l + 1] / n
    if "Q" in names:
        at = [find[p] for p in rest]
        top = torch.einsum("spNn,spn->spN", sigma2[l][:, at], w[:, [p[0] // N for p in rest]])
        turned = d[:, None] * first[l][:, [p[1] for p in rest]]
        top = top + scale * T.inner(l, [p[0] for p in rest], turned)
        # slots: row, sample 1, sample 2, sample 3, sample 0
        out["Q"] = n * top.view(S, 2, N, N, N, N).mean(1).permute(0, 4, 1, 2, 3)
    if "R" in names:
        out["R"] = n * _ddI(T, first, w, sigma2, plain2, pair, scale)
    if names & {"S", "T", "U"}:
        G = T.gradient_gram(first, 2 * N, rows).view(S, 2, N, 2, N, 2, N, 2, N)
        G = (G + G.flip(1, 3, 5, 7)) * (n / 2)
        # slots of G: (row, sample) of z1, of v3, of z2, of v4
        out["S"] = G[:, 0, :, 1, :, 0, :, 1].permute(0, 1, 3, 2, 4)
        out["T"] = G[:, 0, :, 0, :, 1, :, 1].permute(0, 1, 2, 4, 3)
        out["U"] = G[:, 0, :, 1, :, 1, :, 0].permute(0, 1, 4, 3, 2)
    return {name: value for name, value in out.items() if name in names}


def _ddI(T: _Tangents, first, w: Tensor, sigma2, plain2, pair, scale: float) -> Tensor:
    """R without the factor n: i0 = i1 = one row, i2 = i3 = the other, both ways round."""
    S, N = w.shape[0], T.trunk.z[0].shape[1]
    total = None
    for i, k in ((0, 1), (1, 0)):
        triples = [(i * N + a, k * N + b, k * N + c) for a in range(N) for b in range(N)
                   for c in range(N)]  # fmt: skip
        qrs = [[t[x] for t in triples] for x in range(3)]
        where = [[pair(t[1], t[2]) for t in triples], [pair(t[0], t[2]) for t in triples],
                 [pair(t[0], t[1]) for t in triples]]  # fmt: skip
        y = T.third(first, qrs, sigma2, plain2, where)
        top = torch.einsum("spNn,sn->spN", y, w[:, i])
        top = top + scale * T.inner(T.l, qrs[0], sigma2[T.l][:, where[0]])
        total = top if total is None else total + top
    assert total is not None
    return (total / 2).view(S, N, N, N, N).permute(0, 4, 1, 2, 3)
