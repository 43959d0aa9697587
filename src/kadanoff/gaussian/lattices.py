r"""Averages of smooth functions over up to four samples, one subset of samples at a time.

An average of four factors involves at most four distinct samples, so N inputs need integrals over
subsets of one to four of them and nothing else. In the coordinates of a Cholesky factor with
pivots, :math:`z_s = \sum_{k\le s} L_{sk} x_k`, the last sample alone depends on the last
coordinate; its average over that coordinate is a function of one number,

.. math:: F(u) = \langle f(u + L_{mm}\,\xi)\rangle, \qquad u = \sum_{k<m} L_{mk} x_k ,

tabulated once and interpolated. What is left is a trapezoidal rule over at most three coordinates,
which converges geometrically, on two lattices half a step apart: together they are the
body-centred lattice. Its step is :math:`h / L_{kk}`: pivoting makes :math:`L_{kk}` the largest
slope of any sample along x_k, so that h is the step of every z.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from kadanoff.gaussian.cholesky import pivoted
from kadanoff.gaussian.subsets import Pattern, Shape, SubsetPlan, insert, make_plan, norms

__all__ = [
    "lagrange",
    "lattice_size",
    "nested",
    "nodes",
    "reach_of",
    "unit_of",
]

Function = Callable[[Tensor], Tensor]

# the two lattices together err by exp(-4 pi^2 / h^2) on a unit Gaussian: 7e-18 at 1
_WIDEST = 1.0
FIRST_STEP, SHRINK, LAST_STEP = 1.2, 0.8, 0.1
_FURTHEST = 8.5
# a smaller step gains nothing below the error of the table
_FLOOR = 1e-9
# the table of the last sample: spacing in z, or in standard deviations where these are smaller,
# and points of the Lagrange interpolation
_SPACING, POINTS = 0.01, 6
_LAGRANGE = (-1 / 120, 1 / 24, -1 / 12, 1 / 12, -1 / 24, 1 / 120)
# step of the average over the last coordinate, in standard deviations and in z
_TAPS, _FINEST = 0.55, 0.12
_CHUNK = 100_000
# a variance left below this share of the largest is zero
_SINGULAR = 1e-15


def nested(
    functions: Sequence[Function],
    K: Tensor,
    patterns: Sequence[Pattern],
    tolerance: float,
    even: bool = False,
    largest: int = 4,
) -> list[dict[Pattern, Tensor]]:
    """Averages of all patterns over all index choices, from two steps of the lattice.

    Parameters
    ----------
    functions : sequence of callables
    K : Tensor, shape (N, N)
    patterns : sequence of tuples of length 2 or 4
    tolerance : float
        Aim of the difference of the two, relative to the norms of the factors. Each subset's step
        shrinks until it is met.
    even : bool
        Every integrand is even under z → −z: half the nodes do.
    largest : int
        Subsets of more samples are left out, their entries zero.

    Returns
    -------
    list of two dicts, pattern -> Tensor of shape (N, N) or (N, N, N, N)
        The finer step first; the error of the coarser one is about their difference.
    """
    reach = reach_of(tolerance)
    N = K.shape[0]
    found = [{p: K.new_zeros((N,) * len(p)) for p in patterns} for _ in range(2)]
    sizes = norms(functions, K, patterns)
    for size in range(1, min(N, largest) + 1):
        plan = make_plan(patterns, size)
        if not plan.shapes:
            continue
        scale = plan.scale(sizes)
        subsets = list(itertools.combinations(range(N), size))
        rule, step, pairs = _Rule(functions, K, plan, reach, even), FIRST_STEP, []
        for subset in subsets:
            fine, coarse, step = _refined(rule, subset, scale, step, tolerance)
            pairs.append((fine, coarse))
        at = torch.tensor(subsets)
        for target, values in zip(found, zip(*pairs, strict=True), strict=True):
            stacked = {shape: torch.stack([v[shape] for v in values]) for shape in plan.shapes}
            insert(target, patterns, plan, at, stacked)
    return found


def _refined(rule: _Rule, subset, scale: dict[Shape, Tensor], step: float, tolerance: float):
    """The results of two steps that agree, and the coarser step to begin the next subset with."""
    coarse, last = rule.average(subset, step), math.inf
    while True:
        step *= SHRINK
        fine = rule.average(subset, step)
        gap = max(float(((fine[s] - coarse[s]).abs() / scale[s]).max()) for s in fine)
        if gap < tolerance or step < LAST_STEP or (gap < _FLOOR and gap > last / 2):
            break
        coarse, last = fine, gap
    # the gap falls by a power above one with every step: there was room for a wider one
    easy = gap < tolerance**1.3
    return fine, coarse, min(FIRST_STEP, step / SHRINK ** (2 if easy else 1))


def reach_of(tolerance: float) -> float:
    """How far from the origin, in standard deviations, an average of this tolerance looks."""
    return min(_FURTHEST, math.sqrt(-2 * math.log(1e-5 * tolerance)))


def unit_of(K: Tensor) -> float:
    """The largest standard deviation, or 1: on what scale in z functions change, at least."""
    return min(1.0, math.sqrt(max(float(K.diagonal().max()), 1e-12)))


def lattice_size(q: int, step: float, reach: float) -> float:
    """About how many nodes the lattice over q coordinates of slope one has.

    Parameters
    ----------
    q : int
        Coordinates.
    step : float
        In z.
    reach : float
        Radius of the ball, in standard deviations.
    """
    h = 1 / math.hypot(1 / step, 1 / _WIDEST)
    return math.pi ** (q / 2) / math.gamma(q / 2 + 1) * (reach / h) ** q


class _Rule:
    """Averages over one subset of samples of everything that ``plan`` lists."""

    def __init__(self, functions, K: Tensor, plan: SubsetPlan, reach: float, even: bool) -> None:
        self.functions, self.K, self.plan = functions, K, plan
        self.reach, self.even, self.step = reach, even, FIRST_STEP
        self.spacing = _SPACING * unit_of(K)

    def average(self, subset: tuple[int, ...], step: float) -> dict[Shape, Tensor]:
        """For each shape the averages of all products of keys, one axis a sample."""
        self.step, plan = step, self.plan
        at = torch.tensor(subset)
        order, L = pivoted(self.K[at][:, at], _SINGULAR)
        L = L[order]
        m, rank = len(subset), L.shape[1]
        outer = min(rank, m - 1)
        last = self._last(L, rank, outer)
        total: dict[Shape, Tensor] = {}
        half = max(1, m // 2)
        for x, w, levels in nodes(L.diagonal()[:outer], self.step, self.reach, self.even):
            f = [self._factors(x, L[s, :outer], levels, s) for s in range(m - 1)]
            f.append(last(x @ L[m - 1, :outer]))
            for shape in plan.shapes:
                stacks = [f[s][shape[s]] for s in range(m)]
                front = _outer(stacks[:half]) * w[:, None]
                if m == 1:
                    block = front.sum(0)
                else:
                    block = (front.T @ _outer(stacks[half:])).reshape([t.shape[1] for t in stacks])
                total[shape] = total[shape] + block if shape in total else block
        # from the order of the pivots back to that of the subset
        back = [order.index(s) for s in range(m)]
        return {
            tuple(shape[i] for i in back): block.permute(back) for shape, block in total.items()
        }

    def _factors(self, x, slopes: Tensor, levels, s: int) -> dict[int, Tensor]:
        """Products of functions of sample s at the nodes; it knows the first s + 1 coordinates."""
        if s + 1 >= x.shape[1]:
            return self.plan.products(self.functions, x @ slopes)
        first, index = levels[s]
        values = self.plan.products(self.functions, x[first] @ slopes)
        return {count: v.index_select(0, index) for count, v in values.items()}

    def _last(self, L: Tensor, rank: int, outer: int):
        """The factors of the last sample, averaged over the coordinate that is its own."""
        m = L.shape[0]
        width = float(L[m - 1, m - 1]) if rank == m else 0.0
        if width == 0.0:
            return lambda u: self.plan.products(self.functions, u)
        spread = float(L[m - 1, :outer].norm()) * self.reach
        return _Smoothed(
            self.functions, self.plan, spread, width, self.step, self.reach, self.spacing
        )


def nodes(
    scale: Tensor, step: float, reach: float, even: bool
) -> Iterator[tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]]:
    """Nodes inside the ball, weights, and for each leading coordinate its distinct values.

    Parameters
    ----------
    scale : Tensor, shape (q,)
        Largest slope of any z along each coordinate.
    step : float
        In z.
    reach : float
        Radius of the ball, in standard deviations.
    even : bool
        Half the nodes, of twice the weight.
    """
    q = len(scale)
    if q == 0:
        one = torch.ones(1, dtype=torch.float64)
        yield one.new_zeros(1, 0), one, []
        return
    h = [1 / math.hypot(s / step, 1 / _WIDEST) for s in scale.tolist()]
    front = 0.5 * math.prod(h) / (2 * math.pi) ** (q / 2)
    for shift in (0.0, 0.5):
        axes = []
        for k, width in enumerate(h):
            count = math.ceil(reach / width)
            low = 0 if (even and k == 0) else -count
            axes.append((torch.arange(low, count + 1, dtype=torch.float64) + shift) * width)
        square = torch.zeros((), dtype=torch.float64)
        for a in axes:
            square = square[..., None] + a * a
        inside = (square < reach**2).nonzero()
        weight = front * torch.exp(-0.5 * square[tuple(inside.T)])
        if even:
            weight = torch.where(axes[0][inside[:, 0]] > 0, 2 * weight, weight)
        for start in range(0, len(inside), _CHUNK):
            part = inside[start : start + _CHUNK]
            x = torch.stack([a[i] for a, i in zip(axes, part.T, strict=True)], 1)
            yield x, weight[start : start + _CHUNK], _levels(part)


def _levels(index: Tensor) -> list[tuple[Tensor, Tensor]]:
    """For each number of leading coordinates but all: first node of each value, and the value."""
    out = []
    changed = torch.zeros(len(index), dtype=torch.bool)
    changed[0] = True
    for k in range(index.shape[1] - 1):
        changed = changed.clone()
        changed[1:] |= index[1:, k] != index[:-1, k]
        out.append((changed.nonzero()[:, 0], changed.cumsum(0) - 1))
    return out


class _Smoothed:
    """u -> ⟨f(u + width ξ)⟩ for every product of functions, from a uniform table."""

    def __init__(
        self,
        functions: Sequence[Function],
        plan: SubsetPlan,
        spread: float,
        width: float,
        step: float,
        reach: float,
        spacing: float,
    ) -> None:
        self.spacing = spacing
        self.counts = [(count, len(keys)) for count, keys in plan.keys[0].items()]
        half = math.ceil(spread / spacing) + POINTS
        self.low = -half * spacing
        grid = torch.arange(-half, half + 1, dtype=torch.float64) * spacing
        taps = min(_TAPS * width, 0.5 * step, _FINEST)
        stride = int(taps / spacing)
        if stride >= 1:
            taps = stride * spacing
            count = math.ceil(reach * width / taps)
            pad = count * stride
            wide = torch.arange(-half - pad, half + pad + 1, dtype=torch.float64) * spacing
            f = torch.cat(list(plan.products(functions, wide).values()), 1)
            w = _bell(count, taps / width)
            windows = f.unfold(0, 2 * pad + 1, 1)[:, :, ::stride]
            self.table = windows @ w
        else:
            count = math.ceil(reach / _TAPS)
            xi = torch.arange(-count, count + 1, dtype=torch.float64) * _TAPS
            z = (grid[:, None] + width * xi).flatten()
            f = torch.cat(list(plan.products(functions, z).values()), 1)
            self.table = torch.einsum(
                "gxk,x->gk", f.reshape(len(grid), len(xi), -1), _bell(count, _TAPS)
            )

    def __call__(self, u: Tensor) -> dict[int, Tensor]:
        position = (u - self.low) / self.spacing
        base = position.floor()
        weights, start = lagrange(position - base)
        index = base.long() - start
        total = torch.zeros(())
        for p, weight in enumerate(weights):
            total = total + weight[:, None] * self.table.index_select(0, index + p)
        parts = total.split([n for _, n in self.counts], 1)
        return {count: part for (count, _), part in zip(self.counts, parts, strict=True)}


def lagrange(t: Tensor) -> tuple[list[Tensor], int]:
    """Weights of the points around a position, ``t`` its fraction, and how many lie before it."""
    start = POINTS // 2 - 1
    offsets = [t + (start - p) for p in range(POINTS)]
    weights = []
    for p, front in enumerate(_LAGRANGE):
        weight = torch.full_like(t, front)
        for q, offset in enumerate(offsets):
            if q != p:
                weight = weight * offset
        weights.append(weight)
    return weights, start


def _bell(count: int, step: float) -> Tensor:
    xi = torch.arange(-count, count + 1, dtype=torch.float64) * step
    return torch.exp(-0.5 * xi**2) * (step / math.sqrt(2 * math.pi))


def _outer(factors: list[Tensor]) -> Tensor:
    total = factors[0]
    for f in factors[1:]:
        total = (total[:, :, None] * f[:, None, :]).flatten(1)
    return total
