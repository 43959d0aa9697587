"""The quick study of lazy neurons decides what its size allows."""

from __future__ import annotations

import pytest

from kadanoff.studies.lazy_neurons.decisions import by_sign
from tests.studies.quick import quick


@pytest.mark.slow
def test_quick_run(tmp_path):
    claims = quick("lazy-neurons", tmp_path)
    # "time" is measured by the clock, which a loaded machine decides
    for name in ("init", "emergence", "endless", "count", "drift", "drift-ce", "drift-mse"):
        assert claims[name]["verdict"] == "holds", name
    assert claims["drift-ce"]["stderr"] < 0.03
    assert claims["few"]["verdict"] == "undecided"


class Board:
    def decide(self, claim, *, holds, value, stderr, note):
        self.seen = (holds, value, stderr)


@pytest.mark.parametrize(
    "values, sign, holds",
    [([1.0, 1.2, 0.8], 1, True), ([1.0, 1.2, 0.8], -1, False), ([1.0, -1.2, 0.8], 1, None)],
)
def test_directions_are_decided_by_their_error(values, sign, holds):
    board = Board()
    by_sign(board, "x", values, sign, "", 10)
    assert board.seen[0] is holds
    mean = sum(values) / 3
    assert board.seen[1] == pytest.approx(10 * mean)
    spread = (sum((v - mean) ** 2 for v in values) / 6) ** 0.5
    assert board.seen[2] == pytest.approx(10 * spread)
