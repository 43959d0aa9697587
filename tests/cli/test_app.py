"""The application around the commands: panels, suggestions, completion, the last resort."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
import typer

from kadanoff.cli import app as application
from kadanoff.cli.panels import Panel, flattened
from tests.cli.run import run

ROOT = Path(__file__).parent.parent.parent


@dataclass(frozen=True)
class Size(Panel, title="The size"):
    name: Annotated[str, typer.Argument()]
    width: Annotated[int, typer.Option(help="Across.")] = 3


@dataclass(frozen=True)
class Wide(Size):
    width: Annotated[int, typer.Option(help="Across.")] = 30


def test_a_panel_is_options_side_by_side_and_one_argument() -> None:
    given = []

    def command(size: Wide, deep: Annotated[bool, typer.Option("--deep")] = False) -> None:
        given.append((size, deep))

    flat = flattened(command)
    assert list(flat.__annotations__) == ["name", "width", "deep"]
    assert flat.__annotations__["width"].__metadata__[0].rich_help_panel == "The size"
    # the option is shared with whoever else uses it, so it must not have been changed
    assert Size.__dataclass_fields__["width"].default == 3
    flat(name="net", width=30, deep=True)
    assert given == [(Wide("net", 30), True)]


def test_a_misspelt_command_and_option_are_guessed(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "diagnos")
    assert code == 2
    assert "Did you mean 'diagnose'?" in err
    code, _, err = run(capsys, "study", "lst")
    assert code == 2
    assert "Did you mean 'list'?" in err
    code, _, err = run(capsys, "flow", "--widht", "3")
    assert code == 2
    assert "--width" in err


def test_what_breaks_inside_is_one_line_and_exit_code_3(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import kadanoff.critical

    def breaks(*_: object, **__: object) -> None:
        raise TypeError("an operand of ours\nis wrong")

    monkeypatch.setattr(kadanoff.critical, "criticality", breaks)
    code, out, err = run(capsys, "critical", "tanh")
    assert code == 3
    assert out == ""
    assert err.startswith("error: ")
    assert "TypeError: an operand of ours" in err
    assert "--debug" in err
    assert len(err.splitlines()) == 1
    with pytest.raises(TypeError, match="operand"):
        application.main(["critical", "tanh", "--debug"])

    def starves(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 EiB")

    monkeypatch.setattr(kadanoff.critical, "criticality", starves)
    code, _, err = run(capsys, "critical", "tanh")
    assert code == 3
    assert "not enough memory" in err


def kadanoff(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kadanoff", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment},
    )


def test_completion_can_be_installed_and_completes(tmp_path: Path) -> None:
    # whichever shell runs the tests, this is about bash
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = kadanoff("--install-completion", "bash", HOME=str(tmp_path), **named)
    assert done.returncode == 0, done.stderr
    script = tmp_path / ".bash_completions" / "kadanoff.sh"
    assert str(script) in (tmp_path / ".bashrc").read_text()
    assert "_KADANOFF_COMPLETE" in script.read_text()
    # what that script asks when the user presses the tabulator
    asked = {"_KADANOFF_COMPLETE": "complete_bash", "COMP_CWORD": "1"}
    assert kadanoff(COMP_WORDS="kadanoff dia", **asked).stdout.split() == ["diagnose"]
    asked["COMP_CWORD"] = "2"
    assert "--activation" in kadanoff(COMP_WORDS="kadanoff flow --a", **asked).stdout.split()


def test_what_the_examples_write_is_ignored_by_git() -> None:
    """Every file that a command of the pages writes beside the sources."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    pages += sorted((ROOT / "src" / "kadanoff" / "cli").glob("*.py"))
    option = re.compile(r"--(?:html|plot|out|save|json|checkpoint) ([\w-]+\.\w+)\b")
    files = {name for page in pages for name in option.findall(page.read_text("utf-8"))}
    assert {"report.html", "gram.npz"} <= files
    ignored = (ROOT / ".gitignore").read_text("utf-8").split()
    assert {name for name in files if f"/{name}" not in ignored} == set()
