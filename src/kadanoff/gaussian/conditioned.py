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
distinct samples have a denser lattice of their own (:mod:`kadanoff.gaussian.repeated`).

Where an expansion does not end within the orders that are tabled, ``unfinished`` says so: those
subsets of samples want another rule.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.gaussian.plane import hexagonal
from kadanoff.gaussian.repeated import coincident, conditional_slopes
from kadanoff.gaussian.smeared import MOST_ORDERS, Smeared

__all__ = ["Conditioned"]

Function = Callable[[Tensor], Tensor]
Pattern = tuple[int, ...]
Slots = tuple[int, int]

# steps of the lattice tried in turn
_WIDEST, _SHRINK, _NARROWEST = 1.1, 0.85, 0.25
# the finer level's smallest orders, in tolerances; the steps and the orders of the two levels
_CUT, _COARSER, _FEWER_ORDERS = 0.1, 0.92, 0.7
_PROBES = 12
# the step that a unit Gaussian allows: errors 1e-11
_BELL = 0.85
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
    outer: Slots
    inner: Slots

    def swapped(self) -> _Split:
        """The second conditioning slot and the first expanded one change places."""
        a, b, c, d = self.slots
        (i, j), (k, l) = self.outer, self.inner
        return _Split((a, c, b, d), (i, k), (j, l))


@dataclass(frozen=True)
class _Term:
    """One pattern, with the functions of the pair's two samples and of the expanded ones."""

    pattern: Pattern
    outer: Slots
    inner: Slots


@dataclass(frozen=True)
class _Job:
    """What is averaged together: the terms, and the pairs (c, d) that have a rule elsewhere."""

    terms: tuple[_Term, ...]
    skipped: Tensor


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
        self.scale = math.sqrt(max(float(K.diagonal().max()), 1e-300))
        self.splits: dict[Pattern, _Split] = {p: _split(p) for p in self.patterns if len(p) == 4}
        self.near = _near(K)
        nowhere = torch.zeros_like(self.near)
        self.swapped: dict[Pattern, _Split] = {}
        if self.near.any():
            self.swapped = {p: split.swapped() for p, split in self.splits.items()}
        # with a and b in both orders, so that pairs with a ≤ b are enough
        self.job = _Job(_terms(self.splits, both_orders=True), self.near)
        self.near_job = _Job(_terms(self.swapped, both_orders=False), nowhere)
        used = {functions[k] for k in set().union(*self.splits)}
        self.reach = _reach(used, self.scale, 0.1 * tolerance)
        self.coarse_reach = _reach(used, self.scale, tolerance)
        terms = (*self.job.terms, *self.near_job.terms)
        inner = sorted(set().union(*(term.inner for term in terms)))
        products = sorted({_sorted(term.inner) for term in terms})
        self.table = Smeared(functions, inner, products, self.scale, self.reach, 0.1 * tolerance)
        self.pairs = torch.triu_indices(len(K), len(K), device=K.device).T.contiguous()
        ends = self.near.any(0).nonzero()[:, 0]
        self.near_pairs = torch.cartesian_prod(torch.arange(len(K), device=K.device), ends)
        self.few = coincident(functions, K, self.patterns, even)
        self.levels = self._levels()

    @property
    def usable(self) -> bool:
        """Whether the tables hold these functions to the tolerance."""
        return self.table.defect() < self.tolerance

    def averages(self, replica: int) -> dict[Pattern, Tensor]:
        """Pattern -> Tensor of shape (N,)*len(pattern); replica 0 is the finer rule, 1 a coarser.

        Their difference is about the error of the coarser one.
        """
        N = len(self.K)
        level = self.levels[replica]
        out = {p: self.K.new_zeros((N,) * len(p)) for p in self.patterns}
        for rows, found in self._sums(self.pairs, level, self.job):
            a, b = self.pairs[rows].T
            for term, values in found.items():
                split = self.splits[term.pattern]
                view = out[term.pattern].permute(split.slots)
                if term.outer == split.outer:
                    view[a, b] = values
                if term.outer == split.outer[::-1]:
                    view[b, a] = values
        if self.swapped:
            self._replace_near(out, level)
        for p, entries in self.few.items():
            for index, values in entries:
                out[p][index] = values
        return out

    def unfinished(self) -> list[Tensor]:
        """Subsets of three and of four samples whose expansions do not end, (subsets, size)."""
        found = [self.pairs.new_zeros(0, 4)]
        everywhere = torch.ones_like(self.near)
        for pairs, job, columns in (
            (self.pairs, self.job, everywhere),
            (self.near_pairs, self.near_job, self.near),
        ):
            for part in pairs.split(max(1, _ELEMENTS // len(self.K) ** 2)):
                still = self._still(part, job) & columns[part[:, 1], None]
                row, c, d = still.nonzero(as_tuple=True)
                found.append(torch.stack([*part[row].T, c, d], 1))
        subsets = torch.cat(found).sort(1).values.unique(dim=0)
        repeated = subsets.diff(dim=1) == 0
        threes = [subsets[row].unique() for row in (repeated.sum(1) == 1).nonzero()[:, 0]]
        triples = torch.stack(threes).unique(dim=0) if threes else subsets.new_zeros(0, 3)
        return [triples, subsets[~repeated.any(1)]]

    def _still(self, pairs: Tensor, job: _Job) -> Tensor:
        """Where orders beyond the last one matter to any term, [row, c, d]."""
        s, rho = _partial(_left(self.K, pairs)[1], self.scale)
        left = self._correlations(rho, job)
        still = torch.zeros_like(left, dtype=torch.bool)
        for term in job.terms:
            still |= self._matters(term, left, s, MOST_ORDERS - 1, self.tolerance)
        return still

    def _replace_near(self, out: dict[Pattern, Tensor], level: _Level) -> None:
        """Where c is near d: condition on (a, c) instead and expand b and d."""
        for rows, found in self._sums(self.near_pairs, level, self.near_job):
            for r, (a, c) in enumerate(self.near_pairs[rows].tolist()):
                d = self.near[c].nonzero()[:, 0]
                for term, values in found.items():
                    view = out[term.pattern].permute(self.swapped[term.pattern].slots)
                    view[a, c, :, d] = values[r][:, d]

    def _levels(self) -> tuple[_Level, _Level]:
        """Steps at which the averages of some pairs no longer change, and one before."""
        size = self.K.diagonal().clamp_min(1e-300).sqrt()
        alike = (self.K / (size[:, None] * size)).abs()[self.pairs[:, 0], self.pairs[:, 1]]
        alike[self.pairs[:, 0] == self.pairs[:, 1]] = 0
        spread = torch.linspace(0, len(alike) - 1, _PROBES).long().to(alike.device)
        closest = alike.topk(min(_PROBES // 3, len(alike))).indices
        probes = self.pairs[torch.cat([closest, spread]).unique()]
        step = _WIDEST
        last = self._probe(probes, step)
        # the error falls like exp(-c / step): that of the finer is a power of that of the coarser
        gap = self.tolerance**_SHRINK
        while step > _NARROWEST:
            step *= _SHRINK
            now = self._probe(probes, step)
            if all(
                float((now[term] - last[term]).abs().max()) < gap * self.table.norm(term.pattern)
                for term in self.job.terms
            ):
                break
            last = now
        # what the lattice misses is smooth in the samples, what the expansion leaves out is not,
        # and ill-conditioned inverses magnify the latter: orders are cut later than the step asks
        fine = _Level(step, self.reach, _CUT * self.tolerance, MOST_ORDERS)
        fewer = round(_FEWER_ORDERS * MOST_ORDERS)
        return fine, _Level(step / _COARSER, self.coarse_reach, self.tolerance, fewer)

    def _probe(self, pairs: Tensor, step: float) -> dict[_Term, Tensor]:
        """Averages of some pairs by a lattice of this step, where no other rule replaces them."""
        level = _Level(step, self.reach, self.tolerance, MOST_ORDERS)
        parts: dict[_Term, list[Tensor]] = {term: [] for term in self.job.terms}
        for _, found in self._sums(pairs, level, self.job):
            for term, values in found.items():
                parts[term].append(values)
        sample = torch.arange(len(self.K), device=pairs.device)
        known = (sample == pairs[:, :1]) | (sample == pairs[:, 1:])
        keep = ~(known[:, :, None] & known[:, None, :])
        keep &= (pairs[:, 0] != pairs[:, 1])[:, None, None] & ~self.near
        return {term: torch.cat(values) * keep for term, values in parts.items()}

    def _sums(
        self, pairs: Tensor, level: _Level, job: _Job
    ) -> Iterator[tuple[Tensor, dict[_Term, Tensor]]]:
        """(rows of pairs, averages [row, c, d] of every term), in parts."""
        x, w = hexagonal(level.step / self.scale, _BELL, level.reach, self.even, self.K.device)
        every = torch.arange(len(pairs), device=pairs.device)
        size = max(1, _ELEMENTS // (len(x) * len(self.K) * _COLUMNS))
        for rows in every.split(size):
            part = _Part(self, pairs[rows], x, w, level, job)
            yield rows, part.averages()

    def _correlations(self, rho: Tensor, job: _Job) -> Tensor:
        """Sizes of the partial correlations in which something is expanded."""
        same = torch.eye(len(self.K), dtype=torch.bool, device=rho.device)
        return rho.abs() * ~(job.skipped | same)

    def _matters(self, term: _Term, left: Tensor, s: Tensor, order: int, size: float) -> Tensor:
        """Where what is left from an order on is larger than a size, [row, c, d]."""
        k, l = term.inner
        front = self.table.size(k, order, s)[:, :, None]
        back = self.table.size(l, order, s)[:, None, :]
        return left**order * front * back > size


class _Part:
    """The sums of a job over the lattice, for some pairs (a, b).

    Arrays begin with the pair, then samples; ``at`` are the samples still summed over, ``power``
    is the partial correlation to the power of the order reached.
    """

    def __init__(
        self, rule: Conditioned, pairs: Tensor, x: Tensor, w: Tensor, level: _Level, job: _Job
    ) -> None:
        self.rule, self.level, self.job = rule, level, job
        self.count, self.N = len(pairs), len(rule.K)
        slopes, rest = _left(rule.K, pairs)
        self.s, self.rho = _partial(rest, rule.scale)
        self.left = rule._correlations(self.rho, job)
        u = slopes @ x.T  # (pairs, N, nodes)
        self.fronts = self._fronts(u, pairs, w)
        self.whole = rule.table.basis(u.flatten(0, 1))
        self.basis = self.whole
        self.at = torch.arange(self.N, device=u.device)
        self.power = torch.ones_like(self.rho)

    def _fronts(self, u: Tensor, pairs: Tensor, w: Tensor) -> dict[Slots, Tensor]:
        """Weight times the two functions of the pair at every node, (pairs, 1, nodes)."""
        row = torch.arange(len(pairs), device=pairs.device)
        z_a, z_b = u[row, pairs[:, 0]], u[row, pairs[:, 1]]
        used = {term.outer for term in self.job.terms}
        functions = self.rule.functions
        first = {i: functions[i](z_a) for i, _ in used}
        second = {j: functions[j](z_b) for _, j in used}
        return {(i, j): (w * first[i] * second[j])[:, None] for i, j in used}

    def averages(self) -> dict[_Term, Tensor]:
        """[row, c, d] for every term."""
        totals = {term: self.rho.new_zeros(self.count, self.N, self.N) for term in self.job.terms}
        terms = list(self.job.terms)
        for start, stop in itertools.pairwise(_STAGES):
            if start >= self.level.orders:
                break
            if start:
                terms = self._restrict(terms, start)
            if not terms:
                break
            if start == _SINGLE and self.rule.tolerance >= _SINGLE_TOLERANCE:
                self._to_single()
            smeared = self._smeared(terms, start, stop)
            for term, total in self._orders(terms, smeared, start, stop).items():
                if len(self.at) == self.N:
                    totals[term] += total
                else:
                    totals[term][:, self.at[:, None], self.at] += total
            if start == 0:
                self._same_sample(totals, smeared)
        return totals

    def _restrict(self, terms: list[_Term], start: int) -> list[_Term]:
        """The terms for which orders from ``start`` on matter; leaves out samples of none."""
        still = {
            term: self.rule._matters(term, self.left, self.s, start, self.level.cut)
            for term in terms
        }
        terms = [term for term in terms if bool(still[term].any())]
        if not terms:
            return []
        some = torch.stack([still[term].any(0) for term in terms]).any(0)
        needed = some.any(0) | some.any(1)
        if int(needed.sum()) < _FEWER * len(self.at):
            keep = needed[self.at]
            self.at = self.at[keep]
            self.power = self.power[:, keep][:, :, keep]
            self.basis = self._rows()
        return terms

    def _to_single(self) -> None:
        """What is still to come is small: go on in single precision."""
        self.whole = {kind: values.float() for kind, values in self.whole.items()}
        self.basis = self._rows()
        self.fronts = {outer: front.float() for outer, front in self.fronts.items()}
        self.power, self.rho = self.power.float(), self.rho.float()

    def _rows(self) -> dict[tuple[int, int], Tensor]:
        """The polynomials at the samples still summed over, for each of the pairs."""
        if len(self.at) == self.N:
            return self.whole
        first = self.N * torch.arange(self.count, device=self.at.device)
        which = (self.at + first[:, None]).flatten()
        return {kind: values[:, which] for kind, values in self.whole.items()}

    def _smeared(self, terms: list[_Term], start: int, stop: int) -> dict[tuple, Tensor]:
        """h_m at every sample and node, for the orders ``start`` to ``stop``."""
        singles = tuple(sorted(set().union(*(term.inner for term in terms))))
        s = self.s[:, self.at].flatten()
        values = self.rule.table.values(self.basis, s, singles, start, stop)
        shape = (self.count, len(self.at))
        return {key: value.unflatten(0, shape) for key, value in values.items()}

    def _orders(
        self, terms: list[_Term], smeared: dict[tuple, Tensor], start: int, stop: int
    ) -> dict[_Term, Tensor]:
        """Σ_m ρ^m ⟨f_a g_b h_m(u_c) k_m(u_d)⟩ over some orders, c ≠ d."""
        slope = self.rho[:, self.at[:, None], self.at]
        totals = {term: self.power.new_zeros(self.power.shape) for term in terms}
        for m in range(start, stop):
            weighted: dict[tuple[Slots, int], Tensor] = {}
            for term, total in totals.items():
                k, l = term.inner
                if (term.outer, k) not in weighted:
                    weighted[term.outer, k] = smeared["m", k, m] * self.fronts[term.outer]
                product = torch.bmm(weighted[term.outer, k], smeared["m", l, m].mT)
                total.addcmul_(product, self.power)
            self.power = self.power * slope
        for total in totals.values():
            total.diagonal(dim1=1, dim2=2).zero_()
        return totals

    def _same_sample(self, totals: dict[_Term, Tensor], smeared: dict[tuple, Tensor]) -> None:
        """c = d: the product of both functions is averaged."""
        for term, total in totals.items():
            values = smeared["product", *_sorted(term.inner)] * self.fronts[term.outer]
            total.diagonal(dim1=1, dim2=2).copy_(values.sum(2))


def _sorted(pair: Slots) -> Slots:
    return min(pair), max(pair)


def _split(pattern: Pattern) -> _Split:
    """Conditions on two equal functions if there are any; the others gain from the smearing."""
    best, found = None, None
    for a, b in itertools.combinations(range(4), 2):
        c, d = (s for s in range(4) if s not in (a, b))
        outer, inner = (pattern[a], pattern[b]), (pattern[c], pattern[d])
        score = (outer[0] == outer[1], inner[0] == inner[1], sum(inner))
        if best is None or score > best:
            best, found = score, _Split((a, b, c, d), outer, inner)
    assert found is not None
    return found


def _terms(splits: dict[Pattern, _Split], both_orders: bool) -> tuple[_Term, ...]:
    """The terms of some patterns; in both orders, with the functions of the pair exchanged too."""
    terms = []
    for p, split in splits.items():
        i, j = split.outer
        terms.append(_Term(p, (i, j), split.inner))
        if both_orders and i != j:
            terms.append(_Term(p, (j, i), split.inner))
    return tuple(terms)


def _left(K: Tensor, pairs: Tensor) -> tuple[Tensor, Tensor]:
    """Slopes (B, N, 2) of every sample in two coordinates of a pair, and the covariance left."""
    slopes = conditional_slopes(K, pairs)
    rest = K - slopes @ slopes.mT
    row = torch.arange(len(pairs), device=pairs.device)
    for end in pairs.T:
        rest[row, end] = 0.0
        rest[row, :, end] = 0.0
    return slopes, rest


def _partial(rest: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """Standard deviations (B, N) and partial correlations (B, N, N)."""
    s = rest.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    inverse = torch.where(s > 1e-7 * scale, 1 / s.clamp_min(1e-300), 0.0)
    rho = rest * inverse[:, :, None] * inverse[:, None, :]
    return s, rho.clamp(-1, 1)


def _reach(functions: set[Function], scale: float, share: float) -> float:
    """Distance in the plane beyond which products of four functions weigh less than ``share``."""
    r = torch.arange(0.0, 12.0, 0.05, dtype=torch.float64)
    weight = torch.exp(-0.5 * r**2) * r
    needed = 1.0
    for f in functions:
        mass = weight * (f(scale * r) ** 4 + f(-scale * r) ** 4)
        tail = mass.flip(0).cumsum(0).flip(0)
        beyond = (tail > share * tail[0]).nonzero()
        if len(beyond):
            needed = max(needed, float(r[beyond[-1, 0]]) + 0.05)
    return needed


def _near(K: Tensor) -> Tensor:
    """Pairs of samples much closer to each other (or to opposite) than the others, (N, N)."""
    if len(K) < 2:
        return torch.zeros_like(K, dtype=torch.bool)
    size = K.diagonal().clamp_min(1e-300).sqrt()
    apart = 1 - (K / (size[:, None] * size)).abs()
    a, b = torch.triu_indices(len(K), len(K), 1)
    near = apart < _NEAR * apart[a, b].median()
    near.fill_diagonal_(False)
    return near
