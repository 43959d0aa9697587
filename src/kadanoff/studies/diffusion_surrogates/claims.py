"""What the paper claims, as data."""

from __future__ import annotations

from kadanoff.studies.claims import Claim

__all__ = ["CLAIMS"]

CLAIMS = (
    Claim(
        "exact-solver",
        "The stationary state solves (γ − D∇²)u = α; two sine transforms invert it to "
        "rounding (largest deviation from sparse LU).",
        0.0,
        "derived",
    ),
    Claim(
        "network-sizes",
        "The authors' networks have 3,075 and 50,290,243 parameters.",
        "3075, 50290243",
        "derived",
    ),
    Claim(
        "learns-the-field",
        "A network learns the normalised field of two random sources (mean absolute error "
        "below 0.03 on new sources).",
    ),
    Claim(
        "thousand-times",
        "The surrogate is about 1000 times faster than the direct calculation of a replica "
        "(time stepping over the authors' networks, one CPU core, one field).",
        1000.0,
    ),
    Claim(
        "direct-solver-wins",
        "On this problem a direct solver is faster than any of the networks (smallest ratio "
        "network/solver, float32, one field or a batch of 16).",
        None,
        "derived",
    ),
    Claim(
        "no-guaranteed-bound",
        "A small mean error does not bound the largest: no preset error bound is guaranteed "
        "by training (largest over mean error of the best network).",
        None,
        "secondary",
    ),
    Claim(
        "residual-bound",
        "The residual of a prediction bounds its error rigorously (smallest bound over error "
        "of all predictions and norms).",
        None,
        "derived",
    ),
    Claim(
        "hybrid",
        "A surrogate as first guess saves conjugate-gradient iterations at a guaranteed "
        "residual (iterations over those from zero).",
        None,
        "derived",
    ),
    Claim(
        "roll-back",
        "Roll-back of epochs that raise the loss abnormally protects the training (final "
        "loss with over without).",
    ),
    Claim(
        "tuned-start",
        "Initialisation and rates from kadanoff.tune reach a lower error than the usual "
        "start at the same number of samples (ratio, U-Net, geometric mean over seeds).",
        None,
        "derived",
    ),
    Claim(
        "where-it-pays",
        "For a few quantities of a non-linear problem a small network is faster than the "
        "fastest solver of equal accuracy (ratio solver/network, in batches).",
        None,
        "derived",
    ),
)
