"""Papers and citations in the database: save, look up, search."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from kadanoff.atlas import merge
from kadanoff.atlas.identity import Identifier, Record, parse_identifier, slug, title_key
from kadanoff.errors import UsageError

__all__ = ["Paper", "cite", "get", "many", "resolve", "save", "search"]


@dataclass(frozen=True)
class Paper:
    """A paper as the page shows it."""

    id: str
    title: str
    authors: tuple[str, ...]
    year: int | None
    venue: str | None
    summary: str | None
    abstract: str | None
    url: str | None
    citations: int | None
    identifiers: tuple[Identifier, ...]
    other_titles: tuple[str, ...]

    def first(self, scheme: str) -> str | None:
        """Return the paper's number in ``scheme``; of several DOIs, the journal's."""
        values = [i.value for i in self.identifiers if i.scheme == scheme]
        if scheme == "doi":
            values.sort(key=lambda v: v.startswith("10.48550/"))
        return values[0] if values else None

    @property
    def byline(self) -> str:
        """Authors in one line, at most four by name."""
        if len(self.authors) <= 4:
            return ", ".join(self.authors)
        return f"{', '.join(self.authors[:3])} and {len(self.authors) - 3} others"

    @property
    def label(self) -> str:
        """Short name for the graph: first family name and year."""
        if not self.authors:
            return str(self.year or "")
        name = self.authors[0]
        family = name.split(",")[0] if "," in name else name.split()[-1]
        more = " et al." if len(self.authors) > 2 else ""
        if len(self.authors) == 2:
            other = self.authors[1]
            more = f" & {other.split(',')[0] if ',' in other else other.split()[-1]}"
        return f"{family}{more} {self.year or ''}".strip()

    @property
    def links(self) -> list[tuple[str, str]]:
        """Pairs (label, address), built from identifiers; the source's own address last."""
        from urllib.parse import quote

        found: list[tuple[str, str]] = []
        if arxiv := self.first("arxiv"):
            found.append((f"arXiv:{arxiv}", f"https://arxiv.org/abs/{quote(arxiv, safe='/')}"))
        if number := self.first("doi"):
            found.append((f"doi:{number}", f"https://doi.org/{quote(number, safe='/:;()')}"))
        if not found and self.url:
            found.append(("Source", self.url))
        return found


def resolve(db: sqlite3.Connection, name: str) -> str | None:
    """Return the id of the paper called ``name``: its id, a merged id, or any identifier."""
    row = db.execute(
        "SELECT id FROM paper WHERE id = :n UNION SELECT paper FROM alias WHERE id = :n",
        {"n": name},
    ).fetchone()
    if row:
        return row[0]
    try:
        return merge.find(db, parse_identifier(name))
    except UsageError:
        return None


def many(db: sqlite3.Connection, ids: Sequence[str]) -> dict[str, Paper]:
    """Return the papers of ``ids`` that exist, by id."""
    papers: dict[str, Paper] = {}
    for start in range(0, len(ids), 500):
        part = list(ids[start : start + 500])
        marks = ",".join("?" * len(part))
        authors: dict[str, list[str]] = {}
        for row in db.execute(
            f"SELECT paper, name FROM author WHERE paper IN ({marks}) ORDER BY paper, position",
            part,
        ):
            authors.setdefault(row["paper"], []).append(row["name"])
        numbers: dict[str, list[Identifier]] = {}
        for row in db.execute(
            f"SELECT paper, scheme, value FROM identifier WHERE paper IN ({marks})", part
        ):
            item = Identifier(row["scheme"], row["value"])
            numbers.setdefault(row["paper"], []).append(item)
        titles: dict[str, list[str]] = {}
        for row in db.execute(
            f"SELECT paper, title FROM other_title WHERE paper IN ({marks})", part
        ):
            titles.setdefault(row["paper"], []).append(row["title"])
        for row in db.execute(f"SELECT * FROM paper WHERE id IN ({marks})", part):
            name = row["id"]
            papers[name] = Paper(
                id=name,
                title=row["title"],
                authors=tuple(authors.get(name, ())),
                year=row["year"],
                venue=row["venue"],
                summary=row["summary"],
                abstract=row["abstract"],
                url=row["url"],
                citations=row["citations"],
                identifiers=tuple(numbers.get(name, ())),
                other_titles=tuple(titles.get(name, ())),
            )
    return papers


def get(db: sqlite3.Connection, name: str) -> Paper | None:
    """Return one paper by any of its names, or None."""
    found = resolve(db, name)
    return many(db, [found])[found] if found else None


def save(db: sqlite3.Connection, record: Record) -> str:
    """Keep ``record``: a new paper, or more facts about a known one; return its id.

    What is known is not overwritten by another source, but for the number of citations, which
    changes. Papers that the record shows to be one work become one.

    Raises
    ------
    UsageError
        The record has no title.
    """
    if not record.title:
        raise UsageError("A paper needs a title.", "Check the source of this entry.")
    known = merge.find_all(db, record)
    if known:
        name = known[0]
        merge.absorb(db, name, known[1:])
        db.execute(
            "UPDATE paper SET year = coalesce(year, :year), venue = coalesce(venue, :venue),"
            " abstract = coalesce(abstract, :abstract), summary = coalesce(summary, :summary),"
            " url = coalesce(url, :url), citations = coalesce(:citations, citations)"
            " WHERE id = :id",
            {**vars(record), "id": name},
        )
    else:
        name = _new_id(db, record)
        db.execute(
            "INSERT INTO paper (id, title, title_key, year, venue, abstract, summary, url,"
            " citations, source, added_at) VALUES (:id, :title, :title_key, :year, :venue,"
            " :abstract, :summary, :url, :citations, :source, :now)",
            {**vars(record), "id": name, "title_key": title_key(record.title), "now": time.time()},
        )
    main = db.execute("SELECT title_key FROM paper WHERE id = ?", (name,)).fetchone()[0]
    for title in (record.title, *record.other_titles):
        key = title_key(title)
        if key and key != main:
            db.execute("INSERT OR IGNORE INTO other_title VALUES (?, ?, ?)", (name, key, title))
    if not db.execute("SELECT 1 FROM author WHERE paper = ?", (name,)).fetchone():
        db.executemany(
            "INSERT INTO author VALUES (?, ?, ?)",
            [(name, position, author) for position, author in enumerate(record.authors)],
        )
    for item in record.identifiers:
        db.execute(
            "INSERT OR IGNORE INTO identifier VALUES (?, ?, ?)", (item.scheme, item.value, name)
        )
    index(db, name)
    return name


def _new_id(db: sqlite3.Connection, record: Record) -> str:
    wanted = record.key or ""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,59}", wanted):
        wanted = slug(record)
    name, tail = wanted, 1
    while db.execute(
        "SELECT 1 FROM paper WHERE id = :n UNION SELECT 1 FROM alias WHERE id = :n", {"n": name}
    ).fetchone():
        tail += 1
        name = f"{wanted}-{tail}"
    return name


def index(db: sqlite3.Connection, name: str) -> None:
    """Bring the full-text index up to date for one paper."""
    paper = many(db, [name])[name]
    db.execute("DELETE FROM paper_fts WHERE id = ?", (name,))
    db.execute(
        "INSERT INTO paper_fts (id, title, authors, abstract, summary) VALUES (?, ?, ?, ?, ?)",
        (
            name,
            " / ".join((paper.title, *paper.other_titles)),
            ", ".join(paper.authors),
            paper.abstract or "",
            paper.summary or "",
        ),
    )


def cite(db: sqlite3.Connection, src: str, dst: str, influential: bool = False) -> None:
    """Note that ``src`` cites ``dst``.

    Parameters
    ----------
    db : sqlite3.Connection
    src, dst : str
        Ids of the papers.
    influential : bool
        As the source says.
    """
    if src != dst:
        db.execute(
            "INSERT INTO cites VALUES (?, ?, ?) ON CONFLICT DO UPDATE"
            " SET influential = max(influential, excluded.influential)",
            (src, dst, int(influential)),
        )


def search(
    db: sqlite3.Connection,
    text: str = "",
    sort: Literal["relevance", "year", "title", "citations"] = "relevance",
    limit: int = 50,
    offset: int = 0,
) -> tuple[list[Paper], int]:
    """Return the papers that contain all words of ``text`` (as beginnings), and how many there are.

    An empty ``text`` lists all papers.

    Parameters
    ----------
    db : sqlite3.Connection
    text : str
    sort : {"relevance", "year", "title", "citations"}
    limit, offset : int
        How many, and after how many.
    """
    words = re.findall(r"\w+", text, re.UNICODE)[:20]
    orders: dict[str, str] = {
        "year": "p.year IS NULL, p.year DESC, p.title",
        "title": "p.title COLLATE NOCASE",
        "citations": "p.citations IS NULL, p.citations DESC, p.title",
        # a word in the title tells most
        "relevance": "bm25(paper_fts, 0, 8, 5, 1, 2), p.title" if words else "p.added_at, p.title",
    }
    source = "paper_fts JOIN paper AS p ON p.id = paper_fts.id" if words else "paper AS p"
    where = "WHERE paper_fts MATCH :match" if words else ""
    if text.strip() and not words:
        return [], 0
    # quoted, so that the user's AND, NEAR, * and - are words and not operators
    arguments = {
        "match": " ".join(f'"{word}"*' for word in words),
        "limit": limit,
        "offset": offset,
    }
    total = db.execute(f"SELECT count(*) FROM {source} {where}", arguments).fetchone()[0]
    rows = db.execute(
        f"SELECT p.id FROM {source} {where} ORDER BY {orders[sort]} LIMIT :limit OFFSET :offset",
        arguments,
    ).fetchall()
    ids = [row[0] for row in rows]
    papers = many(db, ids)
    return [papers[name] for name in ids], total


def neighbours(db: sqlite3.Connection, name: str) -> dict[str, set[str]]:
    """Return the ids of the papers that cite ``name`` and of those it references."""
    return {
        "cites": {r[0] for r in db.execute("SELECT src FROM cites WHERE dst = ?", (name,))},
        "referenced": {r[0] for r in db.execute("SELECT dst FROM cites WHERE src = ?", (name,))},
    }


def edges_among(db: sqlite3.Connection, ids: Iterable[str]) -> list[tuple[str, str]]:
    """Return the pairs (citing, cited) with both ends in ``ids``, sorted."""
    wanted = set(ids)
    found: list[tuple[str, str]] = []
    for name in wanted:
        for row in db.execute("SELECT dst FROM cites WHERE src = ?", (name,)):
            if row[0] in wanted:
                found.append((name, row[0]))
    return sorted(found)
