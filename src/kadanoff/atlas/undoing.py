"""What an import changed, and taking it back."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Sequence
from typing import Any

from kadanoff.atlas import papers
from kadanoff.atlas.identity import Record
from kadanoff.errors import UsageError

__all__ = ["settle", "undo"]

_OWN = ("year", "venue", "abstract", "summary", "url", "citations")
_LISTS = {
    "authors": "SELECT position, name FROM author WHERE paper = ? ORDER BY position",
    "identifiers": "SELECT scheme, value FROM identifier WHERE paper = ? ORDER BY scheme, value",
    "titles": "SELECT title_key, title FROM other_title WHERE paper = ? ORDER BY title_key",
    "entries": "SELECT format, key, kind, fields FROM entry WHERE paper = ? ORDER BY format",
}
_TABLES = {
    "authors": ("author", "position, name"),
    "identifiers": ("identifier", "scheme, value"),
    "titles": ("other_title", "title_key, title"),
    "entries": ("entry", "format, key, kind, fields"),
}


def settle(
    db: sqlite3.Connection, number: str, position: int, record: Record, target: str | None
) -> str:
    """Save one entry, as ``target`` or as a new paper, and note what that changed.

    Parameters
    ----------
    db : sqlite3.Connection
    number : str
        Of the draft.
    position : int
        Of the entry.
    record : Record
        What it says.
    target : str, optional
        Id of the paper that it is; None for a new one.
    """
    before = _snapshot(db, target) if target else None
    name = papers.save(db, record, into=target or "")
    after = _snapshot(db, name) if target else None
    if before == after:
        before = after = None if before is None else "{}"
    db.execute(
        "UPDATE draft_entry SET paper = ?, before = ?, after = ? WHERE draft = ? AND position = ?",
        (name, before, after, number, position),
    )
    return name


def _snapshot(db: sqlite3.Connection, paper: str) -> str:
    row = db.execute(f"SELECT {', '.join(_OWN)} FROM paper WHERE id = ?", (paper,)).fetchone()
    state: dict[str, Any] = dict(row) if row else {}
    for name, query in _LISTS.items():
        state[name] = [list(r) for r in db.execute(query, (paper,))]
    return json.dumps(state)


def undo(db: sqlite3.Connection, number: str) -> dict[str, Any]:
    """Take an import back: its new papers go, what it added to others goes.

    A new paper that somebody has commented, noted, tagged, cited or listed since stays, and is
    named in ``kept``; so does what was changed again.

    Raises
    ------
    UsageError
        There is no such import, or nothing of it to undo.
    """
    found = db.execute("SELECT * FROM draft WHERE id = ?", (number,)).fetchone()
    if found is None or not found["applied_at"] or found["undone_at"]:
        raise UsageError("There is nothing to undo here.", "Reload the page.")
    kept: list[str] = []
    removed = restored = 0
    rows = db.execute(
        "SELECT * FROM draft_entry WHERE draft = ? AND paper IS NOT NULL ORDER BY position DESC",
        (number,),
    ).fetchall()
    for row in rows:
        paper = papers.resolve(db, row["paper"])
        if paper is None:
            continue
        if row["before"]:
            restored += _restore(db, paper, json.loads(row["before"]), json.loads(row["after"]))
        elif _worked_on(db, paper):
            kept.append(paper)
        else:
            removed += 1
            index = "DELETE FROM paper_index WHERE rowid = (SELECT number FROM paper WHERE id = ?)"
            for statement in (index, "DELETE FROM paper WHERE id = ?"):
                db.execute(statement, (paper,))
    db.execute("UPDATE draft SET undone_at = ? WHERE id = ?", (time.time(), number))
    return {"removed": removed, "restored": restored, "kept": kept}


def _worked_on(db: sqlite3.Connection, paper: str) -> bool:
    queries = (
        *(f"SELECT 1 FROM {t} WHERE paper = ?" for t in ("comment", "note", "label", "document")),
        "SELECT 1 FROM reading WHERE paper = ?",
        "SELECT 1 FROM cites WHERE src = ?",
        "SELECT 1 FROM cites WHERE dst = ?",
    )
    return any(db.execute(query, (paper,)).fetchone() for query in queries)


def _restore(
    db: sqlite3.Connection, paper: str, before: dict[str, Any], after: dict[str, Any]
) -> int:
    """Put back what still is as the import left it; 1 if there was anything."""
    now = json.loads(_snapshot(db, paper))
    changed = [k for k in before if before[k] != after[k] and now.get(k) == after[k]]
    for name in changed:
        if name in _OWN:
            db.execute(f"UPDATE paper SET {name} = ? WHERE id = ?", (before[name], paper))
            continue
        table, columns = _TABLES[name]
        db.execute(f"DELETE FROM {table} WHERE paper = ?", (paper,))
        marks = ", ".join("?" * len(columns.split(",")))
        _insert(
            db, f"INSERT INTO {table} (paper, {columns}) VALUES (?, {marks})", paper, before[name]
        )
    if changed:
        papers.index(db, paper)
    return int(bool(changed))


def _insert(db: sqlite3.Connection, statement: str, paper: str, rows: Sequence[list[Any]]) -> None:
    db.executemany(statement, [(paper, *row) for row in rows])
