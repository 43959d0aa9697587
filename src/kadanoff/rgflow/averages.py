r"""The Gaussian averages one step of the flow needs, with the derivative terms of kinks right.

For a pair of inputs the average :math:`f = \langle\sigma^{(p)}_1\sigma^{(p)}_2\rangle_K` is a
function of K11, K12, K22. Its derivatives are what the recursions call J and Hessian:

.. math::
    J(1,2)[X] = \tfrac12\sum_{ab}\langle\partial_a\partial_b(\sigma_1\sigma_2)\rangle X_{ab}, \qquad
    \partial_{K_{11}} = \tfrac12\partial_1^2,\quad \partial_{K_{12}} = \partial_1\partial_2 .

For smooth activations the derivatives act on the functions. For kinked ones they act on the
Gaussian (Hermite polynomials), which gives the derivative of the kernel itself; at coincident or
parallel inputs only the derivative along the ray z_2 = c z_1 exists, and it is put in the first
slot.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.activations import Activation
from kadanoff.errors import DomainError
from kadanoff.gaussian import one
from kadanoff.gaussian.hermite import hermite_polynomials
from kadanoff.gaussian.kinked import PANEL_ORDERS, panels
from kadanoff.gaussian.replicas import Lazily, Replicas
from kadanoff.gaussian.rules import many
from kadanoff.rgflow.kernel import squares
from kadanoff.rgflow.kinks import bend_average, delta_average, density, is_bend

__all__ = ["Tables", "tables"]

# orders of derivatives of every pair average the recursions use
PAIRS = ((0, 0), (1, 1), (2, 0), (3, 1), (2, 2), (4, 0), (5, 1), (4, 2), (3, 3))
VERTEX = ((0, 0, 0, 0),)
TANGENT = (*VERTEX, (0, 0, 1, 1), (1, 1, 1, 1))
DIFFERENTIAL = (*TANGENT, (2, 1, 1, 0))
SMOOTH = (*DIFFERENTIAL, (3, 1, 1, 1), (2, 2, 1, 1))
KINKED = (
    "the activation has kinks: σ'' holds a delta function, whose square at coincident "
    "inputs does not exist. Smooth the activation (GELU for ReLU, say)."
)
# parallel inputs: sin^2 of the angle below this
_PARALLEL = 1e-11


@dataclass(frozen=True)
class Slope:
    """X[1, 2, a], zero but for a = 1 (``first``) and a = 2 (``second``), (N, N) each."""

    first: Tensor
    second: Tensor

    def __add__(self, other: Slope) -> Slope:
        return Slope(self.first + other.first, self.second + other.second)

    def times(self, factor: Tensor | float) -> Slope:
        """X[1, 2, a] · factor[1, 2]."""
        return Slope(factor * self.first, factor * self.second)

    def behind(self, F: Tensor) -> Tensor:
        """Σ_a X[1, 2, a] F[a, 2, ...], [1, 2, ...]."""
        twice = F.diagonal(dim1=0, dim2=1).movedim(-1, 0)
        return _like(self.first, F) * F + _like(self.second, F) * twice[None, :]

    def before(self, F: Tensor) -> Tensor:
        """Σ_a X[1, 2, a] F[a, 1, ...], [1, 2, ...]."""
        twice = F.diagonal(dim1=0, dim2=1).movedim(-1, 0)
        return _like(self.first, F) * twice[:, None] + _like(self.second, F) * F.transpose(0, 1)


def _like(pair: Tensor, X: Tensor) -> Tensor:
    """A table of pairs, broadcast against the axes that follow the pair in X."""
    return pair.reshape(*pair.shape, *(1,) * (X.ndim - 2))


@dataclass(frozen=True)
class Tables:
    """Averages at one layer from one replica of the quadrature rule.

    Attributes
    ----------
    ss, dd : Tensor, shape (N, N)
        ⟨σσ⟩ and ⟨σ'σ'⟩.
    four : dict of pattern to Tensor (N, N, N, N)
        ⟨σ⁽ⁱ⁾_a σ⁽ʲ⁾_b σ⁽ᵏ⁾_c σ⁽ˡ⁾_d⟩.
    two : dict of (i, j) to Tensor (N, N)
    ray : dict
        For kinked activations, derivatives along the ray at coincident or parallel pairs.
    parallel : Tensor of bool, shape (N, N), or None
        Where ``ray`` replaces the separate derivatives.
    """

    ss: Tensor
    dd: Tensor
    four: dict[tuple[int, ...], Tensor]
    two: dict[tuple[int, int], Tensor]
    ray: dict[str, Tensor]
    parallel: Tensor | None

    def E(self, i: int, j: int) -> Tensor:
        """⟨σ⁽ⁱ⁾_a σ⁽ʲ⁾_b⟩, [a, b]."""
        return self.two[i, j] if (i, j) in self.two else self.two[j, i].T

    def quad(self, *orders: int) -> Tensor:
        """⟨σ⁽ⁱ⁾_a σ⁽ʲ⁾_b σ⁽ᵏ⁾_c σ⁽ˡ⁾_d⟩, [a, b, c, d], for the orders in any sequence."""
        for stored, value in self.four.items():
            if sorted(stored) == sorted(orders):
                free = list(range(4))
                # slot by slot, a stored slot of the same order that is not taken yet
                axes = [free.pop([stored[s] for s in free].index(o)) for o in orders]
                return value.permute(axes)
        raise KeyError(orders)

    def J(self, p: int, X: Tensor) -> Tensor:
        """Σ_ab d⟨σ⁽ᵖ⁾_1 σ⁽ᵖ⁾_2⟩/dK_ab X_ab as [1, 2, ...], for X [a, b, ...] symmetric or not."""
        first, both, second = (_like(g, X) for g in self._gradient(p))
        own = X.diagonal(dim1=0, dim2=1).movedim(-1, 0)
        mean = (X + X.transpose(0, 1)) / 2
        return first * own[:, None] + second * own[None, :] + both * mean

    def hessian(self, p: int, V: Tensor) -> Tensor:
        """½ Σ d²⟨σ⁽ᵖ⁾_1σ⁽ᵖ⁾_2⟩/dK dK · V = (1/8) Σ ⟨∂_a∂_b∂_c∂_d(σσ)⟩ V_(ab)(cd), [1, 2]."""
        quartic, cubic, square = self.E(p + 4, p), self.E(p + 3, p + 1), self.E(p + 2, p + 2)
        lone, mixed, even = quartic / 4, cubic / 2, square / 4
        cross, tail, last = square, cubic.T / 2, quartic.T / 4
        if self.parallel is not None:
            zero = torch.zeros_like(lone)
            lone = torch.where(self.parallel, self.ray[f"second{p}"], lone)
            mixed, even, cross, tail, last = (
                torch.where(self.parallel, zero, t) for t in (mixed, even, cross, tail, last)
            )
        v = torch.einsum
        return 0.5 * (
            lone * v("aaaa->a", V)[:, None]
            + last * v("bbbb->b", V)[None, :]
            + cross * v("abab->ab", V)
            + 2 * mixed * v("aaab->ab", V)
            + 2 * tail * v("bbab->ab", V)
            + 2 * even * v("aabb->ab", V)
        )

    def X(self, i: int, j: int) -> Slope:
        """⟨∂_a(σ⁽ⁱ⁾_1 σ⁽ʲ⁾_2)⟩, [1, 2, a]."""
        first, second = self.E(i + 1, j), self.E(i, j + 1)
        if self.parallel is not None:
            first = torch.where(self.parallel, self.ray[f"slope{i}{j}"], first)
            second = torch.where(self.parallel, torch.zeros_like(second), second)
        return Slope(first, second)

    def bend(self, p: int, D: Tensor, F: Tensor) -> Tensor:
        """½ Σ_ab ⟨∂_a∂_b(σ⁽ᵖ⁾_1 σ⁽ᵖ⁾_2)⟩ (D_ab12 + 2 F_a1b2), [1, 2].

        Parameters
        ----------
        p : int
            Order of the derivatives.
        D, F : Tensor, shape (N, N, N, N)
        """
        first, both, second = self._gradient(p)
        v = torch.einsum
        alone = v("aaab->ab", D) + 2 * v("aaab->ab", F)
        other = v("bbab->ab", D) + 2 * v("babb->ab", F)
        mixed = v("abab->ab", D) + v("aabb->ab", F) + v("baab->ab", F)
        return first * alone + second * other + both * mixed

    def _gradient(self, p: int) -> tuple[Tensor, Tensor, Tensor]:
        first, both = self.E(p + 2, p) / 2, self.E(p + 1, p + 1)
        second = first.T
        if self.parallel is not None:
            zero = torch.zeros_like(first)
            both = torch.where(self.parallel, zero, both)
            second = torch.where(self.parallel, zero, second)
            first = torch.where(self.parallel, self.ray[f"first{p}"], first)
        return first, both, second


def tables(
    act: Activation,
    K: Tensor,
    patterns: tuple[tuple[int, ...], ...],
    tolerance: float,
    device: str = "cpu",
) -> tuple[Replicas, Sequence[Tables]]:
    """All averages at a layer with kernel K, for each replica of the rule, made when asked for.

    Parameters
    ----------
    act : Activation
    K : Tensor, shape (N, N)
    patterns : tuple of tuples of four ints
        Orders of the derivatives of σ in the averages of four.
    tolerance : float
        Aim of the error, relative to the norms of the factors.
    device : str
        Where averages over many samples are taken.

    Raises
    ------
    DomainError
        A kinked activation at an input of zero norm.
    """
    ss, dd = squares(act, K)
    functions = [act.derivative(k) for k in range(6)]
    if act.smooth:
        wanted = (*PAIRS, *patterns)
        rule, found = many(functions, K, wanted, tolerance=tolerance, odd=act.odd, device=device)
        return rule, Lazily(len(found), lambda r: _smooth(ss, dd, found[r]))
    if bool((K.diagonal() <= 0).any()):
        raise DomainError(
            f"An input has zero norm (K = 0), where {act.name} has a kink: the 1/n corrections "
            "are not defined.",
            "Leave this input out, or give the network biases (C_b > 0).",
        )
    pointwise = [p for p in patterns if p in DIFFERENTIAL or is_bend(act)]
    rule, found = many(functions, K, pointwise, act.kinks, tolerance=tolerance)
    kinked = [_kinked_pairs(act, K, order) for order in PANEL_ORDERS]
    out = []
    for r, averages in enumerate(found):
        if (2, 1, 1, 0) in averages:
            averages[2, 1, 1, 0] = averages[2, 1, 1, 0] + delta_average(act, K, r)
        if (3, 1, 1, 1) in averages:
            averages[3, 1, 1, 1] = averages[3, 1, 1, 1] + bend_average(act, K, r)
        two, ray, parallel = kinked[r] if rule.kind == "panels" else kinked[0]
        out.append(Tables(ss, dd, averages, two, ray, parallel))
    return rule, out


def _smooth(ss: Tensor, dd: Tensor, averages: dict) -> Tables:
    two = {p: value for p, value in averages.items() if len(p) == 2}
    four = {p: value for p, value in averages.items() if len(p) == 4}
    return Tables(ss, dd, four, two, {}, None)


def _kinked_pairs(act: Activation, K: Tensor, order: int):
    """Distributional ⟨σ⁽ⁱ⁾σ⁽ʲ⁾⟩ off the rays, derivatives along the rays on them."""
    N = K.shape[0]
    two = {p: K.new_full((N, N), float("nan")) for p in (*PAIRS, *((j, i) for i, j in PAIRS))}
    names = ("first0", "first1", "second0", "second1", "slope01", "slope10", "slope21", "slope12")
    ray = {name: K.new_zeros(N, N) for name in names}
    parallel = torch.zeros(N, N, dtype=torch.bool)
    for a, b in itertools.product(range(N), repeat=2):
        det = K[a, a] * K[b, b] - K[a, b] ** 2
        if a == b or det < _PARALLEL * K[a, a] * K[b, b]:
            parallel[a, b] = True
            _along_ray(act, float(K[a, a]), float(K[a, b] / K[a, a]), a, b, two, ray)
        elif a < b:
            at = torch.tensor([a, b])
            found = _hermite(act, K[at][:, at], order)
            for (i, j), value in found.items():
                two[i, j][a, b] = two[j, i][b, a] = value
    return two, ray, parallel


def _hermite(act: Activation, K: Tensor, order: int) -> dict[tuple[int, int], Tensor]:
    P = torch.linalg.inv(K)
    wanted = {p for i, j in PAIRS for p in ((i, j), (j, i))}
    total = dict.fromkeys(wanted, K.new_zeros(()))
    for z, w in panels(K, act.kinks, order):
        y = z @ P
        f = [act.derivative(k)(z) for k in (0, 1)]
        polynomials = hermite_polynomials(y, P, 4)
        for i, j in wanted:
            low, high = min(i, 1), min(j, 1)
            weight = polynomials[i - low, j - high]
            total[i, j] = total[i, j] + (w * weight * f[low][:, 0] * f[high][:, 1]).sum()
    return total


def _along_ray(act: Activation, K: float, c: float, a: int, b: int, two: dict, ray: dict) -> None:
    """Derivatives of f(z) = σ⁽ⁱ⁾(z) σ⁽ʲ⁾(c z) with respect to z and to K, at z_2 = c z_1."""
    kinks = sorted({*act.kinks, *(k / c for k in act.kinks if c)})

    def average(i: int, j: int, weight) -> float:
        f, g = act.derivative(i), act.derivative(j)
        return float(one(lambda z: weight(z) * f(z) * g(c * z), K, kinks).value)

    def slope(z: Tensor) -> Tensor:
        return z / K

    def curvature(z: Tensor) -> Tensor:
        return (z * z - K) / K**2

    def fourth(z: Tensor) -> Tensor:
        return (z**4 - 6 * K * z * z + 3 * K * K) / K**4

    for p in (0, 1):
        two[p, p][a, b] = average(p, p, torch.ones_like)
        ray[f"first{p}"][a, b] = average(p, p, curvature) / 2
        ray[f"second{p}"][a, b] = average(p, p, fourth) / 4
    ray["slope01"][a, b] = average(0, 1, slope)
    ray["slope10"][a, b] = average(1, 0, slope)
    # ∂(σ''σ') at coincident inputs is half the second derivative of σ'²
    ray["slope21"][a, b] = ray["slope12"][a, b] = average(1, 1, curvature) / 2
    # ⟨σ''_1 σ_2⟩ = ⟨∂(σ'_1σ_2)⟩ − c ⟨σ'_1σ'_2⟩
    two[2, 0][a, b] = ray["slope10"][a, b] - c * two[1, 1][a, b]
    two[0, 2][a, b] = ray["slope01"][a, b] - two[1, 1][a, b]
    if not is_bend(act):
        return
    ray["slope21"][a, b], ray["slope12"][a, b] = average(2, 1, slope), average(1, 2, slope)
    two[2, 2][a, b] = average(2, 2, torch.ones_like)
    # σ''' holds a delta function of weight J wherever σ'' jumps by J
    first, second = average(3, 1, torch.ones_like), average(1, 3, torch.ones_like)
    sigma = act.derivative(1)
    for kink in act.kinks:
        jump = act.jump(2, kink)
        first += jump * density(kink, K) * float(sigma(torch.tensor(c * kink).double()))
        # δ(c z − kink) = δ(z − kink / c) / |c|
        at = kink / c
        second += jump / abs(c) * density(at, K) * float(sigma(torch.tensor(at).double()))
    two[3, 1][a, b], two[1, 3][a, b] = first, second
