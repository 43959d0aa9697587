"""``kadanoff flow`` on the command line."""

from __future__ import annotations

import json

import pytest
import torch

import kadanoff as kd
from tests.cli.run import run


def test_json_holds_what_flow_returns(capsys):
    words = "flow --activation relu --depth 3 --inputs 2 --json --lambda_b 0.5"
    code, out, _ = run(capsys, *words.split())
    assert code == 0
    found = json.loads(out)
    arch = kd.MLP(64, [128, 128], 1, "relu", C_W=2.0, lambda_b=0.5)
    g = torch.Generator().manual_seed(0)
    X = torch.randn(2, 64, generator=g, dtype=torch.float64)
    X = X * 8 / X.norm(dim=1, keepdim=True)
    expected = kd.flow(arch, X, order=1)
    for name in ("K", "Theta", "V", "F", "Q"):
        got = torch.tensor(found["observables"][name], dtype=torch.float64)
        torch.testing.assert_close(got, expected.require(name))
    assert set(found["undefined"]) >= {"R", "S", "T", "U"}
    assert found["architecture"]["C_W"] == [2.0, 2.0, 2.0]


def test_table_and_figure(capsys, tmp_path):
    target = tmp_path / "flow.svg"
    words = "flow --data digits --inputs 2 --depth 3 --activation sin --plot"
    code, out, _ = run(capsys, *words.split(), target)
    assert code == 0
    assert "V/K²" in out
    assert "first one shown" in out
    assert target.read_text().lstrip().startswith("<?xml")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("--activation", "softplus"), "no critical point"),
        (("--activation", "nonsense"), "nonsense"),
        (("--order", "4"), "order must be"),
        (("--plot", "flow.gif"), ".pdf"),
        (("--data", "missing.csv"), "missing.csv"),
        (("--gamma", "0.5", "--depth", "2"), "--depth of 3 or more"),
        (("--C_W", "-1", "--C_b", "0"), "C_W"),
    ],
)
def test_wrong_calls_exit_with_two(capsys, arguments, message):
    code, _, err = run(capsys, "flow", *arguments)
    assert code == 2
    assert message in err
