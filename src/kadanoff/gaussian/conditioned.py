r"""Averages of four smooth functions over all quadruples of dozens of samples, deterministically.

Given two of the four samples, the other two are Gaussian with means linear in the first two and a
covariance that does not depend on them. Expanding in their partial correlation (Mehler),

.. math::
    \langle f_a g_b h_c k_d\rangle = \sum_m \rho^m_{cd|ab}
        \big\langle f_a g_b\, h_m(u_c; s_c)\, k_m(u_d; s_d)\big\rangle_{ab},
    \qquad h_m(u; s) = \langle h(u + s\xi)\, \mathrm{He}_m(\xi)\rangle / \sqrt{m!} ,

leaves an integral over two coordinates, the same for all c and d: for one pair (a, b) every order m
is one matrix product over the nodes of a plane lattice. The functions h_m are tabled once, in
Chebyshev polynomials of u and s (:mod:`kadanoff.gaussian.smeared`). Lattice and expansion both
converge geometrically. Where c = d the product h k is averaged instead of expanded; where c and d
nearly coincide one of them changes places with a sample of the pair; and entries of one or two
distinct samples have a denser lattice of their own.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kadanoff.gaussian.smeared import MOST_ORDERS, Smeared

__all__ = ["Conditioned"]

Function = Callable[[Tensor], Tensor]
Pattern = tuple[int, ...]

_WIDEST, _SHRINK, _NARROWEST = 1.1, 0.85, 0.25
# the finer level's smallest orders, in tolerances; the steps of the two levels
_CUT, _COARSER = 0.1, 0.92
_PROBES = 12
# the steps of a unit Gaussian: errors 1e-11 and less than rounding
_BELL, _FINE_BELL = 0.85, 0.5
_FEW_STEP, _FEW_REACH = 0.3, 8.0
# elements of the largest intermediate array, for cache and memory
_ELEMENTS = 2_000_000
_COLUMNS = 40
# orders of the expansion treated together, and from which on single precision is enough, as what is
# left is a small part, if the tolerance is not below the last number
_STAGES = (0, 3, 6, 9, 13, 18, 24, 32, 44, MOST_ORDERS)
_SINGLE, _SINGLE_TOLERANCE = 3, 1e-6
# samples are left out when this share of them remains
_FEWER = 0.7
# 1 - |correlation| below this share of the median: nearly coincident
_NEAR = 0.05


@dataclass(frozen=True)
class _Split:
    """A pattern with its slots in the order (conditioning, conditioning, expanded, expanded)."""

    slots: tuple[int, ...]
    outer: tuple[int, int]
    inner: tuple[int, int]

    def swapped(self) -> _Split:
        """The second conditioning slot and the first expanded one change places."""
        a, b, c, d = self.slots
        (i, j), (k, l) = self.outer, self.inner
        return _Split((a, c, b, d), (i, k), (j, l))


@dataclass(frozen=True)
class _Level:
    """Step in z and reach of the lattice; what size of orders is left out, and beyond which."""

    step: float
    reach: float
    cut: float
    orders: int


class Conditioned:
    """Averages of patterns of smooth functions over all choices of N samples.

    Parameters
    ----------
    functions : sequence of callables
        Elementwise, analytic near the real axis.
    K : Tensor, shape (N, N)
        Covariance, of any rank.
    patterns : sequence of tuples of length 2 or 4
        (i, j, k, l) means ⟨f_i(z_a) f_j(z_b) f_k(z_c) f_l(z_d)⟩.
    tolerance : float
        Aim of the error, relative to the norms of the factors.
    even : bool
        Every integrand is even under z → −z: half the nodes do.
    """

    def __init__(
        self,
        functions: Sequence[Function],
        K: Tensor,
        patterns: Sequence[Pattern],
        tolerance: float = 1e-8,
        even: bool = False,
    ) -> None:
        self.functions, self.K, self.patterns = functions, K, list(patterns)
        self.tolerance, self.even = tolerance, even
        self.splits = {p: _split(p) for p in self.patterns if len(p) == 4}
        self.scale = math.sqrt(max(float(K.diagonal().max()), 1e-300))
        used = {k for p in self.splits for k in p}
        tails = [_reach([functions[k] for k in used], self.scale, t * tolerance) for t in (0.1, 1)]
        self.reach, self.coarse_reach = tails
        self.near = _near(K)
        self.swapped = {p: s.swapped() for p, s in self.splits.items()} if self.near.any() else {}
        splits = [*self.splits.values(), *self.swapped.values()]
        inner = sorted({k for s in splits for k in s.inner})
        products = sorted({(min(s.inner), max(s.inner)) for s in splits})
        self.table = Smeared(functions, inner, products, self.scale, self.reach, 0.1 * tolerance)
        self.pairs = torch.triu_indices(len(K), len(K), device=K.device).T.contiguous()
        self.few = _few(functions, K, self.patterns, even)
        self.levels = self._levels()

    def averages(self, replica: int) -> dict[Pattern, Tensor]:
        """Pattern -> Tensor of shape (N,)*len(pattern); replica 0 is the finer rule, 1 a coarser.

        Their difference is about the error of the coarser one.
        """
        N = len(self.K)
        out = {p: self.K.new_zeros((N,) * len(p)) for p in self.patterns}
        level = self.levels[replica]
        for rows, found in self._sums(self.pairs, level, self.splits):
            a, b = self.pairs[rows].T
            for p, split in self.splits.items():
                view = out[p].permute(split.slots)
                view[a, b], view[b, a] = found[p]
        if self.swapped:
            self._replace_near(out, level)
        for p, entries in self.few.items():
            for index, values in entries:
                out[p][index] = values
        return out

    def _replace_near(self, out: dict[Pattern, Tensor], level: _Level) -> None:
        """Where c is near d: condition on (a, c) instead and expand b and d."""
        ends = self.near.any(0).nonzero()[:, 0]
        pairs = torch.cartesian_prod(torch.arange(len(self.K)), ends)
        for rows, found in self._sums(pairs, level, self.swapped):
            for r, row in enumerate(rows.tolist()):
                a, c = pairs[row].tolist()
                d = self.near[c].nonzero()[:, 0]
                for p, split in self.swapped.items():
                    out[p].permute(split.slots)[a, c, :, d] = found[p][0][r][:, d]

    def _levels(self) -> tuple[_Level, _Level]:
        """Steps at which the averages of some pairs no longer change, and one before."""
        size = self.K.diagonal().clamp_min(1e-300).sqrt()
        alike = (self.K / (size[:, None] * size)).abs()[self.pairs[:, 0], self.pairs[:, 1]]
        alike[self.pairs[:, 0] == self.pairs[:, 1]] = 0
        spread = torch.linspace(0, len(alike) - 1, _PROBES).long()
        picked = torch.cat([alike.topk(min(_PROBES // 3, len(alike))).indices, spread])
        probes = self.pairs[picked.unique()]
        step = _WIDEST
        last = self._probe(probes, _Level(step, self.reach, self.tolerance, MOST_ORDERS))
        # the error falls like exp(-c / step): that of the finer is a power of that of the coarser
        gap = self.tolerance**_SHRINK
        while step > _NARROWEST:
            step *= _SHRINK
            now = self._probe(probes, _Level(step, self.reach, self.tolerance, MOST_ORDERS))
            if all(
                float((now[p] - last[p]).abs().max()) < gap * self.table.norm(p)
                for p in self.splits
            ):
                break
            last = now
        # what the lattice misses is smooth in the samples, what the expansion leaves out is not,
        # and ill-conditioned inverses magnify the latter: orders are cut later than the step asks
        return (
            _Level(step, self.reach, _CUT * self.tolerance, MOST_ORDERS),
            _Level(step / _COARSER, self.coarse_reach, self.tolerance, round(0.7 * MOST_ORDERS)),
        )

    def _probe(self, pairs: Tensor, level: _Level) -> dict[Pattern, Tensor]:
        order: list[Tensor] = []
        parts: dict[Pattern, list[Tensor]] = {p: [] for p in self.splits}
        for rows, found in self._sums(pairs, level, self.splits):
            order.append(rows)
            for p, (values, _) in found.items():
                parts[p].append(values)
        back = torch.cat(order).argsort()
        # entries of two samples and of near ones have rules of their own
        sample = torch.arange(len(self.K))
        known = (sample == pairs[:, :1]) | (sample == pairs[:, 1:])
        keep = ~(known[:, :, None] & known[:, None, :])
        keep &= (pairs[:, 0] != pairs[:, 1])[:, None, None] & ~self.near
        return {p: torch.cat(values)[back] * keep for p, values in parts.items()}

    def _sums(
        self, pairs: Tensor, level: _Level, splits: dict[Pattern, _Split]
    ) -> Iterator[tuple[Tensor, dict]]:
        """(rows of pairs, pattern -> averages with the pair in both orders), in parts."""
        x, w = _lattice(level.step / self.scale, _BELL, level.reach, self.even)
        every = torch.arange(len(pairs), device=pairs.device)
        for rows in every.split(max(1, _ELEMENTS // (len(x) * len(self.K) * _COLUMNS))):
            slopes, rest = _condition(self.K, pairs[rows])
            yield rows, self._part(pairs[rows], slopes, rest, x, w, level, splits)

    def _part(
        self,
        pairs: Tensor,
        slopes: Tensor,
        rest: Tensor,
        x: Tensor,
        w: Tensor,
        level: _Level,
        splits: dict[Pattern, _Split],
    ) -> dict[Pattern, tuple[Tensor, Tensor]]:
        B, N = len(pairs), len(self.K)
        s, rho = _partial(rest, self.scale)
        u = slopes @ x.T  # (B, N, nodes)
        row = torch.arange(B, device=pairs.device)
        ends = [u[row, pairs[:, side]] for side in (0, 1)]
        used = {k for split in splits.values() for k in split.outer}
        values = {k: [self.functions[k](z) for z in ends] for k in used}
        both = splits is self.splits
        fronts = {
            (i, j): (w * values[i][0] * values[j][1])[:, None]
            for split in splits.values()
            for i, j in ([split.outer, split.outer[::-1]] if both else [split.outer])
        }
        found = {
            p: {
                at: u.new_zeros(B, N, N)
                for at in {split.outer: 0, split.outer[::-1] if both else split.outer: 0}
            }
            for p, split in splits.items()
        }
        basis = self.table.basis(u.reshape(B * N, -1))
        skipped = self.near if both else torch.zeros_like(self.near)
        left = rho.abs() * ~(skipped | torch.eye(N, dtype=torch.bool, device=u.device))
        at, power = torch.arange(N, device=u.device), torch.ones_like(rho)
        whole, wanted = basis, list(splits)
        for start, stop in itertools.pairwise(_STAGES):
            if start >= level.orders:
                break
            if start:
                # only patterns and samples for which orders beyond these still matter
                reach = left**start
                size = {k: self.table.size(k, start, s) for k in self.table.singles}
                still = {
                    p: reach * size[k][:, :, None] * size[l][:, None, :] > level.cut
                    for p, (k, l) in ((p, splits[p].inner) for p in wanted)
                }
                wanted = [p for p, matters in still.items() if bool(matters.any())]
                if not wanted:
                    break
                some = torch.stack([still[p].any(0) for p in wanted]).any(0)
                needed = some.any(0) | some.any(1)
                if int(needed.sum()) < _FEWER * len(at):
                    keep = needed[at]
                    at, power = at[keep], power[:, keep][:, :, keep]
                    basis = self._rows(whole, at, B)
            if start == _SINGLE and self.tolerance >= _SINGLE_TOLERANCE:
                whole = {kind: v.float() for kind, v in whole.items()}
                basis = self._rows(whole, at, B)
                fronts = {outer: front.float() for outer, front in fronts.items()}
                power, rho = power.float(), rho.float()
            singles = tuple(sorted({k for p in wanted for k in splits[p].inner}))
            smeared = self.table.values(basis, s[:, at].reshape(-1), singles, start, stop)
            smeared = {key: v.unflatten(0, (B, len(at))) for key, v in smeared.items()}
            slope = rho[:, at[:, None], at]
            sums = {(p, outer): power.new_zeros(power.shape) for p in wanted for outer in found[p]}
            for m in range(start, stop):
                weighted: dict[tuple, Tensor] = {}
                for (p, outer), total in sums.items():
                    k, l = splits[p].inner
                    if (outer, k) not in weighted:
                        weighted[outer, k] = smeared["m", k, m] * fronts[outer]
                    product = torch.bmm(weighted[outer, k], smeared["m", l, m].mT)
                    total.addcmul_(product, power)
                power = power * slope
            for (p, outer), total in sums.items():
                total.diagonal(dim1=1, dim2=2).zero_()
                if len(at) == N:
                    found[p][outer] += total
                else:
                    found[p][outer][:, at[:, None], at] += total
                if start == 0:
                    k, l = splits[p].inner
                    same = smeared["product", min(k, l), max(k, l)] * fronts[outer]
                    found[p][outer].diagonal(dim1=1, dim2=2).copy_(same.sum(2))
        return {p: (next(iter(v.values())), list(v.values())[-1]) for p, v in found.items()}

    def _rows(self, basis: dict[Any, Tensor], at: Tensor, count: int) -> dict[Any, Tensor]:
        """The rows of some samples, for each of ``count`` pairs."""
        N = len(self.K)
        if len(at) == N:
            return basis
        which = (at + N * torch.arange(count, device=at.device)[:, None]).reshape(-1)
        return {kind: v[:, which] for kind, v in basis.items()}


def _split(pattern: Pattern) -> _Split:
    """Conditions on two equal functions if there are any; the others gain from the smearing."""
    choices = []
    for a in range(4):
        for b in range(a + 1, 4):
            c, d = (s for s in range(4) if s not in (a, b))
            outer, inner = (pattern[a], pattern[b]), (pattern[c], pattern[d])
            score = (outer[0] == outer[1], inner[0] == inner[1], sum(inner))
            choices.append((score, _Split((a, b, c, d), outer, inner)))
    return max(choices, key=lambda choice: choice[0])[1]


def _condition(K: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes of every sample's mean in two coordinates of the pair, and the covariance left."""
    a, b = pairs.T
    row = torch.arange(len(pairs))
    size = K.diagonal()
    first = torch.where(size[a] > 0, size[a].clamp_min(1e-300).rsqrt(), 0.0)
    one = K[a] * first[:, None]
    shared = one[row, b]
    pivot = size[b] - shared**2
    second = torch.where(pivot > 1e-12 * size[b], pivot.clamp_min(1e-300).rsqrt(), 0.0)
    two = (K[b] - shared[:, None] * one) * second[:, None]
    two[row, a] = 0.0
    slopes = torch.stack([one, two], 2)
    rest = K - slopes @ slopes.mT
    for end in (a, b):
        rest[row, end] = 0.0
        rest[row, :, end] = 0.0
    return slopes, rest


def _reach(functions: Sequence[Function], scale: float, share: float) -> float:
    """Distance in the plane beyond which products of four functions weigh less than ``share``."""
    r = torch.arange(0.0, 12.0, 0.05, dtype=torch.float64)
    weight = torch.exp(-0.5 * r**2) * r
    needed = 0.0
    for f in functions:
        mass = weight * (f(scale * r) ** 4 + f(-scale * r) ** 4)
        tail = mass.flip(0).cumsum(0).flip(0)
        beyond = (tail > share * tail[0]).nonzero()
        needed = max(needed, float(r[beyond[-1, 0]]) + 0.05 if len(beyond) else 0.0)
    return max(needed, 1.0)


def _near(K: Tensor) -> Tensor:
    """Pairs of samples much closer to each other (or to opposite) than the others, (N, N)."""
    size = K.diagonal().clamp_min(1e-300).sqrt()
    apart = 1 - (K / (size[:, None] * size)).abs()
    a, b = torch.triu_indices(len(K), len(K), 1)
    near = apart < _NEAR * apart[a, b].median() if len(a) else torch.zeros_like(K, dtype=torch.bool)
    near.fill_diagonal_(False)
    return near


def _partial(rest: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Standard deviations (B, N) and partial correlations (B, N, N)."""
    s = rest.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    inverse = torch.where(s > 1e-7 * scale, 1 / s.clamp_min(1e-300), 0.0)
    rho = rest * inverse[:, :, None] * inverse[:, None, :]
    return s, rho.clamp(-1, 1)


def _lattice(step: float, bell: float, reach: float, even: bool) -> tuple[Tensor, Tensor]:
    """Nodes (Q, 2) and weights of a unit Gaussian in the plane: a hexagonal lattice."""
    # as fine as a square lattice of this step; never wider than the Gaussian itself allows
    d = 2 / math.sqrt(3) / math.hypot(1 / step, 1 / bell)
    parts = []
    for shift in (0.0, 0.5):
        columns = torch.arange(-math.ceil(reach / d) - 1, math.ceil(reach / d) + 2) + shift
        parts.append(
            torch.cartesian_prod(columns.double() * d, columns.double() * d * math.sqrt(3))
        )
    x = torch.cat(parts)
    square = (x**2).sum(1)
    weight = (math.sqrt(3) / 2 * d * d / (2 * math.pi)) * torch.exp(-0.5 * square)
    keep = square < reach**2
    if even:
        half = (x[:, 0] > 0) | ((x[:, 0] == 0) & (x[:, 1] > 0))
        weight = torch.where(half, 2 * weight, weight)
        keep &= half | (square == 0)
    return x[keep].contiguous(), weight[keep]


def _few(
    functions: Sequence[Function], K: Tensor, patterns: Sequence[Pattern], even: bool
) -> dict[Pattern, list[tuple[tuple[Tensor, ...], Tensor]]]:
    """Entries with one or two distinct samples: (index, values) for each pattern."""
    scale = math.sqrt(max(float(K.diagonal().max()), 1e-300))
    x, w = _lattice(_FEW_STEP / scale, _FINE_BELL, _FEW_REACH, even)
    pairs = torch.triu_indices(len(K), len(K), 1).T
    used = sorted({k for p in patterns for k in p})
    out: dict[Pattern, list] = {p: [] for p in patterns}
    every = torch.arange(len(K))
    f = {k: functions[k](K.diagonal().sqrt()[:, None] * x[:, 0]) for k in used}
    for p in patterns:
        out[p].append(((every,) * len(p), math.prod((f[k] for k in p[1:]), start=f[p[0]]) @ w))
    # some thirty products of functions are kept for each sample
    for part in pairs.split(max(1, _ELEMENTS // (8 * len(x)))):
        slopes, _ = _condition(K, part)
        row = torch.arange(len(part))
        ends = [slopes[row, part[:, side]] @ x.T for side in (0, 1)]
        values = [{k: functions[k](z) for k in used} for z in ends]
        products: list[dict[tuple[int, ...], Tensor]] = [{}, {}]
        for p in patterns:
            for mask in range(1, 2 ** len(p) - 1):
                sides = [mask >> s & 1 for s in range(len(p))]
                keys = [
                    tuple(sorted(k for k, at in zip(p, sides, strict=True) if at == side))
                    for side in (0, 1)
                ]
                for known, key, f in zip(products, keys, values, strict=True):
                    if key not in known:
                        known[key] = math.prod((f[k] for k in key[1:]), start=f[key[0]])
                total = (products[0][keys[0]] * products[1][keys[1]]) @ w
                out[p].append((tuple(part[:, side] for side in sides), total))
    return out
