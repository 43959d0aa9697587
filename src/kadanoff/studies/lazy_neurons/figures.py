"""The figures of the page, each from what was computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kadanoff.studies.lazy_neurons.decisions import Runs, at_step, mean_error
from kadanoff.studies.lazy_neurons.parts import NOISE
from kadanoff.style.figures import DASHES, MARKERS, SERIES, figure, house_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["emergence", "label_noise"]

Point = tuple[float, float]
"""Mean and standard error."""


def _curve(ax: Any, x: Sequence[float], curve: Sequence[Point], index: int, label: str) -> None:
    ax.errorbar(
        x,
        [mean for mean, _ in curve],
        [error for _, error in curve],
        marker=MARKERS[index],
        color=SERIES[index],
        linestyle=DASHES[index],
        label=label,
    )


def emergence(found: Runs) -> Figure:
    """Active fraction over training, block by block and for three kinds of data."""
    text = found["text"]
    with house_style():
        fig, (left, right) = figure(1, 2, width=8.4, sharey=True)
        steps = text[0]["steps"]
        for block in range(len(text[0]["active"][0])):
            curve = [
                mean_error([100 * r["active"][i][block] for r in text]) for i in range(len(steps))
            ]
            _curve(left, steps, curve, block, f"block {block + 1}")
        left.set_title("text, block by block")
        for index, name in enumerate(("text", "random symbols", "endless chain")):
            rows = found[name]
            steps = [s for s in rows[0]["steps"] if s <= found["narrow"][0]["steps"][-1]]
            curve = [mean_error([100 * v for v in at_step(rows, s)]) for s in steps]
            _curve(right, steps, curve, index, name)
        right.set_title("mean of the blocks, three kinds of data")
        for ax in (left, right):
            ax.axhline(50, color="0.6", linewidth=0.8)
            ax.set_xlabel("training step")
            ax.set_ylim(0, 60)
            ax.legend()
        left.set_ylabel("active neurons (%)")
    return fig


def label_noise(curves: Mapping[bool, Sequence[Point]]) -> Figure:
    """Accuracy against label noise, dense (False) and Top-k (True)."""
    with house_style():
        fig, ax = figure()
        for index, (top, rows) in enumerate(curves.items()):
            label = "Top-k" if top else "all neurons"
            _curve(ax, [100 * n for n in NOISE], rows, index, label)
        ax.set_xlabel("training labels replaced at random (%)")
        ax.set_ylabel("test accuracy (%)")
        ax.legend()
    return fig
