"""Drawings of diagrams in the house style."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from kadanoff.diagrams.geometry import BLOB, DROP, LEG, shape
from kadanoff.diagrams.labels import listed, weight
from kadanoff.diagrams.recursions import Recursion
from kadanoff.diagrams.rules import Diagram

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw", "to_svg"]


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

    shown = listed(diagrams)
    columns = min(columns, len(shown))
    rows = math.ceil(len(shown) / columns)
    with house_style():
        fig, axes = figure(
            rows, columns, width=size * columns, height=1.25 * size * rows, squeeze=False
        )
        for ax in axes.flat:
            ax.set_axis_off()
        for ax, diagram in zip(axes.flat, shown):
            _draw_one(ax, diagram)
    return fig


def to_svg(diagrams: Diagram | Recursion | Sequence[Diagram], **options: Any) -> str:
    """The drawing as one ``<svg>`` element that follows the reader's theme; see :func:`draw`."""
    from kadanoff.style.figures import to_svg as element

    shown = listed(diagrams)
    first = shown[0]
    title = f"{len(shown)} diagrams of the connected {2 * first.k}-point correlator"
    words = "; ".join(
        f"weight {d.coefficient}, vertices with {list(d.legs)} legs and {list(d.lines)} lines, "
        f"{len(d.blobs)} blobs"
        for d in shown
    )
    return element(draw(shown, **options), title, words)


def _draw_one(ax: Any, diagram: Diagram) -> None:
    from matplotlib.patches import Circle, PathPatch
    from matplotlib.path import Path

    from kadanoff.style.figures import colour

    drawn = shape(diagram)
    ink, line = colour("ink"), colour("theory")
    for curve in drawn.lines:
        path = Path(curve, [Path.MOVETO, Path.CURVE3, Path.CURVE3])
        ax.add_patch(PathPatch(path, fill=False, edgecolor=line, linewidth=1.4))
    for (x, y), (end, top) in drawn.legs:
        ax.plot([x, end], [y, top], color=ink, linewidth=1.4, solid_capstyle="round")
        open_dot = {"color": ink, "markerfacecolor": colour("surface"), "zorder": 3}
        ax.plot([end], [top], "o", markersize=5, **open_dot)
    for x, y in drawn.vertices:
        ax.plot([x], [y], "o", markersize=6.5, color=colour("measured"), zorder=4)
    for (column, loops), (x, y) in zip(diagram.blobs, drawn.blobs, strict=True):
        ax.add_patch(
            Circle((x, y), BLOB, facecolor=colour("grid"), edgecolor=ink, linewidth=1.2, zorder=3)
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
    ax.set_title(weight(diagram), fontsize=9.5, loc="center", fontweight="normal")
    xs = [x for x, _ in (*drawn.vertices, *drawn.blobs)]
    middle, half = (min(xs) + max(xs)) / 2, max(1.35, (max(xs) - min(xs)) / 2 + 0.5)
    ax.set_xlim(middle - half, middle + half)
    ax.set_ylim(-0.75, DROP + LEG + 0.2)
    ax.set_aspect("equal")
