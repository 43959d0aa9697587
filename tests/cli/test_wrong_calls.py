"""Wrong calls of the commands: found before the work, told in one line, exit code 2."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.run import run

CASES = {
    "a file for a checkpoint in no folder": (
        "ensemble --networks 64 --checkpoint no/such/file",
        "no folder 'no/such'",
    ),
    "the same for transfer": ("transfer --checkpoint no/such/file", "no folder 'no/such'"),
    "no worker at all": ("ensemble --networks 64 --jobs 0", "0 worker processes"),
    "a level that passes everything": ("compare --networks 64 --level nan", "level = nan"),
    "a level that rejects everything": ("compare --networks 64 --level -1", "level = -1"),
    "a misspelt study": ("study run edge-of-caos", "Did you mean 'edge-of-chaos'?"),
    "a misspelt activation": ("critical tahn", "Did you mean 'tanh'?"),
    "an algorithm there is not": (
        "predict --activation tanh --order 1 --train 4 --test 1 --algorithm sgd",
        "Choose gradient or giant_leap",
    ),
    "an order that kinks do not have": (
        "predict --activation relu --order 1 --train 4 --test 1",
        "the activation has kinks",
    ),
    "a stray argument": ("doctor now", "Unexpected argument 'now'"),
    "a figure of no kind": ("flow --plot flow.gif", ".svg, .png or .pdf"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_call_is_one_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    call, message = CASES[name]
    if "examples" not in call:
        monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *call.split())
    assert code == 2, err
    assert message in " ".join(err.split())
    assert out == ""
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_without_numba_it_is_said_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from kadanoff.sparsity import backends

    monkeypatch.setattr(backends, "available", lambda device: ["torch"])
    toy = (
        "kadanoff.studies.lazy_neurons.toy:Decoder",
        "--kwargs",
        '{"n_symbols": 128, "length": 256, "d": 16, "m": 32, "layers": 1}',
    )
    code, out, err = run(capsys, "sparsity", *toy, "--batch", "2", "--accelerate")
    assert code == 0, err
    told = " ".join(out.split())
    assert "install [sparse] to skip by compiled loops" in told
    assert "pip install" in told


def test_without_an_extra_the_command_names_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "fastapi", None)
    code, _, err = run(capsys, "atlas", "export", "--data-dir", tmp_path / "a")
    assert code == 2
    assert "pip install" in err
    assert "fastapi" in err
    # both: another test may have imported the inner module already
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    code, _, err = run(capsys, "kernel", "--data", tmp_path / "x.parquet")
    assert code == 2
    assert "pip install" in err
    assert "pyarrow" in err
