"""The diagrams of connected 2k-point correlators: their generation and symmetry factors.

A correlator of layer ℓ + 1 is a cumulant of the random metric Ĝ⁽ℓ⁺¹⁾, and a sum of connected
graphs. A *vertex* is one neuron of layer ℓ: m ≥ 1 upper legs (factors of the metric above) and
r ≥ 0 lines down. A *blob* is a connected correlator of layer ℓ that joins r lines. Each closed
loop costs a power of 1/n, and so does each loop inside a blob.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from itertools import permutations

from kadanoff.errors import UsageError

__all__ = ["Blob", "Diagram", "generate"]

# (lines to each vertex, loops inside)
Blob = tuple[tuple[int, ...], int]


@dataclass(frozen=True)
class Diagram:
    """One diagram, up to the labels of its upper legs.

    Attributes
    ----------
    legs : tuple of int
        Upper legs of each vertex, each at least 1.
    blobs : tuple of (tuple of int, int)
        For each blob: its lines to each vertex, and the loops inside it. A blob with one line is
        the shift of the mean metric, which begins at one loop.
    """

    legs: tuple[int, ...]
    blobs: tuple[Blob, ...] = ()

    @cached_property
    def k(self) -> int:
        """Number of upper legs: the diagram is one of a connected 2k-point correlator."""
        return sum(self.legs)

    @cached_property
    def lines(self) -> tuple[int, ...]:
        """Lines that enter each vertex from below."""
        return tuple(sum(blob[0][v] for blob in self.blobs) for v in range(len(self.legs)))

    @property
    def loops(self) -> int:
        """Closed loops, those inside blobs included: lines − vertices − blobs + 1 + Σ inside."""
        inside = sum(loops for _, loops in self.blobs)
        return sum(self.lines) - len(self.legs) - len(self.blobs) + 1 + inside

    @property
    def order(self) -> int:
        """Power of 1/n: (k − 1) + loops."""
        return self.k - 1 + self.loops

    @cached_property
    def symmetry(self) -> int:
        """Symmetry factor at distinguishable upper legs: what the diagram is divided by.

        Every vertex carries a labelled leg, so only equal lines and equal blobs can be exchanged.
        """
        lines = math.prod(math.factorial(a) for column, _ in self.blobs for a in column)
        return lines * math.prod(math.factorial(c) for c in Counter(self.blobs).values())

    @cached_property
    def labellings(self) -> int:
        """Ways to hang k labelled legs on the diagram that are truly different."""
        same = sum(1 for p in _relabellings(self.legs) if _permuted(self.blobs, p) == self.blobs)
        ways = math.factorial(self.k) // math.prod(math.factorial(m) for m in self.legs)
        return ways // same

    @cached_property
    def coefficient(self) -> Fraction:
        """Weight of the diagram when all legs see the same input: labellings / symmetry."""
        return Fraction(self.labellings, self.symmetry)


def generate(k: int, loops: int = 0) -> tuple[Diagram, ...]:
    """All diagrams of the connected 2k-point correlator at ``loops`` loops: order k − 1 + loops.

    Parameters
    ----------
    k : int
        1 for the mean metric (the two-point function), 2 for the four-point function, ….
    loops : int
        0 for trees, the leading order in 1/n.

    Returns
    -------
    tuple of Diagram
        Each once; sorted by number of vertices. The one without blobs, the vertex that all legs
        share, is among the trees.

    Raises
    ------
    UsageError
        k < 1, loops < 0, or so many that the list would not end (k + loops > 7).

    Notes
    -----
    In content these are the rules of Banta, Cai, Craig & Zhang (2023): W(τ) of the layer above is
    ln E_Δ exp[n w(τ/n, K + Δ)] with w(τ, K) = ln ⟨exp(τ s)⟩_K, s = C_W σ². Drawn differently:
    ghosts and closed loops of the layer above have been cancelled against each other.

    Examples
    --------
    >>> [str(d.coefficient) for d in generate(3)]
    ['1', '3', '3', '1']
    """
    for name, value, least in (("k", k, 1), ("loops", loops, 0)):
        if isinstance(value, bool) or int(value) != value or value < least:
            raise UsageError(f"{name} must be a whole number >= {least}, got {value!r}.")
    if k + loops > 7:
        raise UsageError(
            f"k + loops = {k + loops} gives too many diagrams; up to 7 are generated.",
            "At one input, kadanoff.rgflow.single.moment_series goes to any order.",
        )
    return _generate(int(k), int(loops))


@lru_cache(maxsize=64)
def _generate(k: int, loops: int) -> tuple[Diagram, ...]:
    found: list[Diagram] = []
    for legs in _partitions(k):
        # Σ over blobs of (lines − 1 + loops inside): what connects the vertices, plus the loops
        budget = len(legs) - 1 + loops
        kinds = sorted(_blobs(len(legs), budget), key=_cost)
        seen: set[tuple[Blob, ...]] = set()
        for blobs in _connected(kinds, budget, loops, tuple(range(len(legs)))):
            if tuple(sorted(blobs)) in seen:
                continue
            # few vertices: the smallest of all relabellings is the cheapest canonical form
            orbit = {_permuted(blobs, p) for p in _relabellings(legs)}
            seen |= orbit
            found.append(Diagram(legs, min(orbit)))
    return tuple(sorted(found, key=lambda d: (len(d.legs), d.legs, d.blobs)))


def _partitions(k: int, most: int | None = None) -> Iterator[tuple[int, ...]]:
    if k == 0:
        yield ()
        return
    for first in range(min(k, most or k), 0, -1):
        for rest in _partitions(k - first, first):
            yield (first, *rest)


def _cost(blob: Blob) -> int:
    return sum(blob[0]) - 1 + blob[1]


def _blobs(vertices: int, budget: int) -> Iterator[Blob]:
    """Blobs of cost 1 … budget: at least two lines, or one line and a loop inside."""
    for cost in range(1, budget + 1):
        for inside in range(cost + 1):
            for column in _columns(vertices, cost + 1 - inside):
                yield column, inside


def _columns(vertices: int, lines: int) -> Iterator[tuple[int, ...]]:
    if vertices == 1:
        yield (lines,)
        return
    for first in range(lines + 1):
        for rest in _columns(vertices - 1, lines - first):
            yield (first, *rest)


def _connected(
    kinds: list[Blob], budget: int, loops: int, part: tuple[int, ...], start: int = 0
) -> Iterator[tuple[Blob, ...]]:
    """Multisets of blobs that spend the budget on one connected graph.

    ``part[v]`` is the connected part of vertex v so far; ``loops`` may still be closed.
    """
    if budget == 0:
        yield ()
        return
    for i in range(start, len(kinds)):
        column, inside = kinds[i]
        if _cost(kinds[i]) > budget:
            return
        touched = {part[v] for v, lines in enumerate(column) if lines}
        closed = sum(column) - len(touched) + inside
        if closed <= loops:
            joined = tuple(min(touched) if p in touched else p for p in part)
            rest_of = _connected(kinds, budget - _cost(kinds[i]), loops - closed, joined, i)
            for rest in rest_of:
                yield (kinds[i], *rest)


@lru_cache(maxsize=256)
def _relabellings(legs: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Permutations of the vertices that leave their numbers of legs in place."""
    every = permutations(range(len(legs)))
    return tuple(p for p in every if all(legs[i] == legs[j] for i, j in enumerate(p)))


def _permuted(blobs: tuple[Blob, ...], p: tuple[int, ...]) -> tuple[Blob, ...]:
    return tuple(sorted((tuple(column[i] for i in p), inside) for column, inside in blobs))
