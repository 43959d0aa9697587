"""Drawings of diagrams in the house style."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kadanoff.diagrams.recursions import Recursion
from kadanoff.diagrams.rules import Diagram
from kadanoff.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw", "to_svg"]

_LEG, _DROP, _GAP = 0.55, 1.1, 0.5


def draw(
    diagrams: Diagram | Recursion | Sequence[Diagram], *, columns: int = 4, size: float = 1.55
) -> Figure:
    """Draw diagrams on a grid.

    Upper legs end in open dots, a full dot is one neuron of the layer below, a circle a connected
    correlator κ_r of that layer (with the number of loops inside, if any). Above each stands its
    weight when all legs see the same input.

    Parameters
    ----------
    diagrams : Diagram, Recursion or sequence of Diagram
    columns : int
        Drawings in a row, at most.
    size : float
        Inches a drawing.

    Returns
    -------
    matplotlib.figure.Figure
        Save it with :func:`kadanoff.style.figures.save`, or see :func:`to_svg`.
    """
    from kadanoff.style.figures import figure, house_style

    listed = _listed(diagrams)
    columns = min(columns, len(listed))
    rows = math.ceil(len(listed) / columns)
    with house_style():
        fig, axes = figure(
            rows, columns, width=size * columns, height=1.25 * size * rows, squeeze=False
        )
        for ax in axes.flat:
            ax.set_axis_off()
        for ax, diagram in zip(axes.flat, listed):
            _draw_one(ax, diagram)
    return fig


def to_svg(diagrams: Diagram | Recursion | Sequence[Diagram], **options: Any) -> str:
    """The drawing as one ``<svg>`` element that follows the reader's theme; see :func:`draw`."""
    from kadanoff.style.figures import to_svg as element

    listed = _listed(diagrams)
    first = listed[0]
    title = f"{len(listed)} diagrams of the connected {2 * first.k}-point correlator"
    words = "; ".join(
        f"weight {d.coefficient}, vertices with {list(d.legs)} legs and {list(d.lines)} lines, "
        f"{len(d.blobs)} blobs"
        for d in listed
    )
    return element(draw(listed, **options), title, words)


def _listed(diagrams: Diagram | Recursion | Sequence[Diagram]) -> list[Diagram]:
    if isinstance(diagrams, Diagram):
        return [diagrams]
    listed = list(diagrams.diagrams if isinstance(diagrams, Recursion) else diagrams)
    if not listed:
        raise UsageError("There is no diagram to draw.")
    return listed


def _draw_one(ax: Any, diagram: Diagram) -> None:
    from matplotlib.patches import Circle, PathPatch
    from matplotlib.path import Path

    from kadanoff.style.figures import colour

    vertices, blobs = _places(diagram)
    ink, line = colour("ink"), colour("theory")
    for (column, _), (bx, by) in zip(diagram.blobs, blobs):
        for v, count in enumerate(column):
            for i in range(count):
                (x, y), bend = vertices[v], 0.55 * (i - (count - 1) / 2)
                # bends stand at right angles to the line, so that equal lines open like a lens
                dx, dy = bx - x, by - y
                length = math.hypot(dx, dy)
                middle = ((x + bx) / 2 - bend * dy / length, (y + by) / 2 + bend * dx / length)
                path = Path([(x, y), middle, (bx, by)], [Path.MOVETO, Path.CURVE3, Path.CURVE3])
                ax.add_patch(PathPatch(path, fill=False, edgecolor=line, linewidth=1.4))
    for m, (x, y) in zip(diagram.legs, vertices):
        for i in range(m):
            end = x + 0.34 * (i - (m - 1) / 2)
            ax.plot([x, end], [y, y + _LEG], color=ink, linewidth=1.4, solid_capstyle="round")
            ax.plot(
                [end],
                [y + _LEG],
                "o",
                markersize=5,
                color=ink,
                markerfacecolor=colour("surface"),
                zorder=3,
            )
        ax.plot([x], [y], "o", markersize=6.5, color=colour("measured"), zorder=4)
    for (column, loops), (x, y) in zip(diagram.blobs, blobs):
        ax.add_patch(
            Circle((x, y), 0.27, facecolor=colour("grid"), edgecolor=ink, linewidth=1.2, zorder=3)
        )
        label = rf"$\kappa_{{{sum(column)}}}$"
        ax.text(x, y, label, ha="center", va="center", fontsize=8.5, color=ink, zorder=5)
        if loops:
            ax.text(
                x,
                y - 0.5,
                f"{loops} loop" + "s" * (loops > 1),
                ha="center",
                va="center",
                fontsize=7,
                color=colour("muted"),
            )
    ax.set_title(_weight(diagram), fontsize=9.5, loc="center", fontweight="normal")
    xs = [x for x, _ in (*vertices, *blobs)]
    middle, half = (min(xs) + max(xs)) / 2, max(1.35, (max(xs) - min(xs)) / 2 + 0.5)
    ax.set_xlim(middle - half, middle + half)
    ax.set_ylim(-0.75, _DROP + _LEG + 0.2)
    ax.set_aspect("equal")


def _weight(diagram: Diagram) -> str:
    number, power = diagram.coefficient, diagram.k - len(diagram.legs)
    width = "" if not power else ("n" if power == 1 else f"n^{{{power}}}")
    if not width and number.denominator == 1:
        return f"${number}$"
    below = (str(number.denominator) if number.denominator > 1 else "") + width
    below = f"({below})" if width and number.denominator > 1 else below
    return rf"${number.numerator}\,/\,{below}$"


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
    return [(v, _DROP) for v in x], [(b, 0.0) for b in placed]


def _spread(wanted: list[float]) -> list[float]:
    """Move points on a line apart until no two are nearer than a blob is wide."""
    placed = list(wanted)
    least = 2 * 0.27 + 0.5 * _GAP
    for _ in range(60):
        order = sorted(range(len(placed)), key=lambda i: (placed[i], i))
        for left, right in itertools.pairwise(order):
            short = least - (placed[right] - placed[left])
            if short > 0:
                placed[left] -= short / 2
                placed[right] += short / 2
    return placed
