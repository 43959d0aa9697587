"""What the atlas knows of the studies: which paper has one, how to run it, what it found."""

from __future__ import annotations

import ast
import json
import re
import sys
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import kadanoff
from kadanoff.atlas.identity import plain
from kadanoff.errors import StorageError
from kadanoff.studies.page import measure, number

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
    """The studies of this installation, read from their sources: running them would load torch."""

    def all(self) -> list[StudyEntry]:
        """Return the registered studies in their order."""
        return list(_listed())

    def command(self, name: str, out: Path) -> list[str]:
        """Return the command that runs study ``name`` quickly into ``out``."""
        run = ["study", "run", name, "--quick", "--out", str(out), "--progress", "json"]
        return [sys.executable, "-m", "kadanoff.cli.app", *run]

    def kept(self, name: str) -> Path | None:
        """Return the folder of the full result that came with the package, or None."""
        folder = _SOURCES / "results" / name
        return (
            folder if re.fullmatch(r"[\w-]+", name) and (folder / "result.json").is_file() else None
        )


_SOURCES = Path(kadanoff.__file__).parent / "studies"


@lru_cache(1)
def _listed() -> tuple[StudyEntry, ...]:
    """Read name, title, paper and summary of each study where they are written as constants."""
    found: list[StudyEntry] = []
    for name in _assigned(_SOURCES / "registry.py", "_PACKAGES"):
        call = _assigned(_SOURCES / name / "study.py", "STUDY")
        found.append(StudyEntry(call["name"], call["title"], call["paper"], call["summary"]))
    return tuple(found)


def _assigned(file: Path, name: str) -> Any:
    """Return what a module assigns to ``name``: a constant, or the constant arguments of a call."""
    for node in ast.parse(file.read_text("utf-8")).body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        if node.targets[0].id != name:
            continue
        if not isinstance(node.value, ast.Call):
            return ast.literal_eval(node.value)
        constant = [k for k in node.value.keywords if _is_constant(k.value)]
        return {k.arg: ast.literal_eval(k.value) for k in constant}
    raise StorageError(f"{str(file)!r} does not assign {name}.", "Install kadanoff again.")


def _is_constant(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class ClaimEntry:
    """One claim of a paper, what became of it, and how that was decided.

    ``measures`` are (what was measured, the number, what it had to be), ``note`` says the rest.
    """

    id: str
    text: str
    verdict: str
    source: str
    paper_value: str
    our_value: str
    note: str
    measures: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True)
class Figure:
    """A picture in the study's folder."""

    file: Path
    caption: str
    media: str


@dataclass(frozen=True)
class StudyResult:
    """What a study's ``result.json`` says, and when it was finished (text, may be empty).

    ``lead`` is the paragraph to begin with; ``lead_figure`` is the number of the figure beside it.
    """

    title: str
    claims: list[ClaimEntry] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    finished: str = ""
    lead: str = ""
    lead_figure: int | None = None

    @property
    def by_source(self) -> list[tuple[str, list[ClaimEntry]]]:
        """The claims by where they come from: what the paper states first."""
        groups = [
            (said, [c for c in self.claims if c.source == key]) for key, said in _SAID.items()
        ]
        return [(said, claims) for said, claims in groups if claims]

    @property
    def tally(self) -> dict[str, int]:
        """How many claims there are of each verdict."""
        return {verdict: sum(c.verdict == verdict for c in self.claims) for verdict in VERDICTS}


_SAID = {
    "paper": "The paper's claims",
    "derived": "Ours, from the paper's definitions",
    "secondary": "As another text reports them",
    "": "Claims",
}


def _number(value: Any, stderr: Any = None) -> str:
    error = stderr if isinstance(stderr, (int, float, list)) else None
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
            source=c["source"] if c.get("source") in _SAID else "",
            paper_value=_number(c.get("paper_value")),
            our_value=_number(c.get("our_value"), c.get("stderr")),
            note=_note(c),
            measures=_measures(c),
        )
        for c in document.get("claims") or []
        if isinstance(c, dict)
    ]
    figures = _figures(document, folder)
    lead, lead_figure = _lead(document, figures)
    return StudyResult(
        title=plain(str(document.get("title", "")), 500),
        claims=claims,
        figures=figures,
        finished=plain(str(document.get("finished") or ""), 10),
        lead=lead,
        lead_figure=lead_figure,
    )


def _note(claim: dict[str, Any]) -> str:
    """Return what stands beside the numbers: a rival's number, why it is open, remarks."""
    rival = claim.get("baseline")
    beside = ""
    if isinstance(rival, dict):
        beside = f"Beside it: {rival.get('what')}: "
        beside += f"{_number(rival.get('value'), rival.get('stderr'))}."
    said = (beside, str(claim.get("open") or ""), str(claim.get("note") or ""))
    return plain(" ".join(text for text in said if text), 3000)


def _measures(claim: dict[str, Any]) -> tuple[tuple[str, str, str], ...]:
    """Return what was measured and the rule that decided, so that a reader can decide again."""
    found = []
    for item in claim.get("measured") or []:
        try:
            name, value, asked = measure(item)
        except (KeyError, TypeError, ValueError, AttributeError):
            # a result of another version: its numbers stand in the columns all the same
            continue
        found.append((plain(name, 300), plain(value, 200), plain(asked, 1000)))
    return tuple(found)


def _figures(document: dict[str, Any], folder: Path) -> list[Figure]:
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
    return figures


def _lead(document: dict[str, Any], figures: list[Figure]) -> tuple[str, int | None]:
    """Return the paragraph and the figure to begin with: those it names, else the first it has."""
    blocks = [b for b in document.get("blocks") or [] if isinstance(b, dict)]
    texts = [str(b.get("body") or "") for b in blocks if b.get("kind") == "text"]
    paragraph = str(document.get("lead") or next(iter(texts), "")).split("\n\n")[0]
    if not paragraph.rstrip().endswith((".", "!", "?")):
        # it goes on after a formula: the summary is whole
        paragraph = str(document.get("summary") or paragraph)
    wanted = document.get("lead_figure")
    names = [figure.file.name for figure in figures]
    chosen = names.index(wanted) if wanted in names else 0 if names else None
    return paragraph[:4000], chosen
