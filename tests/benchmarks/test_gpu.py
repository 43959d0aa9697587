"""The prepared GPU run, in its small form on the processor."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "part", ["ensemble", "module_ensemble", "kernel", "empirical_ntk", "diagnose", "tune"]
)
def test_each_part_runs_on_the_processor(part: str) -> None:
    row = getattr(gpu, part)(torch.device("cpu"), True)
    assert row["device_seconds"] > 0


def test_rows_are_kept_as_they_come_and_absent_packages_are_named(tmp_path, monkeypatch) -> None:
    monkeypatch.setitem(gpu.PARTS, "kernel", (("a_package_nobody_has",), 0.1))
    row = gpu.row_of("kernel", "cpu", True, 10)
    assert row == {"part": "kernel", "skipped": "needs a_package_nobody_has"}
    out = tmp_path / "gpu.json"
    command = ["--device", "cpu", "--small", "--only", "kernel", "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *command], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(out.read_text())["rows"][0]["device_seconds"] > 0


def test_no_device_is_an_error() -> None:
    if torch.cuda.is_available():
        pytest.skip("a CUDA device is there")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "sees no CUDA device" in done.stderr
