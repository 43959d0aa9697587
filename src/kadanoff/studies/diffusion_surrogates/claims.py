"""What the paper claims, as data."""

from __future__ import annotations

from kadanoff.studies.claims import Claim, Criterion, above, below, equals

__all__ = ["CLAIMS", "LEARNT"]

# error of a network that has learnt, over that of the best constant image
LEARNT = 0.25

_PROBLEM = "The problem and its exact solution"
_NETWORKS = "Networks"
_TRAINING = "Training: losses, data, roll-back, starts"
_SPEED = "A thousand times faster than what?"
_PAYS = "Where a surrogate pays"


def _learnt() -> Criterion:
    return below(
        LEARNT,
        name="mean error over that of the median image",
        why="a quarter of what a constant leaves",
        condition=True,
    )


CLAIMS = (
    Claim(
        "exact-solver",
        "The stationary state solves (γ − D∇²)u = α; two sine transforms invert it to rounding.",
        below(1e-11, name="largest residual, and deviation from sparse LU", why="rounding"),
        "derived",
        section=_PROBLEM,
    ),
    Claim(
        "network-sizes",
        "The authors' networks have 3,075 and 50,290,243 parameters.",
        (equals(3075.0, name="first network"), equals(50290243.0, name="second network")),
        "derived",
        section=_PROBLEM,
    ),
    Claim(
        "learns-the-field",
        "A network learns the normalised field of two random sources.",
        below(
            LEARNT,
            name="mean error of the best network over that of the median image",
            why="a quarter of what a constant leaves",
        ),
        section=_NETWORKS,
    ),
    Claim(
        "no-guaranteed-bound",
        "A small mean error does not bound the largest: no preset error bound is guaranteed by "
        "training.",
        (above(0.1, name="largest error, in units of the field's maximum"), _learnt()),
        "secondary",
        section=_NETWORKS,
    ),
    Claim(
        "residual-bound",
        "The residual of a prediction bounds its error rigorously.",
        (
            above(1.0, name="smallest bound over error, all predictions and norms"),
            above(-1e-9, name="smallest margin of the pointwise bound", why="rounding"),
        ),
        "derived",
        section=_NETWORKS,
    ),
    Claim(
        "hybrid",
        "A surrogate as first guess saves conjugate-gradient iterations at a guaranteed residual.",
        (below(1.0, name="iterations over those from zero"), _learnt()),
        "derived",
        section=_NETWORKS,
    ),
    Claim(
        "losses",
        "Different applications need different losses: weighing bright pixels more lowers the "
        "error of what is bright.",
        below(
            0.0,
            level=0.05,
            tests=4,
            name="ln of the error where y > 0.5, weighted over unweighted loss",
        ),
        section=_TRAINING,
    ),
    Claim(
        "data-size",
        "The error falls with the size of the training set.",
        below(
            0.0,
            level=0.05,
            tests=4,
            name="power of the number of pairs in the test error, equal numbers of steps",
        ),
        "secondary",
        section=_TRAINING,
    ),
    Claim(
        "roll-back",
        "Roll-back of epochs that raise the loss abnormally protects the training.",
        (
            below(
                0.0,
                level=0.05,
                tests=4,
                name="ln of the final error with over without, two spoilt epochs",
            ),
            equals(1.0, name="share of the spoilt epochs that were rejected", condition=True),
        ),
        section=_TRAINING,
    ),
    Claim(
        "tuned-start",
        "Initialisation and rates from kadanoff.tune reach a lower error than the usual start at "
        "the same number of samples.",
        below(
            0.0,
            level=0.05,
            tests=4,
            name="ln of the test error, tuned over usual start",
        ),
        "derived",
        section=_TRAINING,
    ),
    Claim(
        "thousand-times",
        "The surrogate is about 1000 times faster than the direct calculation of a replica.",
        above(
            500.0,
            name="time stepping over the authors' networks, one core, one field",
            why="about: within a factor of two",
        ),
        paper_value=1000.0,
        section=_SPEED,
    ),
    Claim(
        "direct-solver-wins",
        "On this problem a direct solver is faster than any of the networks.",
        above(1.0, name="smallest ratio network/solver, float32, one field or a batch of 16"),
        "derived",
        section=_SPEED,
    ),
    Claim(
        "where-it-pays",
        "For a few quantities of a non-linear problem a small network is faster than the fastest "
        "solver of equal accuracy.",
        above(1.0, name="time of the solver over that of the network, in batches"),
        "derived",
        section=_PAYS,
    ),
)
