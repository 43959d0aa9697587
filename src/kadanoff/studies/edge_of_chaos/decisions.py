"""What decides each claim: from what was computed to holds, fails or undecided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

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
    "stable_correlation",
    "trainable",
    "two_averages",
]

# distances from the edge at which depth scales are compared
NEAR = (-0.02, -0.002, 0.002, 0.02)


def boundary(lab: Lab, line: float, rest: float, above: float) -> None:
    """The edge of feedforward networks, and that of recurrent ones at rest."""
    lab.compare("boundary", line, systematic=1e-9)
    lab.decide(
        "one-line",
        holds=abs(rest - line) < 1e-8 and above > 0,
        value=rest,
        note=(
            f"Where the static state of the recurrent network loses stability; 3% beyond, the "
            f"energy method gives a Lyapunov exponent of {above:+.4f}."
        ),
    )


def exponent(lab: Lab, C_W: np.ndarray, scales: np.ndarray) -> None:
    """The power with which ξ_c diverges, from 0.02 to 0.002 off the edge on both sides."""
    near = [int(np.argmin(abs(C_W - EDGE - d))) for d in NEAR]
    slope = [
        math.log10(scales[near[1], 2] / scales[near[0], 2]),
        math.log10(scales[near[2], 2] / scales[near[3], 2]),
    ]
    lab.compare(
        "exponent",
        float(np.mean(slope)),
        systematic=0.01,
        note=(
            f"Below {slope[0]:.4f}, above {slope[1]:.4f}, from 0.02 to 0.002 off the edge; the "
            f"next term of the divergence is allowed 0.01. xi_q there is {scales[near[1], 0]:.2f}."
        ),
    )


def two_averages(lab: Lab, n: int, row: Sequence[float]) -> None:
    """Coefficients of 1/n of the annealed and of the typical rate, (value, error) each."""
    annealed, annealed_error, typical, typical_error = row[:4]
    margin = "The next order is allowed 3/n."
    lab.compare("annealed", annealed, annealed_error, systematic=3 / n, note=f"n = {n}. {margin}")
    lab.compare("typical", typical, typical_error, systematic=3 / n, note=f"n = {n}. {margin}")
    lab.decide(
        "opposite",
        holds=annealed > 4 * annealed_error and typical < -4 * typical_error,
        value=[annealed, typical],
        note="Annealed and typical coefficient, each more than four standard errors from 0.",
    )


def magnitude(lab: Lab, value: float, n: int) -> None:
    """The 1/n shift of χ∥, by the exact chain of the metric."""
    lab.compare(
        "magnitude",
        value,
        systematic=1.2 / n,
        note=f"Exact chain at n = {n}, no statistics; 1.2/n for the next order.",
    )


def stable_correlation(lab: Lab, slope: float, closed: float) -> None:
    """The 1/n shift of the rate in the chaotic phase, by two routes."""
    lab.decide(
        "stable-correlation",
        holds=abs(slope / closed - 1) < 5e-3,
        value=slope,
        note=f"Closed form {closed:.5f} at C_W = 3; measured from the linear growth of the "
        "1/n recursion at layer 70, independent code; 0.5% allowed.",
    )


def edge_shift(
    lab: Lab,
    C_W: Sequence[float],
    rates: np.ndarray,
    spread: float,
    first: float,
    annealed: float,
) -> None:
    """Where typical networks of width 50 turn chaotic; ``first`` is the shift to order 1/n."""
    fit = np.polyfit(rates, C_W, 2, cov=False)
    zero = float(np.polyval(fit, 0.0)) - EDGE
    error = float(abs(fit[1]) * spread)
    lab.decide(
        "edge-shift",
        value=zero,
        stderr=error,
        holds=zero > 4 * error and abs(zero - first) < 4 * error + 0.3 * first,
        note=f"First order in 1/n: {first:+.4f}; the next order is allowed 30% of it. The "
        f"annealed edge moves the other way, by "
        f"{annealed:+.4f}.",
    )


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
    clear = found.error < 0.15 * truth
    lab.decide(
        "lyapunov",
        value=found.limit,
        stderr=found.error,
        holds=abs(found.limit - truth) < 4 * found.error if clear else None,
        note=f"g = {g:g}: mean field {truth:.5f}; simulations extrapolated in 1/N."
        + ("" if clear else " The error bar is too wide at this size."),
    )


def loop(lab: Lab, found: Mapping[str, Any], N: int) -> None:
    """The 1/N loop of the linear correlator at ω = 0."""
    lab.compare(
        "loop",
        found["measured"][0],
        found["error"][0],
        systematic=0.08 * abs(found["closed"][0]),
        note=f"ω = 0, σ_w = 0.4, N = {N}; the order 1/N² is allowed 8%.",
    )


def depth_over_width(lab: Lab, value: float, error: float, exact: float) -> None:
    """E q²/(E q)² of drawn linear networks."""
    lab.decide(
        "depth-over-width",
        holds=abs(value - exact) < 4 * error,
        value=value,
        stderr=error,
        note=f"Exact: (1 + 2/20)^4 = {exact:.5f}; weights drawn.",
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
    value = float(np.exp(logs.mean())) if len(logs) else math.nan
    error = float(value * logs.std(ddof=1) / math.sqrt(len(logs))) if len(logs) > 2 else math.nan
    enough = len(logs) >= 6
    lab.decide(
        "trainable",
        value=value if len(logs) else None,
        stderr=error if len(logs) > 2 else None,
        holds=bool(3 < value < 12) if enough else None,
        note="Geometric mean over C_W and seeds of (depth where training accuracy passes ½)/ξ_c; "
        "taken to hold within a factor of two of six."
        + ("" if enough else " Too few depths at this size to locate it."),
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
    best = C_W[int(deepest.argmax())]
    learnt = deepest.max() > 0.3
    lab.decide(
        "edge-trains-deepest",
        value=best,
        holds=bool(1.3 <= best <= 2.5) if learnt else None,
        note=f"C_W of the best training accuracy ({deepest.max():.2f}) at depth {depth}; the "
        f"edge lies at {EDGE:.3f}. " + ("" if learnt else "No net of this depth learnt."),
    )
