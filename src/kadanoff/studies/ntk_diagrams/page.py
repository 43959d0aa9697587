"""What the page says, in order: each section asks for its parts, decides, shows."""

from __future__ import annotations

from kadanoff.studies.lab import Lab
from kadanoff.studies.ntk_diagrams import decisions, figures, parts
from kadanoff.studies.ntk_diagrams.claims import WIDTHS
from kadanoff.studies.ntk_diagrams.rules import mean_of_ntk, spread

__all__ = ["run"]

_SMOOTH = ["tanh", "sin", "gelu", "swish"]
_INVARIANT = ["linear", "relu", "leaky_relu(0.3)"]


def run(lab: Lab) -> None:
    """Run the study."""
    lab.plan(2 + len(_INVARIANT) + 4)
    _diagrams(lab)
    _diagonal(lab)
    _networks(lab)
    lab.say(
        "What was not compared",
        """
        The paper's text was not at hand; its abstract states the diagrams for the NTK, the dNTK
        and the ddNTK, the absence of diagonal corrections and the agreement from n ≈ 20 on. Here
        diagrams are generated for the metric and the NTK at one input. Those of the dNTK and the
        ddNTK are not drawn: their recursions are the library's, and are held against networks.
        """,
    )


def _diagrams(lab: Lab) -> None:
    found = lab.part("gaps", parts.gaps, _SMOOTH, 4)
    decisions.diagrams(lab, found, _SMOOTH)
    lab.say(
        "Diagrams of the metric and the NTK",
        r"""
        Metric and NTK of a layer are averages over the neurons below. A vertex is one neuron, of
        kind $\sigma\sigma$ or $\sigma'\sigma'$; each solid line is a derivative $\partial_K$, the
        dashed line of a $\sigma'\sigma'$ is the NTK below. Lines end in the connected correlators
        of the layer below: $G1$ and $H1$ (shifts of the means), $V$, $D$, $A$ (fluctuations of
        metric and NTK among different neurons) and $F$ (metric and NTK of one neuron, two ways).
        """,
    )
    lab.table(
        "The mean NTK at order 1/n, tanh, layer 5",
        ["diagram", "value"],
        [[name, value] for name, value in found["terms"]],
        "Layer 4's tensors at C_W = 1.4, C_b = 0.1.",
    )
    lab.figure(
        "mean.svg",
        figures.drawn(mean_of_ntk(), [value for _, value in found["terms"]]),
        "All diagrams of the mean NTK at order 1/n. Solid: metric, dashed: NTK; circles: "
        "correlators of the layer below. Numbers: tanh, layer 5.",
    )
    rows = [
        [name, str(len(spread(*pair))), "; ".join(str(d) for d in spread(*pair))]
        for name, pair in (
            ("V", ("metric", "metric")),
            ("D", ("metric", "ntk")),
            ("A", ("ntk", "ntk")),
        )
    ]
    lab.table(
        "Tree diagrams of the fluctuations",
        ["correlator", "diagrams", "which"],
        rows,
        "Two averages side by side without a blob: both vertices are the same neuron.",
    )


def _diagonal(lab: Lab) -> None:
    networks = lab.pick(quick=5_000, full=100_000)
    z = []
    for k, name in enumerate(_INVARIANT):
        z += lab.part(f"one input {name}", parts.one_input, name, 16, 4, networks, lab.seed + k)
    cancelled = lab.part("cancels", parts.cancels, _INVARIANT, 4)
    widths = lab.pick(quick=[32, 64, 128], full=[48, 96, 192])
    many = lab.pick(quick=500, full=8_000)
    smooth = lab.part("smooth", parts.shift, "tanh", "diagonal", widths, many, lab.seed)
    off = lab.part("off", parts.shift, "relu", "off", widths, many, lab.seed + 1)
    decisions.diagonal(lab, z, cancelled, smooth, off, _INVARIANT)
    lab.say(
        "The diagonal",
        """
        A scale-invariant neuron's average is linear in the metric, so that no derivative beyond
        the first is left and the mean of one input is exact at any width. Between two inputs it
        is not, and for smooth activations not even the diagonal is.
        """,
    )


def _networks(lab: Lab) -> None:
    networks = lab.pick(quick=2000, full=40_000)
    rows = lab.part("widths", parts.widths_of_mean, list(WIDTHS), networks, lab.seed)
    widths = lab.pick(quick=[16, 32, 64], full=[32, 64, 128])
    few = lab.pick(quick=200, full=4000)
    tensors = lab.part("differentials", parts.differentials, "sin", widths, few, lab.seed)
    decisions.networks(lab, rows, tensors, "sin")
    lab.say(
        "Networks of finite width",
        """
        The mean NTK of two inputs in networks of width 5 to 40, beside infinite width and order
        1/n; and the differentials of the NTK, which move it in training.
        """,
    )
    lab.figure(
        "widths.svg",
        figures.widths(rows),
        "Error of the mean NTK at infinite width and at order 1/n, against the width of the "
        "networks (lines: 1/n and 1/n²).",
    )
    lab.table(
        "dNTK and ddNTK, sin",
        ["", "predicted", "measured", "standard error"],
        [[name, p, m, s] for name, p, m, s, _ in tensors],
    )
