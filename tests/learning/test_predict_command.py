"""``kadanoff predict`` on the command line."""

from __future__ import annotations

import json

import pytest

from tests.cli.run import run

SMALL = ("predict", "--activation", "tanh", "--C_b", "0.1", "--C_W", "1.2", "--width", "128")


def test_order_1_with_progress_and_networks_beside_it(capsys):
    code, out, err = run(
        capsys, *SMALL, "--depth", "2", "--train", "2", "--test", "1", "--order", "1",
        "--networks", "8", "--eta", "0.05", "--time", "inf", "--progress", "json", "--json",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    curve = found["loss_curve"]
    assert len(curve["measured"]) == len(curve["predicted"]) == len(curve["steps"])
    assert curve["measured"][-1] < 0.1 * curve["measured"][0]
    lines = [json.loads(line) for line in err.splitlines() if line.startswith("{")]
    # averages and recursion of one layer
    assert {"done": 2, "total": 2} in lines


def test_speed_and_stability_are_told(capsys):
    arguments = (*SMALL, "--depth", "3", "--data", "wine", "--train", "20", "--test", "2")
    code, out, err = run(capsys, *arguments, "--batch", "5", "--eta", "0.01", "--json")
    assert code == 0, err
    found = json.loads(out)
    assert 0 < found["largest_stable_eta"] < found["largest_stable_eta_of_batch"]
    assert found["fastest_time"] < found["slowest_time"]
    times = [row["time"] for row in found["labels_learned"]]
    assert times == sorted(times)
    # three outputs, means over five points: 2 / (5 * 3) of the sum's gradient
    assert found["largest_stable_torch_lr"] == pytest.approx(
        7.5 * found["largest_stable_eta_of_batch"]
    )
    code, out, _ = run(capsys, *arguments, "--batch", "5")
    assert code == 0
    assert "batch 5" in out
    assert "time scales" in out


def test_depths_are_compared(capsys):
    arguments = (*SMALL, "--train", "2", "--test", "1", "--noise", "0.1", "--depths", "1,3")
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 0, err
    found = json.loads(out)
    assert [row["hidden_layers"] for row in found["candidates"]] == [1, 3]
    best = max(range(2), key=lambda k: found["candidates"][k]["log_evidence"])
    assert found["best_by_evidence"] == best
    assert all(row["log_evidence_stderr"] > 0 for row in found["candidates"])
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    assert "most probable" in out


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--depths", "1,x", "--noise", "0.1"), "whole numbers"),
        (("--depths", "1", "--noise", "0", "--train", "3"), "noise"),
        (("--depths", "1", "--noise", "0.1", "--train", "100"), "64"),
        (("--networks", "3", "--train", "5"), "pairs"),
        (("--networks", "4", "--train", "5", "--method", "bayes"), "not trained"),
        (("--order", "1", "--train", "65"), "64"),
    ],
)
def test_bad_options(capsys, options, word):
    code, _, err = run(capsys, *SMALL, "--test", "1", *options)
    assert code == 2
    assert word in err
