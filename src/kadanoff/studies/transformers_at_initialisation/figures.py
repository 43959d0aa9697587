"""The figures of the page, each from what was computed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kadanoff.studies.transformers_at_initialisation.decisions import Sums, Widths
from kadanoff.studies.transformers_at_initialisation.theory import Tokens
from kadanoff.style.figures import SERIES, colour, figure, house_style, points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["collapse", "depth", "seeds", "strengths", "widths"]


def _along(
    ax: Any, batches: np.ndarray, theory: Sequence[float], label: str, index: int, every: int = 2
) -> None:
    """Sampled means over the depth and the map's line."""
    count = batches.shape[1]
    sums = np.arange(len(theory) - count, len(theory)) + 1
    ax.plot(np.arange(len(theory)) + 1, theory, color=SERIES[index])
    error = batches.std(0, ddof=1) / math.sqrt(len(batches))
    points(
        ax, sums[::every], batches.mean(0)[::every], error[::every], label=label, index=index,
        markersize=4,
    )  # fmt: skip


def widths(found: Mapping[str, Widths]) -> Figure:
    """n E g² an entry of each group against width."""
    with house_style():
        fig, ax = figure(width=7.0, height=4.0)
        for i, (group, w) in enumerate(found.items()):
            # Widths hold λ Σ g², which is flat: each group is shown beside its own mean
            scale = float(np.exp(np.log(w.value).mean())) * 1.6**i
            points(ax, w.n, w.value / scale, w.error / scale, label=group, index=i, linestyle="-")
        ax.set(
            xscale="log", yscale="log", xlabel="width n",
            ylabel="λ Σ g² of a group (arbitrary unit)",
            title="Each group's part of the tangent kernel",
        )  # fmt: skip
        ticks = next(iter(found.values())).n
        ax.set_xticks(ticks, [f"{n:.0f}" for n in ticks])
        ax.minorticks_off()
        ax.legend(fontsize=7, ncols=2, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig


def depth(
    curves: Mapping[str, tuple[Sums, Tokens]], mlps: Mapping[str, tuple[Sums, float]]
) -> Figure:
    """Signal, correlation and gradient along a pre-norm stack; gradients of MLP stacks."""
    with house_style():
        fig, grid = figure(2, 2, width=8.6, height=6.6)
        signal, angle, gradient, alone = grid.flat
        sums, tokens = curves["independent"]
        _along(signal, sums.p, tokens.p, "mean square", 0)
        signal.set(xlabel="residual sum", ylabel="mean square of the stream", title="Signal")
        _along(angle, sums.correlation, tokens.correlation, "correlation", 0)
        angle.set(xlabel="residual sum", ylabel="correlation of tokens", ylim=(0, 1))
        angle.set(title="Angles")
        for i, (name, (sums, tokens)) in enumerate(curves.items()):
            relative = [v / tokens.jacobian[-1] for v in tokens.jacobian]
            _along(gradient, sums.jacobian, relative, f"{name} cotangents", i)
        gradient.set(xscale="log", yscale="log", xlabel="residual sum")
        gradient.set(ylabel="gradient, over the last", title="Gradient")
        gradient.legend()
        for i, (name, (sums, power)) in enumerate(mlps.items()):
            p, J = sums.p.mean(0), sums.jacobian.mean(0)
            points(alone, p[::2], J[::2], label=f"{name}: ζ = {power:.3f}", index=i, markersize=4)
            line = np.cumprod([1.0, *(1 + power * np.diff(p) / p[:-1])[::-1]])[::-1]
            alone.plot(p, line, color=SERIES[i])
        alone.set(xscale="log", yscale="log", xlabel="mean square of the stream")
        alone.set(ylabel="gradient, over the last", title="MLP stacks")
        alone.legend(fontsize=6.5)
    return fig


def collapse(
    cases: Mapping[str, tuple[np.ndarray, Sequence[float]]],
    apart: Sequence[float],
    rows: np.ndarray,
) -> Figure:
    """1 − ρ along stacks; gradients of queries and keys over values."""
    with house_style():
        fig, (left, right) = figure(1, 2, width=8.6, height=3.4)
        for i, (name, (gap, theory)) in enumerate(cases.items()):
            _along(left, gap, theory, name, i, max(1, gap.shape[1] // 10))
        left.set(
            yscale="log", xlabel="residual sum", ylabel="1 − ρ", title="Tokens collapse",
            ylim=(1e-3, 1),
        )  # fmt: skip
        left.legend(fontsize=7.5)
        value, error = rows[:, 0::2], rows[:, 1::2]
        for i, name in enumerate(("queries", "keys")):
            points(
                right, apart, value[:, i] / value[:, 2], error[:, i] / value[:, 2], label=name,
                index=i,
            )  # fmt: skip
        x = np.array(apart)
        scale = float((value[:, :2].mean(1) / value[:, 2] / x**2)[-1])
        right.plot(x, scale * x**2, color=colour("theory"), label="(1 − ρ)²")
        right.set(
            xscale="log", yscale="log", xlabel="1 − ρ", ylabel="mean square gradient over values'",
            title="Queries and keys lose their gradient",
        )  # fmt: skip
        right.legend()
    return fig


def strengths(
    far: Mapping[float, tuple[Sums, Tokens]],
    rates: Mapping[str, tuple[float, float, float, float]],
) -> Figure:
    """Correlations below and above the transition; measured and predicted exponents.

    ``rates`` has measured λ_a, λ_g and predicted λ_a, λ_g by name.
    """
    with house_style():
        fig, (left, right) = figure(1, 2, width=8.6, height=3.4)
        for i, (strength, (sums, tokens)) in enumerate(far.items()):
            name = f"{strength:g} of the critical strength"
            _along(left, sums.correlation, tokens.correlation, name, i, 6)
        left.set(
            xlabel="residual sum", ylabel="correlation of tokens", ylim=(0.4, 1),
            title="Order and chaos",
        )  # fmt: skip
        left.legend(fontsize=7)
        for i, k in enumerate((0, 1)):
            label = ("λ_a, of angles", "λ_g, of gradients")[k]
            predicted = [r[2 + k] for r in rates.values()]
            points(right, predicted, [r[k] for r in rates.values()], label=label, index=i)
        ends = [min(min(r) for r in rates.values()), max(max(r) for r in rates.values())]
        right.plot(ends, ends, color=colour("theory"))
        right.axhline(0, color=colour("muted"), lw=0.8)
        right.set(xlabel="formula", ylabel="sampled networks", title="Two exponents a block")
        right.legend()
    return fig


def seeds(found: Mapping[str, Widths], vertex: float) -> Figure:
    """n Var/mean² against width for several architectures, the MLP's closed form as a line."""
    with house_style():
        fig, ax = figure(width=6.4, height=3.8)
        for i, (name, w) in enumerate(found.items()):
            points(ax, w.n, w.value, w.error, label=name, index=i, linestyle=":")
        ax.axhline(vertex, color=colour("theory"), label="MLP: V/K² + 2")
        ticks = sorted({float(n) for w in found.values() for n in w.n})
        ax.set(
            xscale="log", yscale="log", xlabel="width n", ylabel="n · variance / mean²",
            title="How much seeds differ: a vertex for every architecture",
        )  # fmt: skip
        ax.set_xticks(ticks, [f"{n:.0f}" for n in ticks])
        ax.minorticks_off()
        ax.legend(fontsize=7.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return fig
