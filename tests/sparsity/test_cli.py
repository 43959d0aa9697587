"""``kadanoff sparsity``."""

from __future__ import annotations

import json

import pytest

from kadanoff.cli.app import main

TARGET = "kadanoff.studies.lazy_neurons.toy:Decoder"
SMALL = ["--kwargs", '{"n_symbols": 128, "length": 256, "d": 16, "m": 32, "layers": 2}']


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["sparsity", *arguments])
    return int(stop.value.code or 0)


def test_reports(tmp_path, capsys):
    html = tmp_path / "s.html"
    assert run(TARGET, *SMALL, "--batch", "4", "--html", str(html), "--accelerate") == 0
    shown = capsys.readouterr().out
    assert "layers.0.mlp.up" in shown
    assert "of the hidden neurons are active" in shown
    page = html.read_text()
    assert page.count("<svg") == 3
    assert "http" not in page.replace("http://www.w3.org", "")


def test_json(tmp_path, capsys):
    assert run(TARGET, *SMALL, "--batch", "4", "--json") == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["kind"] == "sparsity"
    assert 0.3 < tree["profile"]["active"] < 0.7
    assert tree["bytes"]["blocks"][0]["limit"] > 1
    assert len(tree["drift"]) == 2
    path = tmp_path / "x.json"
    assert run(TARGET, *SMALL, "--batch", "4", "--json", str(path)) == 0
    assert json.loads(path.read_text())["target"] == TARGET


def test_checkpoints(tmp_path, capsys):
    import torch

    from kadanoff.studies.lazy_neurons.toy import Decoder

    model = Decoder(128, 16, 32, layers=2, length=256)
    state = {
        k: v * (0.0 if k.endswith("up.weight") else 1.0) for k, v in model.state_dict().items()
    }
    torch.save(state, tmp_path / "dead.pt")
    code = run(
        TARGET, *SMALL, "--batch", "4", "--json", "--checkpoint", str(tmp_path / "dead.pt")
    )  # fmt: skip
    assert code == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["checkpoints"][0]["active"] == 0.0


def test_bad_calls(capsys):
    assert run("nowhere.py:x") == 2
    assert run(TARGET, *SMALL, "--error", "3") == 2
    assert "error = 3" in capsys.readouterr().err
    assert run(TARGET, *SMALL, "--checkpoint", "absent.pt") == 2
