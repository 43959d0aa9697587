"""What the paper claims, as data; its text was not at hand, its abstract was."""

from __future__ import annotations

from kadanoff.studies.claims import Claim, above, below, equals, largest_z

__all__ = ["CLAIMS", "WIDTHS"]

# widths at which order 1/n is held against networks; the paper says "from about 20 on"
WIDTHS = (5, 10, 20, 40)

_RULES = "Diagrams of the metric and the NTK"
_DIAGONAL = "The diagonal"
_NETWORKS = "Networks of finite width"

CLAIMS = (
    Claim(
        "mean-diagrams",
        "Seven diagrams make the mean NTK at order 1/n.",
        (
            equals(7.0, name="diagrams that the rules generate"),
            below(
                1e-8,
                name="largest relative difference of their sum to the library's recursion",
                why="quadratures of either",
            ),
        ),
        "derived",
        section=_RULES,
    ),
    Claim(
        "tree-diagrams",
        "Tree diagrams make the fluctuations of metric and NTK, and their correlation.",
        below(
            1e-8,
            name="largest relative difference of V, D and A to the library's recursions",
            why="quadratures of either",
        ),
        "derived",
        section=_RULES,
    ),
    Claim(
        "no-diagonal",
        "Scale-invariant activations have no finite-width correction on the diagonal: mean kernel "
        "and mean NTK of one input are those of infinite width.",
        largest_z("largest |z| of both means, layer by layer, width 16"),
        section=_DIAGONAL,
    ),
    Claim(
        "diagonal-by-diagrams",
        "In the diagrams these corrections cancel, activation by activation.",
        below(
            1e-12,
            name="largest correction of the mean NTK at order 1/n over its value",
            why="rounding",
        ),
        "derived",
        section=_DIAGONAL,
    ),
    Claim(
        "smooth-diagonal",
        "Smooth activations have one, and it is that of the diagrams.",
        (
            equals(
                1.0,
                allowance=None,
                reason="the remainder of the extrapolation in width",
                name="n × shift of the mean NTK in networks, n → ∞, over the diagrams (tanh)",
            ),
            above(4.0, name="that shift over its error", condition=True),
        ),
        "derived",
        section=_DIAGONAL,
    ),
    Claim(
        "off-diagonal",
        "Off the diagonal scale-invariant activations are corrected as well.",
        (
            equals(
                1.0,
                allowance=None,
                reason="the remainder of the extrapolation in width",
                name="n × shift of the mean NTK between two inputs, n → ∞, over theory (ReLU)",
            ),
            above(4.0, name="that shift over its error", condition=True),
        ),
        "derived",
        section=_DIAGONAL,
    ),
    Claim(
        "twenty",
        "Predictions at order 1/n agree with networks from a width of about 20 on.",
        tuple(
            below(
                1 / 3,
                name=f"error of the mean NTK at order 1/n over that at order 0, width {n}",
                why="order 1/n removes most of what infinite width misses",
            )
            for n in WIDTHS
            if n >= 20
        ),
        section=_NETWORKS,
    ),
    Claim(
        "differentials",
        "The NTK's differentials at order 1/n, dNTK and ddNTK, agree with networks.",
        largest_z("largest |z| beyond the next power of 1/n"),
        section=_NETWORKS,
    ),
)
