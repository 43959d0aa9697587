"""``kadanoff kernel``."""

import json

import numpy as np
import pytest

import kadanoff as kd
from kadanoff.cli.app import main


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        main(["kernel", *arguments])
    return stop.value.code, capsys.readouterr()


def test_writes_what_the_library_computes(capsys, tmp_path):
    out = tmp_path / "gram.npz"
    code, shown = run(capsys, "--activation", "erf", "--depth", "4", "--data", "wine", "--samples",
                      "30", "--C_W", "1.1", "--out", str(out), "--json")  # fmt: skip
    assert code == 0
    summary = json.loads(shown.out)
    with np.load(out) as stored:
        arrays = dict(stored)
    arch = kd.MLP(arrays["X"].shape[1], [1] * 3, 1, "erf", C_W=1.1)
    expected = kd.kernel(arch)(arrays["X"])
    assert np.allclose(arrays["ntk"], expected.ntk.numpy(), rtol=1e-12)
    assert summary["samples"] == 30
    assert summary["checked_error"] < 1e-10


def test_wrong_names_exit_with_2(capsys, tmp_path):
    code, shown = run(capsys, "--data", "wine", "--get", "ntks", "--out", str(tmp_path / "g.npz"))
    assert code == 2
    assert "ntks" in shown.err
