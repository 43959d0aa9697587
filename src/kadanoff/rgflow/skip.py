r"""Order 1/n with skip connections, :math:`z' = b + W\sigma(z) + \gamma z`.

The collective variables s = (metric, NTK) that a neuron sees obey the mean map of a plain layer
plus :math:`\gamma^2`, with one difference: the noise remembers. A neuron emits
:math:`\varphi^{(k)} = (C_W\sigma\sigma, \Omega)(z^{(k)})` at every layer k, and its z at a later
layer is correlated with it, :math:`\mathrm{Cov}(z^{(k)}, z^{(l)}) = g_{kl} K^{(k)}` with g the
product of the gammas between. So

.. math::
   C' &= f' C f'^T + \Sigma + f' X[\varphi] + (f' X[\varphi])^T, \qquad
   X^{(l)}[h] = \sum_{k<l} f'^{(l-1)}\cdots f'^{(k+1)}\,
       \mathrm{Cov}\big(\varphi^{(k)}, h(z^{(l)})\big),

and the law of one neuron at order 1/n is

.. math:: n\,(E h - \langle h\rangle) = J[h]\,\delta + \tfrac12 C\, JJ[h]
          + X_{ab}[\tfrac12\partial_a\partial_b h] .

Nothing is cut off in the skip: the three-point vertex of activations that are not odd is the first
term of X. V and D hold :math:`X[zz]` in addition, A does not.

Between two neurons i, j the NTK is :math:`h_{ij}`, and what it is correlated with is a bilinear
form of functions of the two, :math:`\Phi_{34}[f, g] = n\,E[f(z_i)\,g(z_j)\,h_{ij;34}]`. A layer
pulls the functions back through its Jacobian :math:`W\sigma' + \gamma`,

.. math::
   T_3 f = \gamma\,E[f|z] + C_W\textstyle\sum_a\langle\partial_a f\rangle\,\sigma_a\sigma'_3,
   \qquad \Phi'_{34}[f, g] = \tilde\Phi_{34}[T_3 f, T_4 g],

where the tilde adds :math:`\Theta_{34}\langle\,\cdot\,\cdot\,\rangle` for i = j before the layer.
F is :math:`\Phi[z, z]`. B is the same with two Jacobians a side,
:math:`T_{13} f = \gamma^2 E[f|z] + C_W\langle f\rangle\sigma'_1\sigma'_3`. The NTK of a neuron
itself, :math:`\Xi_{12}[f] = n\,E[f(z_i)(\hat H_{ii} - \mathrm{mean})_{12}]`, which H1 needs, is
:math:`\tilde\Phi` pulled back once more with both Jacobians on one neuron.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kadanoff.gaussian import two
from kadanoff.gaussian.many import Replicas, many
from kadanoff.rgflow.collective import (
    Covariance,
    Field,
    MeanMap,
    add,
    propagate,
    propagate_mean,
    transpose,
)
from kadanoff.rgflow.kernel import Step
from kadanoff.rgflow.tables import Tables
from kadanoff.rgflow.tangent import mean_derivative, noise

__all__ = ["Layer", "Memory", "memory", "skip_flow"]

Order = tuple[int, int]

_e = torch.einsum
# orders of the factors (then, then | now, now) of two layers; the last need smooth activations
_ROUGH = (((0, 0), (0, 0)), ((0, 0), (1, 1)), ((1, 1), (0, 0)), ((1, 1), (1, 1)), ((0, 1), (0, 1)))
_SMOOTH = (
    *((then, now) for then in ((0, 0), (1, 1)) for now in ((2, 0), (3, 1), (2, 2))),
    ((0, 1), (2, 1)),
)


@dataclass(frozen=True)
class Memory:
    """Averages over one neuron at two layers k < m, for one replica.

    ``pairs[then, now]`` is ⟨σ⁽ⁱ⁾_a σ⁽ʲ⁾_b(z⁽ᵏ⁾) σ⁽ᵖ⁾_c σ⁽ᑫ⁾_d(z⁽ᵐ⁾)⟩, [a, b, c, d];
    ``now`` holds the averages at m alone. ``bent``, for kinks at one input, is
    Cov(σ⁽ᵖ⁾²(z⁽ᵏ⁾), ½(σ⁽ᑫ⁾²)''(z⁽ᵐ⁾)) with the derivatives on the Gaussian.
    """

    skip: float
    pairs: dict[tuple[Order, Order], Tensor]
    alone: dict[Order, tuple[Tensor, Tensor]]
    bent: dict[tuple[int, int], Tensor]

    def covariance(self, then: Order, now: Order) -> Tensor:
        before, after = self.alone[then][0], self.alone[now][1]
        return self.pairs[then, now] - before[:, :, None, None] * after


def memory(
    early: Any, K_early: Tensor, late: Any, K_late: Tensor, skip: float, tolerance: float
) -> tuple[Replicas, list[Memory]]:
    """All averages of a neuron at two layers whose z are correlated by ``skip`` · K_early."""
    N = K_early.shape[0]
    joint = torch.cat(
        [torch.cat([K_early, skip * K_early], 1), torch.cat([skip * K_early, K_late], 1)], 0
    )
    smooth = early.smooth and late.smooth
    functions = [*(early.derivative(k) for k in range(4)), *(late.derivative(k) for k in range(4))]
    wanted = (*_ROUGH, *_SMOOTH) if smooth else _ROUGH
    four = {w: (*w[0], *(4 + k for k in w[1])) for w in wanted}
    once = {o: (o, (o[0] + 4, o[1] + 4)) for w in wanted for o in w}
    patterns = [*four.values(), *{p for pair in once.values() for p in pair}]
    kinks = tuple(sorted({*early.kinks, *late.kinks}))
    # a table of derivatives of one odd function; orders are counted from 0 and from 4
    odd = early.odd and late.odd
    rule, found = many(functions, joint, patterns, kinks, tolerance=tolerance, odd=odd)
    then, now = slice(0, N), slice(N, 2 * N)
    bent = {}
    if not smooth and N == 1:
        bent = {(p, q): _bent(early, late, joint, p, q) for p in (0, 1) for q in (0, 1)}
    return rule, [
        Memory(
            skip,
            {w: f[p][then, then, now, now] for w, p in four.items()},
            {o: (f[a][then, then], f[b][now, now]) for o, (a, b) in once.items()},
            bent,
        )
        for f in found
    ]


def _bent(early: Any, late: Any, joint: Tensor, p: int, q: int) -> Tensor:
    """Cov(F(z_1), ½G''(z_2)), F = σ⁽ᵖ⁾², G = σ⁽ᑫ⁾²: derivatives act on the Gaussian."""
    a, b, c = float(joint[0, 0]), float(joint[0, 1]), float(joint[1, 1])
    det = a * c - b * b
    f, g = early.derivative(p), late.derivative(q)

    def part(i: int, j: int, cross: float) -> Tensor:
        return two(
            lambda z: z**i * f(z) ** 2, lambda z: z**j * g(z) ** 2,
            a, cross, c, early.kinks, late.kinks,
        ).value  # fmt: skip

    # ∂_2² of the Gaussian: y² − P_22, y = (a z_2 − b z_1)/det
    together = (a * a * part(0, 2, b) - 2 * a * b * part(1, 1, b) + b * b * part(2, 0, b)) / det**2
    together = together - a / det * part(0, 0, b)
    apart = (part(0, 2, 0.0) - c * part(0, 0, 0.0)) / c**2
    return ((together - apart) / 2).reshape((1,) * 4)


@dataclass(frozen=True)
class Layer:
    """What one replica knows of a layer l and of the step from it.

    ``past[k]`` joins it to an earlier layer, None where no skip does.
    """

    step: Step
    t: Tables
    K: Tensor
    Theta: Tensor
    past: list[Memory | None]

    def push(self, fields: Field) -> Field:
        """f' of the mean map, skip included."""
        mapped = mean_derivative(self.step, self.t, self.Theta)(fields)
        keep = self.step.gamma**2
        return tuple(m + keep * f for m, f in zip(mapped, fields, strict=True))

    def emitted(self, covariance: Callable[[int], Tensor]) -> Field:
        """Cov(φ, h), given Cov(σ⁽ᵖ⁾σ⁽ᵖ⁾, h) for p = 0, 1."""
        ss, dd = covariance(0), covariance(1)
        theta = self.Theta.reshape(*self.Theta.shape, *(1,) * (ss.ndim - 2))
        c, rate = self.step.C_W, self.step.lambda_W
        return c * ss, rate * ss + c * theta * dd

    def slope(self, i: int = 0, j: int = 1) -> Tensor:
        """⟨∂_x(σ⁽ⁱ⁾_a σ⁽ʲ⁾_s)⟩ as [x, a, s]."""
        found = self.t.X(i, j)
        eye = torch.eye(len(self.K), dtype=self.K.dtype)
        return _e("xa,as->xas", eye, found.first) + _e("xs,as->xas", eye, found.second)


class Network:
    """All layers of one replica, and what they have in common."""

    def __init__(self, layers: list[Layer]) -> None:
        self.layers = layers

    def skip(self, k: int, m: int) -> float:
        """Product of the gammas from layer k to layer m."""
        return math.prod(layer.step.gamma for layer in self.layers[k:m])

    def weight(self, k: int, l: int) -> float:
        """Widths: what layer k emits counts this much in the units of layer l."""
        return math.prod(layer.step.rho for layer in self.layers[k + 1 : l])

    def carried(self, k: int, l: int, fields: Field) -> Field:
        """What layer k emitted, pushed through the mean maps up to layer l."""
        for layer in self.layers[k + 1 : l]:
            fields = tuple(layer.step.rho * f for f in layer.push(fields))
        return fields

    def remembered(self, l: int, covariance: Callable[[Memory, int], Tensor]) -> Field | None:
        """X[h] at layer l, given Cov(σ⁽ᵖ⁾σ⁽ᵖ⁾ at an earlier layer, h)."""
        total: Field | None = None
        for k, past in enumerate(self.layers[l].past):
            if past is None:
                continue
            emitted = self.layers[k].emitted(lambda p, past=past: covariance(past, p))
            fields = self.carried(k, l, emitted)
            total = fields if total is None else tuple(map(torch.add, total, fields))
        return total

    def square(self, l: int) -> Field:
        """X[z z] at layer l: Cov(σσ, z z) = 2 g² J[K K]."""
        K = self.layers[0].K
        total: Field = (K.new_zeros((len(K),) * 4),) * 2
        for k, layer in enumerate(self.layers[:l]):
            g = self.skip(k, l)
            if g:
                KK = 2 * g * g * _e("xc,yd->xycd", layer.K, layer.K)
                emitted = layer.emitted(lambda p, layer=layer, KK=KK: layer.t.J(p, KK))
                total = tuple(map(torch.add, total, self.carried(k, l, emitted)))
        return total

    def products(self, k: int, m: int) -> Tensor:
        """⟨σ_aσ'_s(z⁽ᵐ⁾) σ_bσ'_t(z⁽ᵏ⁾)⟩ for k <= m, [a, s, b, t]."""
        if k == m:
            return self.layers[k].t.four[0, 0, 1, 1].permute(0, 2, 1, 3)
        past = self.layers[m].past[k]
        assert past is not None
        return past.pairs[(0, 1), (0, 1)].permute(2, 3, 0, 1)


@dataclass(frozen=True)
class Readout:
    """A family of functions f_i of one neuron, next to an NTK index of sample s.

    ``slope`` is ⟨∂f_i/∂z_x⟩ at layer l, [x, i, s]; ``against(k)`` is
    ⟨f_i σ_bσ'_t(z⁽ᵏ⁾)⟩, [i, s, b, t].
    """

    slope: Tensor
    against: Callable[[int], Tensor]


def form(net: Network, l: int, left: Readout, right: Readout) -> Tensor:
    """Φ[f, g] at layer l, [i, s, j, t]: one contact of two pulled-back functions a layer."""
    a, b = _coefficients(net, l, left.slope), _coefficients(net, l, right.slope)
    N = len(net.layers[0].K)
    total = net.layers[0].K.new_zeros((N,) * 4)
    for k in range(l):
        first = _kept(net, k, l, left, a)
        second = _kept(net, k, l, right, b)
        contact = _e("isbt,bjt->isjt", first, b[k]) + _e("jtas,ais->isjt", second, a[k])
        contact = contact + _e("ais,asbt,bjt->isjt", a[k], net.products(k, k), b[k])
        total = total + net.weight(k, l) * _e("st,isjt->isjt", net.layers[k].Theta, contact)
    return total


def _coefficients(net: Network, l: int, slope: Tensor) -> list[Tensor]:
    """α of σ_aσ'_s born in each step below l: C_W ⟨∂_a f⟩ of the function pulled back so far."""
    out = []
    for layer in reversed(net.layers[:l]):
        out.append(layer.step.C_W * slope)
        slope = layer.step.gamma**2 * slope + _e("xas,ais->xis", layer.slope(), out[-1])
    return out[::-1]


def _kept(net: Network, k: int, l: int, f: Readout, a: list[Tensor]) -> Tensor:
    """⟨γE[f|z⁽ᵏ⁾] σ_bσ'_t(z⁽ᵏ⁾)⟩ with everything that f has picked up above layer k."""
    N = len(net.layers[0].K)
    total = net.layers[0].K.new_zeros((N,) * 4)
    if net.skip(k, l):
        total = total + net.skip(k, l) * f.against(k)
    for m in range(k + 1, l):
        if net.skip(k, m):
            total = total + net.skip(k, m) * _e("ais,asbt->isbt", a[m], net.products(k, m))
    return total


def across_F(net: Network, l: int) -> Tensor:
    """F = Φ[z, z] at layer l."""
    K = net.layers[0].K
    eye = torch.eye(len(K), dtype=K.dtype)

    def against(k: int) -> Tensor:
        layer = net.layers[k]
        seen = net.skip(k, l) * _e("ix,xbt->ibt", layer.K, layer.slope())
        return seen[:, None].expand(-1, len(K), -1, -1)

    z = Readout(eye[:, :, None].expand(-1, -1, len(K)), against)
    return form(net, l, z, z)


def across_B(net: Network, l: int) -> Tensor:
    """B at layer l: the same with σ'_1σ'_3 in place of σ_aσ'_3, and γ² in place of γ."""
    N = len(net.layers[0].K)
    mean = torch.ones(N, N, dtype=torch.float64)
    born = []
    for layer in reversed(net.layers[:l]):
        born.append(layer.step.C_W * mean)
        mean = layer.step.gamma**2 * mean + layer.t.dd * born[-1]
    born = born[::-1]
    total = net.layers[0].K.new_zeros((N,) * 4)
    for k in range(l):
        layer = net.layers[k]
        kept = net.skip(k, l) ** 2 * layer.t.dd.expand(N, N, N, N)
        for m in range(k + 1, l):
            past = net.layers[m].past[k]
            if past is not None:
                seen = past.pairs[(1, 1), (1, 1)].permute(2, 3, 0, 1)
                kept = kept + net.skip(k, m) ** 2 * born[m][:, :, None, None] * seen
        contact = kept * born[k]
        contact = contact + contact.permute(2, 3, 0, 1)
        contact = contact + born[k][:, :, None, None] * born[k] * layer.t.four[1, 1, 1, 1]
        theta = layer.Theta
        total = total + net.weight(k, l) * _e("acbd,ab,cd->acbd", contact, theta, theta)
    return total


def itself(net: Network, l: int) -> Tensor:
    """Ξ_12[σ'_1σ'_2] at layer l: how a neuron's slope goes with its own NTK, [1, 2]."""
    top = net.layers[l].t
    N = len(net.layers[l].K)
    total = net.layers[l].K.new_zeros(N, N)
    for k in range(l):
        layer, g = net.layers[k], net.skip(k + 1, l)
        if not g:
            continue
        c, theta = layer.step.C_W, layer.Theta
        w = Readout(layer.slope(), lambda j, k=k: net.products(j, k))
        both = form(net, k, w, w) + _e("st,asbt->asbt", theta, net.products(k, k))
        v = torch.einsum
        curved = top.E(3, 1) * v("aaab->ab", both) + top.E(3, 1).T * v("babb->ab", both)
        curved = curved + top.E(2, 2) * (v("aabb->ab", both) + v("baab->ab", both))
        term = c * c * g * g * curved
        if layer.step.gamma:
            past = net.layers[l].past[k]
            if past is None or ((0, 1), (2, 1)) not in past.pairs:
                return torch.full_like(total, math.nan)  # σ'' of a kink
            mixed = _mixed(net, k, l, w)
            term = term + layer.step.gamma * c * g * (mixed + mixed.T)
        total = total + net.weight(k, l) * g * g * term
    return total


def _mixed(net: Network, k: int, l: int, w: Readout) -> Tensor:
    """Σ_a Φ̃_12[σ_aσ'_1, E ∂_a(σ'_1σ'_2)], the second function at layer l, [1, 2]."""
    layer, top = net.layers[k], net.layers[l]
    g = net.skip(k, l)

    def seen(j: int) -> Tensor:
        past = top.past[j]
        assert past is not None
        return past.pairs[(0, 1), (2, 1)]  # σ_bσ'_s then, σ''_jσ'_t now

    one = Readout(g * top.slope(2, 1), lambda j: seen(j).permute(2, 3, 0, 1))
    other = Readout(g * top.slope(1, 2), lambda j: seen(j).permute(3, 2, 0, 1))
    here, theta = seen(k), layer.Theta
    first = form(net, k, w, one) + _e("st,asjt->asjt", theta, here)
    second = form(net, k, w, other) + _e("st,astj->asjt", theta, here)
    return _e("aaab->ab", first) + _e("baab->ab", second)


def skip_flow(layers: list[Layer]) -> dict[str, list[Tensor]]:
    """G1, H1, V, D, A, B, F at every layer, for one replica."""
    net = Network(layers)
    K = layers[0].K
    two_, four = torch.zeros_like(K), K.new_zeros((len(K),) * 4)
    out = {n: [two_] for n in ("G1", "H1")} | {n: [four] for n in ("V", "D", "A", "B", "F")}
    C: Covariance = ((four, four), (four, four))
    delta: Field = (two_, two_)
    for l, layer in enumerate(layers):
        rho = layer.step.rho
        mean_map = MeanMap(layer.push, noise(layer.step, layer.t, layer.Theta))
        delta = propagate_mean(mean_map, delta, _curvature(net, l, C), rho)
        new = propagate(mean_map, C, rho)
        cross = _remembered_noise(net, l)
        if cross is not None:
            new = add(add(new, cross, rho), transpose(cross), rho)
        C = new
        zz = net.square(l + 1)
        out["G1"].append(delta[0])
        out["H1"].append(delta[1])
        out["V"].append(C[0][0] + zz[0] + zz[0].permute(2, 3, 0, 1))
        out["D"].append(C[0][1] + zz[1].permute(2, 3, 0, 1))
        out["A"].append(C[1][1])
        out["B"].append(across_B(net, l + 1))
        out["F"].append(across_F(net, l + 1))
    return out


def _remembered_noise(net: Network, l: int) -> Covariance | None:
    """f' X[φ] at layer l."""
    layer = net.layers[l]
    X = [net.remembered(l, lambda past, p, q=q: past.covariance((p, p), (q, q))) for q in (0, 1)]
    ss, dd = X
    if ss is None or dd is None:
        return None
    c, rate = layer.step.C_W, layer.step.lambda_W
    metric = layer.push(tuple(c * x for x in ss))
    ntk = layer.push(tuple(rate * x + c * layer.Theta * y for x, y in zip(ss, dd, strict=True)))
    return (metric[0], ntk[0]), (metric[1], ntk[1])


def _curvature(net: Network, l: int, C: Covariance) -> Field:
    """½ f'':C, what a neuron remembers of itself, and what its own NTK does."""
    layer = net.layers[l]
    c, rate, t = layer.step.C_W, layer.step.lambda_W, layer.t
    bent = [t.hessian(p, C[0][0]) for p in (0, 1)]
    own = t.bend(1, C[0][1], torch.zeros_like(C[0][1]))
    for p in (0, 1):
        bent[p] = bent[p] + _remembered_bend(net, l, p)
    seen = net.remembered(l, lambda past, p: past.covariance((p, p), (1, 1)))
    if seen is not None:
        own = own + _e("abab->ab", seen[1])
    own = own + itself(net, l)
    return c * bent[0], rate * bent[0] + c * (layer.Theta * bent[1] + own)


def _remembered_bend(net: Network, l: int, q: int) -> Tensor:
    """X_ab[½∂_a∂_b(σ⁽ᑫ⁾σ⁽ᑫ⁾)] at layer l."""
    zero = torch.zeros_like(net.layers[l].K)
    past = [m for m in net.layers[l].past if m is not None]
    if not past:
        return zero
    if past[0].bent:
        X = net.remembered(l, lambda past, p: past.bent[p, q])
        return X[0].reshape(1, 1) if X is not None else zero
    if ((0, 0), (2, 0)) not in past[0].pairs:
        return torch.full_like(zero, math.nan)
    X = net.remembered(l, lambda past, p: past.covariance((p, p), (q + 2, q)))
    Y = net.remembered(l, lambda past, p: past.covariance((p, p), (q + 1, q + 1)))
    if X is None or Y is None:
        return zero
    one = _e("aaab->ab", X[0])
    return (one + one.T) / 2 + _e("abab->ab", Y[0])
