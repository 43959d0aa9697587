"""What the paper claims, as data."""

from __future__ import annotations

from kadanoff.studies.claims import Claim
from kadanoff.studies.edge_of_chaos.parts import EDGE

__all__ = ["CLAIMS"]

CLAIMS = (
    Claim(
        "boundary",
        "At C_b = 0.05 the edge of chaos of tanh networks lies at C_W = 1.760955.",
        EDGE,
        "secondary",
    ),
    Claim(
        "one-line",
        "Feedforward networks and recurrent ones at rest have one phase boundary.",
        EDGE,
        "secondary",
    ),
    Claim(
        "exponent",
        "ξ_c diverges at the edge as |C_W − C_W*|^−1 on both sides, ξ_q does not.",
        1.0,
        "secondary",
    ),
    Claim(
        "lyapunov",
        "The largest Lyapunov exponent of recurrent networks follows from the energy method.",
        None,
        "secondary",
    ),
    Claim("annealed", "E|δz|² grows by χ⊥ + 0.2335/n a layer at C_W = 1.5.", 0.23346, "derived"),
    Claim(
        "typical",
        "E ln|δz|² grows by ln χ⊥ − 1.555/n a layer at C_W = 1.5.",
        -1.55507,
        "derived",
    ),
    Claim(
        "opposite",
        "Finite width lengthens the annealed correlation and shortens the typical one.",
        None,
        "derived",
    ),
    Claim(
        "magnitude",
        "The magnitude relaxes by χ∥ + 0.339/n a layer at the edge.",
        0.33896,
        "derived",
    ),
    Claim(
        "stable-correlation",
        "In the chaotic phase the correlation relaxes at a rate whose 1/n shift is known.",
        None,
        "derived",
    ),
    Claim(
        "edge-shift",
        "Typical networks of width 50 turn chaotic only beyond the infinite-width edge.",
        None,
        "derived",
    ),
    Claim(
        "loop",
        "The 1/N loop of the linear recurrent correlator is 0.540 at ω = 0, σ_w = 0.4.",
        0.5399,
        "derived",
    ),
    Claim(
        "depth-over-width",
        "Finite width enters with depth: E q²/(E q)² = (1 + 2/n)^L for linear networks.",
    ),
    Claim("trainable", "Networks train if their depth is below about 6 ξ_c.", 6.0, "secondary"),
    Claim(
        "edge-trains-deepest",
        "The deepest networks that train are those near the edge of chaos.",
        None,
    ),
)
