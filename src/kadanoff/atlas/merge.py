"""Which records are one work, and making one paper of several."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable

from kadanoff.atlas.identity import Identifier, Record, surname, title_key

__all__ = ["absorb", "find", "find_all", "same_title", "unlike"]


def find(db: sqlite3.Connection, identifier: Identifier) -> str | None:
    """Return the id of the paper that bears ``identifier``."""
    row = db.execute(
        "SELECT paper FROM identifier WHERE scheme = ? AND value = ?",
        (identifier.scheme, identifier.value),
    ).fetchone()
    return row[0] if row else None


def find_all(db: sqlite3.Connection, record: Record) -> list[str]:
    """Return the ids of all papers that are the work of ``record``, oldest first.

    Identifiers decide. Without a common one, the same title counts if the years lie within two
    (a preprint and its journal version) and, where both sides name authors, a family name is
    shared. Short titles ("Introduction") prove nothing without an author in common.
    """
    found = {paper for item in record.identifiers if (paper := find(db, item))}
    # an atlas's own id says which paper it is; the key of a file ("smith2020") does not
    if record.key and record.source in ("bundled", "export"):
        row = db.execute(
            "SELECT id FROM paper WHERE id = :k UNION SELECT paper FROM alias WHERE id = :k",
            {"k": record.key},
        ).fetchone()
        # two atlases may have given one id to two works
        if row and (record.source == "bundled" or not unlike(db, row[0], record)):
            found.add(row[0])
    found |= same_title(db, record)
    if not found:
        return []
    marks = ",".join("?" * len(found))
    rows = db.execute(f"SELECT id FROM paper WHERE id IN ({marks}) ORDER BY number", [*found])
    return [row[0] for row in rows.fetchall()]


def same_title(db: sqlite3.Connection, record: Record) -> set[str]:
    """Return the papers that bear the record's title and may be the same work."""
    found: set[str] = set()
    for title in (record.title, *record.other_titles):
        key = title_key(title)
        if key:
            rows = db.execute(
                "SELECT id, year FROM paper WHERE id IN (SELECT id FROM paper WHERE title_key = :k"
                " UNION SELECT paper FROM other_title WHERE title_key = :k)",
                {"k": key},
            )
            found.update(r["id"] for r in rows.fetchall() if _same_work(db, r, record, len(key)))
    return found


def unlike(db: sqlite3.Connection, paper: str, record: Record) -> bool:
    """Say whether ``record`` can hardly be ``paper``, whatever number they share.

    A mistyped number joins two works that have neither an author nor most of a title in common.

    Parameters
    ----------
    db : sqlite3.Connection
    paper : str
        Its id.
    record : Record
    """
    theirs = {
        surname(r[0]) for r in db.execute("SELECT name FROM author WHERE paper = ?", (paper,))
    }
    if theirs & {surname(name) for name in record.authors}:
        return False
    titles = [
        row[0]
        for row in db.execute(
            "SELECT title FROM paper WHERE id = ?1 UNION SELECT title FROM other_title"
            " WHERE paper = ?1",
            (paper,),
        )
    ]
    return all(_overlap(title, record.title) < 0.5 for title in titles)


def _overlap(one: str, other: str) -> float:
    """Return the share of words that two titles have in common."""
    first, second = ({title_key(w) for w in re.findall(r"\w+", t)} for t in (one, other))
    return len(first & second) / max(1, len(first | second))


def _same_work(db: sqlite3.Connection, row: sqlite3.Row, record: Record, length: int) -> bool:
    if row["year"] and record.year and abs(row["year"] - record.year) > 2:
        return False
    theirs = db.execute("SELECT name FROM author WHERE paper = ?", (row["id"],)).fetchall()
    if theirs and record.authors:
        return bool({surname(r[0]) for r in theirs} & set(map(surname, record.authors)))
    return length >= 20


def absorb(db: sqlite3.Connection, keep: str, lose: Iterable[str]) -> None:
    """Move all that hangs on ``lose`` to ``keep``: numbers, edges, comments, titles; then drop it.

    The old ids go on working, as aliases.

    Parameters
    ----------
    db : sqlite3.Connection
    keep : str
        Id of the paper that stays.
    lose : iterable of str
        Ids of those that go.
    """
    for old in lose:
        if old == keep:
            continue
        names = {"old": old, "keep": keep}
        for statement in (
            "UPDATE identifier SET paper = :keep WHERE paper = :old",
            "UPDATE alias SET paper = :keep WHERE paper = :old",
            "INSERT OR IGNORE INTO alias (id, paper) VALUES (:old, :keep)",
            "UPDATE comment SET paper = :keep WHERE paper = :old",
            "UPDATE OR IGNORE reading SET paper = :keep WHERE paper = :old",
            "UPDATE OR IGNORE label SET paper = :keep WHERE paper = :old",
            "UPDATE OR IGNORE document SET paper = :keep WHERE paper = :old",
            "UPDATE OR IGNORE entry SET paper = :keep WHERE paper = :old",
            "UPDATE draft_entry SET target = :keep WHERE target = :old",
            # two notes become one: no word of the reader's is dropped
            "UPDATE note SET body = body || char(10) || char(10) ||"
            " (SELECT body FROM note WHERE paper = :old), version = version + 1"
            " WHERE paper = :keep AND EXISTS (SELECT 1 FROM note WHERE paper = :old)",
            "UPDATE OR IGNORE note SET paper = :keep WHERE paper = :old",
            "UPDATE note_history SET paper = :keep WHERE paper = :old",
            "INSERT OR IGNORE INTO other_title (paper, title_key, title)"
            " SELECT :keep, title_key, title FROM other_title WHERE paper = :old",
            "INSERT OR IGNORE INTO other_title (paper, title_key, title)"
            " SELECT :keep, title_key, title FROM paper WHERE id = :old",
            "DELETE FROM other_title WHERE paper = :keep AND title_key ="
            " (SELECT title_key FROM paper WHERE id = :keep)",
            "INSERT INTO cites (src, dst, influential, source)"
            " SELECT :keep, dst, influential, source FROM cites"
            " WHERE src = :old AND dst <> :keep ON CONFLICT DO UPDATE"
            " SET influential = max(influential, excluded.influential)",
            "INSERT INTO cites (src, dst, influential, source)"
            " SELECT src, :keep, influential, source FROM cites"
            " WHERE dst = :old AND src <> :keep ON CONFLICT DO UPDATE"
            " SET influential = max(influential, excluded.influential)",
            "INSERT OR IGNORE INTO author (paper, position, name)"
            " SELECT :keep, position, name FROM author WHERE paper = :old"
            " AND NOT EXISTS (SELECT 1 FROM author WHERE paper = :keep)",
            "UPDATE paper SET (year, venue, abstract, summary, url, citations) ="
            " (SELECT coalesce(paper.year, o.year), coalesce(paper.venue, o.venue),"
            "  coalesce(paper.abstract, o.abstract), coalesce(paper.summary, o.summary),"
            "  coalesce(paper.url, o.url), nullif(max(coalesce(paper.citations, -1),"
            "  coalesce(o.citations, -1)), -1) FROM paper AS o WHERE o.id = :old)"
            " WHERE id = :keep",
            "DELETE FROM paper_index WHERE rowid = (SELECT number FROM paper WHERE id = :old)",
            "DELETE FROM paper WHERE id = :old",
        ):
            db.execute(statement, names)
