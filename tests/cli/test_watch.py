"""``kadanoff watch``: it trains, says what it finds, and survives whatever ends it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kadanoff.watching import Film
from tests.cli.run import run

NET = ("examples/deep_tanh.py:critical", "--kwargs", '{"depth": 3, "width": 16}')
SMALL = ("--data", "digits", "--batch", "32", "--progress", "none")


def test_a_healthy_run(capsys, tmp_path):
    page, film, log = tmp_path / "f.html", tmp_path / "f.json", tmp_path / "f.csv"
    code, out, err = run(
        capsys,
        "watch",
        *NET,
        *SMALL,
        "--steps",
        "40",
        "--every",
        "10",
        "--html",
        str(page),
        "--out",
        str(film),
        "--log",
        str(log),
    )
    assert (code, err) == (0, "")
    assert "nothing was found in 40 steps (Adam, lr 0.001)" in out
    text = page.read_text("utf-8")
    assert "Signal K" in text
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert [f.step for f in Film.load(film).frames] == [0, 10, 20, 30, 40]
    with log.open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["step"] for row in rows] == ["0", "10", "20", "30", "40"]
    assert float(rows[-1]["watch/sharpness_over_edge"]) > 0


def test_a_rate_that_diverges_ends_with_1(capsys):
    code, out, _ = run(
        capsys,
        "watch",
        *NET,
        *SMALL,
        "--steps",
        "60",
        "--optimizer",
        "sgd",
        "--lr",
        "1e4",
        "--json",
    )
    found = json.loads(out)
    assert code == 1
    assert found["kind"] == "watch"
    assert found["events"][0]["code"] in ("loss-diverges", "not-finite-in-training")
    code, _, _ = run(
        capsys, "watch", *NET, *SMALL, "--steps", "4", "--lr", "0", "--optimizer", "sgd"
    )
    assert code == 0  # nothing moves, which is said only after three looks


def test_equal_seeds_give_equal_films(capsys):
    films = []
    for seed in ("3", "3", "4"):
        _, out, _ = run(capsys, "watch", *NET, *SMALL, "--steps", "12", "--seed", seed, "--json")
        films.append(json.loads(out))
    assert films[0] == films[1]
    assert films[0]["frames"] != films[2]["frames"]


def test_a_run_that_is_killed_goes_on_and_ends_as_if_it_had_not_been(tmp_path):
    """kill -9 in the middle of training; the film is that of an uninterrupted run."""
    target = tmp_path / "net.py"
    target.write_text(
        "import time\nimport torch\nfrom torch import nn\n\n\n"
        "class Slow(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.inner, self.outer = nn.Linear(64, 8), nn.Linear(8, 10)\n"
        "        self.drop = nn.Dropout(0.2)\n\n"
        "    def forward(self, x):\n        time.sleep(0.004)\n"
        "        return self.outer(self.drop(torch.tanh(self.inner(x.flatten(1)))))\n\n\n"
        "def build():\n    return Slow()\n"
    )

    def words(name: str) -> list[str]:
        return [
            sys.executable,
            "-m",
            "kadanoff",
            "watch",
            f"{target}:build",
            *SMALL,
            "--steps",
            "400",
            "--every",
            "40",
            "--checkpoint",
            str(tmp_path / f"{name}.ckpt"),
            "--out",
            str(tmp_path / f"{name}.json"),
        ]

    environment = os.environ | {"KADANOFF_CHECKPOINT_SECONDS": "0.2"}
    process = subprocess.Popen(words("killed"), env=environment, stdout=subprocess.DEVNULL)
    saved = tmp_path / "killed.ckpt"
    deadline = time.monotonic() + 120
    while not saved.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed.json").exists()
    for name in ("killed", "whole"):
        subprocess.run(words(name), env=environment, check=True, capture_output=True)
    killed, whole = (Film.load(tmp_path / f"{n}.json") for n in ("killed", "whole"))
    assert [f.step for f in killed.frames] == [f.step for f in whole.frames]
    assert killed.losses() == whole.losses()
    assert killed.frames[-1].scalars["loss"] == whole.frames[-1].scalars["loss"]
    # and a finished run is found finished
    subprocess.run(words("killed"), env=environment, check=True, capture_output=True, timeout=100)
    assert Film.load(tmp_path / "killed.json").to_dict() == killed.to_dict()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--every", "0"), "every"),
        (("--steps", "0"), "steps"),
        (("--optimizer", "lion"), "Unknown optimizer 'lion'"),
        (("--lr", "-1"), "no learning rate"),
        (("--momentum", "0.9"), "adam takes no momentum"),
        (("--log", "film.txt"), "Name a .csv file"),
        (("--html", "no/such/f.html"), "There is no folder"),
        (("--fail-on", "note"), "no severity"),
        (("--loss", "json:nothing"), "nothing"),
    ],
)
def test_wrong_calls(capsys, words, said):
    code, _, err = run(capsys, "watch", *NET, *SMALL, *words)
    assert code == 2
    assert said in err
    assert "Traceback" not in err


def test_a_checkpoint_of_another_run(capsys, tmp_path):
    kept = str(tmp_path / "c.ckpt")
    assert run(capsys, "watch", *NET, *SMALL, "--steps", "3", "--checkpoint", kept)[0] == 0
    code, _, err = run(
        capsys, "watch", *NET, *SMALL, "--steps", "3", "--checkpoint", kept, "--lr", "0.01"
    )
    assert code == 2
    assert "is of another run: recipe" in err
    Path(kept).write_bytes(b"nonsense")
    code, _, err = run(capsys, "watch", *NET, *SMALL, "--steps", "3", "--checkpoint", kept)
    assert code == 3
    assert "no checkpoint of a watched run" in err


def test_pages_of_findings(capsys):
    code, out, _ = run(capsys, "watch", "--explain", "KD1503")
    assert code == 0
    assert "loss-spike" in out
    assert run(capsys, "diagnose", "--explain", "KD1503")[1] == out
