"""What the paper claims, as data."""

from __future__ import annotations

import math

from kadanoff.studies.claims import Claim

__all__ = ["CLAIMS"]

CLAIMS = (
    Claim(
        "no-free-lunch",
        "Over all labelings every learner is right off the training set exactly half of the time.",
        0.5,
    ),
    Claim(
        "spread",
        "The spread of that accuracy over labelings is 1/(2√unseen).",
        1 / (2 * math.sqrt(8)),
        "derived",
    ),
    Claim("sparse-lunch", "On sparse labelings the same learners do better than chance."),
    Claim("ladder", "Couplings fall from 2^N over N^k and N to a constant number."),
    Claim(
        "energies",
        "A Hamiltonian is determined by as many energies as it has couplings.",
        None,
        "derived",
    ),
    Claim(
        "samples",
        "Samples needed are proportional to the couplings a rung allows.",
        1.0,
        "derived",
    ),
    Claim("growth", "They grow as 2^N, N², N and not at all, rung by rung.", "2, 2, 1, 0"),
    Claim(
        "one-sample",
        "With translation invariance one configuration of a large lattice "
        "determines the Hamiltonian.",
        None,
        "derived",
    ),
    Claim(
        "learnt-sparse",
        "Trained networks are sparse in the parities if their target is.",
        None,
        "derived",
    ),
    Claim(
        "parity-basis",
        "Kernels of infinite networks are diagonal in the parities, one number a degree.",
        None,
        "derived",
    ),
    Claim(
        "orders",
        "The output density is right to order n^−(p+1) with the couplings of order "
        "p: 1, 3, 6 numbers.",
        "1, 2, 3",
        "derived",
    ),
    Claim(
        "ensemble",
        "Order 1/n describes ensembles of real networks on several inputs.",
        None,
        "derived",
    ),
    Claim(
        "aspect",
        "What leaves the Gaussian description grows with L/n at a fixed number of parameters.",
    ),
)
