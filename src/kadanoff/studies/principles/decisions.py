"""What decides each claim: from what was computed to holds, fails or undecided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from kadanoff.studies.lab import Lab

__all__ = [
    "aspect_ratio",
    "critical_points",
    "deep",
    "ensembles",
    "kernel_decay",
    "ntk_growth",
    "orthogonal",
    "representation",
    "trained_mean",
    "vertex_growth",
]

# how far a finite depth is from its asymptote: corrections fall like ln ℓ / ℓ
LOGS = "bound: 2 ln ℓ / ℓ of the value at the last layer"

Growth = Sequence[tuple[str, float, float]]
"""Ratio, the coefficient of its growth, and what the recursion has at the depth of :func:`deep`."""


def deep(lab: Lab) -> int:
    """Depth at which slopes are read off the recursion."""
    return lab.pick(quick=64, full=200)


def _logs(lab: Lab) -> float:
    """Relative distance from the asymptote that is allowed there."""
    return 2 * math.log(deep(lab)) / deep(lab)


def _measured(growth: Growth, ratio: str) -> float:
    return next(measured for name, _, measured in growth if name == ratio)


def critical_points(lab: Lab, found: Mapping[str, Mapping[str, Any]]) -> None:
    """C_W of GELU and SiLU; none for sigmoid and softplus."""
    lab.compare("gelu", found["gelu"]["C_W"], systematic=1e-8, note="solved, no error bar")
    lab.compare("silu", found["silu"]["C_W"], systematic=1e-8, note="solved, no error bar")
    names = ("sigmoid", "softplus")
    lab.decide(
        "not-critical",
        holds=all(found[name]["C_W"] is None for name in names),
        value=[found[name]["class"] for name in names],
    )


def kernel_decay(lab: Lab, growth: Growth) -> None:
    """K → 1/(2ℓ) of tanh at criticality."""
    lab.compare("kernel-decay", 1 / _measured(growth, "K"), systematic=2 * _logs(lab), note=LOGS)


def vertex_growth(lab: Lab, relu: Mapping[str, Any], growth: Growth) -> None:
    """V/K² grows linearly: measured for ReLU, by the recursion for tanh."""
    value, error, rest = _slope(relu)
    lab.compare(
        "vertex-relu",
        value,
        error,
        systematic=rest,
        note="extrapolated in width; V/K² over ℓ − 1 at the best-measured layer",
    )
    lab.compare(
        "vertex-tanh",
        _measured(growth, "V/K²"),
        systematic=_logs(lab) * 2 / 3,
        note=f"slope of the recursion; {LOGS}. Simulated beside it in the figure.",
    )


def _slope(f: Mapping[str, Any]) -> tuple[float, float, float]:
    """V/K² over ℓ − 1 where its total error is least, beyond the trivial second layer."""
    layers = zip(f["limit"], f["stderr"], f["remainder"], strict=True)
    rows = [(v / l, s / l, r / l) for l, (v, s, r) in enumerate(layers) if l > 1]
    return min(rows, key=lambda row: math.hypot(row[1], row[2]))


def aspect_ratio(lab: Lab, curves: Mapping[int, Mapping[str, Any]]) -> None:
    """Widths collapse on one curve in L/n; ``curves`` by width, the two largest are compared."""
    (n, small), (m, large) = list(curves.items())[-2:]
    a, da = small["value"][-1], small["stderr"][-1]
    b, db = large["value"][-1], large["stderr"][-1]
    # at fixed r = 1/4 the widths differ by the next order: (1 + 5/n)^(rn) against exp(5r)
    allowed = 25 * 0.25 / 2 * (1 / n - 1 / m) * math.exp(1.25)
    gap, error = a - b, math.hypot(da, db)
    coarse = error > 0.2 * b
    lab.decide(
        "aspect-ratio",
        value=gap / b,
        stderr=error / b,
        holds=None if coarse else abs(gap) <= 4 * error + allowed,
        note=f"relative difference of widths {n} and {m} at L/n = 1/4; next order allowed: "
        f"{allowed / b:.2f}",
    )


def ntk_growth(lab: Lab, relu: Mapping[str, Any], growth: Growth) -> None:
    """The NTK of ReLU grows linearly with depth; universal ratios of tanh."""
    layers = range(1, len(relu["measured"]) + 1)
    ratio = [m / l for l, m in zip(layers, relu["measured"], strict=True)]
    # ReLU's NTK at one input has no noise at all left at some layers
    errors = [max(s, 1e-9) / l for l, s in zip(layers, relu["stderr"], strict=True)]
    # layer 1 does not fluctuate
    off = max(abs(r - ratio[0]) / e for r, e in zip(ratio[1:], errors[1:], strict=True))
    lab.decide(
        "ntk-linear",
        holds=off < 4,
        value=ratio[-1] / ratio[0],
        stderr=errors[-1] / ratio[0],
        note=f"worst layer: z = {off:.1f}",
    )
    for claim, name in (("ntk-universal", "B/Θ²"), ("dntk", "P/Θ²")):
        size = abs(float(lab.claim(claim).paper_value or 0.0))
        systematic = _logs(lab) * size
        lab.compare(
            claim, _measured(growth, name), systematic=systematic, note=f"recursion; {LOGS}"
        )


def ensembles(lab: Lab, rows: Sequence[Sequence[Any]]) -> None:
    """Every observable of order 1/n against networks: name, predicted, measured, error, next."""
    worst = max(max(0.0, abs(m - p) - r) / s for _, p, m, s, r in rows)
    lab.decide(
        "ensembles",
        holds=worst < 4,
        value=worst,
        note="largest |z| beyond the next power of 1/n",
    )


def representation(lab: Lab, sizes: Sequence[int], moved: Sequence[Sequence[float]]) -> None:
    """The NTK moves by a/n in training, with a finite a."""
    x = [1 / n for n in sizes]
    y = [n * m[0] for n, m in zip(sizes, moved, strict=True)]
    s = [n * m[1] for n, m in zip(sizes, moved, strict=True)]
    limit, error, *_ = _line(x, y, s)
    misfit, freedom = _misfit(x, y, s)
    clear = (misfit - freedom) / (2 * freedom) ** 0.5
    lab.decide(
        "representation",
        value=limit,
        stderr=error,
        holds=None if error > 0.25 * abs(limit) else abs(limit) > 4 * error and clear < 4,
        note=f"n times the mean relative change, fitted by a + b/n: a. χ² = {misfit:.1f} for "
        f"{freedom} degrees of freedom; holds if a is finite and the fit good",
    )


def trained_mean(
    lab: Lab, widths: Sequence[int], measured: Sequence[Any], theory: Sequence[float]
) -> None:
    """The 1/n shift of the mean output of trained networks, extrapolated in width."""
    x = [1 / n for n in widths]
    limits = [_line(x, [m[0][i] for m in measured], [m[1][i] for m in measured]) for i in (0, 1)]
    errors = [s / abs(t) for (_, s, *_), t in zip(limits, theory, strict=True)]
    z = [(v - t) / s for (v, s, *_), t in zip(limits, theory, strict=True)]
    lab.decide(
        "trained-mean",
        holds=None if min(errors) > 0.15 else max(map(abs, z)) < 4,
        value=[v for v, *_ in limits],
        stderr=limits[0][1],
        note=f"predicted {theory[0]:.3f} and {theory[1]:.3f}; z = {z[0]:.1f}, {z[1]:.1f}; "
        f"error bars {errors[0]:.0%}, {errors[1]:.0%} (decided below 15 %)",
    )


def orthogonal(lab: Lab, found: Mapping[str, Any], depth: int) -> None:
    """The last layers' trend of V/K² with Haar weights, against 2/3 a layer."""
    half = depth // 2
    trend = (found["measured"][-1] - found["measured"][half]) / (depth - 1 - half)
    error = math.hypot(found["stderr"][-1], found["stderr"][half]) / (depth - 1 - half)
    lab.decide(
        "orthogonal",
        value=trend,
        stderr=error,
        holds=None if error > 0.1 else abs(trend) < 0.1 * 2 / 3 + 4 * error,
        note="change of V/K² a layer over the last half; holds if within 10 % of 2/3 of zero",
    )


def _line(
    x: Sequence[float], y: Sequence[float], s: Sequence[float]
) -> tuple[float, float, float, float]:
    """Weighted straight line: value at x = 0 and its error, slope and its error."""
    design = torch.tensor([[1.0, a] for a in x], dtype=torch.float64)
    weight = torch.tensor(s, dtype=torch.float64) ** -2
    covariance = torch.linalg.inv(design.mT @ (weight[:, None] * design))
    fit = covariance @ design.mT @ (weight * torch.tensor(y, dtype=torch.float64))
    errors = covariance.diagonal().sqrt()
    return float(fit[0]), float(errors[0]), float(fit[1]), float(errors[1])


def _misfit(x: Sequence[float], y: Sequence[float], s: Sequence[float]) -> tuple[float, int]:
    """χ² of the straight line, and its degrees of freedom."""
    a, _, b, _ = _line(x, y, s)
    pulls = [(v - a - b * t) / e for t, v, e in zip(x, y, s, strict=True)]
    return sum(p * p for p in pulls), len(x) - 2
