"""What the atlas knows of the studies: which paper has one, how to run it, what it found."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from kadanoff.atlas.identity import plain
from kadanoff.studies.page import number

__all__ = [
    "ClaimEntry",
    "Figure",
    "Registry",
    "StudyEntry",
    "StudyResult",
    "StudySource",
    "read_result",
]

VERDICTS = ("holds", "fails", "undecided")
_PICTURES = {".svg": "image/svg+xml", ".png": "image/png"}
_LARGEST = 20_000_000


@dataclass(frozen=True)
class StudyEntry:
    """A study's name, title, and the paper it belongs to (by any of the paper's names)."""

    name: str
    title: str
    paper_id: str
    summary: str = ""


class StudySource(Protocol):
    """Where studies come from; the registry in use, something small in tests."""

    def all(self) -> list[StudyEntry]: ...

    def command(self, name: str, out: Path) -> list[str]: ...

    def kept(self, name: str) -> Path | None: ...


class Registry:
    """The studies of this installation."""

    def all(self) -> list[StudyEntry]:
        """Return the registered studies."""
        from kadanoff.studies import registry

        return [StudyEntry(s.name, s.title, s.paper, s.summary) for s in registry.all()]

    def command(self, name: str, out: Path) -> list[str]:
        """Return the command that runs study ``name`` quickly into ``out``."""
        run = ["study", "run", name, "--quick", "--out", str(out), "--progress", "json"]
        return [sys.executable, "-m", "kadanoff.cli.app", *run]

    def kept(self, name: str) -> Path | None:
        """Return the folder of the full result that came with the package, or None."""
        from kadanoff.studies.runner import kept

        return kept(name)


@dataclass(frozen=True)
class ClaimEntry:
    """One claim of a paper and what became of it."""

    id: str
    text: str
    verdict: str
    paper_value: str
    our_value: str
    note: str


@dataclass(frozen=True)
class Figure:
    """A picture in the study's folder."""

    file: Path
    caption: str
    media: str


@dataclass(frozen=True)
class StudyResult:
    """What a study's ``result.json`` says, and when it was finished (text, may be empty)."""

    title: str
    claims: list[ClaimEntry] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    finished: str = ""


def _number(value: Any, stderr: Any = None) -> str:
    error = stderr if isinstance(stderr, (int, float)) else None
    return plain(number(value, error), 200)


def read_result(folder: Path) -> StudyResult | None:
    """Read ``result.json`` of a finished run, or None; figures outside the folder are dropped."""
    path = folder / "result.json"
    try:
        found = path.stat()
    except OSError:
        return None
    if found.st_size > _LARGEST:
        return None
    return _read(path, found.st_mtime_ns, found.st_size)


@lru_cache(64)
def _read(path: Path, _changed: int, _size: int) -> StudyResult | None:
    """A result is read once, not for every visitor; when it changes it is another one."""
    folder = path.parent
    try:
        document = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(document, dict):
        return None
    claims = [
        ClaimEntry(
            id=plain(str(c.get("id", "")), 80),
            text=plain(str(c.get("text", "")), 2000),
            verdict=c["verdict"] if c.get("verdict") in VERDICTS else "undecided",
            paper_value=_number(c.get("paper_value")),
            our_value=_number(c.get("our_value"), c.get("stderr")),
            note=plain(str(c.get("note") or ""), 2000),
        )
        for c in document.get("claims") or []
        if isinstance(c, dict)
    ]
    root = folder.resolve()
    figures: list[Figure] = []
    for item in document.get("figures") or []:
        name = item.get("file") if isinstance(item, dict) else None
        if not isinstance(name, str) or "\x00" in name:
            continue
        file = (root / name).resolve()
        media = _PICTURES.get(file.suffix.lower())
        if media and file.is_relative_to(root) and file.is_file():
            figures.append(Figure(file, plain(str(item.get("caption") or ""), 1000), media))
    finished = plain(str(document.get("finished") or ""), 10)
    return StudyResult(plain(str(document.get("title", "")), 500), claims, figures, finished)
