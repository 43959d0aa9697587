"""What the paper claims, as data."""

from __future__ import annotations

from kadanoff.studies.claims import Claim, above, below, between, equals, largest_z
from kadanoff.studies.edge_of_chaos.parts import EDGE

__all__ = ["CLAIMS"]

_PHASES = "The phase diagram"
_WIDTH = "Finite width: two averages"
_TIME = "Chaos in time"
_LOOPS = "Loops of the linear recurrent network"
_TRAIN = "Depths that train"

CLAIMS = (
    Claim(
        "boundary",
        "At C_b = 0.05 the edge of chaos of tanh networks lies at C_W = 1.760955.",
        equals(EDGE, allowance=1e-9, reason="rounding of the quadrature", unit="C_W"),
        "secondary",
        section=_PHASES,
    ),
    Claim(
        "one-line",
        "Feedforward networks and recurrent ones at rest have one phase boundary.",
        (
            equals(
                EDGE,
                allowance=1e-8,
                reason="tolerance of the root",
                name="C_W where the recurrent network at rest loses stability",
            ),
            above(0.0, name="Lyapunov exponent 3 % beyond"),
        ),
        "secondary",
        section=_PHASES,
    ),
    Claim(
        "exponent",
        "ξ_c diverges at the edge as |C_W − C_W*|^−1 on both sides, ξ_q does not.",
        (
            *(
                equals(
                    -1.0,
                    allowance=None,
                    reason="change of the power over the decade before",
                    name=f"power of the distance in ξ_c, {side} the edge",
                )
                for side in ("below", "above")
            ),
            below(10.0, name="ξ_q at the edge", unit="layers"),
        ),
        "secondary",
        section=_PHASES,
    ),
    Claim(
        "lyapunov",
        "The largest Lyapunov exponent of recurrent networks follows from the energy method.",
        equals(1.0, name="simulated, N → ∞, over the energy method"),
        "secondary",
        section=_TIME,
    ),
    Claim(
        "annealed",
        "E|δz|² grows by χ⊥ + 0.2335/n a layer at C_W = 1.5.",
        equals(0.23346, allowance=None, reason="3/n, the next order", name="coefficient of 1/n"),
        "derived",
        section=_WIDTH,
    ),
    Claim(
        "typical",
        "E ln|δz|² grows by ln χ⊥ − 1.555/n a layer at C_W = 1.5.",
        equals(-1.55507, allowance=None, reason="3/n, the next order", name="coefficient of 1/n"),
        "derived",
        section=_WIDTH,
    ),
    Claim(
        "opposite",
        "Finite width lengthens the annealed correlation and shortens the typical one.",
        (above(0.0, name="annealed coefficient"), below(0.0, name="typical coefficient")),
        "derived",
        section=_WIDTH,
    ),
    Claim(
        "magnitude",
        "The magnitude relaxes by χ∥ + 0.339/n a layer at the edge.",
        equals(
            0.33896,
            allowance=None,
            reason="change when n is doubled",
            name="coefficient of 1/n, extrapolated in 1/n",
        ),
        "derived",
        section=_WIDTH,
    ),
    Claim(
        "stable-correlation",
        "In the chaotic phase the correlation relaxes at a rate whose 1/n shift is known.",
        equals(
            1.0,
            allowance=0.005,
            reason="the transient, which is still felt at layer 70",
            name="slope of the recursion over the closed form",
        ),
        "derived",
        section=_WIDTH,
    ),
    Claim(
        "edge-shift",
        "Typical networks of width 50 turn chaotic only beyond the infinite-width edge, by the "
        "shift of first order in 1/n for wide ones.",
        (
            above(0.0, name="shift at width 50", unit="C_W"),
            equals(
                1.0,
                allowance=None,
                reason="change of the extrapolation when the widest network is left out",
                name="n × shift, extrapolated in 1/n, over its closed form",
            ),
        ),
        "derived",
        section=_WIDTH,
    ),
    Claim(
        "loop",
        "The 1/N loop of the linear recurrent correlator is 0.540 at ω = 0, σ_w = 0.4.",
        equals(
            0.5399,
            allowance=None,
            reason="the next order: the loop times five times its own size relative to the "
            "leading term",
        ),
        "derived",
        section=_LOOPS,
    ),
    Claim(
        "random-matrices",
        "Averages E (1/N) tr W^t (Wᵀ)^s of Gaussian random matrices are those of the index sums, "
        "one crosscap included.",
        equals(
            1.0,
            allowance=None,
            reason="change of the extrapolation in 1/N when the largest matrices are left out",
            name="(min(t, s) + 1) of (t, s) = (2,0), (4,0), (3,1), (4,2): mean ratio to it, N → ∞",
        ),
        "secondary",
        section=_LOOPS,
    ),
    Claim(
        "ginibre",
        "The response E (1/N) tr (z − W)⁻¹ of Gaussian random matrices is 1/z + "
        "σ²/(N z (z² − σ²)).",
        largest_z(),
        "derived",
        section=_LOOPS,
    ),
    Claim(
        "depth-over-width",
        "Finite width enters with depth: E q²/(E q)² = (1 + 2/n)^L for linear networks.",
        equals(1.0, name="measured over (1 + 2/n)^L"),
        section=_LOOPS,
    ),
    Claim(
        "trainable",
        "Networks train if their depth is below about 6 ξ_c.",
        between(
            3.0,
            12.0,
            name="depth where training accuracy passes 1/2, over ξ_c",
            why="a factor of two of six",
        ),
        "secondary",
        section=_TRAIN,
    ),
    Claim(
        "edge-trains-deepest",
        "The deepest networks that train are those near the edge of chaos.",
        (
            between(
                1.3,
                2.5,
                name="C_W of the best training accuracy at the greatest depth",
                why="from where ξ_c is 8 below the edge to where it is 12 above",
            ),
            above(0.3, name="that accuracy: something is learnt", condition=True),
        ),
        section=_TRAIN,
    ),
)
