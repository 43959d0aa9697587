"""What decides each claim: from what was computed to holds, fails or undecided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    "two_designs",
    "unreachable_target",
]


def two_designs(lab: Lab, rows: Sequence[Mapping[str, Any]]) -> None:
    """Mean and fluctuation of the kernel between Haar unitaries, against the exact forms."""
    worst = max(abs(r["K"] - r["K_theory"]) / r["K_err"] for r in rows)
    worst_std = max(abs(r["dK"] - r["dK_exact"]) / r["dK_err"] for r in rows)
    note = "largest |z| over observables and qubits"
    lab.decide("kernel-mean", holds=worst < 4, value=worst, note=note)
    lab.decide("exact-fluctuation", holds=worst_std < 4, value=worst_std, note=note)


def fluctuation(lab: Lab, row: Mapping[str, Any], n: int) -> None:
    """The paper's leading ΔK for a Pauli word, at the largest number of qubits."""
    lab.compare(
        "fluctuation",
        row["dK"] / row["dK_leading"],
        row["dK_err"] / row["dK_leading"],
        systematic=2 / 2**n,
        note=f"Pauli word, {n} qubits, L = 64; next order of 1/N allowed for. "
        "For a projector the same formula is far off (table).",
    )


def concentration(lab: Lab, end: Mapping[str, Any], floor: float) -> None:
    """ΔK/K at the largest number of gates; ``floor`` is where the exact form tends."""
    value, error = end["dK"] / end["K"], end["dK_err"] / end["K"]
    expected = end["dK_leading"] / end["K_theory"]
    lab.decide(
        "concentration",
        holds=value <= expected + 4 * error,
        value=value,
        stderr=error,
        note=f"ΔK/K at n = 2, L = {end['L']}: independent gates give {expected:.3f}, and the exact "
        f"form tends to {floor:.3f}, the spread of 1 − z². It vanishes with n, not with L.",
    )


def gradient_variance(lab: Lab, rows: Sequence[Mapping[str, Any]]) -> None:
    """Slope of log2 of the variance of a derivative on the number of qubits, from three on."""
    fit = [r for r in rows if r["n"] >= 3]
    n = [r["n"] for r in fit]
    errors = [r["variance_err"] / r["variance"] / math.log(2) for r in fit]
    slope, error = slope_of(n, [math.log2(r["variance"]) for r in fit], errors)
    exact, _ = slope_of(n, [math.log2(r["variance_theory"]) for r in fit], errors)
    lab.compare(
        "gradient-variance",
        slope,
        error,
        systematic=abs(exact + 1) + 0.02,
        note=f"fitted log2 slope over n = {fit[0]['n']} … {fit[-1]['n']} in the middle half of the "
        f"circuit; the exact 2-design form has {exact:.3f} over this range",
    )


def exponential(lab: Lab, K0: Sequence[float], found: Mapping[str, float]) -> None:
    """The rate of decay against −ln(1 − ηK), and how straight ln|ε| is."""
    kernels = np.asarray(K0)
    # the theory's own tolerance: how far K scatters from circuit to circuit
    scatter = float(kernels.std(ddof=1) / kernels.mean())
    lab.decide(
        "exponential",
        holds=abs(found["ratio"] - 1) < 4 * found["ratio_err"] + scatter
        and found["curvature"] < 0.1
        and found["fall"] < 0.05,
        value=found["ratio"],
        stderr=found["ratio_err"],
        note=f"decay rate over −ln(1 − ηK(0)), averaged over starts; K scatters by {scatter:.0%}. "
        f"ln|ε| leaves a straight line by at most {found['curvature']:.1%} of its fall.",
    )


def critical_target(lab: Lab, mean: Sequence[float], steps: int) -> None:
    """Power with which mean |ε| falls at a target on the edge of the spectrum."""
    t, tail = np.arange(steps + 1)[steps // 2 :], np.asarray(mean)[steps // 2 :]

    def power(part: slice) -> float:
        return float(np.polyfit(np.log(t[part]), np.log(tail[part]), 1)[0])

    # an exponential would have a slope that grows with t: compare the two halves of the tail
    half = len(t) // 2
    whole, first, second = power(slice(None)), power(slice(half)), power(slice(half, None))
    settled = abs(second - first) < 0.15
    lab.decide(
        "critical-target",
        holds=(abs(whole + 1) < 0.25) if settled else None,
        value=whole,
        note=f"log-log slope of mean |ε| over the second half of {steps} steps "
        f"({first:.2f} then {second:.2f} in its two halves; not settled if they differ by 0.15)",
    )


def unreachable_target(lab: Lab, beyond: float) -> None:
    """Mean |ε| at the end for a target outside the spectrum."""
    lab.decide(
        "unreachable-target",
        holds=bool(abs(beyond - 0.3) < 5e-3),
        value=float(beyond),
        note="mean |ε| at the end for the target −1.3; the remaining excess falls on",
    )


def noise_floor(lab: Lab, ratios: Sequence[tuple[float, float, float]]) -> None:
    """Late loss over the formula, from rows (σ, ratio, error) with σ up to 1e-3."""
    small = [(r, e) for sigma, r, e in ratios if sigma <= 1e-3]
    weights = np.asarray([1 / e**2 for _, e in small])
    lab.compare(
        "noise-floor",
        float((weights * [r for r, _ in small]).sum() / weights.sum()),
        float(weights.sum() ** -0.5),
        systematic=0.03,
        note="late loss over the formula at σ = 1e-3, each start with its own late kernel; "
        "3 % for K varying along the noise",
    )


def resilience(lab: Lab, quiet: Mapping[str, float]) -> None:
    """Training goes on under noise as large as each single update."""
    lab.decide(
        "resilience",
        holds=quiet["fall"] < 0.01 and abs(quiet["ratio"] - 1) < 4 * quiet["error"] + 0.05,
        value=quiet["fall"],
        note="late loss over initial loss when the noise of an angle equals its first update; the "
        f"formula is met with a ratio {quiet['ratio']:.3f} ± {quiet['error']:.3f}",
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


def laziness(lab: Lab, rows: Sequence[Updates]) -> None:
    """A single update halves with every second qubit."""
    slope, error = slope_of(
        [r.n for r in rows], [math.log2(r.move) for r in rows], [r.error for r in rows]
    )
    note = "log2 slope of |δθ|/(η|ε|); ends of a circuit lie lower"
    lab.compare("laziness", slope, error, systematic=0.05, note=note)


def not_a_plateau(lab: Lab, rows: Sequence[Updates]) -> None:
    """The loss falls all the same."""
    worst = max(r.fall for r in rows)
    note = "largest rms |ε(30)|/|ε(0)| over all n at ηK = 0.2"
    lab.decide("not-a-plateau", holds=worst < 0.1, value=worst, note=note)


def convention(lab: Lab, quarter: float) -> None:
    """Rotations e^{−iφX/2} against e^{iθX}."""
    lab.compare(
        "convention",
        quarter,
        0.0,
        systematic=1e-5,
        note="kernel of PennyLane's RX, RY, RZ over that of e^{iθX} at the same state "
        "(lightning.qubit)",
    )
