"""What is held against each claim's criterion: from what was computed to numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kadanoff.studies.claims import Measured
from kadanoff.studies.lab import Lab
from kadanoff.studies.quantum_laziness.parts import slope_of

__all__ = [
    "Updates",
    "concentration",
    "convention",
    "critical_target",
    "exponential",
    "fluctuation",
    "gradient_variance",
    "laziness",
    "noise_floor",
    "not_a_plateau",
    "resilience",
    "second_order",
    "shot_floor",
    "two_designs",
    "unreachable_target",
]

# gates near the ends of a circuit are not between two designs
_ENDS = 0.02


def _over(row: Mapping[str, Any], value: str, error: str, by: str) -> tuple[float, float]:
    """A measured number and its error, over a predicted one."""
    return row[value] / row[by], row[error] / row[by]


def two_designs(lab: Lab, rows: Sequence[Mapping[str, Any]]) -> None:
    """Mean and fluctuation of the kernel between Haar unitaries, against the exact forms."""
    worst = max(abs(r["K"] - r["K_theory"]) / r["K_err"] for r in rows)
    worst_std = max(abs(r["dK"] - r["dK_exact"]) / r["dK_err"] for r in rows)
    note = "Over observables and qubits, 64 gates."
    lab.decide("kernel-mean", Measured(worst, samples=len(rows)), note=note)
    lab.decide("exact-fluctuation", Measured(worst_std, samples=len(rows)), note=note)


def fluctuation(lab: Lab, word: Mapping[str, Any], projector: Mapping[str, Any], n: int) -> None:
    """The paper's leading ΔK at the largest number of qubits, for either observable."""
    rest = abs(word["dK_exact"] / word["dK_leading"] - 1)
    lab.decide(
        "fluctuation",
        Measured(*_over(word, "dK", "dK_err", "dK_leading"), allowance=rest),
        note=f"Pauli word, {n} qubits, 64 gates between Haar unitaries.",
    )
    lab.decide(
        "fluctuation-projector",
        Measured(*_over(projector, "dK", "dK_err", "dK_leading"), allowance=4 / 2**n),
        note=f"Projector on |0…0⟩, {n} qubits, 64 gates: all gates share the output state, and "
        "its variance does not concentrate for an observable of low rank.",
    )


def concentration(lab: Lab, end: Mapping[str, Any], floor: float) -> None:
    """ΔK/K at the largest number of gates; ``floor`` is where the exact form tends."""
    value, error = end["dK"] / end["K"], end["dK_err"] / end["K"]
    expected = end["dK_leading"] / end["K_theory"]
    lab.decide(
        "concentration",
        Measured(value / expected, error / expected),
        note=f"n = 2, L = {end['L']}: ΔK/K is {value:.3f} where independent gates give "
        f"{expected:.3f}. The exact form tends to {floor:.3f}, the spread of 1 − z². The ratio "
        "vanishes with n, not with L.",
    )


def second_order(lab: Lab, rows: Sequence[Mapping[str, Any]]) -> None:
    """Mean and spread of the dQNTK, rows by growing number of qubits."""
    last = rows[-1]
    mean, error = _over(last, "mean", "mean_err", "paper")
    lab.decide("dqntk-mean", Measured(mean, error), note=f"n = {last['n']}, L = {last['L']}.")
    ratio, spread = _over(last, "std", "std_err", "paper")
    each = ", ".join(f"{r['std'] / r['paper']:.2f} at n = {r['n']}" for r in rows)
    lab.decide(
        "dqntk",
        Measured(ratio, spread, allowance=4 / 2 ** last["n"]),
        note=f"n = {last['n']}, L = {last['L']}. The factor by which the formula misses: {each}.",
    )
    # a straight line in 1/N through the last two sizes, N and N/2
    values = [_over(r, "std", "std_err", "paper") for r in rows]
    scale = math.sqrt(1.5)
    limit = (2 * values[-1][0] - values[-2][0]) / scale
    before = (2 * values[-2][0] - values[-3][0]) / scale if len(values) > 2 else math.nan
    if math.isnan(before):
        lab.leave_open("dqntk-diagonal", "Three numbers of qubits are needed to extrapolate.")
        return
    lab.decide(
        "dqntk-diagonal",
        Measured(
            limit,
            math.hypot(2 * values[-1][1], values[-2][1]) / scale,
            allowance=abs(limit - before),
        ),
        note=f"From n = {rows[-2]['n']} and {last['n']}; from the two before, {before:.2f}.",
    )


def gradient_variance(lab: Lab, rows: Sequence[Mapping[str, Any]]) -> None:
    """Slope of log2 of the variance of a derivative on the number of qubits, from three on."""
    fit = [r for r in rows if r["n"] >= 3]
    n = [r["n"] for r in fit]
    slope, error = slope_of(
        n,
        [math.log2(r["variance"]) for r in fit],
        [r["variance_err"] / r["variance"] / math.log(2) for r in fit],
    )
    exact = slope_of(n, [math.log2(r["variance_theory"]) for r in fit], [1.0] * len(fit))[0]
    lab.decide(
        "gradient-variance",
        Measured(slope, error, allowance=abs(exact + 1) + _ENDS),
        note=f"Fit over n = {n[0]} … {n[-1]} in the middle half of the circuit; the exact "
        f"2-design form has {exact:.3f} over this range.",
    )


def exponential(lab: Lab, n: int, found: Mapping[str, float], starts: int) -> None:
    """The rate of decay against −ln(1 − ηK), and how straight ln|ε| is."""
    lab.decide(
        "exponential",
        Measured(found["ratio"], found["ratio_err"], allowance=1 / (2**n - 2)),
        found["curvature"],
        found["fall"],
        note=f"Averaged over {starts} starts, each with its own kernel; {n} qubits.",
    )


def critical_target(lab: Lab, slopes: Sequence[Sequence[float]], steps: int) -> None:
    """Power with which |ε| falls at the edge of the spectrum.

    ``slopes`` has a row a start: local powers over three doublings of t, the last to ``steps``.
    """
    early, middle, late = np.asarray(slopes).T
    # 1/ε = 2ηc (t + t₀): the local power is −1 + t₀/t, a straight line in 1/t
    ends, before = Measured.over(2 * late - middle), Measured.over(2 * middle - early)
    assert ends.value is not None
    assert before.value is not None
    lab.decide(
        "critical-target",
        Measured(ends.value, ends.stderr, allowance=abs(ends.value - before.value)),
        note=f"Mean over {len(slopes)} starts. Local powers over the doublings of t up to "
        f"{steps}: {early.mean():.3f}, {middle.mean():.3f}, {late.mean():.3f}; extrapolated one "
        f"doubling earlier: {before.value:.3f}.",
    )


def unreachable_target(lab: Lab, beyond: float, kernel: float) -> None:
    """Mean |ε| at the end for a target outside the spectrum, and what is left of the kernel."""
    lab.decide("unreachable-target", beyond, kernel, note="Target −1.3.")


def noise_floor(lab: Lab, ratios: Sequence[tuple[float, float, float]]) -> None:
    """Late loss over the formula, from rows (σ, ratio, error) with σ up to 1e-3."""
    small = [(r, e) for sigma, r, e in ratios if sigma <= 1e-3]
    weights = np.asarray([1 / e**2 for _, e in small])
    lab.decide(
        "noise-floor",
        Measured(
            float((weights * [r for r, _ in small]).sum() / weights.sum()),
            float(weights.sum() ** -0.5),
        ),
        note="σ = 1e-3, each start with its own late kernel; weighted mean over ηK.",
    )


def resilience(lab: Lab, n: int, quiet: Mapping[str, float]) -> None:
    """Training goes on under noise as large as each single update."""
    lab.decide(
        "resilience",
        quiet["fall"],
        Measured(quiet["ratio"], quiet["error"], allowance=1 / (2**n + 1)),
        note="The noise of an angle equals its mean first update.",
    )


def shot_floor(lab: Lab, rows: Sequence[Sequence[float]]) -> None:
    """Late loss with S shots over the formula, from rows (S, …, ratio, error); S from 3000 on."""
    many = [(r[3], r[4]) for r in rows if r[0] >= 3000]
    weights = np.asarray([1 / e**2 for _, e in many])
    lab.decide(
        "shot-floor",
        Measured(
            float((weights * [r for r, _ in many]).sum() / weights.sum()),
            float(weights.sum() ** -0.5),
        ),
        note="S = " + ", ".join(f"{r[0]:,.0f}" for r in rows if r[0] >= 3000) + "; target 0.2.",
    )


@dataclass(frozen=True)
class Updates:
    """Single updates and what 30 of them achieve, at n qubits.

    ``move`` is |δθ|/(η|ε|) of the first update with relative standard error ``error`` of its
    log2, ``fall`` rms ε(30)/ε(0), ``total`` the rms of the whole move in radians.
    """

    n: int
    move: float
    error: float
    fall: float
    total: float

    @classmethod
    def of(cls, n: int, run: Mapping[str, Any]) -> Updates:
        """From a training run over many starts."""
        lazy = np.asarray(run["first_move"]) / np.asarray(np.abs(run["epsilon0"])) / run["eta"]
        error = lazy.std(ddof=1) / math.sqrt(len(lazy)) / lazy.mean() / math.log(2)
        fall = run["rms"][-1] / run["rms"][0]
        return cls(n, float(lazy.mean()), float(error), fall, float(np.mean(run["total_move"])))


def laziness(lab: Lab, rows: Sequence[Updates], told: Sequence[float]) -> None:
    """A single update halves with every second qubit; ``told`` is the exact 2-design form."""
    n = [r.n for r in rows]
    slope, error = slope_of(n, [math.log2(r.move) for r in rows], [r.error for r in rows])
    exact = slope_of(n, [math.log2(v) for v in told], [1.0] * len(n))[0]
    lab.decide(
        "laziness",
        Measured(slope, error, allowance=abs(exact + 0.5) + _ENDS),
        note=f"n = {n[0]} … {n[-1]}; the exact 2-design form has {exact:.3f} over this range.",
    )


def not_a_plateau(lab: Lab, rows: Sequence[Updates]) -> None:
    """The loss falls all the same, and no angle moves far."""
    note = f"30 steps at ηK = 0.2, n = {rows[0].n} … {rows[-1].n}."
    lab.decide("not-a-plateau", max(r.fall for r in rows), note=note)
    # the smallest circuits have few angles, and are not lazy yet
    lab.decide("lazy-moves", rows[-1].total, note=f"n = {rows[-1].n}, while ε falls as above.")


def convention(lab: Lab, quarter: float) -> None:
    """Rotations e^{−iφX/2} against e^{iθX}."""
    lab.decide(
        "convention",
        quarter,
        note="Kernel of PennyLane's RX, RY, RZ over that of e^{iθX} at the same state "
        "(lightning.qubit).",
    )
