"""The order-1/n theory against ensembles, extrapolated in width: part of benchmarks.agreement."""

import pytest

from benchmarks.agreement import SECOND, limit, run

CASES = [  # activation, depth, inputs, biases, unequal widths
    ("tanh", 4, 1, True, True),
    ("gelu", 4, 1, True, False),
    ("sin", 4, 1, True, False),
    ("relu", 4, 1, True, True),
    ("linear", 4, 1, False, True),
]


@pytest.mark.slow
@pytest.mark.parametrize("activation,depth,inputs,bias,unequal", CASES)
def test_theory_agrees_with_ensembles(activation, depth, inputs, bias, unequal):
    case = {"activation": activation, "depth": depth, "inputs": inputs, "bias": bias,
            "unequal": unequal, "method": "exact"}  # fmt: skip
    rows = run(case, seconds=120)
    names = {row["observable"] for row in rows}
    assert names >= {"G1", "V", "Theta", "H1", "A", "B", "D", "F"}
    assert activation == "relu" or names >= set(SECOND)
    for row in rows:
        assert row["excess"] < 4, row
        # next order, of widths 48, 96 and 192, has to be small for the z-score to mean something
        if row["relative_error"] is not None and row["observable"] != "Theta":
            assert row["relative_error"] < limit(row["observable"]), row
