r"""Averages over one neuron at two layers, k < m, whose z are correlated by a skip.

:math:`\mathrm{Cov}(z^{(k)}, z^{(m)}) = g K^{(k)}` with g the product of the gammas between. For
smooth activations the derivatives act on the functions; for kinked ones those of the later layer
act on the Gaussian, by Hermite polynomials of its inverse covariance.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.activations import Activation
from kadanoff.gaussian.hermite import hermite_polynomials
from kadanoff.gaussian.kinked import PANEL_ORDERS, panels
from kadanoff.gaussian.replicas import Replicas
from kadanoff.gaussian.rules import many
from kadanoff.gaussian.sobol import scrambled

__all__ = ["BENT", "ROUGH", "SMOOTH", "Order", "TwoLayers", "swapped", "two_layer_averages"]

Order = tuple[int, int]

# orders of the factors (then, then | now, now) of two layers
ROUGH: tuple[tuple[Order, Order], ...] = (
    ((0, 0), (0, 0)),
    ((0, 0), (1, 1)),
    ((1, 1), (0, 0)),
    ((1, 1), (1, 1)),
    ((0, 1), (0, 1)),
)
# derivatives of the later layer: H1 and G1 need them
BENT: tuple[tuple[Order, Order], ...] = (
    ((0, 0), (2, 0)),
    ((0, 0), (3, 1)),
    ((0, 0), (2, 2)),
    ((1, 1), (2, 0)),
    ((1, 1), (3, 1)),
    ((1, 1), (2, 2)),
    ((0, 1), (2, 1)),
)
# derivatives of the earlier layer: P to U need them besides
SMOOTH: tuple[tuple[Order, Order], ...] = (
    ((2, 0), (1, 1)),
    ((3, 1), (1, 1)),
    ((2, 2), (1, 1)),
    ((2, 1), (0, 1)),
    ((2, 1), (2, 1)),
)
# functions of the later layer follow those of the earlier one
_LATE = 4
_PLAIN: tuple[Order, ...] = ((0, 0), (1, 1), (0, 1))
_DERIVED: tuple[Order, ...] = ((2, 0), (3, 1), (2, 2), (2, 1))
# derivatives by c and d of σσ (q = 0) and of σ'σ' (q = 1)
_WANTED = ((0, 0, 0), (1, 0, 0), (0, 2, 0), (1, 2, 0), (1, 1, 1), (1, 1, 0))
_SINGULAR = 1e-11


@dataclass(frozen=True)
class TwoLayers:
    """Averages over one neuron at two layers k < m, for one replica.

    ``pairs[then, now]`` is ⟨σ⁽ⁱ⁾_a σ⁽ʲ⁾_b(z⁽ᵏ⁾) σ⁽ᵖ⁾_c σ⁽ᑫ⁾_d(z⁽ᵐ⁾)⟩, [a, b, c, d];
    ``alone`` holds the averages of the two layers by themselves.
    """

    pairs: dict[tuple[Order, Order], Tensor]
    alone: dict[Order, tuple[Tensor, Tensor]]

    def covariance(self, then: Order, now: Order) -> Tensor:
        """Cov(σ⁽ⁱ⁾_a σ⁽ʲ⁾_b then, σ⁽ᵖ⁾_c σ⁽ᑫ⁾_d now), [a, b, c, d]."""
        before, after = self.alone[then][0], self.alone[now][1]
        return self.pairs[then, now] - before[:, :, None, None] * after

    def average(self, then: Order, now: Order) -> Tensor:
        """``pairs`` for the orders of either pair the other way round as well."""
        for first, axes in ((then, (0, 1)), (swapped(then), (1, 0))):
            for second, more in ((now, (2, 3)), (swapped(now), (3, 2))):
                if (first, second) in self.pairs:
                    return self.pairs[first, second].permute(*axes, *more)
        raise KeyError((then, now))


def swapped(o: Order) -> Order:
    """The orders of two factors the other way round."""
    return o[1], o[0]


def two_layer_averages(
    early: Activation,
    K_early: Tensor,
    late: Activation,
    K_late: Tensor,
    skip: float,
    tolerance: float,
) -> tuple[Replicas, list[TwoLayers]]:
    """All averages of a neuron at two layers whose z are correlated by ``skip`` · K_early.

    Parameters
    ----------
    early, late : Activation
    K_early, K_late : Tensor, shape (N, N)
        Kernels at the two layers.
    skip : float
        Product of the strengths of the skips between.
    tolerance : float
        Aim of the error, relative to the norms of the factors.

    Returns
    -------
    rule : Replicas
    averages : list of TwoLayers
        For each replica of the rule.
    """
    N = K_early.shape[0]
    cross = skip * K_early
    joint = torch.cat([torch.cat([K_early, cross], 1), torch.cat([cross, K_late], 1)])
    smooth = early.smooth and late.smooth
    wanted = (*ROUGH, *BENT, *SMOOTH) if smooth else ROUGH
    kinks = tuple(sorted({*early.kinks, *late.kinks}))
    rule, found = many(
        _functions(early, late),
        joint,
        _patterns(wanted),
        kinks,
        tolerance=tolerance,
        # a table of derivatives of one odd function; orders are counted from 0 and from 4
        odd=early.odd and late.odd,
        homes=[range(_LATE)] * N + [range(_LATE, 2 * _LATE)] * N,
    )
    out = [_sorted_out(averages, wanted, N) for averages in found]
    if not smooth:
        _add_derivatives(out, early, late, joint, kinks, rule)
    return rule, out


def _functions(early: Activation, late: Activation) -> list[Callable[[Tensor], Tensor]]:
    """σ and its derivatives of the earlier layer, then those of the later one."""
    return [act.derivative(k) for act, k in itertools.product((early, late), range(_LATE))]


def _shifted(o: Order) -> Order:
    """The functions of two factors at the later layer."""
    return o[0] + _LATE, o[1] + _LATE


def _patterns(wanted: tuple[tuple[Order, Order], ...]) -> list[tuple[int, ...]]:
    """Averages of four for all that is wanted, and of two for each layer by itself."""
    four = [(*then, *_shifted(now)) for then, now in wanted]
    two: set[Order] = set()
    for o in itertools.chain.from_iterable(wanted):
        two |= {o, _shifted(o)}
    return [*four, *two]


def _sorted_out(
    averages: dict[tuple[int, ...], Tensor], wanted: tuple[tuple[Order, Order], ...], N: int
) -> TwoLayers:
    """The blocks of the joint averages that belong to the two layers."""
    then, now = slice(0, N), slice(N, 2 * N)
    pairs: dict[tuple[Order, Order], Tensor] = {}
    alone: dict[Order, tuple[Tensor, Tensor]] = {}
    for before, after in wanted:
        pairs[before, after] = averages[*before, *_shifted(after)][then, then, now, now]
        for o in (before, after):
            alone[o] = averages[o][then, then], averages[_shifted(o)][now, now]
    return TwoLayers(pairs, alone)


def _add_derivatives(
    out: list[TwoLayers],
    early: Activation,
    late: Activation,
    joint: Tensor,
    kinks: tuple[float, ...],
    rule: Replicas,
) -> None:
    """Averages with derivatives of kinked activations, in the sense of distributions."""
    N = len(joint) // 2
    turned = joint.roll((N, N), (0, 1))  # the later layer first
    shared: tuple[dict, dict] = {}, {}
    for replica, one in enumerate(out):
        pairs, alone = _derived(early, late, joint, kinks, rule, replica, shared[0])
        for w in BENT:
            one.pairs[w] = pairs[w]
        for now, after in alone.items():
            one.alone[now] = torch.full_like(after, math.nan), after
        pairs, _ = _derived(late, early, turned, kinks, rule, replica, shared[1])
        for then, now in SMOOTH:
            # the square of a delta function does not exist
            if (then, now) != ((2, 1), (2, 1)):
                one.pairs[then, now] = pairs[now, then].permute(2, 3, 0, 1)


def _derived(
    plain: Activation,
    bent: Activation,
    joint: Tensor,
    kinks: tuple[float, ...],
    rule: Replicas,
    replica: int,
    shared: dict,
) -> tuple[dict[tuple[Order, Order], Tensor], dict[Order, Tensor]]:
    """Averages with derivatives of the second half of ``joint``, in the sense of distributions.

    ⟨σ⁽ⁱ⁾_aσ⁽ʲ⁾_b(plain) σ⁽ᵖ⁾_cσ⁽ᑫ⁾_d(bent)⟩ and ⟨σ⁽ᵖ⁾_cσ⁽ᑫ⁾_d(bent)⟩. Where c = d only the
    derivatives of σ⁽ᑫ⁾² exist; they are shared out as :func:`_share` says. ``shared`` keeps what
    is the same for all replicas of a sampled rule: up to three variables go by panels.
    """
    N = len(joint) // 2

    def averages(then: tuple[int, ...], now: tuple[int, int]):
        few = len({*then}) + len({*now}) <= 3 and rule.kind != "panels"
        if few and (then, now) in shared:
            return shared[then, now]
        found = _averages(plain, bent, joint, then, now, kinks, None if few else rule, replica)
        if few:
            shared[then, now] = found
        return found

    pairs = {(o, d): joint.new_zeros((N,) * 4) for o in _PLAIN for d in _DERIVED}
    alone = {d: joint.new_zeros(N, N) for d in _DERIVED}
    for c, d in itertools.product(range(N), repeat=2):
        found = averages((), (c, d))[None]
        for orders, value in _share(found, c == d).items():
            alone[orders][c, d] = value
        for a, b in itertools.combinations_with_replacement(range(N), 2):
            found = averages((a, b), (c, d))
            for o in _PLAIN:
                for i, j, front in ((a, b, o), (b, a, swapped(o))):
                    for orders, value in _share(found[front], c == d).items():
                        pairs[o, orders][i, j, c, d] = value
    return pairs, alone


def _share(found: dict[tuple[int, int, int], Tensor], same: bool) -> dict[Order, Tensor]:
    """σ⁽ᵖ⁾_cσ⁽ᑫ⁾_d from derivatives (q, ∂_c, ∂_d) of σ⁽ᑫ⁾_cσ⁽ᑫ⁾_d.

    At one sample half the second derivative of σ'² is put into (3, 1).
    """
    if not same:
        return {
            (2, 0): found[0, 2, 0],
            (3, 1): found[1, 2, 0],
            (2, 2): found[1, 1, 1],
            (2, 1): found[1, 1, 0],
        }
    return {
        (2, 0): found[0, 2, 0] / 2 - found[1, 0, 0],
        (3, 1): found[1, 2, 0] / 2,
        (2, 2): torch.zeros_like(found[1, 2, 0]),
        (2, 1): found[1, 1, 0] / 2,
    }


def _averages(
    plain: Activation,
    bent: Activation,
    joint: Tensor,
    then: tuple[int, ...],
    now: tuple[int, int],
    kinks: tuple[float, ...],
    rule: Replicas | None,
    replica: int,
) -> dict[Order | None, dict[tuple[int, int, int], Tensor]]:
    """⟨σ⁽ⁱ⁾_aσ⁽ʲ⁾_b · derivatives (q, ∂_c, ∂_d) of σ⁽ᑫ⁾_cσ⁽ᑫ⁾_d⟩ by (i, j), None without."""
    N = len(joint) // 2
    at = sorted({*then, *(N + x for x in now)})
    K = joint[at][:, at]
    orders: list[Order | None] = [(0, 0), (1, 1), (0, 1), (1, 0)] if then else [None]
    total = {o: dict.fromkeys(_WANTED, K.new_zeros(())) for o in orders}
    if torch.linalg.eigvalsh(K)[0] < _SINGULAR * K.diagonal().max():
        return {o: dict.fromkeys(_WANTED, K.new_tensor(math.nan)) for o in orders}
    P = torch.linalg.inv(K)
    c, d = (at.index(N + x) for x in now)
    if rule is None or rule.kind == "panels":
        nodes = panels(K, kinks, PANEL_ORDERS[replica if rule else 0])
    else:
        nodes = scrambled(K, replica)
    for z, weight in nodes:
        H = hermite_polynomials((z @ P)[:, [c, d]], P[[c, d]][:, [c, d]], 2)
        f = [bent.derivative(q)(z[:, c]) * bent.derivative(q)(z[:, d]) for q in (0, 1)]
        g = [[plain.derivative(i)(z[:, at.index(x)]) for i in (0, 1)] for x in then]
        for o in orders:
            front = weight if o is None else weight * g[0][o[0]] * g[-1][o[1]]
            for q, i, j in _WANTED:
                total[o][q, i, j] = total[o][q, i, j] + (front * f[q] * H[i, j]).sum()
    return total
