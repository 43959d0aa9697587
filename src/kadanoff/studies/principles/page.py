"""The principles of deep learning theory: criticality, L/n, the NTK, representation learning.

The book's chain of statements at one input, theory beside simulated and trained networks. Every
measurement is a part of the run; the figures are those of the book's chapters made anew.
"""

from __future__ import annotations

import math
from typing import Any

import torch

from kadanoff.studies.lab import Lab
from kadanoff.studies.principles.parts import (
    agreement,
    classes,
    collapse,
    kernel,
    laws,
    movement,
    orthogonal,
    prediction,
    tangent,
    trained,
    vertex,
)
from kadanoff.style.figures import SERIES, colour, figure, house_style, points

__all__ = ["run"]

ACTIVATIONS = ("tanh", "sin", "linear", "relu", "gelu", "silu", "sigmoid", "softplus")
# how far a finite depth is from its asymptote: corrections fall like ln ℓ / ℓ
LOGS = "bound: 2 ln ℓ / ℓ of the value at the last layer"


def run(lab: Lab) -> None:
    """All claims, chapter by chapter."""
    lab.plan(len(ACTIVATIONS) + 26)
    growth = lab.part("laws-tanh", laws, "tanh", _deep(lab))
    _criticality(lab, growth)
    _fluctuations(lab, growth)
    _tangent_kernel(lab, growth)
    _representation(lab)
    _contrast(lab)


def _deep(lab: Lab) -> int:
    """Depth at which slopes are read off the recursion."""
    return lab.pick(quick=64, full=200)


def _logs(lab: Lab) -> float:
    """Relative distance from the asymptote that is allowed there."""
    return 2 * math.log(_deep(lab)) / _deep(lab)


def _measured(growth: list[Any], ratio: str) -> float:
    return next(measured for name, _, measured in growth if name == ratio)


def _criticality(lab: Lab, growth: list[Any]) -> None:
    found = {name: lab.part(f"class-{name}", classes, name) for name in ACTIVATIONS}
    lab.say(
        "Criticality",
        r"""The kernel of a deep network keeps its size only if $\chi_\parallel = \chi_\perp = 1$.
        Where such a point exists it falls into few universality classes.""",
    )
    rows = [[name, c["class"], c["C_b"], c["C_W"]] for name, c in found.items()]
    lab.table("Critical initialisation", ["activation", "class", "C_b", "C_W"], rows)
    lab.compare("gelu", found["gelu"]["C_W"], systematic=1e-8, note="solved, no error bar")
    lab.compare("silu", found["silu"]["C_W"], systematic=1e-8, note="solved, no error bar")
    none = [found[n]["C_W"] is None for n in ("sigmoid", "softplus")]
    lab.decide("not-critical", holds=all(none), value=[found["sigmoid"]["class"],
               found["softplus"]["class"]])  # fmt: skip

    depth, networks = lab.pick(quick=30, full=100), lab.pick(quick=64, full=2000)
    flows = {C_W: lab.part(f"kernel-{C_W}", kernel, "tanh", C_W, depth, 100, networks, lab.seed)
             for C_W in (0.9, 1.0, 1.1)}  # fmt: skip
    with house_style():
        fig, ax = figure()
        for i, (C_W, f) in enumerate(flows.items()):
            ax.plot(f["layers"], f["predicted"], color=SERIES[i])
            some = slice(0, None, max(1, depth // 20))
            points(ax, f["layers"][some], f["measured"][some], f["stderr"][some],
                   label=f"C_W = {C_W}", index=i)  # fmt: skip
        ax.set(yscale="log", xlabel="layer", ylabel="K", title="tanh: kernel with depth")
        ax.legend()
    lab.figure("kernel.svg", fig, "Kernel of tanh below, at and above criticality: lines at "
               "infinite width, points simulated at width 100.")  # fmt: skip
    # K → 1/(2ℓ)
    K = _measured(growth, "K")
    lab.compare("kernel-decay", 1 / K, systematic=2 * _logs(lab), note=LOGS)


def _fluctuations(lab: Lab, growth: list[Any]) -> None:
    lab.say(
        "Fluctuations and L/n",
        r"""At finite width the metric fluctuates from network to network. Its variance over the
        squared mean is $V / n K^2$, and $V/K^2$ grows linearly with depth: the expansion parameter
        is $L/n$.""",
    )
    depth = lab.pick(quick=7, full=12)
    networks = lab.pick(quick=2000, full=20_000)
    widths = lab.pick(quick=[40, 80, 160], full=[75, 150, 300])
    names = ("relu", "linear", "tanh", "sin")
    found = {n: lab.part(f"vertex-{n}", vertex, n, depth, widths, networks, lab.seed)
             for n in names}  # fmt: skip
    with house_style():
        fig, (left, right) = figure(1, 2, width=9.0, height=3.6)
        for i, (name, f) in enumerate(found.items()):
            left.plot(f["layers"], f["predicted"], color=SERIES[i])
            points(left, f["layers"], f["limit"], f["stderr"], label=name, index=i)
        left.set(xlabel="layer", ylabel="V / K²", title="Four-point vertex at criticality")
        left.legend()
        sizes = lab.pick(quick=((16, 5), (32, 9), (64, 17)),
                         full=((16, 5), (32, 9), (64, 17), (128, 33)))  # fmt: skip
        curves = [lab.part(f"collapse-{n}", collapse, n, L, 4 * networks, lab.seed + 1)
                  for n, L in sizes]  # fmt: skip
        for i, ((n, _), c) in enumerate(zip(sizes, curves, strict=True)):
            some = slice(0, None, max(1, n // 16))
            points(right, c["ratio"][some], c["value"][some], c["stderr"][some], label=f"n = {n}",
                   index=i)  # fmt: skip
        r = [0.0025 * k for k in range(101)]
        right.plot(r, [math.expm1(5 * x) for x in r], color=colour("ink"), label="exp(5 r) − 1")
        right.set(xlabel="r = (ℓ − 1) / n", ylabel="variance / mean²",
                  title="ReLU: widths on one curve")  # fmt: skip
        right.legend()
    lab.figure(
        "fluctuations.svg",
        fig,
        "Left: V/K² predicted (lines) and simulated, extrapolated "
        "to infinite width. Right: the relative variance of the metric against L/n.",
    )
    value, error, rest = _slope(found["relu"])
    lab.compare(
        "vertex-relu",
        value,
        error,
        systematic=rest,
        note="extrapolated in width; V/K² over ℓ − 1 at the best-measured layer",
    )
    slope = _measured(growth, "V/K²")
    lab.compare(
        "vertex-tanh",
        slope,
        systematic=_logs(lab) * 2 / 3,
        note=f"slope of the recursion; {LOGS}. Simulated beside it in the figure.",
    )
    last = [(c["value"][-1], c["stderr"][-1], n) for (n, _), c in zip(sizes, curves, strict=True)]
    (a, da, n), (b, db, m) = last[-2:]
    # at fixed r = 1/4 the widths differ by the next order: (1 + 5/n)^(rn) against exp(5r)
    allowed = 25 * 0.25 / 2 * (1 / n - 1 / m) * math.exp(1.25)
    gap, error = a - b, math.hypot(da, db)
    coarse = error > 0.2 * b
    lab.decide(
        "aspect-ratio", value=gap / b, stderr=error / b,
        holds=None if coarse else abs(gap) <= 4 * error + allowed,
        note=f"relative difference of widths {n} and {m} at L/n = 1/4; next order allowed: "
        f"{allowed / b:.2f}",
    )  # fmt: skip


def _slope(f: dict[str, Any]) -> tuple[float, float, float]:
    """V/K² over ℓ − 1 where its total error is least, beyond the trivial second layer."""
    rows = [(v / l, s / l, r / l) for l, (v, s, r) in enumerate(
        zip(f["limit"], f["stderr"], f["remainder"], strict=True)) if l > 1]  # fmt: skip
    return min(rows, key=lambda row: math.hypot(row[1], row[2]))


def _tangent_kernel(lab: Lab, growth: list[Any]) -> None:
    lab.say(
        "The neural tangent kernel",
        r"""The NTK sums over layers: with equal learning rates it grows with depth. The book's
        rates, $\lambda/L$ for scale-invariant activations and $\lambda_b/\ell$ for the $K^*=0$
        class, let every layer contribute equally.""",
    )
    depth, networks = lab.pick(quick=16, full=40), lab.pick(quick=64, full=2000)
    found = {n: lab.part(f"ntk-{n}", tangent, n, depth, 100, networks, lab.seed + 2)
             for n in ("relu", "tanh")}  # fmt: skip
    layers = list(range(1, depth + 1))
    with house_style():
        fig, axes = figure(1, 2, width=9.0, height=3.6)
        for ax, (name, both) in zip(axes, found.items(), strict=True):
            for i, (kind, f) in enumerate(both.items()):
                ax.plot(layers, f["predicted"], color=SERIES[i])
                points(ax, layers, f["measured"], f["stderr"], label=f"{kind} rates", index=i)
            ax.set(xlabel="layer", ylabel="Θ", title=name)
            ax.legend()
    lab.figure("ntk.svg", fig, "Mean NTK with depth: lines at infinite width, points simulated at "
               "width 100.")  # fmt: skip
    f = found["relu"]["equal"]
    ratio = [m / l for l, m in zip(layers, f["measured"], strict=True)]
    # ReLU's NTK at one input has no noise at all left at some layers
    errors = [max(s, 1e-9) / l for l, s in zip(layers, f["stderr"], strict=True)]
    # layer 1 does not fluctuate
    off = max(abs(r - ratio[0]) / e for r, e in zip(ratio[1:], errors[1:], strict=True))
    lab.decide("ntk-linear", holds=off < 4, value=ratio[-1] / ratio[0],
               stderr=errors[-1] / ratio[0], note=f"worst layer: z = {off:.1f}")  # fmt: skip
    for claim, ratio in (("ntk-universal", "B/Θ²"), ("dntk", "P/Θ²")):
        size = abs(float(lab.claim(claim).paper_value or 0.0))
        lab.compare(claim, _measured(growth, ratio), systematic=_logs(lab) * size,
                    note=f"recursion; {LOGS}")  # fmt: skip
    lab.table(
        "Growth with depth, tanh",
        ["ratio", "coefficient", f"recursion, depth {_deep(lab)}"],
        growth,
        "Slopes over the last half of the layers; corrections fall like ln ℓ/ℓ.",
    )


def _representation(lab: Lab) -> None:
    lab.say(
        "Representation learning",
        r"""At infinite width the NTK does not move and no features are learnt. At order $1/n$ it
        does: by the dNTK, whose correlations with the output are $P$ and $Q$, and by the ddNTKs
        $R$, $S$, $T$, $U$. First all of them against simulated networks, then trained networks
        against the prediction.""",
    )
    widths = lab.pick(quick=[32, 64, 128], full=[48, 96, 192])
    first = lab.part("agreement-first", agreement, ("G1", "V", "H1", "A", "B", "D", "F"), 5, widths,
                     lab.pick(quick=2000, full=20_000), lab.seed + 3)  # fmt: skip
    second = lab.part("agreement-second", agreement, tuple("PQRSTU"), 4, widths,
                      lab.pick(quick=400, full=3000), lab.seed + 4)  # fmt: skip
    rows = [[n, p, m, s, (m - p) / s] for n, p, m, s, _ in first + second]
    lab.table("tanh, extrapolated in width", ["", "predicted", "measured", "standard error", "z"],
              rows, "Layer 5 for G1 … F, layer 4 for P … U, in the order listed.")  # fmt: skip
    worst = max(max(0.0, abs(m - p) - r) / s for _, p, m, s, r in first + second)
    lab.decide("ensembles", holds=worst < 4, value=worst,
               note="largest |z| beyond the next power of 1/n")  # fmt: skip

    sizes = lab.pick(quick=(64, 128, 256), full=(64, 128, 256, 512))
    moved = [lab.part(f"movement-{n}", movement, n, lab.pick(quick=800, full=3000), lab.seed + 5)
             for n in sizes]  # fmt: skip
    scaled = [[n * m[0], n * m[1]] for n, m in zip(sizes, moved, strict=True)]
    limit, error, *_ = _line([1 / n for n in sizes], *map(list, zip(*scaled, strict=True)))
    misfit, freedom = _misfit([1 / n for n in sizes], *map(list, zip(*scaled, strict=True)))
    clear = (misfit - freedom) / (2 * freedom) ** 0.5
    lab.decide(
        "representation",
        value=limit,
        stderr=error,
        holds=None if error > 0.25 * abs(limit) else abs(limit) > 4 * error and clear < 4,
        note=f"n times the mean relative change, fitted by a + b/n: a. χ² = {misfit:.1f} for "
        f"{freedom} degrees of freedom; holds if a is finite and the fit good",
    )
    theory = lab.part("prediction", prediction)
    nets = lab.pick(quick=(96, 192), full=(96, 192, 384))
    measured = [lab.part(f"trained-{n}", trained, n, lab.pick(quick=300, full=6000), n)
                for n in nets]  # fmt: skip
    with house_style():
        fig, (left, right) = figure(1, 2, width=9.0, height=3.6)
        points(left, sizes, [abs(m[0]) for m in moved], [m[1] for m in moved], label="mean")
        left.plot(sizes, [m[2] for m in moved], marker="s", linestyle="none", color=SERIES[1],
                  label="root mean square")  # fmt: skip
        for i in (0, 2):
            left.plot(sizes, [abs(moved[-1][i]) * sizes[-1] / n for n in sizes],
                      color=SERIES[i // 2], label="1/n" if i else None)  # fmt: skip
        left.set(xscale="log", yscale="log", xlabel="width", ylabel="change of the NTK / NTK",
                 title="NTK after training")  # fmt: skip
        left.legend()
        for i in (0, 1):
            points(right, [1 / n for n in nets], [m[0][i] for m in measured],
                   [m[1][i] for m in measured], label=f"output {i + 1}", index=i)  # fmt: skip
            right.plot([0], [theory[i]], marker="*", markersize=11, color=SERIES[i],
                       linestyle="none", label="predicted, n → ∞")  # fmt: skip
        right.set_xlim(left=-0.0005)
        right.set(xlabel="1 / n", ylabel="n (mean − infinite width)", title="Trained networks")
        right.legend()
    lab.figure(
        "learning.svg",
        fig,
        "Left: how far the NTK moves in training, beside 1/n. Right: mean output of trained "
        "networks at a test point, less the kernel's prediction, times n.",
    )
    limits = [_linear([1 / n for n in nets], [m[0][i] for m in measured],
                      [m[1][i] for m in measured]) for i in (0, 1)]  # fmt: skip
    errors = [s / abs(t) for (_, s), t in zip(limits, theory, strict=True)]
    z = [(v - t) / s for (v, s), t in zip(limits, theory, strict=True)]
    holds = None if min(errors) > 0.15 else max(map(abs, z)) < 4
    lab.decide("trained-mean", holds=holds, value=[v for v, _ in limits], stderr=limits[0][1],
               note=f"predicted {theory[0]:.3f} and {theory[1]:.3f}; z = {z[0]:.1f}, {z[1]:.1f}; "
               f"error bars {errors[0]:.0%}, {errors[1]:.0%} (decided below 15 %)")  # fmt: skip


def _contrast(lab: Lab) -> None:
    lab.say(
        "Orthogonal weights",
        """Haar matrices keep norms and angles, which takes the growing part out of the vertex of
        the K* = 0 class.""",
    )
    depth, width = lab.pick(quick=8, full=20), 32
    found = lab.part("orthogonal", orthogonal, depth, width, lab.pick(quick=600, full=4000),
                     lab.seed + 6)  # fmt: skip
    gaussian = lab.part("gaussian", vertex, "tanh", depth, [48, 96], lab.pick(
        quick=600, full=4000), lab.seed + 7)  # fmt: skip
    with house_style():
        fig, ax = figure()
        for i, (label, f, key) in enumerate(
            (
                ("Gaussian, n → ∞", gaussian, "limit"),
                (f"orthogonal, n = {width}", found, "measured"),
            )
        ):
            ax.plot(f["layers"], f["predicted"], color=SERIES[i])
            points(ax, f["layers"], f[key], f["stderr"], label=label, index=i)
        ax.axhline(0.0, color=colour("muted"), linewidth=0.8)
        ax.set(xlabel="layer", ylabel="V / K²", title="tanh: Gaussian and orthogonal weights")
        ax.legend()
    lab.figure("orthogonal.svg", fig, "V/K²: lines predicted at leading order, points simulated.")
    # the last layers' trend, against 2/3 a layer
    half = depth // 2
    trend = (found["measured"][-1] - found["measured"][half]) / (depth - 1 - half)
    error = math.hypot(found["stderr"][-1], found["stderr"][half]) / (depth - 1 - half)
    lab.decide(
        "orthogonal", value=trend, stderr=error,
        holds=None if error > 0.1 else abs(trend) < 0.1 * 2 / 3 + 4 * error,
        note="change of V/K² a layer over the last half; holds if within 10 % of 2/3 of zero",
    )  # fmt: skip


def _linear(x: list[float], y: list[float], s: list[float]) -> tuple[float, float]:
    """Value at x = 0 of a weighted straight line, with its standard error."""
    return _line(x, y, s)[:2]


def _line(x: list[float], y: list[float], s: list[float]) -> tuple[float, float, float, float]:
    design = torch.tensor([[1.0, a] for a in x], dtype=torch.float64)
    weight = torch.tensor(s, dtype=torch.float64) ** -2
    covariance = torch.linalg.inv(design.mT @ (weight[:, None] * design))
    fit = covariance @ design.mT @ (weight * torch.tensor(y, dtype=torch.float64))
    errors = covariance.diagonal().sqrt()
    return float(fit[0]), float(errors[0]), float(fit[1]), float(errors[1])


def _misfit(x: list[float], y: list[float], s: list[float]) -> tuple[float, int]:
    """χ² of the straight line, and its degrees of freedom."""
    a, _, b, _ = _line(x, y, s)
    pulls = [(v - a - b * t) / e for t, v, e in zip(x, y, s, strict=True)]
    return sum(p * p for p in pulls), len(x) - 2
