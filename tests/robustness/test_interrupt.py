"""Ctrl-C leaves a clean state and says how to go on; two processes may share a file."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ENSEMBLE = ["ensemble", "--activation", "tanh", "--depth", "3", "--width", "16", "--inputs", "2"]


def start(*words: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "kadanoff", *words],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # a test run in the background ignores Ctrl-C, and its children would inherit that
        preexec_fn=functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )


def interrupted(process: subprocess.Popen[str], ready: Path) -> tuple[int, str]:
    deadline = time.time() + 120
    while not ready.exists() and process.poll() is None and time.time() < deadline:
        time.sleep(0.05)
    try:
        assert ready.exists()
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    return process.returncode, err


@pytest.mark.slow
def test_ctrl_c_keeps_the_checkpoint_and_says_how_to_go_on(tmp_path: Path) -> None:
    words = [*ENSEMBLE, "--networks", "4000000", "--checkpoint", "run.ckpt"]
    code, err = interrupted(start(*words, cwd=tmp_path), tmp_path / "run.ckpt")
    assert code == 130
    assert "Traceback" not in err
    assert "same command" in err
    assert [p.name for p in tmp_path.iterdir()] == ["run.ckpt"]
    state = torch.load(tmp_path / "run.ckpt", weights_only=True)
    assert state["blocks"] >= 1


@pytest.mark.slow
def test_ctrl_c_in_a_study_says_how_to_go_on(tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start("study", "run", "sparsity-principle", "--full", "--out", str(out), cwd=tmp_path)
    code, err = interrupted(process, out / "parts")
    assert code == 130
    assert "go on with: kadanoff study run sparsity-principle --full" in " ".join(err.split())
    assert "Traceback" not in err
    assert not (out / "result.json").exists()


@pytest.mark.slow
def test_two_processes_with_one_checkpoint(tmp_path: Path) -> None:
    def words(n: int, name: str) -> list[str]:
        return [*ENSEMBLE, "--networks", "12000", "--checkpoint", name, "--json", f"{n}.json"]

    both = [start(*words(n, "shared.ckpt"), cwd=tmp_path) for n in (1, 2)]
    for process in both:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    alone = start(*words(3, "alone.ckpt"), cwd=tmp_path)
    alone.communicate(timeout=300)
    found = [json.loads((tmp_path / f"{n}.json").read_text()) for n in (1, 2, 3)]
    for document in found:
        document.pop("seconds", None)
    assert found[0] == found[1] == found[2]
