"""The quick study of the sparsity principle decides what its size allows."""

from __future__ import annotations

import pytest

from tests.studies.quick import quick


@pytest.mark.slow
def test_quick_run(tmp_path):
    claims = quick("sparsity-principle", tmp_path)
    for name in (
        "no-free-lunch", "spread", "sparse-lunch", "ladder", "energies",
        "learnt-sparse", "parity-basis", "ensemble", "aspect", "aspect-exact", "aspect-blind",
    ):  # fmt: skip
        assert claims[name]["verdict"] == "holds", name
    assert claims["no-free-lunch"]["our_value"] == 0.5
    for name in ("samples", "growth", "one-sample", "orders"):
        assert claims[name]["verdict"] == "undecided", name
