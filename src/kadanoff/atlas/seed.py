"""The first start: the essay, the book, the papers of the studies and what is known around them.

``data/works.json`` holds facts and where each citation was read; the summaries are ours. What the
file does not say stays empty: an import brings it.
"""

from __future__ import annotations

import json
import sqlite3
from importlib import resources
from typing import Any

from kadanoff.atlas import papers
from kadanoff.atlas.database import Database
from kadanoff.atlas.identity import Record

__all__ = ["HOME", "facts", "plant"]

HOME = "roberts2021"
_EDITION = "3"
# raised when what the full-text index holds changes
_INDEX = "2"


def facts() -> dict[str, Any]:
    """Return the bundled ``works``, ``sources`` and ``citations`` (citing, cited, source)."""
    file = resources.files("kadanoff.atlas").joinpath("data", "works.json")
    return json.loads(file.read_text("utf-8"))


def plant(database: Database) -> None:
    """Put the bundled works into an atlas that has not got them; keeps all that is there."""
    with database.read() as db:
        known = dict(db.execute("SELECT name, value FROM setting").fetchall())
    if known.get("seed") == _EDITION and known.get("index") == _INDEX:
        return
    with database.write() as db:
        if known.get("index") != _INDEX:
            papers.index_all(db)
        if known.get("seed") != _EDITION:
            _plant(db)
        db.execute("INSERT OR REPLACE INTO setting VALUES ('seed', ?)", (_EDITION,))
        db.execute("INSERT OR REPLACE INTO setting VALUES ('index', ?)", (_INDEX,))


def _plant(db: sqlite3.Connection) -> None:
    known = facts()
    names: dict[str, str] = {}
    for item in known["works"]:
        record = Record(
            title=item["title"],
            authors=item.get("authors", []),
            year=item.get("year"),
            venue=item.get("venue"),
            summary=item.get("summary"),
            url=item.get("url"),
            other_titles=item.get("other_titles", []),
            source="bundled",
            key=item["key"],
        )
        record.add("arxiv", item.get("arxiv"))
        record.add("doi", item.get("doi"))
        names[item["key"]] = name = papers.save(db, record)
        # names of a work that an earlier edition listed apart
        for alias in item.get("aliases", []):
            db.execute(
                "INSERT OR IGNORE INTO alias SELECT ?1, ?2 WHERE NOT EXISTS"
                " (SELECT 1 FROM paper WHERE id = ?1)",
                (alias, name),
            )
    for citing, cited, source in known["citations"]:
        papers.cite(db, names[citing], names[cited], source=known["sources"][source])
