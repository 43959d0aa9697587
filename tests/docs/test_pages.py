"""Every Python block of the documentation runs, and every command in it is a real one.

How, and how outputs are held against what a page says of them: ``docs/execution.py``. Each
``$ kadanoff ...`` of a ``console`` block must name a command and options that exist.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tests.cli.run import run
from tests.docs.test_reference import loaded
from tests.needs import needs

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), DOCS.parent / "README.md"])
BLOCK = re.compile(r"^```(\w+)([^\n]*)\n(.*?)^```", re.M | re.S)


def blocks(page: Path) -> list[tuple[str, str, str]]:
    return BLOCK.findall(page.read_text("utf-8"))


def with_python(page: Path) -> bool:
    return any(kind == "python" and "norun" not in info for kind, info, _ in blocks(page))


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [p for p in PAGES if with_python(p)], ids=lambda p: str(p.relative_to(DOCS.parent))
)
def test_the_python_blocks_of_a_page_run(page: Path, tmp_path: Path) -> None:
    execution = loaded("execution")
    text = page.read_text("utf-8")
    outputs = execution.run(text, tmp_path, needs)
    assert all(output.strip() for output in outputs), "an output that shows nothing"
    assert len(outputs) == text.count("<!-- output: ")


def test_a_page_that_promises_too_much_fails(tmp_path: Path) -> None:
    execution = loaded("execution")
    page = """
<!-- setup
a = 2
-->
```python
print("a is", a + 0.5)
```
<!-- check
assert numbers == [{0}]
-->
<!-- output: exactly -->
"""
    assert execution.run(page.format("2.5"), tmp_path) == ["a is 2.5\n"]
    with pytest.raises(AssertionError):
        execution.run(page.format("2.6"), tmp_path)
    site = execution.shown(page, ["a is 2.5\n"])
    assert "```text\na is 2.5\n```\n\n*exactly*" in site
    assert "assert" not in site
    assert "a = 2" not in site
    command = "```console\n$ kadanoff critical tahn\n```\n<!-- output: the error -->\n"
    assert execution.run(command, tmp_path) == ["(exit code 2)\n"]


def test_the_api_of_the_readme_runs_as_it_is_printed() -> None:
    """Nothing is set up behind the reader's back."""
    text = (DOCS.parent / "README.md").read_text("utf-8")
    assert "<!-- setup" not in text
    assert "import kadanoff as kd" in text


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
