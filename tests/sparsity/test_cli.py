"""``kadanoff sparsity``."""

from __future__ import annotations

import json

from tests.cli.run import run

TARGET = "kadanoff.studies.lazy_neurons.toy:Decoder"
SMALL = ["--kwargs", '{"n_symbols": 128, "length": 256, "d": 16, "m": 32, "layers": 2}']


def test_reports(tmp_path, capsys):
    html = tmp_path / "s.html"
    code, shown, _ = run(
        capsys, "sparsity", TARGET, *SMALL, "--batch", "4", "--html", html, "--accelerate"
    )
    assert code == 0
    assert "layers.0.mlp.up" in shown
    assert "of the hidden neurons are active" in shown
    page = html.read_text()
    assert page.count("<svg") == 3
    assert "http" not in page.replace("http://www.w3.org", "")


def test_json(tmp_path, capsys):
    code, shown, _ = run(capsys, "sparsity", TARGET, *SMALL, "--batch", "4", "--json")
    assert code == 0
    tree = json.loads(shown)
    assert tree["kind"] == "sparsity"
    assert 0.3 < tree["profile"]["active"] < 0.7
    assert tree["bytes"]["blocks"][0]["limit"] > 1
    assert len(tree["drift"]) == 2
    path = tmp_path / "x.json"
    assert run(capsys, "sparsity", TARGET, *SMALL, "--batch", "4", "--json", path)[0] == 0
    assert json.loads(path.read_text())["target"] == TARGET


def test_checkpoints(tmp_path, capsys):
    import torch

    from kadanoff.studies.lazy_neurons.toy import Decoder

    model = Decoder(128, 16, 32, layers=2, length=256)
    state = {
        k: v * (0.0 if k.endswith("up.weight") else 1.0) for k, v in model.state_dict().items()
    }
    torch.save(state, tmp_path / "dead.pt")
    words = ("--batch", "4", "--json", "--checkpoint", tmp_path / "dead.pt")
    code, shown, _ = run(capsys, "sparsity", TARGET, *SMALL, *words)
    assert code == 0
    tree = json.loads(shown)
    assert tree["checkpoints"][0]["active"] == 0.0


def test_bad_calls(capsys):
    assert run(capsys, "sparsity", "nowhere.py:x")[0] == 2
    code, _, err = run(capsys, "sparsity", TARGET, *SMALL, "--error", "3")
    assert code == 2
    assert "error = 3" in err
    code, _, err = run(capsys, "sparsity", TARGET, *SMALL, "--checkpoint", "absent.pt")
    assert code == 2
    assert "absent.pt" in err
