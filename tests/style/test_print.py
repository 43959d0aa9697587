"""Figures for papers: as wide as a column, embedded fonts, the size of the text."""

from __future__ import annotations

import re
import zlib
from pathlib import Path

import matplotlib
import pytest
import torch

import kadanoff as kd
from kadanoff.errors import UsageError
from kadanoff.style.figures import figure, for_print, house_style


@pytest.mark.parametrize(("columns", "inches"), [(1, 3.375), (2, 7.0)])
def test_a_figure_is_as_wide_as_its_column(columns: int, inches: float) -> None:
    with for_print(columns), house_style():
        fig, _ = figure(width=6.4, height=3.2)
        assert matplotlib.rcParams["font.size"] == 8
    assert fig.get_size_inches().tolist() == pytest.approx([inches, inches / 2])
    with house_style():
        assert matplotlib.rcParams["font.size"] == 10
        assert figure()[0].get_figwidth() == 6.4


def test_a_pdf_has_its_size_and_no_type_3_fonts(tmp_path: Path) -> None:
    arch = kd.MLP(2, [16, 16], 1, "tanh", C_W=1.3)
    X = torch.tensor([[1.0, 0.5]])
    with for_print():
        found = kd.compare(kd.flow(arch, X, order=1), kd.ensemble(arch, X, 300))
        found.plot(tmp_path / "a.pdf")
    raw = (tmp_path / "a.pdf").read_bytes()
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", raw, re.S)
    text = raw + b"".join(_inflated(s) for s in streams)
    assert b"/Type3" not in text
    assert b"/FontFile2" in text
    box = re.search(rb"/MediaBox \[ ?0 0 ([\d.]+)", text)
    assert box is not None
    assert float(box.group(1)) == pytest.approx(72 * 3.375, abs=0.1)


def test_wrong_columns_and_no_tex(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match="Choose 1 or 2"), for_print(3):
        pass
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(UsageError, match="no latex"), for_print(tex=True):
        pass


def _inflated(stream: bytes) -> bytes:
    try:
        return zlib.decompress(stream)
    except zlib.error:
        return b""
