"""The figures of the page, those of the book's chapters made anew."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from kadanoff.style.figures import SERIES, colour, figure, house_style, points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["fluctuations", "kernel", "learning", "ntk", "orthogonal"]


def kernel(flows: Mapping[float, Mapping[str, Any]], depth: int) -> Figure:
    """Kernel of tanh with depth, by C_W."""
    with house_style():
        fig, ax = figure()
        for i, (C_W, f) in enumerate(flows.items()):
            ax.plot(f["layers"], f["predicted"], color=SERIES[i])
            some = slice(0, None, max(1, depth // 20))
            layers, measured, error = (f[key][some] for key in ("layers", "measured", "stderr"))
            points(ax, layers, measured, error, label=f"C_W = {C_W}", index=i)
        ax.set(yscale="log", xlabel="layer", ylabel="K", title="tanh: kernel with depth")
        ax.legend()
    return fig


def fluctuations(
    vertices: Mapping[str, Mapping[str, Any]], curves: Mapping[int, Mapping[str, Any]]
) -> Figure:
    """V/K² with depth, and the variance of the metric of several widths against L/n."""
    with house_style():
        fig, (left, right) = figure(1, 2, width=9.0, height=3.6)
        for i, (name, f) in enumerate(vertices.items()):
            left.plot(f["layers"], f["predicted"], color=SERIES[i])
            points(left, f["layers"], f["limit"], f["stderr"], label=name, index=i)
        left.set(xlabel="layer", ylabel="V / K²", title="Four-point vertex at criticality")
        left.legend()
        for i, (n, c) in enumerate(curves.items()):
            some = slice(0, None, max(1, n // 16))
            ratio, value, error = (c[key][some] for key in ("ratio", "value", "stderr"))
            points(right, ratio, value, error, label=f"n = {n}", index=i)
        r = [0.0025 * k for k in range(101)]
        right.plot(r, [math.expm1(5 * x) for x in r], color=colour("ink"), label="exp(5 r) − 1")
        right.set(
            xlabel="r = (ℓ − 1) / n", ylabel="variance / mean²", title="ReLU: widths on one curve"
        )
        right.legend()
    return fig


def ntk(found: Mapping[str, Mapping[str, Any]], layers: Sequence[int]) -> Figure:
    """Mean NTK with depth, for either choice of learning rates."""
    with house_style():
        fig, axes = figure(1, 2, width=9.0, height=3.6)
        for ax, (name, both) in zip(axes, found.items(), strict=True):
            for i, (kind, f) in enumerate(both.items()):
                ax.plot(layers, f["predicted"], color=SERIES[i])
                points(ax, layers, f["measured"], f["stderr"], label=f"{kind} rates", index=i)
            ax.set(xlabel="layer", ylabel="Θ", title=name)
            ax.legend()
    return fig


def learning(
    sizes: Sequence[int],
    moved: Sequence[Sequence[float]],
    widths: Sequence[int],
    measured: Sequence[Any],
    theory: Sequence[float],
) -> Figure:
    """How far the NTK moves, and the mean output of trained networks against 1/n."""
    with house_style():
        fig, (left, right) = figure(1, 2, width=9.0, height=3.6)
        points(left, sizes, [abs(m[0]) for m in moved], [m[1] for m in moved], label="mean")
        square = [m[2] for m in moved]
        left.plot(
            sizes, square, marker="s", linestyle="none", color=SERIES[1], label="root mean square"
        )
        for i in (0, 2):
            falling = [abs(moved[-1][i]) * sizes[-1] / n for n in sizes]
            left.plot(sizes, falling, color=SERIES[i // 2], label="1/n" if i else None)
        left.set(
            xscale="log",
            yscale="log",
            xlabel="width",
            ylabel="change of the NTK / NTK",
            title="NTK after training",
        )
        left.legend()
        x = [1 / n for n in widths]
        for i in (0, 1):
            value, error = ([m[k][i] for m in measured] for k in (0, 1))
            points(right, x, value, error, label=f"output {i + 1}", index=i)
            right.plot(
                [0],
                [theory[i]],
                marker="*",
                markersize=11,
                color=SERIES[i],
                linestyle="none",
                label="predicted, n → ∞",
            )
        right.set_xlim(left=-0.0005)
        right.set(xlabel="1 / n", ylabel="n (mean − infinite width)", title="Trained networks")
        right.legend()
    return fig


def orthogonal(gaussian: Mapping[str, Any], haar: Mapping[str, Any], width: int) -> Figure:
    """V/K² of tanh with depth, for Gaussian and for orthogonal weights."""
    with house_style():
        fig, ax = figure()
        for i, (label, f, key) in enumerate(
            (
                ("Gaussian, n → ∞", gaussian, "limit"),
                (f"orthogonal, n = {width}", haar, "measured"),
            )
        ):
            ax.plot(f["layers"], f["predicted"], color=SERIES[i])
            points(ax, f["layers"], f[key], f["stderr"], label=label, index=i)
        ax.axhline(0.0, color=colour("muted"), linewidth=0.8)
        ax.set(xlabel="layer", ylabel="V / K²", title="tanh: Gaussian and orthogonal weights")
        ax.legend()
    return fig
