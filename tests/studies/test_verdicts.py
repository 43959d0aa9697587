"""One function judges: every relation, its three answers, and what it refuses to decide."""

from __future__ import annotations

import math

import pytest
from scipy.stats import t as student

from kadanoff.errors import UsageError
from kadanoff.studies import Claim
from kadanoff.studies.claims import (
    Criterion,
    Decision,
    Measured,
    above,
    below,
    between,
    equals,
    largest_z,
    one_of_many,
)
from kadanoff.studies.verdicts import as_row, spoken, tally, verdict


def decided(criterion: Criterion, *measured: Measured) -> str:
    claim = Claim("c", "C.", criterion)
    return as_row(claim, Decision(claim, measured))["verdict"]


@pytest.mark.parametrize(
    "criterion, measured, expected",
    [
        (equals(4.0), Measured(4.03, 0.01), "holds"),
        (equals(4.0), Measured(4.05, 0.01), "fails"),
        (equals(4.0, allowance=0.02, reason="next order"), Measured(4.05, 0.01), "holds"),
        # agrees, but would agree with almost anything
        (equals(4.0), Measured(4.5, 0.6), "undecided"),
        (equals(4.0), Measured(14.5, 0.6), "fails"),
        (equals(0.0, resolution=0.1), Measured(0.0, 0.02), "holds"),
        (equals(0.0, resolution=0.1), Measured(0.0, 0.03), "undecided"),
        (below(1.0), Measured(0.9, 0.01), "holds"),
        (below(1.0), Measured(0.99, 0.01), "undecided"),
        (below(1.0), Measured(1.05, 0.01), "fails"),
        (above(1.0), Measured(1.05, 0.01), "holds"),
        (above(1.0), Measured(1.0), "holds"),
        (between(1.0, 2.0), Measured(1.5, 0.1), "holds"),
        (between(1.0, 2.0), Measured(1.9, 0.1), "undecided"),
        (between(1.0, 2.0), Measured(2.9, 0.1), "fails"),
        # the largest of many may be larger
        (largest_z(), Measured(3.5, samples=1), "fails"),
        (largest_z(), Measured(3.5, samples=100), "holds"),
        (equals(1.0), Measured(math.nan), "undecided"),
        (above(0.0), Measured(5.0, None), "undecided"),
    ],
)
def test_each_relation(criterion: Criterion, measured: Measured, expected: str) -> None:
    assert decided(criterion, measured) == expected


def test_directions_share_their_level() -> None:
    """With more claims tested together each needs more standard errors."""
    for tests in (1, 15):
        limit = student.isf(0.05 / tests / 2, 7)
        for factor, expected in ((1.01, "holds"), (0.99, "undecided"), (-1.01, "fails")):
            found = decided(one_of_many(1, tests), Measured(factor * limit, 1.0, samples=8))
            assert found == expected
    assert decided(one_of_many(1, 1), Measured(9.0, None, samples=1)) == "undecided"


def test_a_condition_that_is_not_met_decides_nothing() -> None:
    learnt = above(0.97, condition=True)
    claim = Claim("c", "C.", (above(0.0), learnt))
    for accuracy, expected in ((0.98, "fails"), (0.7, "undecided")):
        row = as_row(claim, Decision(claim, (Measured(-1.0), Measured(accuracy))))
        assert row["verdict"] == expected
        assert row["our_value"] == -1.0


def test_all_criteria_must_hold() -> None:
    claim = Claim("c", "C.", (above(0.0), below(1.0)))
    assert as_row(claim, Decision(claim, (Measured(0.5), Measured(0.5))))["verdict"] == "holds"
    assert as_row(claim, Decision(claim, (Measured(0.5), Measured(2.0))))["verdict"] == "fails"
    row = as_row(claim, Decision(claim, open="Too small."))
    assert (row["verdict"], row["our_value"]) == ("undecided", None)
    assert verdict({**row, "measured": [], "open": ""}) == "undecided"


def test_what_is_not_a_criterion_is_refused() -> None:
    with pytest.raises(UsageError, match="has no reason"):
        equals(1.0, allowance=0.1)
    with pytest.raises(UsageError, match="resolution"):
        equals(0.0)
    with pytest.raises(UsageError, match="not the paper's"):
        Claim("c", "C.", equals(1.0), "derived", paper_value=1.0)
    with pytest.raises(UsageError, match="Nobody's claim"):
        Claim("c", "C.", equals(1.0), "hearsay")


def test_a_reader_can_recompute_it() -> None:
    claim = Claim("c", "C.", equals(1.0, allowance=None, reason="3/n, the next order"))
    row = as_row(claim, Decision(claim, (Measured(1.01, 0.01, allowance=0.03),)))
    words = spoken(row["measured"][0]["criterion"], row["measured"][0])
    assert words == "= 1; 4 standard errors; 0.0300 allowed: 3/n, the next order"
    claim = Claim("c", "C.", one_of_many(-1, 15))
    row = as_row(claim, Decision(claim, (Measured(-1.0, 0.1, samples=8),)))
    words = spoken(row["measured"][0]["criterion"], row["measured"][0])
    assert words == "< 0; t-test at 5%, one of 15: 4.36 standard errors of 8"


def test_whose_claims_hold() -> None:
    rows = [
        {"source": source, "verdict": found}
        for source, found in (
            ("paper", "holds"),
            ("paper", "fails"),
            ("paper", "undecided"),
            ("derived", "holds"),
            ("secondary", "holds"),
        )
    ]
    assert tally(rows) == (
        "1 of 3 of the paper's claims hold (1 fails, 1 undecided); 1 of 1 checks of ours holds; "
        "1 of 1 second-hand claims holds"
    )


def test_an_average_over_seeds_has_its_error() -> None:
    found = Measured.over([1.0, 2.0, 3.0], 10)
    assert (found.value, found.samples) == (20.0, 3)
    assert found.stderr == pytest.approx(10 / math.sqrt(3))
    assert Measured.over([1.0]).stderr is None
