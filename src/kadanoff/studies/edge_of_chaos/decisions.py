"""What decides each claim: from what was computed to holds, fails or undecided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from kadanoff.studies.claims import Baseline, Measured
from kadanoff.studies.edge_of_chaos.parts import EDGE
from kadanoff.studies.lab import Lab

__all__ = [
    "NEAR",
    "Extrapolation",
    "boundary",
    "depth_over_width",
    "edge_shift",
    "edge_trains_deepest",
    "exponent",
    "extrapolate",
    "loop",
    "lyapunov",
    "magnitude",
    "random_matrices",
    "stable_correlation",
    "trainable",
    "two_averages",
]

# distances from the edge at which depth scales are compared
NEAR = (-0.2, -0.02, -0.002, 0.002, 0.02, 0.2)


def boundary(lab: Lab, line: float, rest: float, above: float) -> None:
    """The edge of feedforward networks, and that of recurrent ones at rest."""
    lab.decide("boundary", line)
    lab.decide("one-line", rest, above, note="Beyond the edge by the energy method.")


def exponent(lab: Lab, C_W: np.ndarray, scales: np.ndarray) -> None:
    """The power with which ξ_c diverges over the last decade of distance, on both sides."""
    xi = [scales[int(np.argmin(abs(C_W - EDGE - d))), 2] for d in NEAR]
    powers = []
    for far, middle, near in (xi[:3], xi[:2:-1]):
        last, before = math.log10(middle / near), math.log10(far / middle)
        powers.append(Measured(last, allowance=abs(last - before)))
    edge = int(np.argmin(abs(C_W - EDGE - NEAR[2])))
    lab.decide("exponent", *powers, scales[edge, 0], note="From 0.02 to 0.002 off the edge.")


def two_averages(lab: Lab, n: int, row: Sequence[float]) -> None:
    """Coefficients of 1/n of the annealed and of the typical rate, (value, error) each."""
    annealed, typical = Measured(row[0], row[1]), Measured(row[2], row[3])
    note = f"Networks of width {n} from their exact law."
    lab.decide("annealed", Measured(row[0], row[1], allowance=3 / n), note=note)
    lab.decide("typical", Measured(row[2], row[3], allowance=3 / n), note=note)
    lab.decide("opposite", annealed, typical, note=note)


def magnitude(lab: Lab, values: Sequence[float], widths: Sequence[int]) -> None:
    """The 1/n shift of χ∥, by the exact chain of the metric at n and 2n."""
    small, large = values
    lab.decide(
        "magnitude",
        Measured(2 * large - small, allowance=abs(large - small)),
        note=f"Exact chain at n = {widths[0]} and {widths[1]}, no statistics.",
    )


def stable_correlation(lab: Lab, slope: float, closed: float) -> None:
    """The 1/n shift of the rate in the chaotic phase, by two routes."""
    lab.decide(
        "stable-correlation",
        slope / closed,
        note=f"Closed form {closed:.5f} at C_W = 3; the linear growth of the 1/n recursion at "
        "layer 70, independent code.",
    )


def edge_shift(
    lab: Lab,
    found: Mapping[int, tuple[Sequence[float], np.ndarray, np.ndarray]],
    first: float,
    annealed: float,
) -> None:
    """Where typical networks turn chaotic.

    Parameters
    ----------
    found : mapping
        By width, each twice the last: C_W, the rates there, and their standard errors.
    first : float
        n × shift to first order.
    annealed : float
        The annealed shift at width 50.
    """
    shifts = {n: _crossing(*rows) for n, rows in found.items()}
    widths = list(shifts)
    scaled = [(n * shift / first, n * error / first) for n, (shift, error) in shifts.items()]
    shift = Measured(*shifts[widths[0]])
    if len(scaled) < 3:
        lab.leave_open(
            "edge-shift",
            f"Shift {shifts[widths[0]][0]:+.3f} at width {widths[0]}; wider networks are needed to "
            "extrapolate.",
        )
        return
    (early, _), (middle, middle_error), (late, late_error) = scaled[-3:]
    limit, before = 2 * late - middle, 2 * middle - early
    lab.decide(
        "edge-shift",
        shift,
        Measured(limit, math.hypot(2 * late_error, middle_error), allowance=abs(limit - before)),
        note="n × shift over its closed form at widths "
        + ", ".join(f"{n}: {v:.3f}" for n, (v, _) in zip(widths, scaled))
        + f". The annealed edge of width 50 moves the other way, by {annealed:+.4f}.",
    )


def _crossing(C_W: Sequence[float], rates: np.ndarray, spread: np.ndarray) -> tuple[float, float]:
    """C_W − C_W* where the rate passes zero, and its standard error."""
    fit = np.polyfit(rates, C_W, 2)
    return float(np.polyval(fit, 0.0)) - EDGE, float(abs(fit[1]) * spread.mean())


@dataclass(frozen=True)
class Extrapolation:
    """A line in 1/N: its limit with standard error, its slope, and the errors of the points."""

    limit: float
    error: float
    slope: float
    errors: np.ndarray


def extrapolate(
    sizes: Sequence[tuple[int, int]], values: np.ndarray, errors: np.ndarray
) -> Extrapolation:
    """Fit limit + a/N to values of (N, number of networks)."""
    x = np.array([1 / N for N, _ in sizes])
    # two networks give a poor error bar: the spread times √N is common to all sizes
    common = math.sqrt(np.mean([k * s**2 * N for (N, k), s in zip(sizes, errors)]))
    e = np.array([common / math.sqrt(N * k) for N, k in sizes])
    design = np.stack([np.ones_like(x), x], 1) / e[:, None]
    covariance = np.linalg.inv(design.T @ design)
    limit, slope = covariance @ design.T @ (values / e)
    return Extrapolation(float(limit), math.sqrt(covariance[0, 0]), float(slope), e)


def lyapunov(lab: Lab, g: float, truth: float, found: Extrapolation) -> None:
    """The largest Lyapunov exponent, simulated, against the energy method's ``truth``."""
    lab.decide(
        "lyapunov",
        Measured(found.limit / truth, found.error / truth),
        note=f"g = {g:g}: mean field {truth:.5f}, simulated {found.limit:.5f} ± {found.error:.5f} "
        "extrapolated in 1/N.",
    )


def loop(lab: Lab, found: Mapping[str, Any], N: int) -> None:
    """The 1/N loop of the linear correlator at ω = 0."""
    relative = found["closed"][0] / N / found["leading"]
    lab.decide(
        "loop",
        Measured(
            found["measured"][0],
            found["error"][0],
            allowance=5 * abs(relative * found["closed"][0]),
        ),
        note=f"ω = 0, σ_w = 0.4, N = {N}.",
    )


def random_matrices(lab: Lab, found: Mapping[int, Mapping[str, Any]]) -> None:
    """Traces of powers of Gaussian matrices, and the response, by N (each twice the last)."""
    ratios = []
    for run in found.values():
        # N × the trace, the leading δ_ts taken out by t ≠ s: min(t, s) + 1
        told = np.array([min(t, s) + 1 for t, s in run["pairs"]])
        ratio, error = np.array(run["traces"]) / told, np.array(run["errors"]) / told
        ratios.append((ratio.mean(), math.sqrt(float((error**2).sum())) / len(told)))
    if len(ratios) < 3:
        lab.leave_open("random-matrices", "Three sizes are needed to extrapolate.")
    else:
        (early, _), (middle, middle_error), (late, late_error) = ratios[-3:]
        limit, before = 2 * late - middle, 2 * middle - early
        lab.decide(
            "random-matrices",
            Measured(
                float(limit),
                math.hypot(2 * late_error, middle_error),
                allowance=float(abs(limit - before)),
            ),
            note="Mean ratios at N = "
            + ", ".join(f"{N}: {r:.3f}" for N, (r, _) in zip(found, ratios))
            + ".",
        )
    N, last = list(found.items())[-1]
    z = [abs(a - b) / e for a, b, e in zip(last["response"], last["told"], last["response_error"])]
    lab.decide(
        "ginibre",
        Measured(max(z), samples=len(z)),
        note=f"N = {N}, σ = 0.4, z = 1 … 3; the next order is of relative size 1/N².",
    )


def depth_over_width(lab: Lab, value: float, error: float, exact: float) -> None:
    """E q²/(E q)² of drawn linear networks."""
    lab.decide(
        "depth-over-width",
        Measured(value / exact, error / exact),
        note=f"(1 + 2/20)^4 = {exact:.5f}; weights drawn.",
    )


def trainable(lab: Lab, depths: Sequence[int], accuracy: np.ndarray, xi: np.ndarray) -> None:
    """Depth at which the training accuracy passes one half, over ξ_c.

    ``accuracy`` is (depths, C_W, seeds), ``xi`` (C_W,).
    """
    logs = np.array(
        [
            math.log(depth / xi[i])
            for i in range(len(xi))
            if xi[i] < 60  # at the edge itself ξ_c says nothing about where training stops
            for depth in _half_way(depths, accuracy[:, i])
        ]
    )
    if len(logs) < 6:
        lab.leave_open("trainable", "Too few depths at this size to locate it.")
        return
    value = float(np.exp(logs.mean()))
    error = float(value * logs.std(ddof=1) / math.sqrt(len(logs)))
    lab.decide(
        "trainable",
        Measured(value, error),
        note=f"Geometric mean over C_W and seeds, {len(logs)} crossings.",
        baseline=Baseline("training accuracy of always the same class", 0.1),
    )


def _half_way(depths: Sequence[int], accuracy: np.ndarray) -> list[float]:
    """Depth at which each seed passes one half, where it does so within the depths tried."""
    found = []
    for right in accuracy.T:
        below = np.nonzero(right < 0.5)[0]
        if len(below) and below[0] > 0:
            b = below[0]
            f = (right[b - 1] - 0.5) / (right[b - 1] - right[b])
            found.append(depths[b - 1] * (depths[b] / depths[b - 1]) ** f)
    return found


def edge_trains_deepest(lab: Lab, C_W: Sequence[float], deepest: np.ndarray, depth: int) -> None:
    """The C_W of the best training accuracy at the greatest depth."""
    lab.decide(
        "edge-trains-deepest",
        float(C_W[int(deepest.argmax())]),
        float(deepest.max()),
        note=f"Depth {depth}; the edge lies at {EDGE:.3f}.",
        baseline=Baseline("accuracy of always the same class", 0.1),
    )
