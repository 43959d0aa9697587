"""``kadanoff kernel``."""

import json

import numpy as np

import kadanoff as kd
from tests.cli.run import run


def test_writes_what_the_library_computes(capsys, tmp_path):
    out = tmp_path / "gram.npz"
    words = "kernel --activation erf --depth 4 --data wine --samples 30 --C_W 1.1 --json --out"
    code, shown, _ = run(capsys, *words.split(), out)
    assert code == 0
    summary = json.loads(shown)
    with np.load(out) as stored:
        arrays = dict(stored)
    arch = kd.MLP(arrays["X"].shape[1], [1] * 3, 1, "erf", C_W=1.1)
    expected = kd.kernel(arch)(arrays["X"])
    assert np.allclose(arrays["ntk"], expected.ntk.numpy(), rtol=1e-12)
    assert summary["samples"] == 30
    assert summary["checked_error"] < 1e-10


def test_wrong_names_exit_with_2(capsys, tmp_path):
    words = ("kernel", "--data", "wine", "--get", "ntks", "--out", tmp_path / "g.npz")
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "ntks" in err
