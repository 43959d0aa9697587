"""What has moved since a diagnosis that was kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import kadanoff as kd
from kadanoff.diagnosis import changes
from kadanoff.errors import StorageError, UsageError
from tests.cli.run import run

DATA = kd.data.load("digits", batch=64, seed=0)


def build(seed: int = 0, width: int = 128, scale: float = 1.0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [nn.Linear(64, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(width, 10))
    model[2].weight.data *= scale
    return model


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("baseline") / "kept.json"
    kd.diagnose(build(), DATA, try_steps=0).to_json(path)
    return path


def test_the_same_model_has_not_moved(kept: Path) -> None:
    assert changes(kd.diagnose(build(), DATA, try_steps=0), kept) == ()


def test_another_seed_is_no_change(kept: Path) -> None:
    # nine numbers and eight seeds at four standard deviations
    moved = [changes(kd.diagnose(build(seed), DATA, try_steps=0), kept) for seed in range(1, 9)]
    assert sum(map(len, moved)) <= 1


def test_a_layer_of_another_size_is_found_where_it_is(kept: Path) -> None:
    moved = changes(kd.diagnose(build(scale=2.0), DATA, try_steps=0), kept)
    first = moved[0] if moved[0].where != "loss" else moved[1]
    assert (first.where, first.what) in {("2:linear", "signal"), ("0:linear", "chi")}
    signal = next(x for x in moved if (x.where, x.what) == ("2:linear", "signal"))
    assert signal.now / signal.before == pytest.approx(4, rel=0.2)
    assert "2:linear" in signal.sentence
    assert all(change.where != "0:linear" or change.what != "signal" for change in moved)


def test_layers_and_findings_that_are_new_or_gone(kept: Path) -> None:
    model = build()
    model.append(nn.ReLU())
    model.append(nn.Linear(10, 10))
    moved = changes(kd.diagnose(model, DATA, try_steps=0), kept)
    assert ("6:linear", "layer") in [(x.where, x.what) for x in moved]
    dead = build()
    dead[2].bias.data -= 100
    moved = changes(kd.diagnose(dead, DATA, try_steps=0), kept)
    assert "finding" in [x.what for x in moved]
    assert changes(kd.diagnose(build(), DATA, try_steps=0), kd.diagnose(model, DATA).to_dict())


def test_no_baseline(kept: Path, tmp_path: Path) -> None:
    found = kd.diagnose(build(), DATA, try_steps=0)
    with pytest.raises(StorageError, match="Write one with"):
        changes(found, tmp_path / "none.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(UsageError, match="no JSON"):
        changes(found, tmp_path / "a.json")
    (tmp_path / "b.json").write_text("[1]")
    with pytest.raises(UsageError, match="no diagnosis"):
        changes(found, tmp_path / "b.json")
    tree = json.loads(kept.read_text())
    del tree["layers"][0]["path"]
    with pytest.raises(UsageError, match="Write it anew"):
        changes(found, tree)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "net.py"
    text = (
        "import torch\nfrom torch import nn\ndef build(scale=1.0):\n    torch.manual_seed(0)\n"
        "    m = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))\n"
        "    m[0].weight.data *= scale\n    return m\n"
    )
    target.write_text(text)
    call = ("diagnose", f"{target}:build", "--data", "digits", "--try", "0")
    code, _, err = run(capsys, *call, "--json", tmp_path / "kept.json")
    assert code == 0, err
    code, out, _ = run(capsys, *call, "--baseline", tmp_path / "kept.json")
    assert code == 0
    assert "Nothing has moved" in out
    call = (*call, "--kwargs", '{"scale": 3.0}', "--baseline", tmp_path / "kept.json")
    code, out, _ = run(capsys, *call)
    assert code == 1
    assert "signal of 0:linear" in " ".join(out.split())
    code, out, _ = run(capsys, *call, "--json")
    assert json.loads(out)["changes"][0]["now"] > 0
    code, _, err = run(capsys, *call[:-1], tmp_path / "none.json")
    assert code == 3
    assert "Write one with" in err
