"""What is asked of trained networks, as data; the essay asks how sparse a learnt function is."""

from __future__ import annotations

from kadanoff.studies.claims import Claim, Criterion, above, below, one_of_many

__all__ = ["BITS", "CLAIMS", "DIRECTIONS", "KEPT"]

# directions that share the 5 % of their t-tests
DIRECTIONS = 6
# bits of an image, and couplings kept of the 2^BITS
BITS, KEPT = 12, 64

_WALSH = "The learnt function in the basis of parities"
_FLOW = "From layer to layer"
_KERNEL = "The kernel before and after"


def _learnt(name: str) -> Criterion:
    return above(0.0, level=0.05, name=name, why="as good as 15 neighbours", condition=True)


CLAIMS = (
    Claim(
        "sparser-than-random",
        "A network trained on real images has a sparser function than it had at random.",
        (
            one_of_many(-1, DIRECTIONS, name="ln of effective couplings, trained over untrained"),
            _learnt("held-out accuracy less that of 15 neighbours, and 0.05"),
        ),
        "derived",
        section=_WALSH,
    ),
    Claim(
        "sparser-than-noise",
        "It is sparser than the function of the same network that has memorised shuffled labels.",
        one_of_many(-1, DIRECTIONS, name="ln of effective couplings, real over shuffled labels"),
        "derived",
        section=_WALSH,
    ),
    Claim(
        "low-degree",
        "Real labels leave the spectrum at lower degrees than shuffled ones.",
        one_of_many(-1, DIRECTIONS, name="mean degree, real less shuffled labels"),
        "derived",
        section=_WALSH,
    ),
    Claim(
        "few-suffice",
        f"{KEPT} of the {2**BITS:,} couplings classify as well as the whole network.",
        below(
            0.02,
            level=0.05,
            name=f"held-out accuracy lost with the {KEPT} largest couplings",
            why="two images in a hundred",
        ),
        "derived",
        section=_WALSH,
    ),
    Claim(
        "flow-collapses",
        "From layer to layer the Gram matrix of a trained classifier loses dimensions faster than "
        "that of a random one.",
        (
            one_of_many(
                -1,
                DIRECTIONS,
                name="ln of effective dimensions, trained over random, last hidden layer",
            ),
            above(0.95, level=0.05, name="held-out accuracy, ten classes", condition=True),
        ),
        "derived",
        section=_FLOW,
    ),
    Claim(
        "flow-in-steps",
        "The trained flow contracts in every layer; the random critical one hardly moves.",
        (
            one_of_many(
                -1, DIRECTIONS, name="largest change of ln effective dimensions in a layer, trained"
            ),
            above(
                -0.5,
                level=0.05,
                name="smallest such change, random",
                why="a critical layer keeps more than 60 % of the dimensions",
            ),
        ),
        "derived",
        section=_FLOW,
    ),
    Claim(
        "kernel-aligns",
        "Training turns the tangent kernel towards the labels.",
        one_of_many(
            +1,
            DIRECTIONS,
            name="share of the labels in ten eigenvectors of the NTK, after less before",
        ),
        "derived",
        section=_KERNEL,
    ),
)
