"""Where the parts of a drawn diagram lie: one geometry for plots and for TeX."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from kadanoff.diagrams.rules import Diagram

__all__ = ["BLOB", "DROP", "LEG", "Point", "Shape", "shape"]

Point = tuple[float, float]

# length of a leg, height of a vertex above the blobs, radius of a blob, least gap between blobs
LEG, DROP, BLOB, _GAP = 0.55, 1.1, 0.27, 0.5
# how far apart the ends of two legs of a vertex are; how far equal lines bend
_FAN, _BEND = 0.34, 0.55


@dataclass(frozen=True)
class Shape:
    """The parts of a drawn diagram, in units of the plane.

    Attributes
    ----------
    vertices, blobs : list of points
        In the order of ``diagram.legs`` and ``diagram.blobs``.
    lines : list of (start, control, end)
        Quadratic curves from a vertex to a blob.
    legs : list of (start, end)
        From a vertex upwards.
    """

    vertices: list[Point]
    blobs: list[Point]
    lines: list[tuple[Point, Point, Point]]
    legs: list[tuple[Point, Point]]


def shape(diagram: Diagram) -> Shape:
    """Vertices above, blobs below, lines bent apart, legs fanned out."""
    vertices, blobs = _places(diagram)
    lines = [
        _curve(vertices[v], blob, i - (count - 1) / 2)
        for (column, _), blob in zip(diagram.blobs, blobs, strict=True)
        for v, count in enumerate(column)
        for i in range(count)
    ]
    legs: list[tuple[Point, Point]] = []
    for m, (x, y) in zip(diagram.legs, vertices, strict=True):
        ends = [x + _FAN * (i - (m - 1) / 2) for i in range(m)]
        legs += [((x, y), (end, y + LEG)) for end in ends]
    return Shape(vertices, blobs, lines, legs)


def _curve(start: Point, end: Point, which: float) -> tuple[Point, Point, Point]:
    """A line; ``which`` counts equal lines from their middle."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    length = math.hypot(dx, dy)
    bend = _BEND * which
    # bends stand at right angles to the line, so that equal lines open like a lens
    x = (start[0] + end[0]) / 2 - bend * dy / length
    y = (start[1] + end[1]) / 2 + bend * dx / length
    return start, (x, y), end


def _places(diagram: Diagram) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Where vertices and blobs go: the order of vertices with the shortest, least tangled lines."""
    count = len(diagram.legs)
    best: tuple[float, list[float], list[float]] | None = None
    for order in itertools.permutations(range(count)):
        x = [float(order[v]) for v in range(count)]
        wanted = []
        for column, _ in diagram.blobs:
            ends = [x[v] for v, lines in enumerate(column) if lines]
            wanted.append(sum(ends) / len(ends))
        placed = _spread(wanted)
        length = sum(
            (lines > 0) * (x[v] - at) ** 2
            for (column, _), at in zip(diagram.blobs, placed)
            for v, lines in enumerate(column)
        )
        if best is None or length < best[0] - 1e-9:
            best = length, x, placed
    assert best is not None
    _, x, placed = best
    return [(v, DROP) for v in x], [(b, 0.0) for b in placed]


def _spread(wanted: list[float]) -> list[float]:
    """Move points on a line apart until no two are nearer than a blob is wide."""
    placed = list(wanted)
    least = 2 * BLOB + 0.5 * _GAP
    for _ in range(60):
        order = sorted(range(len(placed)), key=lambda i: (placed[i], i))
        for left, right in itertools.pairwise(order):
            short = least - (placed[right] - placed[left])
            if short > 0:
                placed[left] -= short / 2
                placed[right] += short / 2
    return placed
