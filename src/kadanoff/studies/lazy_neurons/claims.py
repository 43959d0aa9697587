"""What the paper claims, as data."""

from __future__ import annotations

from kadanoff.studies.claims import Claim, Criterion, above, below, between, equals, one_of_many

__all__ = ["CLAIMS", "COMPETENT", "DIRECTIONS"]

# claims of a direction, which share the 5 % of their t-tests
DIRECTIONS = 15
# test accuracy of both networks before a question about robustness is put to them
COMPETENT = 0.97

_EMERGES = "Sparsity emerges"
_CAUSES = "Not the data"
_STARTS = "What starts it"
_TOP_K = "Top-k"
_TIME = "Time"


def _direction(sign: int, name: str, unit: str = "points") -> Criterion:
    return one_of_many(sign, DIRECTIONS, name=name, unit=unit)


def _competent() -> Criterion:
    return above(
        COMPETENT,
        level=0.05,
        name="test accuracy of the worse network, clean labels",
        why="what 15 nearest neighbours reach",
        condition=True,
    )


CLAIMS = (
    Claim(
        "init",
        "At initialisation half of the hidden units fire.",
        equals(50.0, allowance=1.0, reason="tokens repeat in a probe of finite size", unit="%"),
        paper_value="50 %",
        section=_EMERGES,
    ),
    Claim(
        "emergence",
        "Training makes MLP blocks of Transformers sparse.",
        _direction(-1, "active neurons, end minus start"),
        section=_EMERGES,
    ),
    Claim(
        "few",
        "In trained Transformers a few percent of the hidden units fire.",
        (
            below(6.3, unit="%", name="active neurons", why="the paper's densest model, ViT"),
            between(
                -1.0,
                1.0,
                unit="points",
                name="change over the last eighth of the training: it has come to rest",
                condition=True,
            ),
        ),
        paper_value="3.0 %",
        section=_EMERGES,
    ),
    Claim(
        "flops",
        "Skipping silent neurons saves most of the second product.",
        above(50.0, unit="%", name="multiplications saved in the second matrix"),
        paper_value="97 %",
        section=_EMERGES,
    ),
    Claim(
        "frequencies",
        "Most neurons fire for less than a tenth of the tokens.",
        above(50.0, unit="%", name="such neurons, mean of the blocks"),
        paper_value="93.5 %",
        section=_EMERGES,
    ),
    Claim(
        "alive",
        "The rest is not dead: every neuron fires for some input.",
        below(5.0, unit="%", name="neurons that fire for none of 1,536 held-out tokens"),
        paper_value="0 %",
        section=_EMERGES,
    ),
    Claim(
        "unseen",
        "The active fraction is the same on training and on unseen data.",
        between(
            -2.0, 2.0, level=0.05, unit="points", name="active on training minus held-out text"
        ),
        section=_EMERGES,
    ),
    Claim(
        "middle",
        "The first and last blocks are denser than those between.",
        _direction(+1, "sparser of the two end blocks minus the middle one"),
        section=_EMERGES,
    ),
    Claim(
        "wider",
        "A wider MLP has a smaller percentage of active neurons.",
        _direction(-1, "wide minus narrow"),
        section=_EMERGES,
    ),
    Claim(
        "count",
        "A wider MLP has a larger number of active neurons.",
        _direction(+1, "wide minus narrow", "neurons"),
        section=_EMERGES,
    ),
    Claim(
        "deeper",
        "A deeper Transformer is sparser.",
        _direction(-1, "three blocks minus one"),
        section=_EMERGES,
    ),
    Claim(
        "labels",
        "Sparsity emerges with random labels.",
        _direction(-1, "end minus start"),
        section=_CAUSES,
    ),
    Claim(
        "images",
        "Sparsity emerges with random images.",
        _direction(-1, "end minus start"),
        section=_CAUSES,
    ),
    Claim(
        "symbols",
        "Sparsity emerges on random inputs that can only be memorised.",
        _direction(-1, "end minus start"),
        section=_CAUSES,
    ),
    Claim(
        "endless",
        "Sparsity emerges with endless data, where nothing is seen twice.",
        _direction(-1, "end minus start"),
        section=_CAUSES,
    ),
    Claim(
        "mlp",
        "Sparsity emerges in plain MLPs as well.",
        _direction(-1, "end minus start"),
        "secondary",
        section=_CAUSES,
    ),
    Claim(
        "drift",
        "At initialisation the mean gradient lowers every active neuron.",
        above(4.0, name="smaller of the two mean slopes, in standard errors"),
        section=_STARTS,
    ),
    *(
        Claim(
            name,
            f"Its size for {loss} is the closed form.",
            equals(1.0, name="mean slope over the closed form"),
            "derived",
            section=_STARTS,
        )
        for name, loss in (("drift-ce", "cross-entropy"), ("drift-mse", "the squared error"))
    ),
    Claim(
        "parity",
        "Top-k training loses no quality on text.",
        below(0.1, level=0.05, unit="nats", name="loss a character, Top-k minus dense"),
        section=_TOP_K,
    ),
    Claim(
        "clean",
        "Top-k training loses no accuracy on images.",
        (
            above(-1.0, level=0.05, unit="points", name="accuracy, Top-k minus dense"),
            above(
                COMPETENT,
                level=0.05,
                name="test accuracy of the dense network",
                why="what 15 nearest neighbours reach",
                condition=True,
            ),
        ),
        paper_value="−0.02",
        section=_TOP_K,
    ),
    *(
        Claim(
            f"noise-{noise}",
            f"Top-k is more accurate after {noise} % label noise.",
            (_direction(+1, "accuracy, Top-k minus dense"), _competent()),
            paper_value=printed,
            section=_TOP_K,
        )
        for noise, printed in ((40, "+2.69"), (80, "+5.45"))
    ),
    Claim(
        "gaussian",
        "Top-k is more robust to Gaussian corruption.",
        (_direction(+1, "accuracy, Top-k minus dense"), _competent()),
        paper_value="+2.75",
        section=_TOP_K,
    ),
    Claim(
        "impulse",
        "Top-k is more robust to impulse corruption.",
        (_direction(+1, "accuracy, Top-k minus dense"), _competent()),
        paper_value="+2.70",
        section=_TOP_K,
    ),
    Claim(
        "ece",
        "Top-k has a lower calibration error.",
        (_direction(-1, "Top-k minus dense"), _competent()),
        paper_value="−0.94",
        section=_TOP_K,
    ),
    Claim(
        "time",
        "Top-k shortens decoding by a tenth.",
        (
            above(10.0, unit="%", name="time a token saved"),
            equals(1.0, name="the same text with and without", condition=True),
        ),
        paper_value="10 %",
        section=_TIME,
    ),
)
