"""The quick study of effective theories."""

from __future__ import annotations

import pytest

from tests.studies.quick import quick


@pytest.mark.slow
def test_quick_run(tmp_path):
    claims = quick("effective-theories", tmp_path)
    # tens of thousands of networks are too few for the powers of the eight-point function
    undecided = {name for name, c in claims.items() if c["verdict"] == "undecided"}
    assert undecided <= {"counting", "exact-chain"}
    assert not [name for name, c in claims.items() if c["verdict"] == "fails"]
    assert claims["ratio-8"]["our_value"] == pytest.approx(96 / 35, rel=0.01)
    assert claims["ensembles"]["our_value"] > 1  # of some two hundred components
    assert max(claims["loops"]["stderr"]) < 2e-3
