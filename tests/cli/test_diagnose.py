"""``kadanoff diagnose``: outputs, saved models, reproducibility."""

from __future__ import annotations

import json
import sys
import warnings

import torch
from torch import nn

from tests.cli.run import run

TANH = "examples/deep_tanh.py:{}"
SMALL = ("--kwargs", '{"depth": 12, "width": 64}', "--batch", "48")


def test_sick_and_healthy(capsys, tmp_path):
    html, file = tmp_path / "r.html", tmp_path / "r.json"
    deep = ("--kwargs", '{"depth": 40, "width": 64}', "--batch", "48")
    code, out, _ = run(
        capsys, "diagnose", TANH.format("default"), *deep, "--html", html, "--json", file
    )
    assert code == 1
    assert "SICK" in out.splitlines()[0]
    assert "Not healthy" in html.read_text()
    tree = json.loads(file.read_text())
    assert tree["findings"][0]["code"] == "ordered"
    assert tree["meta"]["seed"] == 0
    code, out, _ = run(capsys, "diagnose", TANH.format("critical"), *SMALL)
    assert code == 0
    assert "OK" in out.splitlines()[0]
    assert max(len(line) for line in out.splitlines()) <= 100


def test_same_seed_same_numbers(capsys):
    def numbers(seed):
        _, out, _ = run(
            capsys, "diagnose", TANH.format("critical"), *SMALL, "--seed", seed, "--json"
        )
        return [layer["second_moment"]["value"] for layer in json.loads(out)["layers"]]

    assert numbers(5) == numbers(5)
    assert numbers(5) != numbers(6)


def test_package_target_from_the_working_folder(capsys, tmp_path, monkeypatch):
    (tmp_path / "my_package_of_nets").mkdir()
    (tmp_path / "my_package_of_nets/__init__.py").write_text("")
    (tmp_path / "my_package_of_nets/nets.py").write_text(
        "from torch import nn\nNet = lambda: nn.Sequential(nn.Linear(13, 32), nn.ReLU(),"
        " nn.Linear(32, 3))\n"
    )
    monkeypatch.chdir(tmp_path)
    try:
        code, _, err = run(
            capsys, "diagnose", "my_package_of_nets.nets:Net", "--data", "wine", "--batch", "32"
        )
    finally:
        for name in [n for n in sys.modules if n.startswith("my_package_of_nets")]:
            del sys.modules[name]
    assert code in (0, 1), err


def test_exported_program(capsys, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    path = tmp_path / "model.pt2"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(model, (torch.randn(24, 64),)), path)
    code, out, err = run(capsys, "diagnose", path, "--json")
    assert code in (0, 1), err
    tree = json.loads(out)
    assert tree["n_samples"] == 24  # the batch it was exported with
    assert len(tree["layers"]) == 2


def test_torchscript_file(capsys, tmp_path):
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
    path = tmp_path / "model.ts"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(model).save(str(path))
    code, _, err = run(capsys, "diagnose", path)
    assert code in (0, 1, 3), err
    if code == 3:  # a script hides its layers; that must be said in one line
        assert len(err.strip().splitlines()) == 1


def test_doctor(capsys):
    code, out, _ = run(capsys, "doctor")
    assert code == 0
    assert torch.__version__ in out
    code, out, _ = run(capsys, "doctor", "--json")
    tree = json.loads(out)
    assert tree["packages"]["torch"] == torch.__version__
    for about in tree["extras"].values():
        assert about["complete"] == all(about["packages"].values())
