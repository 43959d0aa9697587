"""The quick study of exact priors."""

from __future__ import annotations

import pytest

from tests.studies.quick import quick


@pytest.mark.slow
def test_quick_run(tmp_path):
    claims = quick("exact-priors", tmp_path)
    assert {name: claim["verdict"] for name, claim in claims.items()} == dict.fromkeys(
        claims, "holds"
    )
    assert claims["coefficient"]["our_value"] == pytest.approx(0.25, abs=1e-3)
    # the law of a true model strays by chance: the largest of a hundred |z| is not small
    assert claims["exact"]["our_value"] > 1
