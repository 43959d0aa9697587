"""Every Python block of the documentation runs, and every command in it is a real one.

Names that a page takes for granted are made in a comment ``<!-- setup``, which no reader sees. A
block ``python file=NAME`` is written to a file first; all blocks of a page share one namespace.
Each ``$ kadanoff ...`` of a ``console`` block must name a command and options that exist.
"""

from __future__ import annotations

import re
import shlex
import sys
from pathlib import Path

import pytest

from tests.cli.run import run
from tests.needs import needs

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), DOCS.parent / "README.md"])
SETUP = re.compile(r"^<!-- setup\n(.*?)^-->", re.M | re.S)
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.M | re.S)


def blocks(page: Path) -> list[tuple[str, str, str]]:
    return BLOCK.findall(page.read_text("utf-8"))


def with_python(page: Path) -> bool:
    return any(kind == "python" and "norun" not in info for kind, info, _ in blocks(page))


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in PAGES if with_python(p)], ids=lambda p: str(p.relative_to(DOCS.parent))
)
def test_the_python_blocks_of_a_page_run(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    names: dict[str, object] = {"__name__": "page"}
    for code in SETUP.findall(page.read_text("utf-8")):
        exec(compile(code, f"setup of {page.name}", "exec"), names)
    for kind, info, code in blocks(page):
        if kind != "python" or "norun" in info:
            continue
        file = re.search(r"file=(\S+)", info)
        if file:
            (tmp_path / file.group(1)).write_text(code)
            continue
        if info.strip().startswith("needs="):
            needs(*info.strip().removeprefix("needs=").split(":"))
        exec(compile(code, f"{page.name}", "exec"), names)
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def commands() -> list[tuple[str, list[str]]]:
    found = []
    for page in PAGES:
        for kind, _, code in blocks(page):
            if kind in ("console", "sh"):
                for line in code.replace("\\\n", " ").splitlines():
                    words = shlex.split(line.removeprefix("$ "), comments=True)
                    if words[:2] == ["python3", "bootstrap.py"] and words[2:3] != ["test"]:
                        words = ["kadanoff", *words[2:]]
                    if words[:1] == ["kadanoff"] and len(words) > 1:
                        found.append((page.name, words[1:]))
    return found


@pytest.mark.parametrize(("page", "words"), commands(), ids=lambda v: str(v)[:60])
def test_each_command_exists_with_its_options(page: str, words: list[str], capsys) -> None:
    stop = next((i for i, w in enumerate(words) if w.startswith("-") or "/" in w), len(words))
    for length in range(min(stop, 2), 0, -1):
        code, out, _ = run(capsys, *words[:length], "--help")
        usage = " ".join(out.split())
        if code == 0 and f"kadanoff {' '.join(words[:length])}" in usage:
            break
    else:
        pytest.fail(f"{page}: no such command: kadanoff {' '.join(words)}")
    for word in words[length:]:
        if word.startswith("--"):
            assert word.split("=")[0] in out, f"{page}: {words} has no option {word}"
