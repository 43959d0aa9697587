"""The figures of the page, each from what was computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kadanoff.studies.sparsity_principle.claims import RUNGS
from kadanoff.style.figures import DASHES, SERIES, colour, figure, house_style, points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["aspect", "ladder", "lunch", "orders", "spectra"]


def lunch(found: Mapping[str, Any]) -> Figure:
    """Accuracy off the training set, learner by learner, family by family."""
    names = list(found)
    with house_style():
        fig, ax = figure(width=7.4, height=3.2)
        at = np.arange(len(names))
        for k, family in enumerate(found[names[0]]):
            height = [found[x][family][0] for x in names]
            error = [found[x][family][1] or 0 for x in names]
            ax.bar(at + 0.2 * k - 0.3, height, 0.2, yerr=error, label=family, color=SERIES[k])
        ax.axhline(0.5, color="k", lw=0.8)
        ax.set_xticks(at, [x.replace(", ", ",\n").replace(" (", "\n(") for x in names], fontsize=8)
        ax.set(ylabel="accuracy off the training set", ylim=(0.3, 1.15))
        ax.legend(ncol=4, loc="upper center")
    return fig


def ladder(found: Mapping[str, Any], spins: Mapping[str, list[int]], target: float) -> Figure:
    """Samples needed, against spins and against couplings."""
    with house_style():
        fig, (left, right) = figure(1, 2, width=8.6, height=3.4)
        for k, rung in enumerate(RUNGS):
            M = np.array(found[rung])
            for ax, x in ((left, spins[rung]), (right, M[:, 0])):
                points(ax, x, M[:, 1], M[:, 2], label=rung, index=k)
            left.plot(spins[rung], M[:, 0] / (2 * target), color=SERIES[k], ls=DASHES[k], lw=1)
        grid = np.array([1.5, 300])
        right.plot(grid, grid / (2 * target), color=colour("theory"), label="T/(2·0.1)")
        left.set(xlabel="spins N", ylabel="samples needed", yscale="log", title="What is assumed")
        right.set(xlabel="couplings T", xscale="log", yscale="log", title="counts the couplings")
        left.legend(fontsize=8)
        right.legend(fontsize=8)
    return fig


def spectra(found: Mapping[str, Any], kernels: Sequence[Sequence[Any]]) -> Figure:
    """Learnt functions in the basis of parities, and eigenvalues of kernels by degree."""
    with house_style():
        fig, (left, right) = figure(1, 2, width=8.6, height=3.3)
        for k, name in enumerate(("x1 x2", "random labels")):
            mean = np.mean([r["degree"] for r in found[name]], 0)
            for i, (when, dash) in enumerate((("before", ":"), ("after", "-"))):
                left.plot(
                    mean[i],
                    dash,
                    marker="os"[k],
                    color=colour(("measured", "theory")[k]),
                    label=f"{name}, {when}",
                )
        left.set(xlabel="degree |S|", ylabel="share of the spectrum", title="Learnt functions")
        left.legend(fontsize=8)
        k = 0
        for name, depth, which, values, _ in kernels:
            if which == "ntk" and depth in (kernels[0][1], kernels[-1][1]):
                ratio = np.array(values) / values[1]
                right.semilogy(
                    np.where(ratio > 1e-12, ratio, np.nan),
                    marker="o",
                    ms=3,
                    ls=("-", "--")[k % 2],
                    label=f"{name}, {depth} hidden",
                )
                k += 1
        right.set(xlabel="degree |S|", ylabel="NTK eigenvalue / that of degree 1", title="Kernels")
        right.legend(fontsize=7)
    return fig


def orders(
    curve: Mapping[str, Any],
    counts: Sequence[int],
    n_list: Sequence[int],
    errors: np.ndarray,
    widths: Sequence[int],
    gap: Sequence[Sequence[float]],
    noise: Sequence[float],
) -> Figure:
    """Errors of the near-Gaussian expansion: one density, one input, two inputs."""
    with house_style():
        fig, axes = figure(1, 3, width=10.2, height=3.2)
        z = np.array(curve["z"])
        for k, values in enumerate(curve["orders"][:3]):
            axes[0].plot(
                z,
                np.array(values) - curve["exact"],
                ls=DASHES[k],
                label=f"order {k}, {counts[k]} numbers",
            )
        axes[0].set(xlabel="output z", ylabel="density − exact", title=f"n = {n_list[-1]}")
        axes[0].legend(fontsize=8)
        for k in range(errors.shape[1]):
            axes[1].loglog(n_list, errors[:, k], "o-", ms=3, color=SERIES[k], label=f"order {k}")
        axes[1].set(xlabel="width n", ylabel="largest error", title="One input, exact")
        axes[1].legend(fontsize=8)
        for k in range(2):
            points(axes[2], widths, [g[k] for g in gap], noise, label=f"order {k}", index=k)
        axes[2].set(
            xlabel="width n",
            ylabel="relative error",
            xscale="log",
            yscale="log",
            title="Two inputs, four-point",
        )
        axes[2].plot(widths, noise, color=colour("muted"), ls=":", label="standard error")
        axes[2].legend(fontsize=8)
    return fig


def aspect(table: np.ndarray, budget: int, networks: int) -> Figure:
    """Variance of the metric against L/n: exact, order 1/n, sampled."""
    ratio, _, _, measured, error = table[:, 2:7].T
    grid = np.geomspace(ratio[0] / 1.5, ratio[-1] * 1.3, 100)
    # at equal budgets n²L is fixed: n from L/n = r is (budget/r)^(1/3)
    n = (budget / grid) ** (1 / 3)
    with house_style():
        fig, ax = figure(width=6.4, height=3.8)
        ax.plot(grid, np.expm1(grid * n * np.log1p(5 / n)), color=colour("theory"), label="exact")
        ax.plot(grid, 5 * grid, color=colour("muted"), ls="--", label="order 1/n")
        points(ax, ratio, measured, error, label=f"{networks:,} networks", index=0)
        ax.set(xscale="log", yscale="log", xlabel="L/n", ylabel="V / nK²")
        ax.legend()
    return fig
