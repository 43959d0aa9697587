r"""Order 1/n with skip connections, :math:`z' = b + W\sigma(z) + \gamma z`: what one neuron sees.

The collective variables s = (metric, NTK) that a neuron sees obey the mean map of a plain layer
plus :math:`\gamma^2`, with one difference: the noise remembers. A neuron emits
:math:`\varphi^{(k)} = (C_W\sigma\sigma, \Omega)(z^{(k)})` at every layer k, and its z at a later
layer is correlated with it, :math:`\mathrm{Cov}(z^{(k)}, z^{(l)}) = g_{kl} K^{(k)}` with g the
product of the gammas between. So, with F' what becomes of an emission until the skip ends and
:math:`P' = \gamma^2 + F'f'`,

.. math::
   C' &= P' C P'^T + \textstyle\sum F'\Sigma F'^T + P' X[\varphi] F'^T + (\ldots)^T, \qquad
   X^{(l)}[h] = \sum_{k<l} P'^{(l-1)}\cdots P'^{(k+1)}\,F'
       \mathrm{Cov}\big(\varphi^{(k)}, h(z^{(l)})\big),

where F' is 1 for single blocks and the derivative of the inner layer's mean map for two-layer
ones. The law of one neuron at order 1/n is

.. math:: n\,(E h - \langle h\rangle) = J[h]\,\delta + \tfrac12 C\, JJ[h]
          + X_{ab}[\tfrac12\partial_a\partial_b h] + \tfrac1{24}\kappa_{abcd}
          \langle\partial^4_{abcd} h\rangle,

with κ the fourth cumulant that weights of another law than the normal one leave in a single
neuron, :math:`\kappa_4 C_W^2\langle\sigma\sigma\sigma\sigma\rangle` of every layer whose
preactivations are still there; uniform weights have :math:`\kappa_4 = -6/5`. No pair of neurons
feels it, so that G1 and H1 change and nothing else does.

Nothing is cut off in the skip: the three-point vertex of activations that are not odd is the first
term of X. V and D hold :math:`X[zz]` in addition, A does not. What happens between two neurons is
in :mod:`kadanoff.rgflow.across_neurons`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kadanoff.rgflow.across_neurons import AcrossNeurons
from kadanoff.rgflow.collective import Covariance, Field, add, transpose
from kadanoff.rgflow.nodes import Net
from kadanoff.rgflow.tangent import noise
from kadanoff.rgflow.two_layers import TwoLayers

__all__ = ["UNIFORM", "first_quartic", "skip_flow"]

UNIFORM = -6 / 5
"""Fourth cumulant of a uniform number of unit variance."""

_e = torch.einsum


class _OneNeuron:
    """The recursion over the nodes of one replica; everything in absolute units."""

    def __init__(self, net: Net, first: Tensor, quartic: Tensor | None) -> None:
        self.net, self.across = net, AcrossNeurons(net)
        N = net.N
        self.two, self.four = torch.zeros(N, N).double(), torch.zeros((N,) * 4).double()
        self.C: list[Covariance] = [((first, self.four), (self.four, self.four))]
        self.delta: list[Field] = [(self.two, self.two)]
        # fourth cumulant of one neuron, of weights that are not normal
        self.quartic = None if quartic is None else [quartic]
        for l in range(1, len(net.nodes)):
            self._advance(l)

    def _advance(self, l: int) -> None:
        net, last = self.net, l - 1
        start, gamma = net.source.get(l, (last, 0.0))
        self.C.append(self._covariance(l, start))
        pushed = net.push(last, self.delta[last])
        kept, bent = self.delta[start], self._curvature(last)
        self.delta.append(
            tuple(p + b + gamma**2 * k for p, b, k in zip(pushed, bent, kept, strict=True))
        )
        if self.quartic is not None:
            fresh = UNIFORM * net.maps[last].C_W ** 2 / net.nodes[last].width
            fresh = fresh * net.tables[last].four[0, 0, 0, 0]
            self.quartic.append(fresh + gamma**4 * self.quartic[start])

    def _covariance(self, l: int, start: int) -> Covariance:
        """C at node l from where the skip into it starts, the nodes between integrated out."""
        net = self.net
        total = _both(self.C[start], lambda fields: net.enter(l, fields))
        for k in range(start, l):
            fresh = noise(net.maps[k], net.tables[k], net.nodes[k].Theta)
            fresh = tuple(tuple(x / net.nodes[k].width for x in row) for row in fresh)
            total = add(total, _both(fresh, lambda fields, k=k: net.after(k, fields, l)))
        emitted = self._emitted_noise(start)
        if emitted is not None:
            # columns are what node ``start`` emits, rows what it remembers
            rows = _columns(emitted, lambda fields: net.enter(l, fields))
            cross = transpose(_columns(transpose(rows), lambda f: net.after(start, f, l)))
            total = add(add(total, cross), transpose(cross))
        return total

    def emitted(self, k: int, covariance: Callable[[int], Tensor]) -> Field:
        """Cov(φ, h) at node k, given Cov(σ⁽ᵖ⁾σ⁽ᵖ⁾, h) for p = 0, 1."""
        step, node = self.net.maps[k], self.net.nodes[k]
        ss, dd = covariance(0), covariance(1)
        theta = node.Theta.reshape(*node.Theta.shape, *(1,) * (ss.ndim - 2))
        c, rate = step.C_W / node.width, step.lambda_W / node.width
        return c * ss, rate * ss + c * theta * dd

    def _carried(self, k: int, l: int, fields: Field) -> Field:
        """What node k emitted, at node l of the same stream."""
        skip = self.net.nodes[k].skip
        assert skip is not None
        at = skip[0]
        fields = self.net.after(k, fields, at)
        while at != l:
            skip = self.net.nodes[at].skip
            assert skip is not None
            at = skip[0]
            fields = self.net.enter(at, fields)
        return fields

    def remembered(self, l: int, covariance: Callable[[TwoLayers, int], Tensor]) -> Field | None:
        """X[h] at node l, given Cov(σ⁽ᵖ⁾σ⁽ᵖ⁾ at an earlier node, h)."""
        total: Field | None = None
        for k, past in enumerate(self.net.past[l] if l < len(self.net.maps) else []):
            if past is None:
                continue
            emitted = self.emitted(k, lambda p, past=past: covariance(past, p))
            fields = self._carried(k, l, emitted)
            total = fields if total is None else tuple(map(torch.add, total, fields))
        return total

    def square(self, l: int) -> Field:
        """X[z z] at node l: Cov(σσ, z z) = 2 g² J[K K]."""
        total: Field = (self.four, self.four)
        for k in range(l):
            g, node = self.net.skips[k][l], self.net.nodes[k]
            if g:
                KK = 2 * g * g * _e("xc,yd->xycd", node.K, node.K)
                t = self.net.tables[k]
                emitted = self.emitted(k, lambda p, t=t, KK=KK: t.J(p, KK))
                total = tuple(map(torch.add, total, self._carried(k, l, emitted)))
        return total

    def _emitted_noise(self, l: int) -> Covariance | None:
        """X[φ] at node l, [what is remembered][what node l emits]."""
        step, theta = self.net.maps[l], self.net.nodes[l].Theta
        ss, dd = (
            self.remembered(l, lambda past, p, q=q: past.covariance((p, p), (q, q))) for q in (0, 1)
        )
        if ss is None or dd is None:
            return None
        c, rate = step.C_W, step.lambda_W
        return tuple((c * x, rate * x + c * theta * y) for x, y in zip(ss, dd, strict=True))

    def _curvature(self, l: int) -> Field:
        """What one neuron of node l does to the means beyond f'δ."""
        step, t, theta = self.net.maps[l], self.net.tables[l], self.net.nodes[l].Theta
        c, rate = step.C_W, step.lambda_W
        (V, D), _ = self.C[l]
        bent = [t.hessian(p, V) + self._remembered_bend(l, p) for p in (0, 1)]
        own = t.bend(1, D, self.four) + self.across.itself(l)
        seen = self.remembered(l, lambda past, p: past.covariance((p, p), (1, 1)))
        if seen is not None:
            own = own + _e("abab->ab", seen[1])
        if self.quartic is not None:
            # a cumulant with all its symmetries: a third of it is a vertex
            bent = [b + t.hessian(p, self.quartic[l]) / 3 for p, b in enumerate(bent)]
            own = own + t.bend(1, self._quartic_ntk(l), self.four)
        return c * bent[0], rate * bent[0] + c * (theta * bent[1] + own)

    def _quartic_ntk(self, l: int) -> Tensor:
        """What one neuron's z z and NTK share beyond normal weights, slots [z, z, H, H]."""
        total, g = self.four, 1.0
        while l > 0:
            step, node, t = self.net.maps[l - 1], self.net.nodes[l - 1], self.net.tables[l - 1]
            share = UNIFORM * step.C_W**2 / node.width * t.four[0, 0, 1, 1] * node.Theta
            total = total + g**4 * share
            if l not in self.net.source:
                break
            l, gamma = self.net.source[l]
            g *= gamma
        return total

    def _remembered_bend(self, l: int, q: int) -> Tensor:
        """X_ab[½∂_a∂_b(σ⁽ᑫ⁾σ⁽ᑫ⁾)] at node l."""
        X = self.remembered(l, lambda past, p: past.covariance((p, p), (q + 2, q)))
        Y = self.remembered(l, lambda past, p: past.covariance((p, p), (q + 1, q + 1)))
        if X is None or Y is None:
            return self.two
        one = _e("aaab->ab", X[0])
        return (one + one.T) / 2 + _e("abab->ab", Y[0])


def _columns(C: Covariance, push: Callable[[Field], Field]) -> Covariance:
    """``push`` on the rows of a covariance, column by column."""
    pushed = [push(column) for column in zip(*C, strict=True)]
    return tuple(zip(*pushed, strict=True))


def _both(C: Covariance, push: Callable[[Field], Field]) -> Covariance:
    """push C pushᵀ."""
    return transpose(_columns(transpose(_columns(C, push)), push))


def skip_flow(
    net: Net, first: Tensor, quartic: Tensor | None, names: tuple[str, ...]
) -> dict[str, list[Tensor]]:
    """The observables ``names`` at every layer of the architecture, for one replica.

    Parameters
    ----------
    net : Net
    first : Tensor, shape (N, N, N, N)
        V of layer 1, in absolute units.
    quartic : Tensor, shape (N, N, N, N), or None
        For uniform weights, the fourth cumulant of one neuron of layer 1.
    names : tuple of str

    Returns
    -------
    dict of name to one tensor for each layer, in absolute units
    """
    flow = _OneNeuron(net, first, quartic)
    out: dict[str, list[Tensor]] = {name: [] for name in names}
    across = [name for name in names if name in "BFPQRSTU"]
    for l, node in enumerate(net.nodes):
        if node.layer is None:
            continue
        C, zz = flow.C[l], flow.square(l)
        values = {
            "G1": flow.delta[l][0],
            "H1": flow.delta[l][1],
            "V": C[0][0] + zz[0] + zz[0].permute(2, 3, 0, 1),
            "D": C[0][1] + zz[1].permute(2, 3, 0, 1),
            "A": C[1][1],
        }
        # the first layer's NTK is a number
        values |= {n: getattr(flow.across, n)(l) if l else flow.four for n in across}
        for name in names:
            out[name].append(values[name])
    return out


def first_quartic(C_W: float, X: Tensor) -> Tensor:
    """Fourth cumulant of a neuron of layer 1 with uniform weights, for inputs X (N, n_0)."""
    products = _e("ak,bk,ck,dk->abcd", X, X, X, X)
    return UNIFORM * (C_W / X.shape[1]) ** 2 * products
