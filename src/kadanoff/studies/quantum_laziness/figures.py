"""The figures of the page, each from what was computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from kadanoff.studies.quantum_laziness.decisions import Updates
from kadanoff.studies.quantum_laziness.parts import law_path, observable
from kadanoff.studies.quantum_laziness.quantum import theory
from kadanoff.style.figures import SERIES, colour, figure, house_style, points

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["kernel", "laziness", "plateau", "training"]


def kernel(
    designs: Mapping[str, Mapping[int, Mapping[str, Any]]],
    gates: Sequence[int],
    many: Sequence[Mapping[str, Any]],
) -> Figure:
    """Mean kernel by qubits for each observable, and its relative fluctuation by gates."""
    with house_style():
        fig, (a, b) = figure(1, 2, width=8.2)
        for index, (kind, mine) in enumerate(designs.items()):
            qubits, rows = list(mine), list(mine.values())
            exact = [r["K_theory"] for r in rows]
            label = None if index else "exact"
            a.plot(qubits, exact, color=colour("theory"), label=label)
            measured, error = [r["K"] for r in rows], [r["K_err"] for r in rows]
            name = "Pauli word" if kind == "word" else kind
            points(a, qubits, measured, error, label=name, index=index)
        a.set(xlabel="qubits n", ylabel="mean kernel", yscale="log", title="Mean of K, L = 64")
        a.set_xticks(list(designs["word"]))
        a.legend()
        L, O = np.geomspace(4, gates[-1], 40), observable("word", 2)
        mean = np.array([theory.qntk_mean(O, v) for v in L])
        exact = [theory.qntk_std(O, v) for v in L] / mean
        b.plot(L, exact, color=colour("theory"), label="exact")
        leading = [theory.qntk_std_leading(O, v) for v in L] / mean
        b.plot(L, leading, color=colour("muted"), linestyle="--", label="independent gates")
        points(b, gates, [r["dK"] / r["K"] for r in many], [r["dK_err"] / r["K"] for r in many])
        b.set(
            xlabel="gates L",
            ylabel="ΔK / K",
            xscale="log",
            yscale="log",
            title="Fluctuation at n = 2",
        )
        b.set_xticks(gates, [str(v) for v in gates])
        b.minorticks_off()
        b.legend()
    return fig


def plateau(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Mean squared derivative by qubits."""
    with house_style():
        fig, a = figure(width=5.6)
        x = [r["n"] for r in rows]
        a.plot(x, [r["variance_theory"] for r in rows], color=colour("theory"), label="2-design")
        value, error = [r["variance"] for r in rows], [r["variance_err"] for r in rows]
        points(a, x, value, error, label="middle half of the gates")
        points(a, x, [r["last"] for r in rows], label="last layer", index=2)
        a.set(
            xlabel="qubits n",
            ylabel="mean squared derivative",
            yscale="log",
            title="Gradient variance",
        )
        a.set_yscale("log", base=2)
        a.legend()
    return fig


def training(
    frozen: Mapping[str, Any], rows: Mapping[str, Mapping[str, Any]], steps: int
) -> Figure:
    """Decay of |ε| for the target 0, and for targets inside, at the edge and outside."""
    with house_style():
        fig, (a, b) = figure(1, 2, width=8.4)
        t = np.arange(31)
        measured = np.asarray(frozen["mean"]) / frozen["mean"][0]
        a.plot(t, measured, "o", color=colour("measured"), label="measured")
        straight = (1 - frozen["eta"] * float(np.mean(frozen["K0"]))) ** t
        a.plot(t, straight, color=colour("muted"), linestyle="--", label="frozen kernel")
        law = np.asarray(law_path(frozen, 0.0, 30))
        a.plot(t, law / law[0], color=colour("theory"), label="state-conditioned")
        a.set(xlabel="step", ylabel="|ε| / |ε(0)|", yscale="log", title="Target 0, ηK = 0.2")
        a.legend()
        t = np.arange(1, steps + 1)
        for k, (name, r) in enumerate(rows.items()):
            b.plot(t, r["mean"][1:], color=SERIES[k], label=f"target {name}")
            law = np.maximum(law_path(r, float(name), steps)[1:], 1e-12)
            b.plot(t, law, color=SERIES[k], linestyle=":")
        b.set(
            xlabel="step",
            ylabel="mean |ε|",
            xscale="log",
            yscale="log",
            ylim=(1e-4, 2),
            title="Three regimes",
        )
        b.legend(title="dotted: law", loc="lower left")
    return fig


def laziness(rows: Sequence[Updates]) -> Figure:
    """One update, and what 30 achieve, by qubits."""
    with house_style():
        fig, a = figure(width=5.6)
        x = [r.n for r in rows]
        a.plot(x, [2 ** (-(n - 1) / 2) for n in x], color=colour("theory"), label="2^((1−n)/2)")
        move, error = [r.move for r in rows], [r.move * r.error for r in rows]
        points(a, x, move, error, label="one update |δθ|/(η|ε|)")
        points(a, x, [r.fall for r in rows], label="ε(30)/ε(0)", index=2)
        a.set(xlabel="qubits n", yscale="log", title="Updates shrink, training does not slow")
        a.legend()
    return fig
