"""The figures of the page, each from what was computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kadanoff.studies.edge_of_chaos.decisions import Extrapolation
from kadanoff.studies.edge_of_chaos.parts import C_B, EDGE
from kadanoff.style.figures import colour, figure, house_style, points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["finite_width", "loop", "phases", "recurrent", "trainability"]


def phases(found: Mapping[str, Any], C_W: np.ndarray, scales: np.ndarray) -> Figure:
    """The phase diagram with the edge, and depth scales against C_W."""
    with house_style():
        fig, (left, right) = figure(1, 2, width=8.6, height=3.6)
        level = np.log(np.array(found["chi"]))
        top = np.abs(level).max()
        mesh = left.pcolormesh(
            found["w"],
            found["b"],
            level,
            cmap="RdBu_r",
            vmin=-top,
            vmax=top,
            shading="nearest",
            rasterized=True,
        )
        fig.colorbar(mesh, ax=left, label=r"ln χ⊥")
        curve, shift = np.array(found["line"]), np.array(found["shifts"])
        left.plot(np.sqrt(curve[:, 0]), np.sqrt(curve[:, 1]), color=colour("ink"), label="n = ∞")
        for k, (name, dash) in enumerate((("annealed", "--"), ("typical", ":"))):
            left.plot(
                np.sqrt(curve[:, 0] + shift[:, k]),
                np.sqrt(curve[:, 1]),
                dash,
                color=colour("ink"),
                label=f"n = 50, {name}",
            )
        left.set(xlabel="σ_w", ylabel="σ_b", xlim=(0.6, 2.6), ylim=(0, 1), title="Edge of chaos")
        left.legend(loc="lower right")
        names = ("ξ_q", "ξ_q, n = 50", "ξ_c", "ξ_c, n = 50 annealed", "ξ_c, n = 50 typical")
        for k, name in enumerate(names):
            good = (scales[:, k] > 0) & np.isfinite(scales[:, k])
            bounded = np.where(good, scales[:, k], np.nan)
            dash = ("-", "--", "-", "--", ":")[k]
            right.semilogy(
                C_W, bounded, dash, color=colour("measured" if k < 2 else "theory"), label=name
            )
        right.axvline(EDGE, color=colour("muted"), lw=0.8)
        right.set(
            xlabel="C_W", ylabel="layers", title=f"Depth scales, C_b = {C_B}", ylim=(0.5, 2e3)
        )
        right.legend()
    return fig


def finite_width(
    rows: Sequence[Sequence[float]],
    theory: tuple[float, float],
    scan: Sequence[float],
    rates: np.ndarray,
    spread: np.ndarray,
    predicted: Mapping[str, Any],
) -> Figure:
    """Annealed and typical coefficients against width, and the typical edge at n = 50."""
    with house_style():
        fig, (left, right) = figure(1, 2, width=8.6, height=3.2)
        x = [r[0] for r in rows]
        for k, (name, value) in enumerate(zip(("annealed", "typical"), theory)):
            points(
                left,
                x,
                [r[1 + 2 * k] for r in rows],
                [r[2 + 2 * k] for r in rows],
                label=name,
                index=k,
            )
            left.axhline(value, color=colour("theory"), ls=("-", "--")[k])
        left.axhline(0, color=colour("muted"), lw=0.8)
        left.set(xlabel="width n", ylabel="coefficient of 1/n", title="C_W = 1.5", xlim=(0, None))
        left.legend()
        points(right, scan, rates, spread, label="networks, n = 50")
        grid = predicted["C_W"]
        right.plot(grid, predicted["n = ∞"], color=colour("muted"), ls="--", label="n = ∞")
        right.plot(grid, predicted["1/n"], color=colour("theory"), label="to order 1/n")
        right.axhline(0, color=colour("muted"), lw=0.8)
        right.set(xlabel="C_W", ylabel="(1/ℓ) E ln|δz|²", title="Typical edge at n = 50")
        right.legend()
    return fig


def recurrent(
    g: float,
    state: Mapping[str, Any],
    runs: Sequence[Mapping[str, Any]],
    sizes: Sequence[tuple[int, int]],
    found: Extrapolation,
) -> Figure:
    """Autocorrelation and largest Lyapunov exponent of random recurrent networks."""
    x = np.array([1 / N for N, _ in sizes])
    y = np.array([r["lyapunov"][0] for r in runs])
    with house_style():
        fig, (left, right) = figure(1, 2, width=8.6, height=3.2)
        left.plot(state["tau"], state["C"], color=colour("theory"), label="mean field")
        points(left, runs[-1]["tau"][::5], runs[-1]["C"][::5], label=f"N = {sizes[-1][0]}")
        left.set(xlabel="τ", ylabel="C(τ)", title=f"Autocorrelation, g = {g:g}", xlim=(0, 20))
        left.legend()
        points(right, x, y, found.errors, label=f"networks, g = {g:g}")
        right.plot(
            [0, x.max()],
            [found.limit, found.limit + found.slope * x.max()],
            color=colour("measured"),
            ls="--",
            label="fit in 1/N",
        )
        right.plot(
            [0], [state["lyapunov"]], "*", ms=11, color=colour("theory"), label="energy method"
        )
        right.set(xlabel="1/N", ylabel="largest Lyapunov exponent", title="Suppressed by 1/N")
        right.legend()
    return fig


def loop(found: Mapping[str, Any], N: int, grid: np.ndarray, crosscap: np.ndarray) -> Figure:
    """The 1/N correction of the correlator of the linear recurrent network."""
    with house_style():
        fig, ax = figure(width=5.4, height=3.1)
        points(ax, found["omega"], found["measured"], found["error"], label=f"matrices, N = {N}")
        ax.plot(grid, crosscap, color=colour("theory"), label="one crosscap, C⁽¹⁾(ω)")
        ax.axhline(0, color=colour("muted"), lw=0.8)
        ax.set(xlabel="ω", ylabel="N (C − C⁽⁰⁾)", title="Loop correction, σ_w = 0.4")
        ax.legend()
    return fig


def trainability(
    C_W: Sequence[float], depths: Sequence[int], accuracy: np.ndarray, xi: np.ndarray
) -> Figure:
    """Training accuracy by depth and C_W, with six correlation lengths."""
    with house_style():
        fig, ax = figure(width=6.4, height=3.6)
        mesh = ax.pcolormesh(
            np.arange(len(C_W)),
            np.arange(len(depths)),
            accuracy.mean(2),
            cmap="viridis",
            vmin=0.1,
            vmax=1,
            shading="nearest",
            rasterized=True,
        )
        fig.colorbar(mesh, label="training accuracy")
        level = np.interp(
            np.log(np.clip(6 * xi, depths[0] / 2, depths[-1] * 2)),
            np.log(depths),
            np.arange(len(depths)),
        )
        ax.plot(np.arange(len(C_W)), level, "o-", color=colour("bad"), label="6 ξ_c")
        ax.set_xticks(np.arange(len(C_W)), [f"{w:.2f}" for w in C_W])
        ax.set_yticks(np.arange(len(depths)), [str(d) for d in depths])
        ax.grid(False)
        ax.set(xlabel="C_W", ylabel="depth L", title=f"Which depths train, C_b = {C_B}")
        ax.legend(loc="upper left", labelcolor="white")
    return fig
