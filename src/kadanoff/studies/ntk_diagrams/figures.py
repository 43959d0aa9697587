"""The figures of the page: the diagrams, and what networks say."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kadanoff.studies.ntk_diagrams.rules import Diagram
from kadanoff.style.figures import SERIES, colour, figure, house_style, points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["drawn", "widths"]


def drawn(diagrams: Sequence[Diagram], values: Sequence[float]) -> Figure:
    """Each diagram: vertices above, the blob below; solid metric lines, dashed NTK lines."""
    columns = 4
    rows = -(-len(diagrams) // columns)
    with house_style():
        fig, axes = figure(rows, columns, width=9.0, height=2.3 * rows)
        flat = np.ravel(axes)
        for ax in flat:
            ax.axis("off")
            ax.set(xlim=(-1, 1), ylim=(-1.15, 1.1))
        for ax, diagram, value in zip(flat, diagrams, values):
            _draw(ax, diagram)
            factor = "" if diagram.factor == 1 else f"  (factor {diagram.factor:g})"
            ax.text(0, 1.0, f"{value:+.4f}{factor}", ha="center", fontsize=9)
    return fig


def _draw(ax: Any, diagram: Diagram) -> None:
    from kadanoff.studies.ntk_diagrams.rules import BLOBS

    ink, blob_at = colour("ink"), (0.0, -0.75)
    kind, _ = diagram.vertices[0]
    # the two ends of the observable above its vertex
    for x in (-0.35, 0.35):
        ax.plot([x, 0], [0.85, 0.2], color=ink, lw=1.4, ls="-" if kind == "σσ" else (0, (4, 2)))
    ax.plot([0], [0.2], "o", color=ink, ms=7)
    ax.text(0.16, 0.22, kind, fontsize=9, va="center")
    metric, ntk, _ = BLOBS[diagram.blob]
    bends = np.linspace(-0.35, 0.35, metric + ntk) if metric + ntk > 1 else [0.0]
    for k, bend in enumerate(bends):
        y = np.linspace(0.2, blob_at[1], 30)
        x = bend * np.sin(np.pi * (y - 0.2) / (blob_at[1] - 0.2))
        style = "-" if k < metric else (0, (4, 2))
        ax.plot(x, y, color=SERIES[0] if k < metric else SERIES[1], lw=1.6, ls=style)
    ax.plot(*blob_at, "o", ms=24, mfc=colour("surface"), mec=ink)
    ax.text(*blob_at, diagram.blob, ha="center", va="center", fontsize=9)


def widths(rows: Sequence[Sequence[float]]) -> Figure:
    """Errors of the mean NTK at order 0 and 1/n against width."""
    table = np.array(rows)
    n, size = table[:, 0], table[:, 4]
    with house_style():
        fig, ax = figure(width=5.6, height=3.6)
        for k, label in enumerate(("infinite width", "order 1/n")):
            points(ax, n, table[:, 1 + k] / size, table[:, 3] / size, label=label, index=k)
        ax.plot(n, table[0, 1] / size[0] * n[0] / n, color=SERIES[0], lw=0.8)
        ax.plot(n, table[0, 2] / size[0] * (n[0] / n) ** 2, color=SERIES[1], lw=0.8)
        ax.set(xscale="log", yscale="log", xlabel="width n", ylabel="error of the mean NTK / NTK")
        ax.set_xticks(n, [f"{v:.0f}" for v in n])
        ax.minorticks_off()
        ax.legend()
    return fig
