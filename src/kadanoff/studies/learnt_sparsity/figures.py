"""The figures of the page, each from what was computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kadanoff.style.figures import DASHES, MARKERS, SERIES, figure, house_style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["flow", "spectra"]

Runs = Sequence[dict[str, Any]]


def spectra(runs: Runs) -> Figure:
    """Share of the spectrum by degree; number of effective couplings."""
    with house_style():
        fig, (left, right) = figure(1, 2, width=8.6, height=3.5)
        names = list(runs[0]["spectra"])
        for k, name in enumerate(names):
            share = np.array([np.array(r["spectra"][name]) / sum(r["spectra"][name]) for r in runs])
            left.errorbar(
                range(share.shape[1]),
                share.mean(0),
                share.std(0, ddof=1) / len(runs) ** 0.5,
                marker=MARKERS[k],
                color=SERIES[k],
                linestyle=DASHES[k],
                label=name,
            )
            here = [r["couplings"][name] for r in runs]
            right.plot([k] * len(here), here, MARKERS[k], color=SERIES[k], alpha=0.7)
        left.set(xlabel="degree |S|", ylabel="share of the spectrum", title="Where the function is")
        left.legend()
        right.set(yscale="log", ylabel="effective couplings", title="How many couplings it has")
        right.set_xticks(range(len(names)), names)
        right.set_xlim(-0.5, len(names) - 0.5)
    return fig


def flow(runs: Runs) -> Figure:
    """Effective dimensions of the Gram matrix, layer by layer."""
    with house_style():
        fig, ax = figure(width=5.6, height=3.6)
        for k, name in enumerate(("random", "trained")):
            logs = np.log([r[name] for r in runs])
            mean, error = logs.mean(0), logs.std(0, ddof=1) / len(runs) ** 0.5
            ax.errorbar(
                range(logs.shape[1]),
                np.exp(mean),
                np.exp(mean) * error,
                marker=MARKERS[k],
                color=SERIES[k],
                linestyle=DASHES[k],
                label=name,
            )
        ax.set(xlabel="layer (0: the images)", ylabel="effective dimensions", yscale="log")
        ax.legend()
    return fig
