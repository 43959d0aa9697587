"""``kadanoff tune``."""

from __future__ import annotations

import json

import torch

from tests.cli.run import run


def test_check_shows_that_tuning_helps(capsys, tmp_path):
    html, weights, file = tmp_path / "t.html", tmp_path / "w.pt", tmp_path / "t.json"
    code, out, err = run(
        capsys, "tune", "examples/deep_tanh.py:default", "--check", "--steps", "80",
        "--kwargs", '{"depth": 14, "width": 48}', "--batch", "64",
        "--html", html, "--save", weights, "--json", file,
    )  # fmt: skip
    assert code == 0, err
    assert "closed form" in out
    tree = json.loads(file.read_text())
    training = tree["check"]["training"]
    before, after = (training[k]["losses"] for k in ("before", "after"))
    assert len(before) == len(after) == 80
    assert sum(after[-8:]) < 0.5 * sum(before[-8:])
    assert "Training" in html.read_text()
    state = torch.load(weights)
    assert abs(float(state["2.weight"].square().mean()) * 48 - 1) < 1e-5


def test_without_check(capsys):
    code, out, _ = run(capsys, "tune", "examples/transformer.py:pre_ln", "--data", "text",
                       "--batch", "4", "--kwargs", '{"depth": 1, "d": 32}')  # fmt: skip
    assert code == 0
    assert "Nothing to tune" in out


def test_wrong_calls(capsys, tmp_path):
    for extra in (["--steps", "0"], ["--check", "--lr", "-1"], ["--html", f"{tmp_path}/x.html"]):
        code, _, err = run(capsys, "tune", "examples/deep_tanh.py:default", *extra)
        assert code == 2
        assert len(err.strip().splitlines()) == 1


def test_a_race_writes_groups_and_a_line(capsys, tmp_path):
    groups, file = tmp_path / "groups.json", tmp_path / "t.json"
    code, out, err = run(
        capsys, "tune", "examples/deep_tanh.py:default", "--optimizer", "adamw", "--steps", "250",
        "--kwargs", '{"depth": 10, "width": 32}', "--batch", "64", "--out", groups, "--check",
        "--json", file,
    )  # fmt: skip
    assert code == 0, err
    assert "Best of" in out
    assert "torch.optim.AdamW(" in out
    held = json.loads(groups.read_text())
    assert held["optimizer"] == "adamw"
    tree = json.loads(file.read_text())
    assert tree["race"]["steps"] <= 25
    training = tree["check"]["training"]
    assert training["optimizer"] == "adamw"
    assert training["after"]["losses"][-1] < training["before"]["losses"][-1]


def test_wrong_calls_of_the_race(capsys, tmp_path):
    for extra in (["--out", f"{tmp_path}/g.json"], ["--optimizer", "adagrad"],
                  ["--optimizer", "adamw", "--loss", "examples/deep_tanh.py:nothing"]):  # fmt: skip
        code, _, err = run(capsys, "tune", "examples/deep_tanh.py:default", *extra)
        assert code == 2
        assert len(err.strip().splitlines()) == 1
