"""``kadanoff cite``: BibTeX that names what was asked for."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from kadanoff import __version__
from tests.cli.run import run


def test_the_software_and_the_book(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "cite")
    assert code == 0
    assert re.findall(r"@(\w+)\{(\w+)", out) == [("software", "kadanoff"), ("article", "pdlt2021")]
    assert f"version = {{{__version__}}}" in out
    assert out.count("{") == out.count("}")
    assert "2106.10165" in out


def test_studies_and_works_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "cite", "--of", "lazy-neurons", "--of", "banta2023")
    assert code == 0
    assert re.findall(r"@\w+\{(\w+)", out) == ["li2022lazy", "banta2023"]
    code, out, _ = run(capsys, "cite", "--of", "banta2023", "--json")
    assert json.loads(out)["works"] == ["banta2023"]


def test_an_unknown_name(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "cite", "--of", "lazy-neuron")
    assert code == 2
    assert not out
    assert "Did you mean 'lazy-neurons'?" in err


def test_the_citation_file_has_the_version_and_a_date() -> None:
    text = Path("CITATION.cff").read_text("utf-8")
    assert f"version: {__version__}" in text
    assert re.search(r'date-released: "20\d\d-\d\d-\d\d"', text)
