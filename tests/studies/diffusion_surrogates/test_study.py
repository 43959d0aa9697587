"""The quick run of the study of diffusion surrogates."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from kadanoff import studies
from kadanoff.errors import MissingExtraError
from tests.needs import needs
from tests.studies.quick import quick


@pytest.mark.slow
def test_quick_run(tmp_path: Path) -> None:
    needs("neuralop", "surrogates")
    claims = quick("diffusion-surrogates", tmp_path)
    for name in (
        "exact-solver",
        "network-sizes",
        "direct-solver-wins",
        "residual-bound",
        "where-it-pays",
    ):
        assert claims[name]["verdict"] == "holds", claims[name]
    assert claims["network-sizes"]["our_value"] == [3075, 50290243]
    assert claims["residual-bound"]["our_value"][0] >= 1
    # too short a training to be judged, and said so
    assert claims["learns-the-field"]["verdict"] == "undecided"


def test_absent_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "neuralop", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*neuraloperator"):
        studies.run("diffusion-surrogates", tmp_path / "out")
    assert not (tmp_path / "out").exists()
