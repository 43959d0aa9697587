"""``kadanoff transfer`` on a factory of the user's."""

from __future__ import annotations

import json

from tests.cli.run import run

FILE = """
from torch import nn

def build(width=32, layers=2):
    body = [nn.Linear(64, width), nn.ReLU()]
    for _ in range(layers - 1):
        body += [nn.Linear(width, width), nn.ReLU()]
    return nn.Sequential(*body, nn.Linear(width, 10))
"""


def test_a_factory_of_the_users(capsys, tmp_path):
    target, file = tmp_path / "my.py", tmp_path / "t.json"
    target.write_text(FILE)
    code, _, err = run(
        capsys, "transfer", f"{target}:build", "--widths", "width=16,32", "--depths", "layers=2,3",
        "--data", "digits", "--steps", "12", "--values", "1e-3,4e-3,1.6e-2",
        "--html", tmp_path / "t.html", "--json", file,
    )  # fmt: skip
    assert code in (0, 1), err
    found = json.loads(file.read_text())
    assert [(c["width"], c["depth"]) for c in found["curves"]] == [(16, 2), (32, 2), (32, 3)]
    assert (found["knob"], found["scaling"]) == ("lr", "mup")
    assert "learning rate" in (tmp_path / "t.html").read_text()


def test_wrong_calls(capsys, tmp_path):
    target = tmp_path / "my.py"
    target.write_text(FILE)
    for extra in (
        ["--widths", "wide=16,32"],
        ["--widths", "16,x"],
        ["--knob", "momentum"],
        ["--values", "a,b"],
        ["--scaling", "up"],
    ):
        code, _, err = run(capsys, "transfer", f"{target}:build", *extra)
        assert code == 2, extra
        assert len(err.strip().splitlines()) == 1
    assert run(capsys, "transfer", "--knob", "eps")[0] == 2
