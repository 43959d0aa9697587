"""The quick study of Transformers at initialisation."""

from __future__ import annotations

import pytest

from tests.studies.quick import quick


@pytest.mark.slow
def test_quick_run(tmp_path):
    claims = quick("transformers-at-initialisation", tmp_path)
    assert "fails" not in {claim["verdict"] for claim in claims.values()}
    # few networks decide what needs no great precision
    for name in ("stream", "blocks", "no-mlp", "queries-keys", "queries-keys-power", "real"):
        assert claims[name]["verdict"] == "holds", name
    assert claims["loss"]["verdict"] == "undecided"
