"""The quick run of the study of lazy circuits."""

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
    needs("pennylane", "quantum")
    needs("pennylane_lightning", "quantum")
    claims = quick("quantum-laziness", tmp_path)
    for name in (
        "kernel-mean",
        "exact-fluctuation",
        "gradient-variance",
        "not-a-plateau",
        "convention",
    ):
        assert claims[name]["verdict"] == "holds", claims[name]
    # many gates do not make the kernel sharp: this one must not be hidden
    assert claims["concentration"]["verdict"] == "fails"
    assert claims["fluctuation-projector"]["verdict"] == "fails"
    for name in ("noise-floor", "shot-floor", "laziness", "exponential"):
        assert claims[name]["verdict"] != "fails", name
    assert claims["convention"]["our_value"] == pytest.approx(0.25, abs=1e-5)


def test_absent_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pennylane", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*pennylane"):
        studies.run("quantum-laziness", tmp_path / "out")
    assert not (tmp_path / "out").exists()
