"""The figures of the page, each from what was computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kadanoff.studies.diffusion_surrogates.decisions import NETWORKS
from kadanoff.style.figures import SERIES, colour, figure, house_style, points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["fields", "learning", "roll_back", "speed", "uptake"]

Runs = Mapping[tuple[str, str], Mapping[str, Any]]
"""Rows of training runs by network and start."""


def learning(runs: Runs) -> Figure:
    """Test error while training."""
    with house_style():
        fig, a = figure(width=6.4, height=3.6)
        kinds = list(dict.fromkeys(kind for kind, _ in runs))
        for (kind, start), r in runs.items():
            checks = np.asarray(r["checks"])
            k = kinds.index(kind)
            line = {"default": "--", "tune": "-"}.get(start, ":")
            a.plot(checks[:, 0], checks[:, 1], line, color=SERIES[k], label=f"{kind}, {start}")
        a.set(
            xlabel="training samples",
            ylabel="mean absolute error",
            yscale="log",
            title="Learning the field",
        )
        a.legend(fontsize=7.5, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def fields(picture: Mapping[str, Any], name: str) -> Figure:
    """One test pair: source, exact field, prediction, error."""
    with house_style():
        fig, axes = figure(1, 4, width=9.2, height=2.6)
        p = {key: np.asarray(value) for key, value in picture.items()}
        error = np.abs(p["guess"] - p["y"])
        panels = {"source": p["alpha"], "exact field": p["y"], name: p["guess"], "error": error}
        for ax, (title, image) in zip(axes, panels.items()):
            top = error.max() if title == "error" else 1
            shown = ax.imshow(image.T, origin="lower", vmin=0, vmax=top, cmap="viridis")
            ax.set(title=title, xticks=[], yticks=[])
            ax.grid(False)
            fig.colorbar(shown, ax=ax, shrink=0.7)
    return fig


def roll_back(run: Mapping[str, Any]) -> Figure:
    """Training loss with two spoilt epochs, with and without roll-back."""
    with house_style():
        fig, a = figure(width=6.0)
        a.plot(run["without"]["losses"], color=colour("muted"), label="without")
        a.plot(run["with"]["losses"], color=colour("measured"), label="with roll-back")
        bad = [k - 1 for k in run["with"]["rejected"]]
        points(a, bad, [run["with"]["losses"][k] for k in bad], label="rejected", index=7)
        a.set(xlabel="epoch", ylabel="training loss", yscale="log", title="Roll-back")
        a.legend()
    return fig


def speed(milliseconds: Mapping[str, float]) -> Figure:
    """Time for one stationary field, by method."""

    def kind(name: str) -> str:
        if name.startswith("direct") or "LU" in name:
            return "critical"
        return "measured" if name.startswith(NETWORKS) else "theory"

    with house_style():
        fig, a = figure(width=7.2, height=4.0)
        colours = [colour(kind(name)) for name in milliseconds]
        a.barh(range(len(milliseconds)), list(milliseconds.values()), color=colours)
        a.set_yticks(range(len(milliseconds)), list(milliseconds), fontsize=7.5)
        a.set(
            xscale="log",
            xlabel="ms a field",
            title="Green: direct; blue: networks; orange: iterative",
        )
        a.grid(False, axis="y")
    return fig


def uptake(
    example: Any,
    solvers: Sequence[Mapping[str, Any]],
    runs: Mapping[str, Sequence[Mapping[str, Any]]],
) -> Figure:
    """One section of tissue, and cost against error of solvers and networks."""
    with house_style():
        fig, (a, b) = figure(1, 2, width=8.4)
        shown = a.imshow(np.asarray(example).T, origin="lower", cmap="viridis", vmin=0)
        a.set(title="Concentration, one section", xticks=[], yticks=[])
        a.grid(False)
        fig.colorbar(shown, ax=a, shrink=0.8)
        cost, error = [1e6 * s["batch"] for s in solvers], [s["error"][0] for s in solvers]
        points(b, cost, error, label="solver", index=2)
        for k, (start, many) in enumerate(runs.items()):
            cost, error = [1e6 * r["batch"] for r in many], [r["mean"][0] for r in many]
            points(b, cost, error, label=f"network, {start}", index=k)
        b.set(
            xlabel="µs a section, in batches",
            ylabel="error of the hypoxic fraction",
            xscale="log",
            yscale="log",
            title="Cost against error",
        )
        b.legend()
    return fig
