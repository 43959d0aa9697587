"""Runs a page: its Python, its commands, and the checks of what it says about their output.

A reader sees the code blocks. In the source of a page, comments stand beside them:

``<!-- setup`` … ``-->``
    Python that makes what the page takes for granted.
``<!-- check`` … ``-->``
    Python that holds the page's words against the block above: ``printed`` is its output,
    ``numbers`` the numbers in it. The build and the tests fail if an assertion does.
``<!-- output: WORDS -->``
    Here the site shows the output of the block above, and under it the words, which say to what
    tolerance the numbers hold elsewhere.

``python file=NAME`` is written to a file; ``python norun`` is left alone; ``python needs=a:b``
needs package ``a`` of extra ``b``. A ``console`` block runs where an output or a check follows it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Piece", "pieces", "run", "shown"]

_PIECE = re.compile(
    r"^```(?P<kind>\w+)(?P<info>[^\n]*)\n(?P<code>.*?)^```"
    r"|^<!-- (?P<hidden>setup|check)\n(?P<python>.*?)^-->"
    r"|^<!-- output: (?P<words>.*?) -->",
    re.M | re.S,
)
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")


@dataclass(frozen=True)
class Piece:
    """A block of code, a hidden comment, or the place of an output: ``kind`` says which."""

    kind: str
    text: str
    info: str = ""


def pieces(markdown: str) -> list[Piece]:
    """The pieces of a page in the order in which they are run."""
    found = []
    for match in _PIECE.finditer(markdown):
        if match["hidden"]:
            found.append(Piece(match["hidden"], match["python"]))
        elif match["words"]:
            found.append(Piece("output", match["words"]))
        else:
            found.append(Piece(match["kind"], match["code"], match["info"].strip()))
    return found


def run(
    markdown: str, folder: Path, needs: Callable[[str, str], object] | None = None
) -> list[str]:
    """Run a page in a folder, and return what each of its ``output`` places shows.

    Parameters
    ----------
    markdown : str
    folder : Path
        Where files are written; it is the working folder meanwhile.
    needs : callable, optional
        Called with package and extra before a block that asks for them.

    Raises
    ------
    AssertionError
        The page says something that is not so.
    """
    names: dict[str, object] = {"__name__": "page"}
    outputs = []
    printed = ""
    found = pieces(markdown)
    with _inside(folder):
        for place, piece in enumerate(found):
            following = found[place + 1].kind if place + 1 < len(found) else ""
            if piece.kind == "output":
                outputs.append(printed)
            elif piece.kind == "check":
                names["printed"] = printed
                names["numbers"] = [float(number) for number in _NUMBER.findall(printed)]
                exec(compile(piece.text, "a check of the page", "exec"), names)
            elif piece.kind == "setup":
                exec(compile(piece.text, "the setup of the page", "exec"), names)
            elif piece.kind == "python" and "norun" not in piece.info:
                printed = _python(piece, folder, names, needs)
            elif piece.kind == "console" and following in ("output", "check"):
                printed = _console(piece.text)
    return outputs


def _python(
    piece: Piece,
    folder: Path,
    names: dict[str, object],
    needs: Callable[[str, str], object] | None,
) -> str:
    file = re.search(r"file=(\S+)", piece.info)
    if file:
        (folder / file.group(1)).write_text(piece.text, encoding="utf-8")
        return ""
    wanted = re.search(r"needs=(\w+):(\w+)", piece.info)
    if wanted and needs is not None:
        needs(wanted.group(1), wanted.group(2))
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(piece.text, "a block of the page", "exec"), names)
    return said.getvalue()


def _console(text: str) -> str:
    """Output of the ``kadanoff`` commands of a block, with the exit code where it is not 0."""
    from kadanoff.cli.app import main

    said = io.StringIO()
    for line in text.replace("\\\n", " ").splitlines():
        words = shlex.split(line.removeprefix("$ "), comments=True)
        if words[:1] != ["kadanoff"]:
            continue
        code: object = 0
        with contextlib.redirect_stdout(said):
            try:
                main(words[1:])
            except SystemExit as stop:
                code = stop.code
        if code:
            said.write(f"(exit code {code})\n")
    return said.getvalue()


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    """Work in a folder whose files can be imported, and forget them afterwards."""
    before, place = set(sys.modules), os.getcwd()
    os.chdir(folder)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        os.chdir(place)
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(folder)):
                del sys.modules[name]


def shown(markdown: str, outputs: list[str]) -> str:
    """The page with each output in its place, and without what was hidden."""
    waiting = iter(outputs)

    def put(match: re.Match[str]) -> str:
        if match["hidden"]:
            return ""
        if not match["words"]:
            return match.group()
        output = "\n".join(line.rstrip() for line in next(waiting).rstrip().splitlines())
        return f"```text\n{output}\n```\n\n*{match['words']}*{{ .holds }}"

    return _PIECE.sub(put, markdown)
