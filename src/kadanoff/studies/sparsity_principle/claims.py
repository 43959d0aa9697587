"""What the essay claims, as data; and what we ask beyond it."""

from __future__ import annotations

import math

from kadanoff.studies.claims import Claim, above, below, equals, largest_z

__all__ = ["CLAIMS", "RUNGS"]

RUNGS = ("generic", "2-local", "local", "translation invariant")

_LUNCH = "No free lunch, by enumeration"
_LADDER = "The ladder of sparsity, learnt"
_PARITIES = "Sparse in the basis of parities"
_FEW = "Few numbers describe a network"
_BUDGETS = "Equal budgets, different shapes"

_EFFICIENCY = (
    "change when the divergence is halved, and 0.02 for the efficiency of the pseudo-likelihood "
    "(a tenth over two decades of couplings)"
)

CLAIMS = (
    Claim(
        "no-free-lunch",
        "Over all labelings every learner is right off the training set exactly half of the time.",
        equals(0.5, name="accuracy furthest from 1/2, in exact fractions"),
        paper_value="1/2",
        section=_LUNCH,
    ),
    Claim(
        "spread",
        "The spread of that accuracy over labelings is 1/(2√unseen).",
        equals(1 / (2 * math.sqrt(8)), allowance=1e-12, reason="rounding"),
        "derived",
        section=_LUNCH,
    ),
    Claim(
        "sparse-lunch",
        "On sparse labelings the same learners do better than chance.",
        above(0.5, name="lowest accuracy of any learner on functions of at most one bit"),
        section=_LUNCH,
    ),
    Claim(
        "ladder",
        "Couplings fall from 2^N over N^k and N to a constant number.",
        (
            equals(2.0**16 - 1, name="generic, N = 16"),
            equals(16 * 17 / 2.0, name="2-local"),
            equals(32.0, name="local"),
            equals(2.0, name="translation invariant"),
        ),
        section=_LADDER,
    ),
    Claim(
        "energies",
        "A Hamiltonian is determined by as many energies as it has couplings, if the states are "
        "well chosen, and by no fewer.",
        (
            *(equals(1.0, name=f"energies needed over couplings, {rung}") for rung in RUNGS),
            below(1e-8, name="largest error of all energies then", why="rounding"),
            above(1e-8, name="smallest error with one energy fewer, where couplings differ"),
        ),
        "derived",
        section=_LADDER,
    ),
    Claim(
        "samples",
        "At small divergence the samples needed are proportional to the couplings a rung allows.",
        equals(
            1.0,
            allowance=None,
            reason=_EFFICIENCY,
            name="power of the couplings in the samples needed, extrapolated to no divergence",
        ),
        "derived",
        section=_LADDER,
    ),
    Claim(
        "growth",
        "They grow as 2^N, N², N and not at all, rung by rung.",
        (
            *(
                equals(
                    1.0,
                    allowance=None,
                    reason=_EFFICIENCY,
                    name=f"power of the couplings in the samples, {rung}",
                )
                for rung in RUNGS[:3]
            ),
            equals(
                0.0,
                resolution=0.25,
                allowance=None,
                reason=_EFFICIENCY,
                name="power of N in the samples, translation invariant",
            ),
        ),
        "derived",
        section=_LADDER,
    ),
    Claim(
        "one-sample",
        "With translation invariance one configuration of a large lattice determines the "
        "Hamiltonian.",
        (
            below(0.1, name="rms error of field and bond", why="a third of the bond"),
            equals(
                -1.0,
                allowance=0.1,
                reason="the prior, and spins at the rim of a small lattice",
                resolution=0.5,
                name="power of the side in that error",
            ),
        ),
        "derived",
        section=_LADDER,
    ),
    Claim(
        "learnt-sparse",
        "Trained networks are sparse in the parities if their target is.",
        (
            above(0.0, name="effective couplings after random labels less those after x1 x2"),
            below(12.0, name="effective couplings after x1 x2", why="four times its one, and 8"),
        ),
        "derived",
        section=_PARITIES,
    ),
    Claim(
        "parity-basis",
        "Kernels of infinite networks are diagonal in the parities, one number a degree.",
        below(1e-9, name="largest relative deviation", why="rounding"),
        "derived",
        section=_PARITIES,
    ),
    Claim(
        "orders",
        "The output density is right to order n^−(p+1) with the couplings of order p: 1, 3, 6 "
        "numbers.",
        tuple(
            equals(
                k + 1.0,
                allowance=None,
                reason="change of the extrapolation when the widest network is left out",
                name=f"power of 1/n in the error of order {k}, extrapolated",
            )
            for k in range(3)
        ),
        "derived",
        section=_FEW,
    ),
    Claim(
        "ensemble",
        "Order 1/n describes ensembles of real networks on several inputs.",
        (
            below(
                1 / 3,
                name="error of the four-point functions at order 1/n over that at order 0",
                why="most of the error is to go",
            ),
            above(8.0, name="error at order 0 over the statistical error", condition=True),
        ),
        "derived",
        section=_FEW,
    ),
    Claim(
        "aspect",
        "What leaves the Gaussian description grows with L/n at a fixed number of parameters.",
        above(1.0, name="smallest growth of V/(nK²) from one depth to the next"),
        section=_BUDGETS,
    ),
    Claim(
        "aspect-exact",
        "Networks fluctuate as (1 + 5/n)^L − 1 (critical ReLU), at every depth whose tail the "
        "samples reach.",
        largest_z(),
        "derived",
        section=_BUDGETS,
    ),
    Claim(
        "aspect-first-order",
        "Order 1/n, 5L/n, describes networks only while L/n is small.",
        (
            equals(
                1.0,
                allowance=None,
                reason="half of 5L/n, the next order",
                name="exact over order 1/n at the smallest L/n",
            ),
            above(10.0, name="exact over order 1/n at the largest L/n"),
        ),
        "derived",
        section=_BUDGETS,
    ),
    Claim(
        "aspect-blind",
        "At L/n = 5 thousands of networks see next to nothing of their variance: it sits in rare "
        "ones that no sample holds.",
        below(1e-3, name="sampled V over the exact one at the largest L/n"),
        "derived",
        section=_BUDGETS,
    ),
)
