"""What the paper claims, as data."""

from __future__ import annotations

from kadanoff.studies.claims import Claim

__all__ = ["CLAIMS"]

CLAIMS = (
    Claim(
        "exact",
        "The closed forms are the law of the output of drawn networks, linear "
        "and ReLU, one and two outputs.",
    ),
    Claim(
        "mixture",
        "The ReLU prior is the mixture of linear priors over the numbers of "
        "active units, plus an atom at zero.",
    ),
    Claim("tails", "Tails grow heavier with depth: ln p ~ −(d/2)(|h|/κ)^(2/d).", "2/d", "derived"),
    Claim(
        "coefficient",
        "The leading correction to the Gaussian is (1/4) Σ 1/n times the "
        "fourth Hermite polynomial (linear networks).",
        0.25,
    ),
    Claim("orders", "Each order of the Edgeworth series gains a power of 1/n.", None, "derived"),
    Claim(
        "bottleneck",
        "A narrow layer of width k between wide ones keeps the prior near that "
        "of one hidden layer of width k, far from Gaussian.",
    ),
    Claim(
        "accuracy",
        "The contour integral has a relative accuracy of 1e-10 in bulk and deep tails.",
        1e-10,
        "derived",
    ),
    Claim(
        "speed",
        "For ReLU it is 1000 times faster than the sum of Meijer functions.",
        1000,
        "derived",
    ),
)
