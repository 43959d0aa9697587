"""Papers as BibTeX, CSV and JSON; the whole atlas as one JSON document, out and in again."""

from __future__ import annotations

import csv
import io
import re
import sqlite3
import time
from collections.abc import Iterable
from typing import Any

from kadanoff.atlas import comments, papers
from kadanoff.atlas.identity import Identifier, Record, plain
from kadanoff.atlas.papers import Paper
from kadanoff.errors import DataError

__all__ = ["bibtex", "csv_text", "dump", "paper_json", "restore"]

FORMAT = "kadanoff-atlas-1"
_DAMAGE = (KeyError, TypeError, AttributeError, ValueError, OverflowError, RecursionError)

_TEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "%": r"\%",
    "#": r"\#",
    "_": r"\_",
    "^": r"\^{}",
    "~": r"\~{}",
}


def paper_json(paper: Paper) -> dict[str, Any]:
    """Return a paper as JSON values."""
    return {
        "id": paper.id,
        "title": paper.title,
        "other_titles": list(paper.other_titles),
        "authors": list(paper.authors),
        "year": paper.year,
        "venue": paper.venue,
        "summary": paper.summary,
        "abstract": paper.abstract,
        "url": paper.url,
        "citations": paper.citations,
        "identifiers": [{"scheme": i.scheme, "value": i.value} for i in paper.identifiers],
    }


def bibtex(found: Iterable[Paper]) -> str:
    """Return BibTeX entries; titles keep their capitals, foreign input cannot break out."""

    def tex(text: str) -> str:
        return "".join(_TEX.get(c, c) for c in plain(text, 20_000))

    entries: list[str] = []
    for paper in found:
        fields = {
            "title": f"{{{tex(paper.title)}}}",
            "author": " and ".join(tex(a) for a in paper.authors),
            "year": str(paper.year or ""),
            "journal": tex(paper.venue or ""),
            "doi": tex(paper.first("doi") or ""),
            "eprint": tex(paper.first("arxiv") or ""),
            "archiveprefix": "arXiv" if paper.first("arxiv") else "",
        }
        body = "".join(f",\n  {name} = {{{value}}}" for name, value in fields.items() if value)
        kind = "article" if paper.venue else "misc"
        entries.append(f"@{kind}{{{re.sub('[^A-Za-z0-9_.-]', '', paper.id)}{body}\n}}\n")
    return "\n".join(entries)


def _cell(value: Any) -> Any:
    # a spreadsheet runs a cell that begins like a formula; the apostrophe makes it text
    if isinstance(value, str) and value.lstrip()[:1] in ("=", "+", "-", "@", "\t", "\r", "|", "%"):
        return "'" + value
    return value


def csv_text(rows: Iterable[tuple[Paper, str]]) -> str:
    """Return a CSV table of (paper, relation); no cell is a formula."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(
        ["id", "title", "authors", "year", "relation", "venue", "doi", "arxiv", "citations"]
    )
    for paper, relation in rows:
        values = [paper.id, paper.title, "; ".join(paper.authors), paper.year, relation]
        values += [paper.venue, paper.first("doi"), paper.first("arxiv"), paper.citations]
        writer.writerow([_cell("" if value is None else value) for value in values])
    return out.getvalue()


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
            {"src": r["src"], "dst": r["dst"], "influential": bool(r["influential"])}
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
            }
            for r in db.execute("SELECT * FROM comment ORDER BY id")
        ],
        "reading": [r["paper"] for r in db.execute("SELECT paper FROM reading ORDER BY added_at")],
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
        papers.cite(db, names[edge["src"]], names[edge["dst"]], bool(edge.get("influential")))
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
            "now": time.time(),
        }
        db.execute(
            "INSERT OR IGNORE INTO comment_history SELECT id, version, body, :now FROM comment"
            " WHERE uid = :uid AND version < :version",
            values,
        )
        cursor = db.execute(
            "INSERT INTO comment (uid, paper, parent, author, body, version, created_at,"
            " edited_at, deleted_at) VALUES (:uid, :paper, :parent, :author, :body, :version,"
            " :created_at, :edited_at, :deleted_at) ON CONFLICT (uid) DO UPDATE SET"
            " body = excluded.body, version = excluded.version, edited_at = excluded.edited_at,"
            " deleted_at = excluded.deleted_at WHERE excluded.version > version",
            values,
        )
        added += cursor.rowcount > 0
    for name in document["reading"]:
        db.execute("INSERT OR IGNORE INTO reading VALUES (?, ?)", (names[name], time.time()))
    return {"papers": len(names), "citations": len(document["citations"]), "comments": added}
