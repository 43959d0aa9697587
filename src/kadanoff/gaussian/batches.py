r"""Averages of smooth functions over up to four of many samples, hundreds of subsets at a time.

The rule is that of :mod:`kadanoff.gaussian.lattices`: a body-centred lattice over all but the last
Cholesky coordinate, the last one averaged beforehand into a function of one number. There are
:math:`\binom N4` subsets, 10,626 for 24 inputs, so what counts is that no step is taken for one
subset alone: a batch shares its lattice, and the function of the last sample,

.. math:: F(u) = \langle f(u + w\,\xi)\rangle,

comes for all its subsets from one table of f, by a product with a matrix of weights that depend on
w alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kadanoff.gaussian import lattices as rule
from kadanoff.gaussian.cholesky import batch_factors
from kadanoff.gaussian.subsets import Function, Pattern, Shape, SubsetPlan, insert, make_plan, norms

__all__ = ["Solved", "batched", "over_subsets"]

_MOST_ELEMENTS = 2**20
# the table of the last sample: spacing in z or, where these are smaller, in standard deviations;
# halved if the tolerance makes the reach this long
_SPACING, _FAR = 0.04, 7.0
# a Gaussian narrower than so many spacings is not resolved by taps: Gauss-Hermite instead
_NARROW = 3
_HERMITE = 7


@dataclass(frozen=True)
class Solved:
    """Averages over some subsets of one size by two steps of the lattice, the finer one first."""

    plan: SubsetPlan
    at: Tensor
    levels: tuple[dict[Shape, Tensor], dict[Shape, Tensor]]

    def insert(self, found: dict[Pattern, Tensor], patterns: Sequence[Pattern], level: int) -> None:
        """Scatter them to every pattern and order of samples.

        Parameters
        ----------
        found : dict of pattern to Tensor, shape (N,) times the factors
            Filled in place.
        patterns : sequence of tuples of int
            Which function stands at each factor.
        level : int
            Step of the lattice.
        """
        insert(found, patterns, self.plan, self.at, self.levels[level])


def batched(
    functions: Sequence[Function],
    K: Tensor,
    patterns: Sequence[Pattern],
    tolerance: float,
    even: bool = False,
    homes: Sequence[range] | None = None,
) -> list[dict[Pattern, Tensor]]:
    """Averages of all patterns over all index choices, from two steps of the lattice.

    Parameters and results are those of :func:`kadanoff.gaussian.lattices.nested`; ``homes[a]`` are
    the functions wanted of sample a. Entries with others are zero.

    Parameters
    ----------
    functions : sequence of callables
        Smooth, elementwise.
    K : Tensor, shape (N, N)
        Covariance of the samples.
    patterns : sequence of tuples of int
        Which function stands at each factor.
    tolerance : float
        Aim of the relative error.
    even : bool
        Whether the products are even, so that half of the nodes do.
    homes : sequence of range, optional
        Functions wanted of each sample.
    """
    N = K.shape[0]
    found = [{p: K.new_zeros((N,) * len(p)) for p in patterns} for _ in range(2)]
    for at in _subsets(N, homes):
        solved = over_subsets(functions, K, patterns, at, tolerance, even, homes)
        for level, target in enumerate(found):
            solved.insert(target, patterns, level)
    return found


def over_subsets(
    functions: Sequence[Function],
    K: Tensor,
    patterns: Sequence[Pattern],
    at: Tensor,
    tolerance: float,
    even: bool = False,
    homes: Sequence[range] | None = None,
) -> Solved:
    """Averages over given subsets of samples.

    Parameters
    ----------
    at : Tensor, shape (subsets, size)
        Distinct samples each; with ``homes`` all subsets of the same ones.
    """
    wanted = None if homes is None else [homes[a] for a in at[0].tolist()]
    plan = make_plan(patterns, at.shape[1], wanted)
    if not plan.shapes:
        return Solved(plan, at, ({}, {}))
    reach = rule.reach_of(tolerance)
    scale = plan.scale(norms(functions, K, patterns))
    subsets = _Subsets(K, at)
    left = torch.arange(len(at))
    step = rule.FIRST_STEP
    coarse = _average(functions, plan, subsets, left, step, reach, even)
    fine = {shape: value.clone() for shape, value in coarse.items()}
    while len(left):
        step *= rule.SHRINK
        new = _average(functions, plan, subsets, left, step, reach, even)
        gap = torch.zeros(len(left), dtype=K.dtype)
        for shape, value in new.items():
            off = (value - fine[shape][left]).abs() / scale[shape]
            gap = torch.maximum(gap, off.flatten(1).amax(1))
            coarse[shape][left], fine[shape][left] = fine[shape][left], value
        left = left[gap > tolerance] if step > rule.LAST_STEP else left[:0]
    return Solved(plan, at, (fine, coarse))


def _subsets(N: int, homes: Sequence[range] | None) -> Iterator[Tensor]:
    """Subsets of one to four samples, (subsets, size), those of equal homes together."""
    for size in range(1, min(N, 4) + 1):
        groups: dict[tuple[range, ...], list[tuple[int, ...]]] = {}
        for subset in itertools.combinations(range(N), size):
            kind = () if homes is None else tuple(homes[a] for a in subset)
            groups.setdefault(kind, []).append(subset)
        yield from (torch.tensor(group) for group in groups.values())


class _Subsets:
    """Subsets ``at`` of samples, with Cholesky factors of their blocks of K."""

    def __init__(self, K: Tensor, at: Tensor) -> None:
        self.at, size = at, at.shape[1]
        self.L = batch_factors(K[self.at[:, :, None], self.at[:, None, :]])
        # the largest slope of any sample along each coordinate of the lattice
        self.slope = self.L.abs().amax(1)[:, : size - 1]


def _average(
    functions: Sequence[Function],
    plan: SubsetPlan,
    subsets: _Subsets,
    which: Tensor,
    step: float,
    reach: float,
    even: bool,
) -> dict[Shape, Tensor]:
    """For each shape the averages of all products of keys, (subsets, keys, ...)."""
    size = subsets.at.shape[1]
    if not len(which):
        return {}
    # neighbours share a lattice: those of like slopes
    place = torch.argsort(subsets.slope[which].prod(1))
    order = which[place]
    count = max(4, int(rule.lattice_size(size - 1, step, reach)))
    keys = max(len(k) for one in plan.keys for k in one.values())
    rows = max(1, _MOST_ELEMENTS // (count * keys * max(2, size)))
    pieces: dict[Shape, list[Tensor]] = {shape: [] for shape in plan.shapes}
    for part in order.split(rows):
        block = _block(functions, plan, subsets.L[part], subsets.slope[part], step, reach, even)
        for shape, value in block.items():
            pieces[shape].append(value)
    back = torch.argsort(place)
    return {shape: torch.cat(values)[back] for shape, values in pieces.items()}


def _block(
    functions: Sequence[Function],
    plan: SubsetPlan,
    L: Tensor,
    slope: Tensor,
    step: float,
    reach: float,
    even: bool,
) -> dict[Shape, Tensor]:
    """The same for subsets with factors L (B, m, m), on one lattice as fine as any of them asks."""
    B, m = len(L), L.shape[1]
    last = _Last(functions, plan, L, step, reach)
    total: dict[Shape, Tensor] = {}
    for x, w, levels in rule.nodes(slope.amax(0), step, reach, even):
        stacks = []
        for s in range(m - 1):
            if s + 1 < x.shape[1]:
                first, index = levels[s]
                z = L[:, s, : s + 1] @ x[first][:, : s + 1].mT
                values = plan.products(functions, z.flatten(), s)
                stacks.append(
                    {c: v.view(B, len(first), -1).index_select(1, index) for c, v in values.items()}
                )
            else:
                z = L[:, s, : m - 1] @ x.mT
                values = plan.products(functions, z.flatten(), s)
                stacks.append({c: v.view(B, len(x), -1) for c, v in values.items()})
        stacks.append(last(L[:, m - 1, : m - 1] @ x.mT))
        half = max(1, m // 2)
        for shape in plan.shapes:
            factors = [stacks[s][shape[s]] for s in range(m)]
            front = _outer(factors[:half]) * w[:, None]
            block = front.sum(1) if m == 1 else front.mT @ _outer(factors[half:])
            block = block.view(B, *[f.shape[2] for f in factors])
            total[shape] = total[shape] + block if shape in total else block
    return total


def _outer(factors: list[Tensor]) -> Tensor:
    out = factors[0]
    for f in factors[1:]:
        out = (out[..., :, None] * f[..., None, :]).flatten(2)
    return out


class _Last:
    """u -> ⟨f(u + w ξ)⟩ for every subset of a batch and every product of functions."""

    def __init__(
        self, functions: Sequence[Function], plan: SubsetPlan, L: Tensor, step: float, reach: float
    ) -> None:
        m = L.shape[1]
        # who looks further wants more digits
        unit = min(1.0, max(float(L.norm(dim=2).max()), 1e-6))
        self.spacing = unit * (_SPACING if reach < _FAR else _SPACING / 2)
        self.counts = [(count, len(keys)) for count, keys in plan.keys[m - 1].items()]
        width = L[:, m - 1, m - 1]
        spread = float(L[:, m - 1, : m - 1].norm(dim=1).max()) * reach if m > 1 else 0.0
        half = math.ceil(spread / self.spacing) + rule.POINTS
        self.low = -half * self.spacing
        grid = torch.arange(-half, half + 1, dtype=L.dtype) * self.spacing

        def values(z: Tensor) -> Tensor:
            return torch.cat(list(plan.products(functions, z.flatten(), m - 1).values()), 1)

        wide = width > _NARROW * self.spacing
        keys = sum(k for _, k in self.counts)
        self.table = L.new_zeros(len(L), len(grid), keys)
        if wide.any():
            w = width[wide]
            pad = math.ceil(reach * float(w.max()) / self.spacing)
            taps = torch.arange(-pad, pad + 1, dtype=L.dtype) * self.spacing / w[:, None]
            bell = torch.exp(-0.5 * taps**2) * (
                self.spacing / (w[:, None] * math.sqrt(2 * math.pi))
            )
            far = torch.arange(-half - pad, half + pad + 1, dtype=L.dtype) * self.spacing
            windows = values(far).unfold(0, 2 * pad + 1, 1)  # grid, keys, taps
            self.table[wide] = (bell @ windows.flatten(0, 1).mT).view(-1, len(grid), keys)
        if not wide.all():
            x, weight = np.polynomial.hermite_e.hermegauss(_HERMITE)
            w = width[~wide]
            z = grid[:, None] + w[:, None, None] * torch.from_numpy(x)
            f = values(z).view(len(w), len(grid), len(x), keys)
            weight = torch.from_numpy(weight / weight.sum())
            self.table[~wide] = torch.einsum("bgxk,x->bgk", f, weight)

    def __call__(self, u: Tensor) -> dict[int, Tensor]:
        B, G, keys = self.table.shape
        position = (u - self.low) / self.spacing
        base = position.floor()
        weights, start = rule.lagrange(position - base)
        index = base.long() - start + torch.arange(B)[:, None] * G
        table = self.table.view(B * G, keys)
        total = torch.zeros((), dtype=u.dtype)
        for p, weight in enumerate(weights):
            taken = table.index_select(0, (index + p).flatten()).view(*u.shape, keys)
            total = total + weight[..., None] * taken
        parts = total.split([k for _, k in self.counts], -1)
        return {count: part for (count, _), part in zip(self.counts, parts, strict=True)}
