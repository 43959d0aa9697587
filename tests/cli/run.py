"""Run the command line inside this process."""

from __future__ import annotations

from pathlib import Path

import pytest

__all__ = ["run"]


def run(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    """Exit code, stdout, stderr."""
    from kadanoff.cli.app import main

    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return int(stop.value.code or 0), out, err
