"""Search over everything that is known of a paper, with operators.

Words must all occur, as beginnings, anywhere: titles, authors, abstract, summary, venue, notes,
comments, tags. Operators narrow: ``author:yaida``, ``year:2019-2022``, ``tag:criticality``,
``has:study``; a minus before a word or an operator excludes.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

from kadanoff.atlas import papers
from kadanoff.atlas.identity import CONTINUOUS
from kadanoff.atlas.papers import Paper

__all__ = ["OPERATORS", "STATUSES", "Sort", "search"]

Sort = Literal["relevance", "year", "oldest", "title", "citations", "here", "added"]
STATUSES = ("to-read", "reading", "read")

# what the page tells of them
OPERATORS = (
    ("author:", "author:yaida", "a name among the authors"),
    ("title:", 'title:"finite width"', "words of a title; so too abstract:, venue:, note:"),
    ("year:", "year:2019-2022", "also year:2023- and year:-1990"),
    ("tag:", "tag:criticality", "your tag; collection: likewise"),
    ("has:", "has:study", "study, note, comment, pdf, abstract, doi, arxiv"),
    ("status:", "status:reading", "to-read, reading or read; in:list is any of them"),
    ("cites:", "cites:pdlt2021", "works that cite a paper; citedby: those that it references"),
    ("-", "-author:yaida", "a minus excludes"),
)

_TOKEN = re.compile(r'(-?)(?:([A-Za-z]+):)?(?:"([^"]*)"?|(\S+))')
_PIECE = re.compile(rf"[{CONTINUOUS}]+|[^\W{CONTINUOUS}]+")
_COLUMNS = {
    "author": "authors",
    "title": "title",
    "abstract": "abstract",
    "venue": "venue",
    "note": "notes",
}
_HAS = {
    "note": "EXISTS (SELECT 1 FROM note WHERE paper = p.id)",
    "comment": "EXISTS (SELECT 1 FROM comment WHERE paper = p.id AND deleted_at IS NULL)",
    "pdf": "EXISTS (SELECT 1 FROM document WHERE paper = p.id)",
    "tag": "EXISTS (SELECT 1 FROM label WHERE paper = p.id AND kind = 'tag')",
    "abstract": "p.abstract IS NOT NULL",
    "summary": "p.summary IS NOT NULL",
    "year": "p.year IS NOT NULL",
    "doi": "EXISTS (SELECT 1 FROM identifier WHERE paper = p.id AND scheme = 'doi')",
    "arxiv": "EXISTS (SELECT 1 FROM identifier WHERE paper = p.id AND scheme = 'arxiv')",
}
_ORDERS = {
    "year": "p.year IS NULL, p.year DESC, p.title COLLATE NOCASE",
    "oldest": "p.year IS NULL, p.year, p.title COLLATE NOCASE",
    "title": "p.title COLLATE NOCASE",
    "citations": "p.citations IS NULL, p.citations DESC, p.title COLLATE NOCASE",
    "here": "(SELECT count(*) FROM cites WHERE dst = p.id) DESC, p.title COLLATE NOCASE",
    "added": "p.added_at DESC, p.number DESC",
}


@dataclass
class _Query:
    match: list[str] = field(default_factory=list)
    where: list[str] = field(default_factory=list)
    values: list[str | int] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    nothing: bool = False


def _words(text: str) -> str:
    """Words as an expression of FTS5: quoted, so that AND, NEAR and * are words, not operators."""
    found = []
    for piece in _PIECE.findall(text)[:20]:
        if re.match(f"[{CONTINUOUS}]", piece):
            found.append('"' + " ".join(piece) + '"')
        else:
            found.append(f'"{piece}"*')
    return " ".join(found)


def search(
    db: sqlite3.Connection,
    text: str = "",
    sort: Sort = "relevance",
    limit: int = 50,
    offset: int = 0,
    studies: Collection[str] = (),
) -> tuple[list[Paper], int, list[str]]:
    """Return the papers that fit ``text``, how many there are, and what of ``text`` was no use.

    Parameters
    ----------
    text : str
        Words and operators; an empty text lists all papers.
    studies : collection of str
        Ids of the papers with a study, for ``has:study``.
    """
    query = _read(db, text, studies)
    if query.nothing or (text.strip() and not query.match and not query.where):
        return [], 0, query.ignored
    source = "paper AS p"
    values: list[str | int] = []
    order = _ORDERS.get(sort, "p.added_at, p.number")
    if query.match:
        source = "paper_index JOIN paper AS p ON p.number = paper_index.rowid"
        query.where.insert(0, "paper_index MATCH ?")
        values.append(" AND ".join(f"({match})" for match in query.match))
        if sort == "relevance":
            # a word in the title tells most
            order = "bm25(paper_index, 8, 5, 1, 2, 2, 3), p.title"
    values += query.values
    where = f"WHERE {' AND '.join(query.where)}" if query.where else ""
    total = db.execute(f"SELECT count(*) FROM {source} {where}", values).fetchone()[0]
    rows = db.execute(
        f"SELECT p.id FROM {source} {where} ORDER BY {order} LIMIT ? OFFSET ?",
        [*values, limit, offset],
    ).fetchall()
    ids = [row[0] for row in rows]
    found = papers.many(db, ids)
    return [found[name] for name in ids], total, query.ignored


def _read(db: sqlite3.Connection, text: str, studies: Collection[str]) -> _Query:
    query = _Query()
    for token in list(_TOKEN.finditer(text))[:40]:
        minus, name, quoted, bare = token.groups()
        value = quoted if quoted is not None else bare or ""
        condition = _operator(db, (name or "").lower(), value, studies)
        if condition is None:
            # no operator of ours: all of it is words
            words = _words(f"{name}:{value}" if name else value)
            # a phrase stays one
            if quoted is not None and not name and words:
                words = (
                    '"'
                    + " ".join(
                        " ".join(p) if re.match(f"[{CONTINUOUS}]", p) else p
                        for p in _PIECE.findall(value)
                    )
                    + '"'
                )
            condition = ("match", words)
        kind, *said = condition
        if kind == "ignored":
            query.ignored.append(f"{token.group().strip()}: {said[0]}")
        elif kind == "match" and said[0]:
            _match(query, str(said[0]), bool(minus))
        elif kind == "where":
            clause, values = str(said[0]), said[1:]
            query.where.append(f"NOT coalesce({clause}, 0)" if minus else clause)
            query.values += [v for v in values if isinstance(v, (str, int))]
    return query


def _match(query: _Query, expression: str, minus: bool) -> None:
    if not minus:
        query.match.append(expression)
        return
    query.where.append("p.number NOT IN (SELECT rowid FROM paper_index WHERE paper_index MATCH ?)")
    query.values.append(expression)


def _operator(
    db: sqlite3.Connection, name: str, value: str, studies: Collection[str]
) -> tuple[str | int, ...] | None:
    """Return what an operator means as ("match" | "where" | "ignored", ...); None: it is none."""
    if name in _COLUMNS:
        words = _words(value)
        return ("match", f"{{{_COLUMNS[name]}}} : ({words})") if words else ("match", "")
    readers: dict[str, Callable[[], tuple[str | int, ...]]] = {
        "year": lambda: _year(value),
        "has": lambda: _has(value.lower(), studies),
        "tag": lambda: _label("tag", value),
        "collection": lambda: _label("collection", value),
        "status": lambda: _status(value.lower()),
        "in": lambda: _status(""),
        "cites": lambda: _edge(db, value, "src", "dst"),
        "citedby": lambda: _edge(db, value, "dst", "src"),
    }
    return readers[name]() if name in readers else None


def _year(value: str) -> tuple[str | int, ...]:
    found = re.fullmatch(r"(\d{4})?(?:(-|\.\.|–)(\d{4})?)?", value)
    if not found or not (found.group(1) or found.group(3)):
        return ("ignored", "a year is 2021, 2019-2022, 2023- or -1990")
    first = int(found.group(1) or 0)
    last = int(found.group(3) or (9999 if found.group(2) else first))
    return ("where", "p.year BETWEEN ? AND ?", first, last)


def _has(value: str, studies: Collection[str]) -> tuple[str | int, ...]:
    if value == "study":
        marks = ",".join("?" * len(studies))
        return ("where", f"p.id IN ({marks})", *studies)
    if value not in _HAS:
        return ("ignored", f"has: knows study, {', '.join(_HAS)}")
    return ("where", _HAS[value])


def _label(kind: str, value: str) -> tuple[str | int, ...]:
    clause = "EXISTS (SELECT 1 FROM label WHERE paper = p.id AND kind = ? AND name = ?)"
    return ("where", clause, kind, value)


def _status(value: str) -> tuple[str | int, ...]:
    if not value:
        return ("where", "EXISTS (SELECT 1 FROM reading WHERE paper = p.id)")
    if value not in STATUSES:
        return ("ignored", f"a status is {', '.join(STATUSES)}")
    return ("where", "EXISTS (SELECT 1 FROM reading WHERE paper = p.id AND status = ?)", value)


def _edge(db: sqlite3.Connection, value: str, wanted: str, given: str) -> tuple[str | int, ...]:
    paper = papers.resolve(db, value)
    if paper is None:
        return ("ignored", "no such paper here")
    return ("where", f"p.id IN (SELECT {wanted} FROM cites WHERE {given} = ?)", paper)
