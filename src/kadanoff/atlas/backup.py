"""The whole atlas as one JSON document, out and in again."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from typing import Any

from kadanoff.atlas import comments, papers
from kadanoff.atlas.exports import paper_json
from kadanoff.atlas.identity import Entry, Identifier, Record, plain
from kadanoff.atlas.searching import STATUSES
from kadanoff.errors import DataError

__all__ = ["dump", "restore"]

FORMAT = "kadanoff-atlas-1"
_DAMAGE = (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError)


def dump(db: sqlite3.Connection) -> dict[str, Any]:
    """Return everything a reader has put in: papers, citations, comments, reading list."""
    ids = [row[0] for row in db.execute("SELECT id FROM paper ORDER BY added_at, id")]
    found = papers.many(db, ids)
    aliases: dict[str, list[str]] = {}
    for row in db.execute("SELECT id, paper FROM alias ORDER BY id"):
        aliases.setdefault(row["paper"], []).append(row["id"])
    uids = {row["id"]: row["uid"] for row in db.execute("SELECT id, uid FROM comment")}
    return {
        "format": FORMAT,
        "exported_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "papers": [{**paper_json(found[i]), "aliases": aliases.get(i, [])} for i in ids],
        "citations": [
            {
                "src": r["src"],
                "dst": r["dst"],
                "influential": bool(r["influential"]),
                "source": r["source"],
            }
            for r in db.execute("SELECT * FROM cites ORDER BY src, dst")
        ],
        "comments": [
            {
                "uid": r["uid"],
                "paper": r["paper"],
                "parent": uids.get(r["parent"]),
                "author": r["author"],
                "body": r["body"],
                "version": r["version"],
                "created_at": r["created_at"],
                "edited_at": r["edited_at"],
                "deleted_at": r["deleted_at"],
                "page": r["page"],
            }
            for r in db.execute("SELECT * FROM comment ORDER BY id")
        ],
        "reading": [r["paper"] for r in db.execute("SELECT paper FROM reading ORDER BY added_at")],
        "statuses": dict(db.execute("SELECT paper, status FROM reading").fetchall()),
        "notes": [dict(r) for r in db.execute("SELECT paper, body, version FROM note")],
        "labels": [dict(r) for r in db.execute("SELECT kind, name, paper FROM label")],
        # the files themselves stay in the folder `files`, under their hashes
        "documents": [
            dict(r) for r in db.execute("SELECT paper, address, name, size FROM document")
        ],
        "entries": [
            {**dict(r), "fields": json.loads(r["fields"])}
            for r in db.execute("SELECT paper, format, key, kind, fields FROM entry")
        ],
    }


def restore(db: sqlite3.Connection, document: Any) -> dict[str, int]:
    """Add an export to the atlas; importing it twice changes nothing, newer comments win.

    Raises
    ------
    DataError
        The document is no export, or an entry in it is malformed; then nothing is changed.
    """
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise DataError(
            "This is no export of the atlas (its 'format' should be "
            f"{FORMAT!r}, got {str(getattr(document, 'get', lambda _: None)('format'))[:40]!r}).",
            "Import a file that `kadanoff atlas export` or the page's export wrote.",
        )
    try:
        return _restore(db, document)
    except (*_DAMAGE, sqlite3.IntegrityError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"The export is damaged ({type(error).__name__}: {str(error)[:200]}).",
            "Nothing was changed; export it again.",
        ) from None


def _restore(db: sqlite3.Connection, document: dict[str, Any]) -> dict[str, int]:
    names: dict[str, str] = {}
    for item in document["papers"]:
        record = Record(
            title=item["title"],
            authors=list(item["authors"]),
            year=item["year"],
            venue=item["venue"],
            abstract=item["abstract"],
            summary=item["summary"],
            url=item["url"],
            citations=item["citations"] if isinstance(item["citations"], int) else None,
            other_titles=[plain(t, 1000) for t in item["other_titles"]],
            source="export",
            key=str(item["id"]),
        )
        for number in item["identifiers"]:
            record.add(Identifier(**number).scheme, number["value"])
        names[item["id"]] = papers.save(db, record)
        for alias in item.get("aliases", []):
            db.execute(
                "INSERT OR IGNORE INTO alias SELECT ?1, ?2 WHERE NOT EXISTS"
                " (SELECT 1 FROM paper WHERE id = ?1)",
                (str(alias), names[item["id"]]),
            )
    for edge in document["citations"]:
        papers.cite(
            db,
            names[edge["src"]],
            names[edge["dst"]],
            bool(edge.get("influential")),
            plain(edge.get("source"), 500),
        )
    added = _restore_comments(db, document, names)
    _restore_own(db, document, names)
    return {"papers": len(names), "citations": len(document["citations"]), "comments": added}


def _restore_comments(
    db: sqlite3.Connection, document: dict[str, Any], names: dict[str, str]
) -> int:
    added = 0
    for item in document["comments"]:
        body = str(item["body"])
        if len(body) > comments.LIMIT:
            raise DataError(f"A comment has {len(body)} characters.", "At most 10000 are kept.")
        parent = None
        if item.get("parent"):
            row = db.execute("SELECT id FROM comment WHERE uid = ?", (item["parent"],)).fetchone()
            parent = row[0] if row else None
        values = {
            "uid": str(item["uid"])[:64],
            "paper": names[item["paper"]],
            "parent": parent,
            "author": plain(item["author"], 80) or "Anonymous",
            "body": body,
            "version": int(item["version"]),
            "created_at": float(item["created_at"]),
            "edited_at": item["edited_at"],
            "deleted_at": item["deleted_at"],
            "page": int(item["page"]) if item.get("page") else None,
            "now": time.time(),
        }
        db.execute(
            "INSERT OR IGNORE INTO comment_history SELECT id, version, body, :now FROM comment"
            " WHERE uid = :uid AND version < :version",
            values,
        )
        cursor = db.execute(
            "INSERT INTO comment (uid, paper, parent, author, body, version, created_at,"
            " edited_at, deleted_at, page) VALUES (:uid, :paper, :parent, :author, :body, :version,"
            " :created_at, :edited_at, :deleted_at, :page) ON CONFLICT (uid) DO UPDATE SET"
            " body = excluded.body, version = excluded.version, edited_at = excluded.edited_at,"
            " deleted_at = excluded.deleted_at WHERE excluded.version > version",
            values,
        )
        added += cursor.rowcount > 0
    return added


def _restore_own(db: sqlite3.Connection, document: dict[str, Any], names: dict[str, str]) -> None:
    """Add reading list, notes, tags, documents and entries; a newer note wins, none is dropped."""
    now = time.time()
    for name in document["reading"]:
        status = str(document.get("statuses", {}).get(name, STATUSES[0]))
        if status not in STATUSES:
            raise DataError(f"{status[:40]!r} is no reading status.", "Export it again.")
        db.execute("INSERT OR IGNORE INTO reading VALUES (?, ?, ?)", (names[name], now, status))
    for item in document.get("notes", []):
        values = (names[item["paper"]], str(item["body"])[:100_000], int(item["version"]), now)
        db.execute(
            "INSERT INTO note_history SELECT paper, version, body, ?4 FROM note"
            " WHERE paper = ?1 AND version < ?3 AND body <> ?2",
            values,
        )
        db.execute(
            "INSERT INTO note VALUES (?, ?, ?, ?) ON CONFLICT DO UPDATE SET body = excluded.body,"
            " version = excluded.version WHERE excluded.version > version",
            values,
        )
    for item in document.get("labels", []):
        if item["kind"] in ("tag", "collection") and (text := plain(item["name"], 60)):
            row = (item["kind"], text, names[item["paper"]], now)
            db.execute("INSERT OR IGNORE INTO label VALUES (?, ?, ?, ?)", row)
    for item in document.get("documents", []):
        db.execute(
            "INSERT OR IGNORE INTO document VALUES (?, ?, ?, ?, ?)",
            (
                names[item["paper"]],
                _address(item["address"]),
                plain(item["name"], 200),
                int(item["size"]) if item.get("size") else None,
                now,
            ),
        )
    for item in document.get("entries", []):
        entry = Entry(str(item["format"]), str(item["key"]), str(item["kind"]), item["fields"])
        shape = {"bibtex": str, "ris": list, "csl": object}[entry.format]
        if all(isinstance(value, shape) for value in entry.fields.values()):
            papers.keep_entry(db, names[item["paper"]], entry)
    said = (*document["comments"], *document.get("notes", []), *document.get("labels", []))
    for name in {names[item["paper"]] for item in said}:
        papers.index(db, name)


def _address(value: Any) -> str:
    """Return a link or the hash of a file; anything else is damage."""
    from kadanoff.atlas.identity import safe_url

    text = str(value)
    if re.fullmatch("[0-9a-f]{64}", text) or safe_url(text):
        return text
    raise DataError(f"{text[:80]!r} is neither a link nor a file's hash.", "Export it again.")
