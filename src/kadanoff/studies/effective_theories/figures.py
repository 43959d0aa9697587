"""The figures of the page, each from what was computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kadanoff.studies.effective_theories.decisions import RATIOS
from kadanoff.style.figures import SERIES, colour, figure, house_style, points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["critical", "diagrams", "ensemble", "orders", "ratios"]


def diagrams(what: Any) -> Figure:
    """Diagrams of a recursion, or a list of them, with their weights."""
    from kadanoff import diagrams as rules

    with house_style():
        return rules.draw(what, columns=5, size=1.5)


def orders(gaps: Mapping[str, Sequence[float]]) -> Figure:
    """Distance to the exact value against the highest order summed."""
    with house_style():
        fig, ax = figure(width=5, height=3.2)
        for k in (1, 2, 3, 4):
            ax.plot(
                range(max(k - 1, 1), 6),
                gaps[str(k)],
                "o-",
                color=SERIES[k - 1],
                label=rf"$\kappa_{k}$",
            )
        ax.set(
            yscale="log",
            xticks=range(1, 6),
            xlabel="highest order in 1/n summed",
            ylabel="relative distance to the exact value",
        )
        ax.legend()
    return fig


def ensemble(found: Mapping[str, Any]) -> Figure:
    """Measured correlators by layer, with leading order and order 1/n⁵."""
    with house_style():
        fig, axes = figure(1, 4, width=11, height=3)
        layers = range(1, len(found["value"]["1"]) + 1)
        for k, ax in zip((1, 2, 3, 4), axes):
            sums = found["theory"][str(k)]
            for j, line in enumerate((sums[0], sums[-1])):
                ax.plot(
                    layers,
                    line,
                    color=SERIES[1 + j],
                    linestyle=("--", "-")[j],
                    label=("leading", "order 1/n⁵")[j],
                )
            points(ax, layers, found["value"][str(k)], found["error"][str(k)])
            ax.set(title=rf"$\kappa_{k}$: {2 * k}-point", xlabel="layer")
        axes[0].legend()
    return fig


def critical(runs: Mapping[float, Mapping[str, Any]]) -> Figure:
    """κ_k/K^k of tanh by layer, below, at and above criticality."""
    with house_style():
        fig, axes = figure(1, 3, width=10.5, height=3.3)
        for ax, (C_W, run) in zip(axes, runs.items()):
            l, K = np.array(run["layers"]), np.array(run["values"]["1,0"])
            for k in (2, 3, 4):
                v = np.abs(run["values"][f"{k},0"]) / K**k
                ax.plot(l, v, color=SERIES[k - 2], label=rf"$\kappa_{k}/K^{k}$")
            ax.set(xscale="log", yscale="log", xlabel="layer", title=rf"tanh, $C_W = {C_W}$")
        axes[0].legend()
        axes[0].set_ylabel(r"coefficient of $n^{1-k}$")
    return fig


def ratios(curves: Mapping[str, Mapping[str, Any]], exact: Mapping[str, Any]) -> Figure:
    """Universal ratios by layer; ``curves[activation]`` has the layers and one list a claim."""
    with house_style():
        fig, axes = figure(1, 4, width=11, height=3)
        for ax, (claim, (k, a)) in zip(axes, RATIOS.items()):
            for j, (name, curve) in enumerate(curves.items()):
                ax.plot(curve["layers"], curve[claim], color=SERIES[j], label=name)
                if j == 0:
                    level = float(exact[claim])
                    ax.axhline(level, color=colour("muted"), lw=0.8, linestyle=(0, (1, 2)))
            title = f"{2 * k}-point: {exact[claim]}" if a == 0 else f"mean: {exact[claim]}"
            ax.set(xscale="log", xlabel="layer", title=title)
        axes[0].legend()
    return fig
