"""What the paper claims, as data."""

from __future__ import annotations

from kadanoff.studies.claims import Claim, above, below, equals, largest_z

__all__ = ["CLAIMS", "DEPTHS"]

# weight layers whose tails are looked at
DEPTHS = (1, 2, 3, 4)

_LAW = "The law of one network"
_BOTTLENECK = "Bottlenecks"
_WIDE = "Wide networks"
_TAILS = "Tails"
_INTEGRAL = "One integral instead of Meijer functions"

CLAIMS = (
    Claim(
        "exact",
        "The closed forms are the law of the output of drawn networks, linear and ReLU, one and "
        "two outputs.",
        largest_z("largest |z| of distributions (Kolmogorov), atoms and variances"),
        section=_LAW,
    ),
    Claim(
        "figures",
        "The exact densities are the histograms of the paper's figures: linear and ReLU networks "
        "of 2 to 4 weight layers, and bottlenecks between layers of 100.",
        largest_z("largest |z| of all bins"),
        section=_LAW,
    ),
    Claim(
        "outputs",
        "The density of several outputs is that of drawn networks: radial histograms of 1, 2, 3 "
        "and 10 outputs.",
        largest_z("largest |z| of all bins"),
        section=_LAW,
    ),
    Claim(
        "mixture",
        "The ReLU prior is the mixture of linear priors over the numbers of active units, plus an "
        "atom at zero.",
        (
            below(
                1e-10,
                name="relative difference of densities",
                why="rounding of both sums, and the accuracy of the integral",
            ),
            below(1e-14, name="difference of atoms", why="rounding"),
        ),
        section=_LAW,
    ),
    Claim(
        "bottleneck",
        "A narrow layer of width k between wide ones keeps the prior near that of one hidden layer "
        "of width k, far from Gaussian.",
        (
            equals(
                -1.0,
                allowance=0.05,
                reason="the next order, 10/n at outer widths n = 100, over two decades",
                name="power of the outer width in the distance to one narrow layer",
            ),
            equals(
                1.0,
                allowance=0.01,
                reason="the distance to one narrow layer at outer widths 10,000, over that to the "
                "Gaussian",
                name="distance to the Gaussian over that of one narrow layer",
            ),
            equals(
                1.0,
                allowance=0.2,
                reason="the next order in 1/k at k = 10",
                name="distance to one narrow layer over that to the Gaussian, at the paper's "
                "(100, 10, 100), over its first order (2/100)/(1/10 + 2/100)",
            ),
        ),
        section=_BOTTLENECK,
    ),
    Claim(
        "coefficient",
        "The leading correction to the Gaussian is (1/4) Σ 1/n times the fourth Hermite polynomial "
        "(linear networks).",
        equals(
            0.25,
            allowance=1e-4,
            reason="the next order, 1/n at n = 100,000, with a factor of ten in hand",
        ),
        paper_value=0.25,
        section=_WIDE,
    ),
    Claim(
        "orders",
        "Each order of the Edgeworth series gains a power of 1/n.",
        tuple(
            equals(
                k + 1.0,
                allowance=0.05,
                reason="the next order between n = 400 and 800",
                name=f"power of 1/n in the error at order {k}",
            )
            for k in range(3)
        ),
        "derived",
        section=_WIDE,
    ),
    Claim(
        "tails",
        "Tails grow heavier with depth: ln p ~ −(d/2)(|h|/κ)^(2/d).",
        tuple(
            equals(
                2 / d,
                allowance=None,
                reason="twice the first correction of the saddle point at that distance, and 1e-4 "
                "for the difference quotient",
                name=f"power of |h|, d = {d}",
            )
            for d in DEPTHS
        ),
        "derived",
        section=_TAILS,
    ),
    Claim(
        "accuracy",
        "The contour integral has a relative accuracy of 1e-10 in bulk and deep tails.",
        below(1e-10, name="largest relative error"),
        "derived",
        section=_INTEGRAL,
    ),
    Claim(
        "speed",
        "For ReLU it is 1000 times faster than the sum of Meijer functions.",
        above(1000.0, name="ratio of CPU times"),
        "derived",
        section=_INTEGRAL,
    ),
)
