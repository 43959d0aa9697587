"""What the page says, in order: each section asks for its parts, decides, shows.

The book's chain of statements at one input, theory beside simulated and trained networks. Every
measurement is a part of the run.
"""

from __future__ import annotations

from typing import Any

from kadanoff.studies.lab import Lab
from kadanoff.studies.principles import book, decisions, figures, parts

__all__ = ["run"]

ACTIVATIONS = ("tanh", "sin", "linear", "relu", "gelu", "silu", "sigmoid", "softplus")


def run(lab: Lab) -> None:
    """All claims, chapter by chapter."""
    lab.plan(len(ACTIVATIONS) + lab.pick(quick=36, full=42))
    growth = lab.part("laws-tanh", parts.laws, "tanh", decisions.deep(lab))
    _criticality(lab, growth)
    _two_inputs(lab)
    _fluctuations(lab, growth)
    _tangent_kernel(lab, growth)
    _representation(lab)
    _bayes(lab)
    _training(lab)
    _information(lab)
    _residual(lab)
    _contrast(lab)


def _criticality(lab: Lab, growth: list[Any]) -> None:
    found = {name: lab.part(f"class-{name}", parts.classes, name) for name in ACTIVATIONS}
    lab.say(
        "Criticality",
        r"""The kernel of a deep network keeps its size only if $\chi_\parallel = \chi_\perp = 1$.
        Where such a point exists it falls into few universality classes.""",
    )
    rows = [[name, c["class"], c["C_b"], c["C_W"]] for name, c in found.items()]
    lab.table("Critical initialisation", ["activation", "class", "C_b", "C_W"], rows)
    decisions.critical_points(lab, found)

    depth, networks = lab.pick(quick=30, full=100), lab.pick(quick=64, full=2000)
    flows = {}
    for C_W in (0.9, 1.0, 1.1):
        setting = ("tanh", C_W, depth, 100, networks, lab.seed)
        flows[C_W] = lab.part(f"kernel-{C_W}", parts.kernel, *setting)
    lab.figure(
        "kernel.svg",
        figures.kernel(flows, depth),
        "Kernel of tanh below, at and above criticality: lines at "
        "infinite width, points simulated at width 100.",
    )
    decisions.kernel_decay(lab, growth)


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
    vertices = {
        name: lab.part(f"vertex-{name}", parts.vertex, name, depth, widths, networks, lab.seed)
        for name in ("relu", "linear", "tanh", "sin")
    }
    sizes = lab.pick(
        quick=((16, 5), (32, 9), (64, 17)), full=((16, 5), (32, 9), (64, 17), (128, 33))
    )
    many = lab.pick(quick=4, full=12) * networks
    curves = {
        n: lab.part(f"collapse-{n}", parts.collapse, n, L, many, lab.seed + 1) for n, L in sizes
    }
    lab.figure(
        "fluctuations.svg",
        figures.fluctuations(vertices, curves),
        "Left: V/K² predicted (lines) and simulated, extrapolated "
        "to infinite width. Right: the relative variance of the metric against L/n.",
    )
    decisions.vertex_growth(lab, vertices["relu"], growth)
    decisions.aspect_ratio(lab, curves)


def _tangent_kernel(lab: Lab, growth: list[Any]) -> None:
    lab.say(
        "The neural tangent kernel",
        r"""The NTK sums over layers: with equal learning rates it grows with depth. The book's
        rates, $\lambda/L$ for scale-invariant activations and $\lambda_b/\ell$ for the $K^*=0$
        class, let every layer contribute equally.""",
    )
    depth, networks = lab.pick(quick=16, full=40), lab.pick(quick=64, full=2000)
    found = {
        name: lab.part(f"ntk-{name}", parts.tangent, name, depth, 100, networks, lab.seed + 2)
        for name in ("relu", "tanh")
    }
    lab.figure(
        "ntk.svg",
        figures.ntk(found, range(1, depth + 1)),
        "Mean NTK with depth: lines at infinite width, points simulated at width 100.",
    )
    decisions.ntk_growth(lab, found["relu"]["equal"], growth)
    lab.table(
        "Growth with depth, tanh",
        ["ratio", "coefficient", f"recursion, depth {decisions.deep(lab)}"],
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
    few, many = lab.pick(quick=(400, 2000), full=(3000, 20_000))
    names = ("G1", "V", "H1", "A", "B", "D", "F")
    first = lab.part("agreement-first", parts.agreement, names, 5, widths, many, lab.seed + 3)
    names = tuple("PQRSTU")
    second = lab.part("agreement-second", parts.agreement, names, 4, widths, few, lab.seed + 4)
    lab.table(
        "tanh, extrapolated in width",
        ["", "predicted", "measured", "standard error", "z"],
        [[n, p, m, s, (m - p) / s] for n, p, m, s, _ in first + second],
        "Layer 5 for G1 … F, layer 4 for P … U, in the order listed.",
    )
    decisions.ensembles(lab, first + second)


def _training(lab: Lab) -> None:
    sizes = lab.pick(quick=(64, 128, 256), full=(64, 128, 256, 512))
    networks = lab.pick(quick=800, full=3000)
    moved = [lab.part(f"movement-{n}", parts.movement, n, networks, lab.seed + 5) for n in sizes]
    decisions.representation(lab, sizes, moved)
    lab.say(
        "The trained network",
        r"""At infinite width every algorithm ends in the same function, the kernel's. At order
        $1/n$ the end depends on the NTK's spread, its motion and the motion of its motion, and on
        the way there: one Newton-like giant leap ends elsewhere than many small steps.""",
    )
    theory = lab.part("prediction", parts.prediction)
    widths = lab.pick(quick=(96, 192), full=(96, 192, 384))
    pairs = lab.pick(quick=300, full=6000)
    measured = [lab.part(f"trained-{n}", parts.trained, n, pairs, n) for n in widths]
    lab.figure(
        "learning.svg",
        figures.learning(sizes, moved, widths, measured, theory),
        "Left: how far the NTK moves in training, beside 1/n. Right: mean output of trained "
        "networks at a test point, less the kernel's prediction, times n.",
    )
    decisions.trained_mean(lab, widths, measured, theory)
    leap = [lab.part(f"leap-{n}", book.giant_leap, n, pairs, n) for n in widths]
    leap_theory = lab.part("leap-prediction", book.leap_prediction)
    decisions.algorithm(lab, widths, leap, measured, leap_theory)


def _two_inputs(lab: Lab) -> None:
    lab.say(
        "Two inputs",
        r"""Off the critical point a difference between two inputs dies (or grows) exponentially:
        in size by $\chi_\parallel$, in direction by $\chi_\perp$ a layer. Networks are drawn at
        their fixed point $K^*$, with a second input five per cent longer, or turned by 0.05.""",
    )
    widths, networks = (
        lab.pick(quick=[50, 100], full=[100, 200]),
        lab.pick(quick=4000, full=50_000),
    )
    rows = []
    for kind, layers in (("parallel", 7), ("perpendicular", 12)):
        setting = (kind, widths, layers, networks, lab.seed)
        found = lab.part(f"two inputs {kind}", book.two_inputs, *setting)
        decisions.two_inputs(lab, kind, widths, found)
        rows.append([kind, found[0], *(number for pair in found[1] for number in pair)])
    lab.table(
        "Growth of a difference a layer",
        ["difference", "χ", f"n = {widths[0]}", "±", f"n = {widths[1]}", "±"],
        rows,
    )


def _bayes(lab: Lab) -> None:
    lab.say(
        "Bayesian inference at order 1/n",
        r"""With the network as prior the posterior is Gaussian only at infinite width. At order
        $1/n$ the four-point vertex lets the data choose among metrics. Networks are drawn from the
        prior and weighed with their exact evidence: no training, no approximation.""",
    )
    widths = lab.pick(quick=[32], full=[32, 64, 128])
    draws = lab.pick(quick=20_000, full=600_000)
    found = [lab.part(f"bayes {n}", book.bayes, n, draws, lab.seed + n) for n in widths]
    if len(widths) < 3:
        lab.leave_open("bayes", "Three widths are needed to extrapolate.")
    else:
        decisions.bayes(lab, widths, found)
    lab.table(
        "n × shift of the posterior mean at the test point",
        ["n", "measured", "±", "predicted, n → ∞"],
        [[str(n), *f] for n, f in zip(widths, found)],
    )


def _information(lab: Lab) -> None:
    from kadanoff.rgflow.information import optimal_aspect_ratio

    lab.say(
        "Information and the optimal aspect ratio",
        r"""Neurons of one layer share the layer's metric, and with it information. To order
        $v^3$, $v=V/nK^2$, it grows and then falls, and the book places the best depth,
        $r^*=L/n$, at its maximum. In networks the information is computed without expansion from
        draws of the metric.""",
    )
    draws = lab.pick(quick=20_000, full=200_000)
    far = lab.part("information", book.shared_information, 500, 2, draws, lab.seed)
    decisions.information(lab, far, 500, 2)
    width = 100
    best = round(optimal_aspect_ratio("relu", 2) * width)
    depths = (best, 2 * best)
    at, beyond = (
        lab.part(f"information {L}", book.shared_information, width, L, draws, lab.seed + L)
        for L in depths
    )
    decisions.optimal_aspect(lab, at, beyond, depths, width)


def _residual(lab: Lab) -> None:
    lab.say(
        "Residual networks",
        r"""A skip $z'=b+W\sigma(z)+\gamma z$ slows the growth of fluctuations: at $\gamma\to1$ a
        block does next to nothing. So there is a strength $\gamma^*$ that keeps a network of any
        depth at the optimal aspect ratio.""",
    )
    depth = lab.pick(quick=12, full=48)
    gamma = 0.5**0.5
    recursion = lab.part("residual tanh", book.residual_growth, gamma, depth)
    networks = lab.pick(quick=4000, full=50_000)
    setting = (gamma, 6, lab.pick(quick=[40, 80], full=[75, 150, 300]), networks, lab.seed)
    linear = lab.part("residual linear", book.residual_ensemble, *setting)
    skip = lab.part("optimal skip", book.optimal_skip, 50, 20, networks, lab.seed)
    decisions.residual(lab, recursion, depth, linear, skip)


def _contrast(lab: Lab) -> None:
    lab.say(
        "Orthogonal weights",
        """Haar matrices keep norms and angles, which takes the growing part out of the vertex of
        the K* = 0 class.""",
    )
    depth, width = lab.pick(quick=8, full=20), 32
    networks = lab.pick(quick=600, full=4000)
    found = lab.part("orthogonal", parts.orthogonal, depth, width, networks, lab.seed + 6)
    widths, seed = [48, 96], lab.seed + 7
    gaussian = lab.part("gaussian", parts.vertex, "tanh", depth, widths, networks, seed)
    lab.figure(
        "orthogonal.svg",
        figures.orthogonal(gaussian, found, width),
        "V/K²: lines predicted at leading order, points simulated.",
    )
    decisions.orthogonal(lab, found, depth)
