"""What the page says, in order: each section asks for its parts, decides, shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from kadanoff.studies.exact_priors import decisions, figures, parts
from kadanoff.studies.lab import Lab

__all__ = ["run"]

_WIDTHS = (1, 2, 5, 10, 100)
_BOTTLENECKS = (1, 2, 5, 10, 50, 100)
_OUTPUTS = (1, 2, 3, 10)
_DRAWN = ((1,), (2,), (5,), (1, 2), (3, 2), (4, 4), (2, 2, 2), (3, 1, 4), (5, 3, 2))
_EDGES = np.linspace(0, 5, parts.BINS + 1)
_TAILS = ((), (5,), (5, 5), (5, 5, 5))


def run(lab: Lab) -> None:
    """Run the study."""
    depths = (2, 3, 4)
    samples = lab.pick(quick=100_000, full=50_000_000)
    networks = lab.pick(quick=20_000, full=400_000)
    cases = [(w, a, m) for a in ("linear", "relu") for w in _DRAWN for m in (1, 2)]
    lab.plan(
        2 * len(depths) * len(_WIDTHS) + len(_BOTTLENECKS) + len(cases) + 2 * len(_OUTPUTS) + 3
    )
    lab.say("The law of one network", _LAW)
    z = []
    for activation, file, number in (("linear", "linear.svg", 1), ("relu", "relu.svg", 3)):
        z += _densities(lab, activation, file, number, depths, samples)
    _networks(lab, cases, networks)
    _outputs(lab, networks)
    _mixtures(lab)
    z += _bottleneck(lab, samples)
    what = "Figures 1, 2 and 3: the reduced law sampled as in the authors' code"
    decisions.histograms(lab, "figures", z, samples, what)
    _edgeworth(lab)
    _tails(lab)
    _accuracy_and_speed(lab)


def _grid() -> np.ndarray:
    """Points that crowd towards zero, where densities of narrow layers are steep."""
    return 5 * np.linspace(0.02, 1, 120) ** 2


def _densities(
    lab: Lab, activation: str, file: str, number: int, depths: Sequence[int], samples: int
) -> list[float]:
    from kadanoff import priors

    h, curves, z = _grid(), {}, []
    for d in depths:
        curves[d] = []
        for n in _WIDTHS:
            widths = [n] * (d - 1)
            name, seed = f"{activation} {d} {n}", lab.seed + d
            seen = lab.part(name, parts.histogram, widths, activation, samples, seed)
            law = priors.exact(widths, activation)
            curves[d].append((f"n = {n}", law.pdf(h), seen))
            z += decisions.bin_z(law, seen, samples, _EDGES)
    label = "density (without the atom)" if activation == "relu" else "density"
    lab.figure(
        file,
        figures.densities(h, curves, samples, label),
        f"Figure {number} of the paper: priors of {'ReLU' if activation == 'relu' else activation} "
        f"networks with d weight layers, all hidden widths n, unit variance. Lines: exact. Dots: "
        f"{samples:,} samples of the reduced law.",
    )
    return z


def _bottleneck(lab: Lab, samples: int) -> list[float]:
    from kadanoff import priors

    lab.say(
        "Bottlenecks",
        """
        However wide the layers around it, a narrow layer of width k leaves its own law on the
        output. The distance to that law falls as one over the outer width, while the distance
        to the Gaussian stays what it is for one layer of width k.
        """,
    )
    h, curves, z = _grid(), [], []
    for k in _BOTTLENECKS:
        widths = [100, k, 100]
        seen = lab.part(f"bottleneck {k}", parts.histogram, widths, "linear", samples, lab.seed)
        law = priors.exact(widths, "linear")
        curves.append((f"k = {k}", law.pdf(h), seen))
        z += decisions.bin_z(law, seen, samples, _EDGES)
    lab.figure(
        "bottleneck.svg",
        figures.bottleneck(h, curves, samples),
        "Figure 2 of the paper: linear networks of widths 100, k, "
        "100 (d = 4). However wide the other layers, the prior keeps the tails of the "
        "narrowest.",
    )
    x = np.linspace(0.02, 6, 150)
    normal = 0.5 + 0.5 * np.array([math.erf(v / math.sqrt(2)) for v in x])
    gaps, stays, ratio, tail = {}, [], 0.0, 0.0
    for outer in (100, 1000, 10_000):
        gaps[outer] = 0.0
        for k in (1, 2, 5, 10):
            whole, narrow = (priors.exact(w, "linear") for w in ([outer, k, outer], [k]))
            gap = float(np.abs(whole.cdf(x) - narrow.cdf(x)).max())
            gaps[outer] = max(gaps[outer], gap)
            far = float(np.abs(whole.cdf(x) - normal).max())
            if outer == 100:
                tail = max(tail, abs(float(whole.pdf(4.0) / narrow.pdf(4.0)) - 1))
                ratio = gap / far  # the last is k = 10, where the expansion in 1/k is best
            if outer == 10_000:
                stays.append(far / float(np.abs(narrow.cdf(x) - normal).max()))
    decisions.bottleneck(lab, gaps, stays, ratio, tail)
    return z


def _networks(lab: Lab, cases: Sequence[tuple[Any, ...]], networks: int) -> None:
    rows = []
    for i, (widths, activation, m) in enumerate(cases):
        setting, seed = (list(widths), activation, m), 1000 * lab.seed + i
        found = lab.part(f"drawn {activation} {widths} {m}", parts.drawn, *setting, networks, seed)
        rows.append([activation, str(list(widths)), str(m), *found])
    lab.table(
        "Drawn networks",
        [
            "activation",
            "hidden widths",
            "outputs",
            "√N sup|F − F_N|",
            "z of the atom",
            "z of the variance",
        ],
        rows,
        f"{networks:,} networks with explicit weight matrices a row. A true law gives 0.87 on "
        "average in the fourth column and exceeds 2.3 once in 20,000.",
    )
    decisions.exact(lab, [row[3:] for row in rows], networks)


def _outputs(lab: Lab, networks: int) -> None:
    from kadanoff import priors

    z: list[float] = []
    cases: dict[str, list[Any]] = {"linear": [], "relu": []}
    for activation, curves in cases.items():
        for m in _OUTPUTS:
            setting = ([5, 5], activation, m, networks, 7000 + m + lab.seed)
            seen = lab.part(f"radial {activation} {m}", parts.radial, *setting)
            law, edges = priors.exact([5, 5], activation, n_out=m), parts.radial_edges(m)
            z += decisions.bin_z(law, seen, networks, edges)
            middle = (edges[1:] + edges[:-1]) / 2
            # the density of the norm: that of a point times the area of its sphere
            area = 2 * math.pi ** (m / 2) / math.gamma(m / 2) * middle ** (m - 1)
            density = law.pdf(middle, radial=True)
            curves.append((m, middle, area * density, seen))
    lab.figure(
        "outputs.svg",
        figures.outputs(cases),
        f"Several outputs, hidden widths (5, 5): the exact law of the norm and "
        f"{networks:,} networks with drawn weights.",
    )
    what = "Hidden widths (5, 5), linear and ReLU, 1, 2, 3 and 10 outputs, weights drawn"
    decisions.histograms(lab, "outputs", z, networks, what)


def _mixtures(lab: Lab) -> None:
    from kadanoff import priors

    gap = max(lab.part("mixtures", parts.mixtures_of, [[4], [3, 5], [2, 3, 2]]))
    atom = 0.0
    for n in (1, 3, 10):
        for d in (1, 2, 3):
            closed = 1 - (1 - 2.0**-n) ** d
            atom = max(atom, abs(priors.exact([n] * d, "relu").atom - closed))
    decisions.mixture(lab, gap, atom)


def _edgeworth(lab: Lab) -> None:
    from kadanoff import priors

    lab.say(
        "Wide networks",
        r"""
        For wide layers the law is the Gaussian with corrections in $1/n$, an Edgeworth series.
        Its coefficients are read off the exact density, not fitted to samples.
        """,
    )
    h = np.linspace(0.01, 5, 120)
    near = {}
    for n in (10, 50, 100):
        prior = priors.exact([n], "linear")
        near[n] = [prior.pdf(h), *(priors.edgeworth(prior, h, order) for order in (1, 2))]
    widths, errors = [25, 50, 100, 200, 400, 800], {}
    for activation, layers in (("linear", 1), ("relu", 3)):
        law = [priors.exact([n] * layers, activation) for n in widths]
        for order in (0, 1, 2):
            errors[activation, order] = [
                np.abs(priors.edgeworth(prior, h, order) - prior.pdf(h)).max() for prior in law
            ]
    lab.figure(
        "edgeworth.svg",
        figures.edgeworth(h, near, widths, errors),
        "Figure 4 of the paper and how fast the expansion converges: "
        "the series is the library's own recursion in 1/n (V at first order, the six-point "
        "vertex at second), not a fit to the exact law.",
    )
    decisions.orders(lab, decisions.powers(errors))
    n = 100_000
    prior, x = priors.exact([n, 2 * n], "linear"), np.array([0.3, 1.0, 2.0])
    gauss = np.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    # p = N (1 + c He₄ Σ 1/n) to first order, He₄ = x⁴ − 6x² + 3
    term = (prior.pdf(x) / gauss - 1) / (x**4 - 6 * x**2 + 3) / (1.5 / n)
    decisions.coefficient(lab, term)


def _tails(lab: Lab) -> None:
    from kadanoff import priors

    lab.say(
        "Tails",
        r"""
        No order of $1/n$ sees the tail. It falls as a stretched exponential,
        $\ln p\sim-\frac d2(|h|/\kappa)^{2/d}$: the deeper the network, the heavier.
        """,
    )
    far, step = np.geomspace(1, 1e7, 90), 1.01
    rows, exponents, curves = [], [], []
    for widths in _TAILS:
        d = len(widths) + 1
        prior = priors.exact(widths, "linear", kappa=1.0)
        reach = far[far < (1e4 if d == 1 else 1e7)]
        up, down = prior.logpdf(reach * step), prior.logpdf(reach / step)
        # the power in ln p ~ −r^p: slope of ln(d ln p / d ln r)
        slope = (up - down) / (2 * math.log(step))
        power = np.gradient(np.log(-slope), np.log(reach))
        # the saddle point's exponent is −(d/2) r^(2/d) + 2θ ln r: its local power is off by
        first = (2 / d) * 2 * _theta(widths) / reach[-2] ** (2 / d)
        exponents.append((float(power[-2]), first))
        curves.append((d, reach, power))
        ratio = np.exp(prior.logpdf(reach) - _asymptotic(widths, reach))
        at = [float(np.interp(x, reach, ratio)) for x in (10, 1e2, 1e3)]
        rows.append([str(d), 2 / d, exponents[-1][0], *at])
    lab.figure(
        "tails.svg",
        figures.tails(curves),
        "Tails: ln p(h) ~ −(d/2)(h/κ)^(2/d), hidden widths 5. Lines: the "
        "local power of the exact law; dotted: 2/d. Densities reach e^(−10⁷).",
    )
    head = ["d", "2/d", "measured at the far end", "exact/asymptotic at h/κ = 10"]
    lab.table("Tails", [*head, "at 100", "at 1000"], rows)
    decisions.tails(lab, exponents)


def _theta(widths: Sequence[int]) -> float:
    """Power of r²/2^d in front of the exponential of the tail."""
    d = len(widths) + 1
    return ((1 - d) / 2 + sum((n - 1) / 2 for n in widths)) / d


def _asymptotic(widths: Sequence[int], r: np.ndarray) -> np.ndarray:
    """ln p far out, by the saddle point of the Meijer function."""
    d = len(widths) + 1
    w = r**2 / 2**d
    theta = _theta(widths)
    front = -sum(math.lgamma(n / 2) for n in widths) - 0.5 * math.log(2**d * math.pi)
    front += 0.5 * (d - 1) * math.log(2 * math.pi) - 0.5 * math.log(d)
    return front + theta * np.log(w) - d * w ** (1 / d)


def _accuracy_and_speed(lab: Lab) -> None:
    lab.say("One integral instead of Meijer functions", _INTEGRAL)
    points = lab.pick(quick=[0.01, 1.0, 20.0], full=[1e-20, 1e-3, 0.1, 1.0, 5.0, 20.0, 40.0])
    rows = lab.part("accuracy", parts.accuracy, points)
    head = ["hidden widths", "h", "ln p", "relative error of p"]
    lab.table("Against mpmath at 40 digits", head, [[str(w), *rest] for w, *rest in rows])
    decisions.accuracy(lab, rows)
    decisions.speed(lab, *lab.part("speed", parts.speed, 10, lab.pick(quick=30, full=100)))


_LAW = r"""
A bias-free network with Gaussian weights sees one input $x$. In law its output is a product of
independent factors, $h = \kappa\, z \prod_\ell \chi_\ell$ with $z$ standard normal and
$\chi_\ell$ a chi variable with $n_\ell$ degrees of freedom (linear) or a binomial number of them
(ReLU); $\kappa$ is the product of the weight standard deviations and $|x|$. The paper writes the
density as a Meijer G-function, for ReLU as a mixture of $\prod n_\ell$ of them. All figures have
unit variance, as in the paper.
"""

_INTEGRAL = r"""
The Mellin transform

$$E\,|h/\kappa|^a = \frac{2^{a/2}\,\Gamma(\frac{1+a}{2})}{\Gamma(\frac12)} \prod_\ell Y_\ell(a)$$

is inverted numerically along a contour through the saddle point of each $h$, so that relative
accuracy survives in the deepest tail; a ReLU layer is a *sum* of $n_\ell$ terms inside the product.
"""
