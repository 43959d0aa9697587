"""The catalogue of findings as text: one page a kind, for terminal and documentation."""

from __future__ import annotations

import difflib

import kadanoff.diagnosis.rules  # noqa: F401  enters the kinds
from kadanoff.diagnosis.kinds import KINDS, Kind
from kadanoff.errors import UsageError

__all__ = ["every_kind", "explain", "find", "page"]


def every_kind() -> tuple[Kind, ...]:
    """All kinds of finding, by number."""
    return tuple(sorted(KINDS.values(), key=lambda kind: int(kind.id[2:])))


def find(name: str) -> Kind:
    """A kind by its number or its name.

    Raises
    ------
    UsageError
        There is none of that name.
    """
    for kind in KINDS.values():
        if name.lower() in (kind.id.lower(), kind.code):
            return kind
    known = [*KINDS, *(kind.id for kind in KINDS.values())]
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.4)
    raise UsageError(
        f"There is no finding {name!r}.",
        f"Did you mean {', '.join(near)}?" if near else "See kadanoff diagnose --explain all.",
    )


def explain(name: str) -> str:
    """The page of one kind as plain text; of ``"all"``, a line a kind."""
    if name.lower() == "all":
        return "\n".join(f"{kind.id:7s} {kind.code:30s} {kind.title}" for kind in every_kind())
    return find(name).explained().replace("\n", "\n\n")


def page(kind: Kind, picture: str = "") -> str:
    """The page of one kind as Markdown."""
    causes = [k for k in every_kind() if kind.code in k.makes]
    makes = [k for k in every_kind() if k.code in kind.makes]

    def links(found: list[Kind]) -> str:
        return ", ".join(f"[{k.code}]({k.code}.md)" for k in found)

    lines = [
        f"# {kind.id}: {kind.title}",
        f"`{kind.code}`",
        "## What it is",
        kind.what,
        "## How it is measured",
        kind.measured,
        "## Threshold, and why there",
        kind.threshold,
    ]
    if kind.scale:
        lines.append(
            "It is a matter of size: where a trial is run, what happens there decides whether it "
            "is a note, a warning or critical."
        )
    lines += ["## What to do", kind.remedy]
    if makes:
        lines += ["## What it can bring about", links(makes)]
    if causes:
        lines += ["## What can bring it about", links(causes)]
    if picture:
        lines += ["## As it is, and repaired", picture]
    return "\n\n".join(lines) + "\n"
