"""The figures of the page, each from what was computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kadanoff.studies.exact_priors.parts import BINS
from kadanoff.style.figures import SERIES, colour, figure, house_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Curve", "bottleneck", "densities", "edgeworth", "outputs", "tails"]

Curve = tuple[str, np.ndarray, Sequence[float]]
"""Label, the exact density on the grid, and the histogram of samples."""


def _curves(ax: Any, h: np.ndarray, curves: Sequence[Curve], samples: int) -> None:
    """Exact densities as lines, sampled ones as dots, and the normal density."""
    centres = (np.arange(BINS) + 0.5) * 5 / BINS
    for i, (label, density, seen) in enumerate(curves):
        ax.plot(h, density, color=SERIES[i], label=label)
        dots = np.array(seen)
        dots[dots * samples * 0.1 < 10] = np.nan  # fewer than ten counts say little
        ax.plot(centres[::3], dots[::3], ".", color=SERIES[i], markersize=3)
    normal = np.exp(-h * h / 2) / math.sqrt(2 * math.pi)
    ax.plot(h, normal, color=colour("ink"), lw=1.2, label="N(0, 1)")
    ax.set(yscale="log", ylim=(1e-5, 10), xlim=(0, 5), xlabel="output h")


def densities(
    h: np.ndarray, curves: Mapping[int, Sequence[Curve]], samples: int, label: str
) -> Figure:
    """A panel for each number of weight layers, a colour for each width."""
    with house_style():
        fig, axes = figure(1, len(curves), width=3.1 * len(curves), height=3.4, sharey=True)
        for ax, (d, lines) in zip(axes, curves.items()):
            _curves(ax, h, lines, samples)
            ax.set(title=f"d = {d}")
        axes[0].set_ylabel(label)
        axes[0].legend()
    return fig


def outputs(
    cases: Mapping[str, Sequence[tuple[int, np.ndarray, np.ndarray, Sequence[float]]]],
) -> Figure:
    """Radial densities of several outputs: (m, |h|, exact, drawn) in a panel an activation."""
    with house_style():
        fig, axes = figure(1, len(cases), width=4.2 * len(cases), height=3.3, sharey=True)
        for ax, (activation, curves) in zip(axes, cases.items()):
            for i, (m, r, law, seen) in enumerate(curves):
                ax.plot(r, law, color=SERIES[i], label=f"m = {m}")
                ax.plot(r[::3], 2 * np.array(seen)[::3], ".", color=SERIES[i], markersize=3)
            ax.set(title=activation, xlabel="norm of the output", yscale="log", ylim=(1e-4, 10))
        axes[0].set_ylabel("density of the norm")
        axes[0].legend()
    return fig


def bottleneck(h: np.ndarray, curves: Sequence[Curve], samples: int) -> Figure:
    """Priors of networks with one narrow layer."""
    with house_style():
        fig, ax = figure(width=5.2, height=3.6)
        _curves(ax, h, curves, samples)
        ax.set(ylabel="density")
        ax.legend(ncols=2)
    return fig


def edgeworth(
    h: np.ndarray,
    near: Mapping[int, Sequence[np.ndarray]],
    widths: Sequence[int],
    errors: Mapping[tuple[str, int], Sequence[float]],
) -> Figure:
    """The expansion beside the exact density (exact, order 1, order 2 by width), its errors."""
    with house_style():
        fig, axes = figure(1, 2, width=8.4, height=3.4)
        for i, (n, (exact, *orders)) in enumerate(near.items()):
            axes[0].plot(h, exact, color=SERIES[i], label=f"n = {n}")
            for values, dash in zip(orders, ((0, (5, 2)), (0, (1, 1.2)))):
                positive = np.where(values > 0, values, np.nan)
                axes[0].plot(h, positive, color=SERIES[i], linestyle=dash)
        axes[0].set(
            yscale="log",
            ylim=(1e-6, 1),
            xlabel="output h",
            ylabel="density",
            title="exact, order 1/n (dashed), 1/n² (dotted)",
        )
        axes[0].legend()
        for (activation, order), values in errors.items():
            mark = {"linear": "o-", "relu": "s-"}[activation]
            label = f"{activation}, order {order}"
            axes[1].plot(widths, values, mark, color=SERIES[order], label=label)
        axes[1].set(
            xscale="log",
            yscale="log",
            xlabel="width n",
            ylabel="largest error, h ≤ 5",
            title="one hidden layer; three for ReLU",
        )
        axes[1].set_xticks(widths, [str(n) for n in widths])
        axes[1].minorticks_off()
        axes[1].legend(fontsize=7.5)
    return fig


def tails(curves: Sequence[tuple[int, np.ndarray, np.ndarray]]) -> Figure:
    """Local power of the exponent against h/κ, for each number of weight layers."""
    with house_style():
        fig, ax = figure(width=5.2, height=3.3)
        for i, (d, reach, power) in enumerate(curves):
            ax.plot(reach[1:-1], power[1:-1], color=SERIES[i], label=f"d = {d}")
            ax.axhline(2 / d, color=SERIES[i], lw=0.8, linestyle=(0, (1, 2)))
        ax.set(xscale="log", xlabel="h/κ", ylabel="local power of the exponent", ylim=(0.3, 2.3))
        ax.legend()
    return fig
