"""The quick study of lazy neurons decides what its size allows."""

from __future__ import annotations

import pytest

from tests.studies.quick import quick


@pytest.mark.slow
def test_quick_run(tmp_path):
    claims = quick("lazy-neurons", tmp_path)
    # "time" is measured by the clock, which a loaded machine decides
    for name in ("init", "drift", "drift-ce", "drift-mse"):
        assert claims[name]["verdict"] == "holds", name
    assert claims["drift-ce"]["stderr"] < 0.03
    # three seeds are few for one of fifteen directions, but the sign is there
    for name, sign in (("emergence", -1), ("endless", -1), ("count", 1)):
        assert claims[name]["verdict"] != "fails", name
        assert sign * claims[name]["our_value"] > 0, name
    # twenty-five steps do not make a network that may be asked about robustness
    for name in ("clean", "noise-40", "noise-80", "gaussian", "impulse", "ece"):
        assert claims[name]["verdict"] == "undecided", name
        assert claims[name]["baseline"] or name == "ece"
