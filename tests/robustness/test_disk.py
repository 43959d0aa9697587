"""A full disk, a read-only folder: exit code 3, the old file as it was, nothing left by half."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.cli.run import run

NET = """
from torch import nn

def build():
    return nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10))
"""


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A new file system of ``size`` at ``folder``; skips where that is not permitted."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True).returncode == 0
    except OSError:
        done = False
    if not done:
        pytest.skip("mounting a tmpfs is not permitted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A file system with 4 KiB left."""
    with mounted(tmp_path / "full", "96k") as folder:
        (folder / "ballast").write_bytes(bytes(92 * 1024))
        yield folder


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Path]:
    """A folder in which nothing can be written, not even by root."""
    with mounted(tmp_path / "sealed", "64k") as folder:
        (folder / "old").write_text("old")
        subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
        yield folder


def writers(net: Path) -> dict[str, list[str]]:
    """Commands that write; the last word is the file."""
    ensemble = ["ensemble", "--activation", "relu", "--depth", "3", "--width", "8"]
    return {
        "diagnose html": ["diagnose", f"{net}:build", "--html", "report.html"],
        "diagnose json": ["diagnose", f"{net}:build", "--json", "report.json"],
        "tune save": ["tune", f"{net}:build", "--save", "tuned.pt"],
        "flow plot": ["flow", "--activation", "relu", "--depth", "4", "--plot", "flow.svg"],
        "ensemble checkpoint": [
            *ensemble, "--networks", "6000", "--inputs", "3", "--checkpoint", "run.ckpt",
        ],
        "ensemble json": [
            *ensemble, "--networks", "64", "--inputs", "3", "--json", "ensemble.json",
        ],
        "kernel": ["kernel", "--activation", "relu", "--data", "digits", "--out", "gram.npz"],
        "sparsity html": [
            "sparsity", f"{net}:build", "--data", "digits", "--html", "sparsity.html",
        ],
    }  # fmt: skip


NAMES = sorted(writers(Path("net.py")))
CASES = [(name, "full") for name in NAMES]
CASES += [("flow plot", "sealed"), ("ensemble checkpoint", "sealed"), ("diagnose html", "sealed")]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "where"), CASES)
def test_a_write_that_fails_leaves_nothing_by_half(
    name: str, where: str, request: pytest.FixtureRequest, tmp_path: Path, capsys
) -> None:
    folder: Path = request.getfixturevalue(where)
    net = tmp_path / "net.py"
    net.write_text(NET)
    *words, file = writers(net)[name]
    target = folder / file
    if where == "full":
        target.write_text("old")
    before = sorted(os.listdir(folder))
    code, out, err = run(capsys, *words, target)
    assert code == 3, (code, out, err)
    assert "Traceback" not in out + err
    assert "Could not write" in err or "cannot be read" in err
    assert sorted(os.listdir(folder)) == before
    if where == "full":
        assert target.read_text() == "old"


@pytest.mark.slow
def test_a_study_on_a_full_disk_keeps_its_finished_parts(full: Path) -> None:
    from kadanoff.errors import StorageError
    from kadanoff.studies import Claim, Study, run

    def small() -> list[int]:
        return [1]

    def large() -> list[float]:
        return torch.rand(1000).tolist()

    def work(lab) -> None:
        lab.part("small", small)
        lab.part("large", large)

    study = Study("s", "S", "p", "S.", (Claim("a", "A."),), work)
    with pytest.raises(StorageError, match="space"):
        run(study, full / "out")
    assert [p.name for p in (full / "out" / "parts").iterdir()] == ["small.json"]
    (full / "ballast").unlink()
    run(study, full / "out")
    assert (full / "out" / "result.json").is_file()
