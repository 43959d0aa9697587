r"""Statistics across two neurons i ≠ j: F, Q, T; B, S, P, R; U; and the NTK of a neuron itself.

The NTK, dNTK and ddNTKs of a network hang on *lines*: Jacobians of one sample from a neuron down.
A map sends a line of sample s from neuron i either straight on, by the skip, or through W to all
neurons below, where W pairs with what else depends on it. With f what neuron i is multiplied with,

.. math::
   T_s f &= \gamma\,E[f|z] + C_W\textstyle\sum_x\langle\partial_x f\rangle\,\sigma_x\sigma'_s, \\
   T_{st} f &= \gamma^2 E[f|z] + C_W\langle f\rangle\,\sigma'_s\sigma'_t,

for one line and for two. Followed to the bottom a bundle of lines is a sum of *pieces*, functions
of one neuron born at some layer, which the skips may hold there. At order 1/n the bundles of i and
of j touch once, at a neuron of layer k, into the NTK :math:`\Theta^{(k)}` for each line of j. One
piece was born there, the other there or above, held since: with r lines in the latter,

.. math::
   [f, g] = \sum_{k,m} \frac{1}{n_{\min}}\, g_{km}^{\,r}\,\Theta^{(\min)}\cdots
       \langle f^{(k)} g^{(m)}\rangle .

What is put in at a layer makes the tensor. With f a number, :math:`\chi_{st}` the mean of two
lines carried down from the top, and :math:`\omega_{se} = \lambda_W\sigma'_s\sigma_e
+ C_W\Theta_{se}\sigma''_s\sigma'_e`,

* one line a side: F = [z, z], Q = [χω, z], T = [χω, χω];
* two lines a side: B = [1, 1], S = [χκ, 1] with κ_{12} = λ_W σ'_1σ'_2 + C_W Θ_{12} σ''_1σ''_2;
  P and R are [·, 1] of the bundles of z and of χω with their line doubled, :math:`\sigma'_s
  \to \sigma''_s` in every piece born of W or put in;
* three lines a side: U, of :math:`C_W\chi_{st}\sigma''_s\sigma'_t` on both.

A Haar matrix takes the product of the two means from what both bundles bear in the same map.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.rgflow.nodes import Net
from kadanoff.rgflow.two_layers import Order

__all__ = ["AcrossNeurons"]

_e = torch.einsum


@dataclass(frozen=True)
class Bundle:
    """A family e of one-line bundles of sample s: coefficients [node, x, e, s].

    ``born`` and ``put`` multiply σ_xσ'_s, by W and by a source; ``bent`` σ'_xσ''_s.
    """

    born: Tensor
    put: Tensor | None = None
    bent: Tensor | None = None

    @property
    def plain(self) -> Tensor:
        """Everything that multiplies σ_xσ'_s."""
        return self.born if self.put is None else self.born + self.put

    def parts(self) -> list[tuple[Order, Tensor]]:
        """(orders of the factors of x and s, coefficients)."""
        bent: list[tuple[Order, Tensor]] = [] if self.bent is None else [((1, 2), self.bent)]
        return [((0, 1), self.plain), *bent]


class AcrossNeurons:
    """Every statistic across two neurons of a network, in absolute units."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self._tables: dict[tuple, Tensor] = {}

    # --- tables of pairs of pieces --------------------------------------------------------------

    def _pieces(self, kind: str, o: Order, p: Order) -> Tensor:
        """g^r Θ… ⟨piece o at m, piece p at q⟩ / n, [m, x, s, q, y, t]."""
        if (kind, o, p) not in self._tables:
            self._tables[kind, o, p] = self._make(*_KINDS[kind], o, p)
        return self._tables[kind, o, p]

    def _make(self, lines: int, touch: Callable[[Tensor], Tensor], o: Order, p: Order) -> Tensor:
        net, M, N = self.net, len(self.net.maps), self.net.N
        out = torch.zeros(M, N, N, M, N, N, dtype=torch.float64)
        for m in range(M):
            for q in range(M):
                low, high = sorted((m, q))
                g = net.skips[low][high]
                if g:
                    node = net.nodes[low]
                    weight = touch(node.Theta) * (g**lines / node.width)
                    out[m, :, :, q] = weight * net.average(m, o, q, p)
        return out

    # --- one line a side ------------------------------------------------------------------------

    def _born(self, start: dict[int, Tensor]) -> Tensor:
        """What W bears below functions of mean slope ``start[l]``, [x, e, s], put in at node l."""
        net, top = self.net, max(start)
        N, E = net.N, next(iter(start.values())).shape[1]
        slope = torch.zeros(top + 1, N, E, N, dtype=torch.float64)
        for l, value in start.items():
            slope[l] += value
        born = torch.zeros(len(net.maps), N, E, N, dtype=torch.float64)
        for l in range(top, 0, -1):
            born[l - 1] = net.maps[l - 1].C_W * slope[l]
            slope[l - 1] += _e("xas,aes->xes", net.slope(l - 1), born[l - 1])
            source, gamma = net.source.get(l, (l - 1, 0.0))
            slope[source] += gamma**2 * slope[l]
        return born

    def z_line(self, top: int) -> Bundle:
        """The bundle of z_e at node ``top``, without z itself."""
        N = self.net.N
        return Bundle(self._born({top: self.net.eye[:, :, None].expand(N, N, N)}))

    def omega_line(self, top: int) -> Bundle:
        """χω of all layers below ``top``."""
        net, chi = self.net, self.means(top)
        put, bent = torch.zeros(2, len(net.maps), *(net.N,) * 3, dtype=torch.float64).unbind()
        start: dict[int, Tensor] = {}
        for m in range(top):
            step = net.maps[m]
            rate = step.lambda_W * chi[m + 1]  # [s, e]
            turn = step.C_W * net.nodes[m].Theta * chi[m + 1]
            put[m] = _e("xe,se->xes", net.eye, rate)
            bent[m] = _e("xe,se->xes", net.eye, turn)
            start[m] = net.slope(m) * rate.T + net.slope(m, 1, 2) * turn.T
        return Bundle(self._born(start), put, bent)

    def unit_line(self, m: int) -> Bundle:
        """σ_eσ'_s born at node m."""
        born = self._born({m: self.net.slope(m)})
        born[m] = self.net.eye[:, :, None]
        return Bundle(born)

    def touch(self, a: Bundle, b: Bundle) -> Tensor:
        """[a, b], slots [e of a, s of a, e of b, s of b]."""
        total = torch.zeros((), dtype=torch.float64)
        for o, left in a.parts():
            for p, right in b.parts():
                table = self._pieces("one", o, p)
                half = _e("mxes,mxsqyt->esqyt", left, table)
                total = total + _e("esqyt,qyft->esft", half, right)
        for m, step in enumerate(self.net.maps):
            if step.orthogonal:
                t, theta = self.net.tables[m], self.net.nodes[m].Theta
                both = _e("xes,xy,yft->esft", a.born[m], t.ss, b.born[m])
                total = total - self.net.haar(m) * _e("esft,st->esft", both, t.dd * theta)
        return total

    def z_touch(self, top: int, b: Bundle) -> Tensor:
        """[z at node ``top`` itself, b], slots [e, s, e of b, s of b]; every sample s."""
        net = self.net
        total = torch.zeros((net.N,) * 4, dtype=torch.float64)
        for m in range(len(net.maps)):
            g = net.skips[m][top]
            if g and m < top:
                node = net.nodes[m]
                moved = _e("xyt,yft->xft", net.slope(m), b.plain[m])
                if b.bent is not None:
                    moved = moved + _e("xyt,yft->xft", net.slope(m, 1, 2), b.bent[m])
                seen = _e("ex,xft,st->esft", node.K, moved, node.Theta)
                total = total + g * g / node.width * seen
        return total

    def F(self, top: int) -> Tensor:
        """Slots [z1, H3, z2, H4]."""
        z = self.z_line(top)
        own = self.z_touch(top, z)
        return self.touch(z, z) + own + own.permute(2, 3, 0, 1)

    def Q(self, top: int) -> Tensor:
        """Slots [0, 1, 2, 3]."""
        z, omega = self.z_line(top), self.omega_line(top)
        found = self.touch(omega, z) + self.z_touch(top, omega).permute(2, 3, 0, 1)
        return found.permute(1, 0, 3, 2)

    def T(self, top: int) -> Tensor:
        """Slots [1, 3, 4, 2]."""
        omega = self.omega_line(top)
        return self.touch(omega, omega).permute(1, 0, 2, 3)

    # --- two lines a side -----------------------------------------------------------------------

    def means(self, top: int, start: dict[int, Tensor] | None = None, same: bool = False) -> Tensor:
        """Mean of two lines (s, t) from ``start[l]`` put in at node l, by default 1 at the top.

        [node, s, t]; or [node, s, ...] with ``same``, for two lines of one sample s.

        Parameters
        ----------
        top : int
            Node at which the lines begin.
        start : dict of int to Tensor, optional
            What is put in, by node.
        same : bool
            Whether both lines carry one sample.
        """
        net = self.net
        if start is None:
            start = {top: torch.ones(net.N, net.N, dtype=torch.float64)}
        mean = torch.zeros(top + 1, *next(iter(start.values())).shape, dtype=torch.float64)
        for l, value in start.items():
            mean[l] += value
        for l in range(top, 0, -1):
            dd = net.tables[l - 1].dd
            dd = dd.diagonal()[:, None] if same else dd
            mean[l - 1] += net.maps[l - 1].C_W * dd * mean[l]
            source, gamma = net.source.get(l, (l - 1, 0.0))
            mean[source] += gamma**2 * mean[l]
        return mean

    def _born_pair(self, mean: Tensor) -> Tensor:
        """Coefficients of σ'_sσ'_t that W bears, [node, ...], from the means above."""
        out = torch.zeros(len(self.net.maps), *mean.shape[1:], dtype=torch.float64)
        for m in range(len(mean) - 1):
            out[m] = self.net.maps[m].C_W * mean[m + 1]
        return out

    def _against_one(self, top: int, kind: str, o: Order) -> Tensor:
        """[piece o at node m, two lines of 1 at the top], slots [m, x, s, y, t]."""
        net = self.net
        born = self._born_pair(self.means(top))
        found = _e("mxsqyt,qyt->mxsyt", self._pieces(kind, o, (1, 1)), born)
        for m in range(top):
            g = net.skips[m][top]
            if g:
                lines, touch = _KINDS[kind]
                node = net.nodes[m]
                mean = net.tables[m].E(*o)[:, :, None, None]
                found[m] += g**lines / node.width * touch(node.Theta) * mean
        return found

    def _haar_pair(self, left: Tensor, right: Tensor, names: str) -> Tensor | float:
        """What Haar matrices take out: both bundles born in the same map."""
        total: Tensor | float = 0.0
        for m, step in enumerate(self.net.maps):
            if step.orthogonal:
                turned = self.net.tables[m].dd * self.net.nodes[m].Theta
                total = total + self.net.haar(m) * _e(names, left[m], right[m], turned, turned)
        return total

    def B(self, top: int) -> Tensor:
        """Slots [1, 3, 2, 4]."""
        net, born = self.net, self._born_pair(self.means(top))
        found = _e("mxs,mxsyt->xsyt", born, self._against_one(top, "two", (1, 1)))
        for m in range(top):
            g = net.skips[m][top]
            if g:
                node = net.nodes[m]
                seen = born[m] * net.tables[m].dd * (g * g / node.width)
                found = found + _e("yt,xy,st->xsyt", seen, node.Theta, node.Theta)
        return found - self._haar_pair(born, born, "xs,yt,xy,st->xsyt")

    def S(self, top: int) -> Tensor:
        """Slots [1, 2, 3, 4]."""
        net, chi = self.net, self.means(top)
        bent, put, start = [], [], {}
        for m, step in enumerate(net.maps):
            above = chi[m + 1] if m < top else torch.zeros_like(chi[0])
            bent.append(step.C_W * net.nodes[m].Theta * above)
            put.append(step.lambda_W * above)
            start[m] = bent[m] * net.tables[m].E(2, 2) + put[m] * net.tables[m].dd
        born = self._born_pair(self.means(top, {m: v for m, v in start.items() if m < top}))
        found = _e("mxs,mxsyt->xsyt", torch.stack(bent), self._against_one(top, "two", (2, 2)))
        plain = torch.stack(put) + born
        found = found + _e("mxs,mxsyt->xsyt", plain, self._against_one(top, "two", (1, 1)))
        right = self._born_pair(chi)
        return found - self._haar_pair(born, right, "xs,yt,xy,st->xsyt")

    def P(self, top: int) -> Tensor:
        """Slots [0, 1, 2, 3]."""
        return self._doubled(top, self.z_line(top)).permute(0, 2, 3, 1)

    def R(self, top: int) -> Tensor:
        """Slots [0, 1, 2, 3]."""
        return self._doubled(top, self.omega_line(top))

    def _doubled(self, top: int, line: Bundle) -> Tensor:
        """[the line of ``line`` doubled, two lines of 1 at the top], slots [s, e, y, t]."""
        net = self.net
        start: dict[int, Tensor] = {}
        found = torch.zeros((net.N,) * 4, dtype=torch.float64)
        for (i, j), coefficient in line.parts():
            # σ⁽ⁱ⁾_x σ⁽ʲ⁾_s -> σ⁽ⁱ⁾_x σ⁽ʲ⁺¹⁾_s
            against = self._against_one(top, "doubled", (j + 1, i))
            found = found + _e("mxes,msxyt->seyt", coefficient, against)
            for m in range(top):
                mean = _e("xes,sx->se", coefficient[m], net.tables[m].E(j + 1, i))
                start[m] = start[m] + mean if m in start else mean
        born = self._born_pair(self.means(top, start, same=True))  # [m, s, e]
        own = self._against_one(top, "doubled", (1, 1)).diagonal(dim1=1, dim2=2)  # [m, y, t, s]
        found = found + _e("mse,myts->seyt", born, own)
        right = self._born_pair(self.means(top))
        return found - self._haar_pair(born, right, "se,yt,sy,st->seyt")

    # --- three lines a side ---------------------------------------------------------------------

    def U(self, top: int) -> Tensor:
        """Slots [1, 4, 2, 3]."""
        born = self._born_pair(self.means(top))
        table = self._pieces("three", (2, 1), (2, 1))
        return _e("mxs,mxsqyt,qyt->xsyt", born, table, born)

    # --- one neuron -----------------------------------------------------------------------------

    def itself(self, l: int) -> Tensor:
        r"""How a neuron's slope goes with its own NTK at node l, E[σ'_1σ'_2 (Ĥ_ii − mean)_12].

        Two lines of one neuron are held down to a layer; there W pairs both with the slope, or
        one while the other is held once more.
        """
        net, top = self.net, self.net.tables[l]
        total = torch.zeros(net.N, net.N, dtype=torch.float64)
        r, g = l, 1.0
        while r > 0:
            c = net.maps[r - 1].C_W
            unit = self.unit_line(r - 1)
            both = self.touch(unit, unit)
            total = total + g**4 * c * c * top.bend(1, torch.zeros_like(both), both)
            source, gamma = net.source.get(r, (0, 0.0))
            if not gamma:
                break
            mixed = self._mixed(unit, source, l)
            total = total + g**3 * gamma * c * (mixed + mixed.T)
            r, g = source, g * gamma
        return total

    def _mixed(self, left: Bundle, k: int, l: int) -> Tensor:
        """Σ_x [left_x of sample 1, E ∂_x(σ'_1σ'_2) at node l held at node k], [1, 2]."""
        net, g = self.net, self.net.skips[k][l]
        pairs = []
        for i, j in ((2, 1), (1, 2)):
            total = self.touch(left, Bundle(self._born({k: g * net.slope(l, i, j)})))
            for m in range(k + 1):
                held = net.skips[m][k]
                if held:
                    node = net.nodes[m]
                    seen = net.average(m, (0, 1), l, (i, j))
                    share = _e("xas,xsjt,st->asjt", left.plain[m], seen, node.Theta)
                    total = total + held / node.width * share
            pairs.append(total)
        return _e("aaab->ab", pairs[0]) + _e("baab->ab", pairs[1])


# lines of the bundle that may be held, and Θ between the lines [x, s, y, t] of the two
_KINDS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "one": (1, lambda theta: theta[None, :, None, :]),
    "two": (2, lambda theta: theta[:, None, :, None] * theta[None, :, None, :]),
    "doubled": (2, lambda theta: theta[:, None, :, None] * theta[:, None, None, :]),
    "three": (
        3,
        lambda theta: theta[:, None, :, None] * theta[:, None, None, :] * theta[None, :, :, None],
    ),
}
