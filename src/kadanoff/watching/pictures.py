"""Pictures of a film: a signal by step and depth, and courses of single numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from kadanoff.style.figures import DASHES, SERIES, colour, figure, house_style, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from kadanoff.watching.film import Film, Series

__all__ = ["SIGNALS", "courses", "heat"]

# signal -> (title, what it says, whether it is drawn by its logarithm)
SIGNALS: dict[str, tuple[str, str, bool]] = {
    "second_moment": ("Signal K", "mean square of each layer's output", True),
    "chi": ("χ from layer to layer", "squared partial Jacobian from the layer before", True),
    "gradient": ("Gradient", "root mean square per weight, on the watched batch", True),
    "update_ratio": ("Update over weight", "|Δw|/|w| of one step", True),
    "peak": ("Peak", "largest magnitude in each layer's output", True),
    "zeros": ("Sparsity", "share of activations that are exactly zero", False),
    "dead": ("Never firing", "share of units that are silent on the whole batch", False),
    "saturated": ("Saturated", "share of values on a plateau", False),
    "max_logit": ("Largest attention logit", "magnitude before the softmax", True),
    "entropy": (
        "Attention entropy",
        "over its maximum: 1 attends evenly, 0 to one position",
        False,
    ),
}
LABELS = 18  # names beside a picture: more would not be legible


def heat(film: Film, signal: str) -> str:
    """A signal by step (across) and depth (downwards), as SVG.

    Parameters
    ----------
    film : Film
    signal : str
        A key of :data:`SIGNALS`.
    """
    import numpy as np
    from matplotlib.colors import LogNorm, Normalize

    title, said, by_logarithm = SIGNALS[signal]
    names = film.names(signal)
    frames = [frame for frame in film.frames if frame.layers.get(signal)]
    values = np.array(
        [[frame.layers[signal].get(name, math.nan) for frame in frames] for name in names],
        dtype=float,
    )
    values[~np.isfinite(values)] = math.nan
    norm: Any = Normalize(0, 1)
    if by_logarithm:
        values[values <= 0] = math.nan
        low, high = (np.nanmin(values), np.nanmax(values)) if np.isfinite(values).any() else (1, 10)
        norm = LogNorm(low, high if high > 1.001 * low else 1.001 * low)
    with house_style():
        fig, ax = figure(width=6.4, height=1.5 + 0.19 * min(max(len(names), 3), 28))
        edges = _edges([frame.step for frame in frames])
        drawn = ax.pcolormesh(
            edges, range(len(names) + 1), values, norm=norm, cmap="viridis", rasterized=True
        )
        ax.invert_yaxis()
        ax.grid(False)
        every = max(1, math.ceil(len(names) / LABELS))
        ax.set_yticks([i + 0.5 for i in range(0, len(names), every)], names[::every])
        ax.set_xlabel("step")
        fig.colorbar(drawn, ax=ax, pad=0.01, aspect=30)
        _mark(ax, film, {signal})
        ax.set_xlim(edges[0], edges[-1])
        return to_svg(fig, title, f"{title} by step and layer: {said}.")


def courses(
    film: Film,
    series: Mapping[str, Series],
    title: str,
    said: str,
    *,
    logarithm: bool = False,
    level: float | None = None,
    unit: str = "",
) -> str:
    """Courses of numbers against the step, as SVG; findings are marked.

    Parameters
    ----------
    film : Film
    series : mapping of str to (steps, values)
        By the name in the legend.
    title, said : str
        What a screen reader says.
    logarithm : bool
        Of the vertical axis, where all values are positive.
    level : float, optional
        A line to hold the course against.
    unit : str
        Of the vertical axis.
    """
    with house_style():
        fig, ax = figure(width=6.4, height=2.9)
        for index, (name, (steps, values)) in enumerate(series.items()):
            style = {"color": SERIES[index % len(SERIES)], "linestyle": DASHES[index % len(DASHES)]}
            few = "o" if len(steps) < 25 else ""
            ax.plot(steps, [_drawable(v) for v in values], label=name, marker=few, **style)
        if level is not None:
            ax.axhline(level, color=colour("muted"), linewidth=1, linestyle=(0, (2, 2)))
        every = [v for _, values in series.values() for v in values if math.isfinite(v)]
        if logarithm and every and min(every) > 0:
            ax.set_yscale("log")
        ax.set_xlabel("step")
        ax.set_ylabel(unit)
        _mark(ax, film)
        if len(series) > 1:
            ax.legend(ncols=2)
        return to_svg(fig, title, said)


def _drawable(value: float) -> float:
    return value if math.isfinite(value) else math.nan


def _edges(steps: Sequence[int]) -> list[float]:
    """Borders between looks, half way."""
    if len(steps) == 1:
        return [steps[0] - 0.5, steps[0] + 0.5]
    middles = [(a + b) / 2 for a, b in pairwise(steps)]
    return [2 * steps[0] - middles[0], *middles, 2 * steps[-1] - middles[-1]]


def _mark(ax: Axes, film: Film, about: set[str] | None = None) -> None:
    """A line at each finding beyond notes."""
    for step in sorted({e.step for e in film.events if e.finding.severity != "note"}):
        line = colour("bad") if about is None else colour("surface")
        ax.axvline(step, color=line, linewidth=1.2, linestyle=(0, (4, 2)))
