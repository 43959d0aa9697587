r"""Averages ⟨f(z_a) g(z_b) h(z_c) k(z_d)⟩ of one Gaussian vector, for all index choices at once.

At order 1/n terms of opposite sign cancel, so every average is taken by a rule that converges
geometrically, and is taken twice: the *replicas* of a rule share nothing but its step. Whatever
is computed from the averages can be carried through for each replica; the spread at the end is
its error, cancellation included.

Strategy
--------
* Repeated or parallel samples lower the rank of K, and the rank is the dimension integrated.
* Smooth functions, up to 32 samples: every subset of up to four samples is an integral of its own,
  by :mod:`kadanoff.gaussian.nested` or, beyond four samples, hundreds at a time by
  :mod:`kadanoff.gaussian.batched`. Two steps of the lattice are the replicas; the value is the
  finer one, whose error is about their difference to the power 1.5.
* Smooth functions of more samples: entries with one or two distinct samples as before, the others
  by eight scrambles of a Sobol sequence; the error is their standard error.
* Functions with kinks, up to three samples: nested Gauss-Legendre panels cut at the kinks and
  where the conditional mean of a later sample crosses one; two orders are the replicas.
* Kinks and four or more samples: eight scrambles of a Sobol sequence; the error is their
  standard error, about 1e-5 relative. Entries with at most three distinct samples are then
  overwritten by panels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from kadanoff.gaussian.batched import batched
from kadanoff.gaussian.nested import nested
from kadanoff.gaussian.one import legendre

__all__ = ["MOST_SAMPLES", "Lazily", "Replicas", "Spread", "many", "panels", "scrambled"]

_T = TypeVar("_T")
Function = Callable[[Tensor], Tensor]
Pattern = tuple[int, ...]
Nodes = Iterator[tuple[Tensor, Tensor]]

_REACH = 8.5  # a Gaussian weighs 3e-16 beyond, polynomial growth included
_FEW_SAMPLES, MOST_SAMPLES = 4, 32
_CHUNK, _MOST_ELEMENTS = 100_000, 2**24
_ORDERS = (18, 14)
_SCRAMBLES, _LOG_POINTS = 8, 16
# cuts around a smeared kink, in units of its width
_GUARD = (-8.0, -5.0, -2.5, 0.0, 2.5, 5.0, 8.0)
_WIDE_GUARD = (-6.0, -2.0, 2.0, 6.0)


@dataclass(frozen=True)
class Replicas:
    """Independent results of one kind of rule, and how to read a value and an error off them."""

    kind: str
    count: int
    shared: float = 2e-13

    def value(self, results: Sequence[Tensor]) -> Tensor:
        """The best value: the finer of two rules, or the mean of several."""
        if self.count == 2:
            return results[0]
        return torch.stack(list(results)).mean(0)

    def error(self, results: Sequence[Tensor]) -> Tensor:
        """The difference of two rules, or a standard error."""
        stacked = torch.stack(list(results))
        if self.count == 2:
            error = (stacked[0] - stacked[1]).abs()
        else:
            error = stacked.std(0) / math.sqrt(len(results))
        # what the rules share: rounding, the weight beyond the reach, the table of the lattice
        return error + self.shared * stacked[0].abs().max()


class Spread:
    """Values and errors of what is computed from replicas in turn; none of the results is kept.

    Parameters
    ----------
    rule : Replicas
    """

    def __init__(self, rule: Replicas) -> None:
        self.rule = rule
        self._count: dict[Any, int] = {}
        self._value: dict[Any, Tensor] = {}
        self._square: dict[Any, Tensor] = {}
        self._scale: dict[Any, Tensor] = {}

    def add(self, key: Any, result: Tensor) -> None:
        """The next replica's result of ``key``."""
        if key not in self._value:
            self._count[key], self._value[key] = 1, result.clone()
            self._square[key], self._scale[key] = torch.zeros_like(result), result.abs().max()
            return
        self._count[key] += 1
        gap = result - self._value[key]
        if self.rule.count > 2:
            self._value[key] += gap / self._count[key]
        self._square[key] += gap * (result - self._value[key])

    def has(self, key: Any) -> bool:
        """Whether anything came for ``key``."""
        return key in self._value

    def value(self, keys: Sequence[Any]) -> Tensor:
        """The finer of two rules, or the mean of several, stacked; what was kept is released."""
        return torch.stack([self._value.pop(key) for key in keys])

    def error(self, keys: Sequence[Any]) -> Tensor:
        """The difference of two rules, or a standard error, and what the rules share; stacked."""
        shared = self.rule.shared * max(float(self._scale[key]) for key in keys)
        found = []
        for key in keys:
            count, square = self._count[key], self._square.pop(key)
            found.append(square.sqrt_() if count == 2 else square.div_(count * (count - 1)).sqrt_())
        return torch.stack(found).add_(shared)


class Lazily(Sequence[_T]):
    """A sequence whose entries are made when they are asked for, and not kept."""

    def __init__(self, count: int, make: Callable[[int], _T]) -> None:
        self.length, self.make = count, make

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, at: Any) -> Any:
        if not 0 <= at < self.length:
            raise IndexError(at)
        return self.make(at)


def many(
    functions: Sequence[Function],
    K: Tensor,
    patterns: Sequence[Pattern],
    kinks: Sequence[float] = (),
    *,
    tolerance: float = 1e-10,
    odd: bool = False,
    homes: Sequence[range] | None = None,
) -> tuple[Replicas, Sequence[dict[Pattern, Tensor]]]:
    """Averages of products of 2 or 4 functions over all choices of samples.

    Parameters
    ----------
    functions : sequence of callables
        A pattern (i, j, k, l) means ⟨f_i(z_a) f_j(z_b) f_k(z_c) f_l(z_d)⟩.
    K : Tensor, shape (N, N)
        Covariance, of any rank.
    patterns : sequence of tuples of length 2 or 4
    kinks : sequence of float
        Where a function or one of its derivatives jumps; the same for all functions.
    tolerance : float
        Aim of the error, relative to the norms of the factors.
    odd : bool
        The functions are the derivatives of an odd one, in turn.
    homes : sequence of N ranges, optional
        The functions wanted of each sample; entries with others
        may be left zero, which saves time.

    Returns
    -------
    replicas : Replicas
    averages : sequence of dict
        For each replica, pattern -> Tensor of shape (N, N) or (N, N, N, N); with many samples
        each is computed when it is asked for.
    """
    N = K.shape[0]
    if not kinks:
        even = odd and all(sum(p) % 2 == 0 for p in patterns)
        if N <= MOST_SAMPLES:
            if N <= _FEW_SAMPLES:
                rule = Replicas("lattice", 2, 1e-12 + 1e-2 * tolerance)
                return rule, nested(functions, K, patterns, tolerance, even)
            # of thousands of subsets a few agree by accident before they have converged
            rule = Replicas("lattice", 2, 0.3 * tolerance)
            return rule, batched(functions, K, patterns, 0.3 * tolerance, even, homes)
        exact = nested(functions, K, patterns, tolerance, even, largest=2)[0]
        four = [p for p in patterns if len(p) == 4]
        few = _few_samples(N)

        def sampled(seed: int) -> dict[Pattern, Tensor]:
            drawn = _collect(functions, scrambled(K, seed, points=_points(N)), four, N)
            return {
                p: torch.where(few, exact[p], drawn[p]) if p in drawn else exact[p]
                for p in patterns
            }

        return Replicas("sobol", _SCRAMBLES), Lazily(_SCRAMBLES, sampled)
    if N <= 3:
        return Replicas("panels", 2), [
            _collect(functions, panels(K, kinks, order), patterns, N) for order in _ORDERS
        ]
    found = [_collect(functions, scrambled(K, seed), patterns, N) for seed in range(_SCRAMBLES)]
    for subset in itertools.combinations(range(N), 3):
        block = K[list(subset)][:, list(subset)]
        exact = _collect(functions, panels(block, kinks, _ORDERS[0]), patterns, 3)
        _insert(found, [exact] * _SCRAMBLES, subset)
    return Replicas("sobol", _SCRAMBLES), found


def _insert(found, blocks, subset: Sequence[int]) -> None:
    at = torch.tensor(subset)
    for target, block in zip(found, blocks, strict=True):
        for pattern, value in block.items():
            index = torch.meshgrid(*[at] * len(pattern), indexing="ij")
            target[pattern][index] = value


def _few_samples(N: int) -> Tensor:
    """Where at most two of four indices differ, (N, N, N, N)."""
    one = torch.arange(N)
    a, b, c, d = (
        one.reshape([-1 if axis == slot else 1 for axis in range(4)]) for slot in range(4)
    )
    other = torch.where(b != a, b, torch.where(c != a, c, d))
    return ((c == a) | (c == other)) & ((d == a) | (d == other))


def _points(N: int) -> int:
    """So many points that a table of all quadruples costs no more than with 20 samples."""
    return 2 ** int(math.log2(max(2**11, 2**_LOG_POINTS * (20 / max(N, 20)) ** 4)))


def _collect(functions, nodes: Nodes, patterns: Sequence[Pattern], N: int) -> dict:
    """Sum over nodes; a product of four is a matrix product of two tables of pairs.

    A pair of equal functions is symmetric: half of its table is enough, and the two pairs of a
    product are chosen to have as many of those as can be.
    """
    two = {p: torch.zeros(N, N, dtype=torch.float64) for p in patterns if len(p) == 2}
    four = [p for p in patterns if len(p) == 4]
    pairings = {p: _pairing(p) for p in four}
    halves = {(p[a], p[b]) for p in four for a, b in pairings[p]}
    upper = torch.triu_indices(N, N)
    total: dict[Pattern, Tensor | float] = dict.fromkeys(four, 0.0)
    needed = sorted({k for p in patterns for k in p})
    rows = max(1, _MOST_ELEMENTS // N**2)
    for z, w in _split(nodes, rows):
        f = {k: functions[k](z) for k in needed}
        tables = {
            (i, j): f[i][:, upper[0]] * f[j][:, upper[1]]
            if i == j
            else (f[i][:, :, None] * f[j][:, None, :]).flatten(1)
            for i, j in halves
        }
        for p in two:
            two[p] += (w[:, None] * f[p[0]]).T @ f[p[1]]
        for p in four:
            front, back = (tables[p[a], p[b]] for a, b in pairings[p])
            total[p] = total[p] + (w[:, None] * front).T @ back
    return two | {p: _unfolded(total[p], p, pairings[p], N) for p in four}


def _pairing(p: Pattern) -> tuple[tuple[int, int], tuple[int, int]]:
    """Two pairs of slots, of equal functions as far as possible."""
    choices = (((0, 1), (2, 3)), ((0, 2), (1, 3)), ((0, 3), (1, 2)))
    return max(choices, key=lambda c: sum(p[a] == p[b] for a, b in c))


def _unfolded(total: Any, p: Pattern, pairing, N: int) -> Tensor:
    """The (N, N, N, N) table of a pattern from the product of its two, perhaps halved, pairs."""
    upper = torch.triu_indices(N, N)
    where = torch.zeros(N, N, dtype=torch.long)
    where[upper[0], upper[1]] = where[upper[1], upper[0]] = torch.arange(upper.shape[1])
    for axis, (a, b) in enumerate(pairing):
        if p[a] == p[b]:
            total = total.index_select(axis, where.flatten())
    slots = [s for pair in pairing for s in pair]
    return total.reshape((N,) * 4).permute([slots.index(s) for s in range(4)])


def _split(nodes: Nodes, rows: int) -> Nodes:
    for z, w in nodes:
        yield from zip(z.split(rows), w.split(rows), strict=True)


# --- kinks: nested panels ---------------------------------------------------------------------


def panels(K: Tensor, kinks: Sequence[float], order: int, mean: Tensor | None = None) -> Nodes:
    """Nodes z (M, N) and weights (M,) of N(mean, K), for integrands with kinks.

    Coordinates are those of a pivoted Cholesky factor L: sample s depends on x_1 ... x_s. Given
    the earlier coordinates the kinks of sample s are points in x_s. Averaging over x_s leaves a
    turnover of width |L_s,later| in the earlier ones, which gets cuts of its own.
    """
    N = K.shape[0]
    mean = torch.zeros(N, dtype=torch.float64) if mean is None else mean
    L = _pivoted_cholesky(K)
    x = torch.zeros(1, 0, dtype=torch.float64)
    w = torch.ones(1, dtype=torch.float64)
    t, weight = legendre(order)
    for k in range(L.shape[1]):
        edges = _cuts(L, k, x, mean, kinks)
        width = edges.diff(dim=1)
        nodes = (edges[:, :-1, None] + width[..., None] * t).flatten(1)
        density = torch.exp(-0.5 * nodes**2) / math.sqrt(2 * math.pi)
        both = w[:, None] * (width[..., None] * weight).flatten(1) * density
        row, column = (both > 1e-18).nonzero(as_tuple=True)
        x = torch.cat([x[row], nodes[row, column][:, None]], 1)
        w = both[row, column]
    for start in range(0, len(x), _CHUNK):
        yield mean + x[start : start + _CHUNK] @ L.T, w[start : start + _CHUNK]


def _cuts(L: Tensor, k: int, x: Tensor, mean: Tensor, kinks: Sequence[float]) -> Tensor:
    cuts = [x.new_full((len(x), 1), edge) for edge in (-_REACH, -3.0, 3.0, _REACH)]
    for s in range(L.shape[0]):
        slope = float(L[s, k])
        if abs(slope) < 1e-12:
            continue
        # how wide the later coordinates smear the kink, in units of x_k
        smear = float(L[s, k + 1 :].norm()) / abs(slope)
        if smear > 2.0:
            continue
        offsets = [smear * g for g in (_GUARD if smear < 0.2 else _WIDE_GUARD)]
        if smear < 1e-9:
            offsets = [0.0]
        for kink in kinks:
            at = (kink - mean[s] - x @ L[s, :k]) / slope
            cuts += [(at + offset)[:, None] for offset in offsets]
    return torch.cat(cuts, 1).clamp(-_REACH, _REACH).sort(1).values


def _pivoted_cholesky(K: Tensor) -> Tensor:
    """L (N, r) with L Lᵀ = K, largest remaining variance first, stopping at rounding."""
    rest, columns = K.clone(), []
    scale = float(K.diagonal().max())
    for _ in range(K.shape[0]):
        at = int(rest.diagonal().argmax())
        pivot = float(rest[at, at])
        if pivot <= 1e-14 * scale or pivot <= 0:
            break
        column = rest[:, at] / math.sqrt(pivot)
        columns.append(column)
        rest = rest - column[:, None] * column[None, :]
    if not columns:
        return K.new_zeros(K.shape[0], 0)
    L = torch.stack(columns, 1)
    return torch.where(L.abs() < 1e-15 * math.sqrt(scale), torch.zeros_like(L), L)


# --- many samples: scrambled Sobol points -------------------------------------------


def scrambled(
    K: Tensor, seed: int, mean: Tensor | None = None, points: int = 2**_LOG_POINTS
) -> Nodes:
    """Points of N(mean, K) from one scramble of a Sobol sequence, with equal weights."""
    L = _pivoted_cholesky(K)
    engine = torch.quasirandom.SobolEngine(max(L.shape[1], 1), scramble=True, seed=1000 + seed)
    u = engine.draw(points, dtype=torch.float64).clamp(1e-15, 1 - 1e-15)
    x = torch.special.ndtri(u)[:, : L.shape[1]]
    for start in range(0, len(x), _CHUNK):
        z = x[start : start + _CHUNK] @ L.T
        yield (z if mean is None else mean + z), z.new_full((len(z),), 1 / len(x))
