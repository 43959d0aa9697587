"""What decides each claim: from what was computed to holds, fails or undecided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from kadanoff.studies.claims import Measured
from kadanoff.studies.lab import Lab

__all__ = [
    "algorithm",
    "aspect_ratio",
    "bayes",
    "critical_points",
    "deep",
    "ensembles",
    "information",
    "kernel_decay",
    "ntk_growth",
    "optimal_aspect",
    "orthogonal",
    "representation",
    "residual",
    "trained_mean",
    "two_inputs",
    "vertex_growth",
]

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
    """C_W and C_b of GELU and SiLU; no critical point of sigmoid and softplus."""
    for name in ("gelu", "silu"):
        lab.decide(name, found[name]["C_W"], found[name]["C_b"], note="Solved; no error bar.")
    names = ("sigmoid", "softplus")
    points = sum(found[name]["C_W"] is not None for name in names)
    lab.decide("not-critical", points, note="Sigmoid and softplus together.")


def kernel_decay(lab: Lab, growth: Growth) -> None:
    """K → 1/(2ℓ) of tanh at criticality."""
    value = 1 / _measured(growth, "K")
    lab.decide(
        "kernel-decay",
        Measured(value, allowance=2 * _logs(lab)),
        note=f"Slope of the recursion at depth {deep(lab)}; simulated beside it in the figure.",
    )


def two_inputs(lab: Lab, kind: str, widths: Sequence[int], found: Sequence[Any]) -> None:
    """Growth of a small difference a layer, extrapolated in 1/n from n and 2n."""
    chi, ((small, small_error), (large, large_error)) = found
    lab.decide(
        kind,
        Measured((2 * large - small) / chi, math.hypot(2 * large_error, small_error) / chi),
        note=f"tanh, C_W = 1.5, C_b = 0.05: χ = {chi:.5f}; widths {widths[0]} and {widths[1]}.",
    )


def vertex_growth(lab: Lab, relu: Mapping[str, Any], growth: Growth) -> None:
    """V/K² grows linearly: measured for ReLU, by the recursion for tanh."""
    value, error, rest = _slope(relu)
    lab.decide(
        "vertex-relu",
        Measured(value, error, allowance=rest),
        note="Networks extrapolated in width; V/K² over ℓ − 1 at the best-measured layer.",
    )
    lab.decide(
        "vertex-tanh",
        Measured(_measured(growth, "V/K²"), allowance=_logs(lab) * 2 / 3),
        note=f"Slope of the recursion at depth {deep(lab)}; simulated beside it in the figure.",
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
    lab.decide(
        "aspect-ratio",
        Measured((a - b) / b, math.hypot(da, db) / b, allowance=allowed / b),
        note=f"Widths {n} and {m}.",
    )


def ntk_growth(lab: Lab, relu: Mapping[str, Any], growth: Growth) -> None:
    """The NTK of ReLU grows linearly with depth; universal ratios of tanh."""
    layers = range(1, len(relu["measured"]) + 1)
    ratio = [m / l for l, m in zip(layers, relu["measured"], strict=True)]
    # ReLU's NTK at one input has no noise at all left at some layers
    errors = [max(s, 1e-9) / l for l, s in zip(layers, relu["stderr"], strict=True)]
    # layer 1 does not fluctuate
    z = [abs(r - ratio[0]) / e for r, e in zip(ratio[1:], errors[1:], strict=True)]
    lab.decide(
        "ntk-linear",
        Measured(max(z), samples=len(z)),
        note=f"At the last layer Θ/ℓ is {ratio[-1] / ratio[0]:.4f} ± {errors[-1] / ratio[0]:.4f} "
        "of that of the first.",
    )
    for claim, name in (("ntk-universal", "B/Θ²"), ("dntk", "P/Θ²")):
        size = abs(lab.claim(claim).tests[0].target)
        lab.decide(
            claim,
            Measured(_measured(growth, name), allowance=_logs(lab) * size),
            note=f"Slope of the recursion at depth {deep(lab)}.",
        )


def ensembles(lab: Lab, rows: Sequence[Sequence[Any]]) -> None:
    """Every observable of order 1/n against networks: name, predicted, measured, error, next."""
    worst = max(max(0.0, abs(m - p) - r) / s for _, p, m, s, r in rows)
    lab.decide(
        "ensembles",
        Measured(worst, samples=len(rows)),
        note=f"{len(rows)} components, extrapolated in width.",
    )


def representation(lab: Lab, sizes: Sequence[int], moved: Sequence[Sequence[float]]) -> None:
    """The mean NTK moves as a power of n in training: rows (mean relative change, error, rms)."""
    x = [math.log(n) for n in sizes]
    y = [math.log(abs(m[0])) for m in moved]
    s = [m[1] / abs(m[0]) for m in moved]
    _, _, late, error = _line(x[1:], y[1:], s[1:])
    _, _, early, _ = _line(x[:-1], y[:-1], s[:-1])
    lab.decide(
        "representation",
        Measured(late, error, allowance=abs(late - early)),
        abs(moved[-1][0]) / moved[-1][1],
        note=f"Widths {', '.join(str(n) for n in sizes)}: the trace of the NTK changes by "
        + ", ".join(f"{m[0]:.4f}" for m in moved)
        + " of itself on average.",
    )


def bayes(lab: Lab, widths: Sequence[int], found: Sequence[Sequence[float]]) -> None:
    """n × the shift of the posterior mean, rows (value, error, prediction)."""
    x = [1 / n for n in widths]
    told = found[-1][2]
    limit, error, *_ = _line(x, [f[0] for f in found], [f[1] for f in found])
    narrow = _line(x[:-1], [f[0] for f in found[:-1]], [f[1] for f in found[:-1]])[0]
    lab.decide(
        "bayes",
        Measured(limit / told, error / abs(told), allowance=abs(limit - narrow) / abs(told)),
        abs(limit) / error,
        note=f"Widths {', '.join(str(n) for n in widths)}, two hidden tanh layers, two points; "
        f"predicted coefficient of 1/n: {told:.4f}.",
    )


def trained_mean(
    lab: Lab, widths: Sequence[int], measured: Sequence[Any], theory: Sequence[float]
) -> None:
    """The 1/n shift of the mean output of trained networks, extrapolated in width."""
    limits = _limits(widths, measured)
    lab.decide(
        "trained-mean",
        *(Measured(v / t, s / abs(t)) for (v, s), t in zip(limits, theory, strict=True)),
        note=f"Predicted {theory[0]:.3f} and {theory[1]:.3f}, measured {limits[0][0]:.3f} ± "
        f"{limits[0][1]:.3f} and {limits[1][0]:.3f} ± {limits[1][1]:.3f}.",
    )


def algorithm(
    lab: Lab,
    widths: Sequence[int],
    leap: Sequence[Any],
    steps: Sequence[Any],
    theory: Sequence[float],
) -> None:
    """Networks after a giant leap against theory, and against those of small steps."""
    ends, other = _limits(widths, leap), _limits(widths, steps)
    gap = [a - b for (a, _), (b, _) in zip(ends, other)]
    spread = [math.hypot(a, b) for (_, a), (_, b) in zip(ends, other)]
    length = math.hypot(*gap)
    error = math.hypot(*(g * s for g, s in zip(gap, spread))) / length
    lab.decide(
        "algorithm",
        *(Measured(v / t, s / abs(t)) for (v, s), t in zip(ends, theory, strict=True)),
        Measured(length, error),
        note=f"Predicted {theory[0]:.3f} and {theory[1]:.3f} after the leap.",
    )


def information(lab: Lab, run: Sequence[float], width: int, depth: int) -> None:
    """Information of two neurons in networks over the formula: (value, error, v, formula)."""
    value, error, v, told = run
    lab.decide(
        "information",
        Measured(value / told, error / told, allowance=(v * (1 + 10 / 3)) ** 2),
        note=f"ReLU, width {width}, {depth} hidden layers: v = {v:.4f}, {told:.3g} nats.",
    )


def optimal_aspect(
    lab: Lab, at: Sequence[float], beyond: Sequence[float], depths: Sequence[int], width: int
) -> None:
    """Information of two outputs at r* and at twice that depth."""
    ratio = beyond[0] / at[0]
    error = ratio * math.hypot(beyond[1] / beyond[0], at[1] / at[0])
    lab.decide(
        "optimal-aspect",
        Measured(ratio, error),
        note=f"ReLU, width {width}, {depths[0]} and {depths[1]} hidden layers: {at[0]:.4g} and "
        f"{beyond[0]:.4g} nats; the formula of order v³ has {at[3]:.4g} and {beyond[3]:.4g}. "
        "The maximum is one of the truncated expansion: in networks the information goes on "
        "growing with depth.",
    )


def residual(
    lab: Lab,
    recursion: Sequence[float],
    depth: int,
    linear: Sequence[float],
    skip: Sequence[float],
    n_out: int = 1,
) -> None:
    """Growth of V/K² a block, and the skip that keeps a network at the optimum."""
    quarter, half, whole = recursion
    late, early = (whole - half) / (depth / 2), (half - quarter) / (depth / 4)
    if depth < 32:
        lab.leave_open("residual-tanh", f"{depth} blocks are too few to extrapolate in depth.")
    else:
        lab.decide(
            "residual-tanh",
            Measured(2 * late - early, allowance=abs(late - early)),
            note=f"Recursion of {depth} blocks; the slope is extrapolated in depth.",
        )
    value, error, rest = linear
    lab.decide("residual-linear", Measured(value, error, allowance=rest), note="Gaussian weights.")
    wanted = 4 / (20 + 3 * n_out)
    lab.decide(
        "optimal-gamma",
        Measured(skip[0] / wanted, skip[1] / wanted, allowance=wanted / 2),
        note=f"γ* = {skip[2]:.4f}; without a skip V/nK² would be {(1 + 2 / 50) ** 20 - 1:.2f}.",
    )


def orthogonal(lab: Lab, found: Mapping[str, Any], depth: int) -> None:
    """The last layers' trend of V/K² with Haar weights, against 2/3 a layer."""
    half = depth // 2
    trend = (found["measured"][-1] - found["measured"][half]) / (depth - 1 - half)
    error = math.hypot(found["stderr"][-1], found["stderr"][half]) / (depth - 1 - half)
    lab.decide("orthogonal", Measured(trend, error), note=f"{depth} layers of width 32.")


def _limits(widths: Sequence[int], measured: Sequence[Any]) -> list[tuple[float, float]]:
    """Both outputs extrapolated in 1/n, each with its standard error."""
    x = [1 / n for n in widths]
    fits = [_line(x, [m[0][i] for m in measured], [m[1][i] for m in measured]) for i in (0, 1)]
    return [(value, error) for value, error, *_ in fits]


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
