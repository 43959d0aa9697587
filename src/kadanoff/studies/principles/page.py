"""What the page says, in order: each section asks for its parts, decides, shows.

The book's chain of statements at one input, theory beside simulated and trained networks. Every
measurement is a part of the run.
"""

from __future__ import annotations

from typing import Any

from kadanoff.studies.lab import Lab
from kadanoff.studies.principles import decisions, figures, parts

__all__ = ["run"]

ACTIVATIONS = ("tanh", "sin", "linear", "relu", "gelu", "silu", "sigmoid", "softplus")


def run(lab: Lab) -> None:
    """All claims, chapter by chapter."""
    lab.plan(len(ACTIVATIONS) + 26)
    growth = lab.part("laws-tanh", parts.laws, "tanh", decisions.deep(lab))
    _criticality(lab, growth)
    _fluctuations(lab, growth)
    _tangent_kernel(lab, growth)
    _representation(lab)
    _training(lab)
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
    curves = {
        n: lab.part(f"collapse-{n}", parts.collapse, n, L, 4 * networks, lab.seed + 1)
        for n, L in sizes
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
