"""Papers and citations in the database: save, look up, keep the full-text index."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from kadanoff.atlas import merge
from kadanoff.atlas.identity import (
    Entry,
    Identifier,
    Record,
    parse_identifier,
    slug,
    spaced,
    title_key,
)
from kadanoff.errors import UsageError

__all__ = ["Paper", "cite", "cited_here", "get", "index", "many", "resolve", "save"]


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
        number = self.first("doi")
        # the DOI that DataCite gives each preprint leads to where the line above does
        if number and not (arxiv and number == f"10.48550/arxiv.{arxiv}"):
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


def save(db: sqlite3.Connection, record: Record, into: str | None = None) -> str:
    """Keep ``record``: a new paper, or more facts about a known one; return its id.

    Facts that are there already stay; only the count of citations is replaced by a newer one.

    Parameters
    ----------
    into : str, optional
        The paper that it is, where somebody has decided that; ``""`` says that it is a new one.

    Raises
    ------
    UsageError
        The record has no title.
    """
    if not record.title:
        raise UsageError("A paper needs a title.", "Check the source of this entry.")
    known = merge.find_all(db, record) if into is None else [into] if into else []
    changes = db.total_changes
    if known:
        name = known[0]
        merge.absorb(db, name, known[1:])
        # only if it tells something: then the index is brought up to date too
        news = " OR ".join(
            f"({f} IS NULL AND :{f} IS NOT NULL)"
            for f in ("year", "venue", "abstract", "summary", "url")
        )
        db.execute(
            "UPDATE paper SET year = coalesce(year, :year), venue = coalesce(venue, :venue),"
            " abstract = coalesce(abstract, :abstract), summary = coalesce(summary, :summary),"
            " url = coalesce(url, :url), citations = coalesce(:citations, citations)"
            f" WHERE id = :id AND ({news} OR :citations IS NOT citations)",
            {**_facts(record), "id": name},
        )
    else:
        name = _new_id(db, record)
        db.execute(
            "INSERT INTO paper (id, title, title_key, year, venue, abstract, summary, url,"
            " citations, source, added_at, number) VALUES (:id, :title, :title_key, :year, :venue,"
            " :abstract, :summary, :url, :citations, :source, :now,"
            " (SELECT coalesce(max(number), 0) + 1 FROM paper))",
            {
                **_facts(record),
                "id": name,
                "title_key": title_key(record.title),
                "now": time.time(),
            },
        )
    main = db.execute("SELECT title_key FROM paper WHERE id = ?", (name,)).fetchone()[0]
    for title in (record.title, *record.other_titles):
        key = title_key(title)
        if key and key != main:
            db.execute("INSERT OR IGNORE INTO other_title VALUES (?, ?, ?)", (name, key, title))
    if not known or not db.execute("SELECT 1 FROM author WHERE paper = ?", (name,)).fetchone():
        db.executemany(
            "INSERT INTO author VALUES (?, ?, ?)",
            [(name, position, author) for position, author in enumerate(record.authors)],
        )
    db.executemany(
        "INSERT OR IGNORE INTO identifier VALUES (?, ?, ?)",
        [(item.scheme, item.value, name) for item in record.identifiers],
    )
    if record.entry:
        keep_entry(db, name, record.entry)
    if known:
        if db.total_changes > changes:
            index(db, name)
    else:
        titles = [record.title, *record.other_titles]
        text = [titles, record.authors, record.abstract, record.summary, record.venue, ""]
        number = db.execute("SELECT number FROM paper WHERE id = ?", (name,)).fetchone()[0]
        _write_index(db, number, text)
    return name


def _facts(record: Record) -> dict[str, object]:
    names = ("title", "year", "venue", "abstract", "summary", "url", "citations", "source")
    return {name: getattr(record, name) for name in names}


def keep_entry(db: sqlite3.Connection, name: str, entry: Entry) -> None:
    """Keep what the file said; of a second entry only the fields that the first had not."""
    row = db.execute(
        "SELECT fields FROM entry WHERE paper = ? AND format = ?", (name, entry.format)
    ).fetchone()
    fields = {**entry.fields, **json.loads(row[0])} if row else entry.fields
    text = json.dumps(fields, ensure_ascii=False)
    if row and row[0] == text:
        return
    db.execute(
        "INSERT INTO entry VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET fields = excluded.fields",
        (name, entry.format, entry.key, entry.kind, text),
    )


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
        if tail > 4:
            # a thousand papers of one name: counting through them all would take for ever
            said = f"{record.title} {record.authors} {record.identifiers} {tail}"
            name = f"{wanted}-{hashlib.blake2b(said.encode(), digest_size=4).hexdigest()}"
    return name


def index(db: sqlite3.Connection, name: str) -> None:
    """Bring the full-text index up to date for one paper: its facts and the reader's words."""
    paper = many(db, [name])[name]
    row = db.execute("SELECT number FROM paper WHERE id = ?", (name,)).fetchone()
    said = db.execute(
        "SELECT body FROM note WHERE paper = :n UNION ALL"
        " SELECT body FROM comment WHERE paper = :n AND deleted_at IS NULL UNION ALL"
        " SELECT name FROM label WHERE paper = :n",
        {"n": name},
    )
    words = "\n".join(r[0] for r in said)
    titles = [paper.title, *paper.other_titles]
    db.execute("DELETE FROM paper_index WHERE rowid = ?", (row[0],))
    _write_index(
        db,
        row[0],
        [titles, paper.authors, paper.abstract, paper.summary, paper.venue, words],
    )


def _write_index(db: sqlite3.Connection, number: int, texts: Sequence[Any]) -> None:
    joined = [" / ".join(t) if isinstance(t, (list, tuple)) else t or "" for t in texts]
    db.execute(
        "INSERT INTO paper_index (rowid, title, authors, abstract, summary, venue, notes)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (number, *map(spaced, joined)),
    )


def index_all(db: sqlite3.Connection) -> None:
    """Write the full-text index anew."""
    db.execute("DELETE FROM paper_index")
    for row in db.execute("SELECT id FROM paper").fetchall():
        index(db, row[0])


def cite(
    db: sqlite3.Connection, src: str, dst: str, influential: bool = False, source: str = ""
) -> None:
    """Note that ``src`` cites ``dst``, and where that is known from.

    Parameters
    ----------
    db : sqlite3.Connection
    src, dst : str
        Ids of the papers.
    influential : bool
        As the source says.
    source : str
        Where the citation was read.
    """
    if src != dst:
        db.execute(
            "INSERT INTO cites (src, dst, influential, source) VALUES (?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET influential = max(influential, excluded.influential),"
            " source = CASE source WHEN '' THEN excluded.source ELSE source END",
            (src, dst, int(influential), source),
        )


def cited_here(db: sqlite3.Connection, ids: Iterable[str]) -> dict[str, int]:
    """Return how many works of this atlas are known to cite each paper."""
    count = "SELECT count(*) FROM cites WHERE dst = ?"
    return {name: db.execute(count, (name,)).fetchone()[0] for name in ids}


def year_of(db: sqlite3.Connection, name: str) -> int | None:
    """Return the year of a paper, if it is known."""
    row = db.execute("SELECT year FROM paper WHERE id = ?", (name,)).fetchone()
    return row[0] if row else None


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
