"""Growing the atlas: a paper with its citations and references, or the papers of a file.

``client``           Fetching JSON politely: cache, back-off as the server asks, bounded answers
``files``            BibTeX, RIS and CSL-JSON files: hostile until read
``openalex``         OpenAlex: pure parsers, and pages of citing and referenced works
``semanticscholar``  Semantic Scholar Graph API v1: pure parsers
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kadanoff.atlas import papers
from kadanoff.atlas.database import Database
from kadanoff.atlas.identity import Identifier, Record, parse_identifier
from kadanoff.atlas.importers import openalex, semanticscholar
from kadanoff.atlas.importers.client import Client, ImportFailed, NotFound, Offline
from kadanoff.atlas.importers.files import parse
from kadanoff.errors import AnalysisError

__all__ = ["Outcome", "add_file", "add_paper", "is_file"]

Progress = Callable[..., None]
Edges = Iterator[tuple[list[tuple[Record, bool]], int | None]]


@dataclass
class Outcome:
    """What an import brought; ``problems`` are what a source did not give."""

    papers: list[str] = field(default_factory=list)
    title: str = ""
    new: int = 0
    citations: int = 0
    references: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether all sources answered to the end."""
        return not self.problems

    def json(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return {**vars(self), "complete": self.complete}

    def text(self) -> str:
        """Return the outcome as a few lines."""
        lines = [
            f"{self.title or ', '.join(self.papers[:5])}: {self.new} new papers, "
            f"{self.citations} citing and {self.references} referenced."
        ]
        lines += [f"Incomplete: {problem}" for problem in self.problems]
        return "\n".join(lines)


def is_file(what: str) -> bool:
    """Say whether ``what`` means a file: by its ending, or because there is one."""
    return bool(re.search(r"\.(bib|ris|json)$", what, re.IGNORECASE)) or Path(what).is_file()


def add_file(database: Database, path: Path) -> Outcome:
    """Add the papers in a BibTeX, RIS or CSL-JSON file: all of them, or none if it is unreadable.

    Raises
    ------
    DataError
        The file cannot be read, or holds no paper.
    """
    records = parse(path)
    outcome = Outcome(title=path.name)
    with database.write() as db:
        before = _count(db)
        outcome.papers = [papers.save(db, record) for record in records]
        outcome.new = _count(db) - before
    return outcome


def _count(db: Any) -> int:
    return db.execute("SELECT count(*) FROM paper").fetchone()[0]


def add_paper(
    database: Database,
    name: str,
    limit: int = 1000,
    refresh: bool = False,
    progress: Progress | None = None,
    **client: Any,
) -> Outcome:
    """Import a paper with what cites it and what it references, from OpenAlex and Semantic Scholar.

    Each page is kept as it comes, and cached: an import that was cut off resumes where it stopped.

    Parameters
    ----------
    name : str
        arXiv id, DOI, Semantic Scholar or OpenAlex id.
    limit : int
        At most so many citations, and so many references, from each source.
    refresh : bool
        Ask again for what is in the cache.
    progress : callable, optional
        Called as ``progress(done, total, message=...)``; a total of 0 is unknown.

    Raises
    ------
    UsageError
        ``name`` is no identifier.
    Offline
        No source can be reached; the atlas is as it was.
    ImportFailed
        No source knows the paper.
    """
    identifier = parse_identifier(name)
    report = progress or (lambda done, total, **info: None)
    clients = _clients(database, refresh, client)
    try:
        return _add(database, identifier, limit, report, clients)
    finally:
        for one in clients.values():
            one.close()


def _clients(database: Database, refresh: bool, more: dict[str, Any]) -> dict[str, Client]:
    key = os.environ.get("S2_API_KEY") or os.environ.get("SEMANTIC_SCHOLAR_API_KEY")
    alex = os.environ.get("KADANOFF_OPENALEX_URL", openalex.BASE)
    scholar = os.environ.get("KADANOFF_S2_URL", semanticscholar.BASE)
    return {
        "openalex": Client(database, alex, refresh=refresh, **{"pause": 0.1, **more}),
        "semanticscholar": Client(
            database,
            scholar,
            headers={"x-api-key": key} if key else {},
            refresh=refresh,
            # with a key one request a second is allowed; the shared pool gives less
            **{"pause": 1.05 if scholar == semanticscholar.BASE else 0.0, **more},
        ),
    }


def _alex_key() -> dict[str, str]:
    found = os.environ.get("OPENALEX_API_KEY")
    mail = os.environ.get("OPENALEX_MAILTO")
    return {**({"api_key": found} if found else {}), **({"mailto": mail} if mail else {})}


def _add(
    database: Database,
    identifier: Identifier,
    limit: int,
    report: Progress,
    clients: dict[str, Client],
) -> Outcome:
    outcome = Outcome()
    with database.read() as db:
        before = _count(db)
    key = _alex_key()
    report(0, 0, message=f"Looking for {identifier}")
    records: list[Record] = []
    failures: list[ImportFailed] = []
    for look in (
        lambda: (
            semanticscholar.work(clients["semanticscholar"], identifier)
            if identifier.scheme != "openalex"
            else None
        ),
        lambda: openalex.work(clients["openalex"], _best(identifier, records), key),
    ):
        try:
            record = look()
        except ImportFailed as error:
            failures.append(error)
            continue
        if record:
            if not any(i.scheme == identifier.scheme for i in record.identifiers):
                record.identifiers.append(identifier)
            records.append(record)
    if not records:
        _give_up(identifier, failures)
    # a source that does not know the paper has nothing more to say; one that failed has
    outcome.problems += [str(e) for e in failures if not isinstance(e, NotFound)]
    with database.write() as db:
        paper = ""
        for record in records:
            paper = papers.save(db, record)
    outcome.papers, outcome.title = [paper], records[0].title
    numbers = {i.scheme: i.value for r in records for i in r.identifiers}
    for side in ("references", "citations"):
        sources: list[tuple[str, Edges]] = []
        if "openalex" in numbers:
            pages = openalex.edges(clients["openalex"], numbers["openalex"], side, limit, key)
            sources.append(("OpenAlex", pages))
        if "s2" in numbers:
            pages = semanticscholar.edges(clients["semanticscholar"], numbers["s2"], side, limit)
            sources.append(("Semantic Scholar", pages))
        for source, pages in sources:
            try:
                _keep(database, paper, side, source, pages, report)
            except ImportFailed as error:
                outcome.problems.append(f"{side} from {source}: {error}")
    with database.read() as db:
        paper = papers.resolve(db, paper) or paper
        around = papers.neighbours(db, paper)
        outcome.papers = [paper]
        outcome.new = _count(db) - before
    outcome.citations, outcome.references = len(around["cites"]), len(around["referenced"])
    return outcome


def _best(identifier: Identifier, records: list[Record]) -> Identifier:
    """Return a number OpenAlex knows: it knows none of Semantic Scholar's."""
    if identifier.scheme in ("openalex", "doi", "arxiv"):
        return identifier
    known = [i for r in records for i in r.identifiers]
    return next((i for s in ("doi", "arxiv") for i in known if i.scheme == s), identifier)


def _give_up(identifier: Identifier, failures: list[ImportFailed]) -> None:
    if failures and all(isinstance(e, Offline) for e in failures):
        raise Offline(
            f"No network: {identifier} was not imported ({failures[0].message})",
            "The atlas keeps what it has; the same command works later.",
        )
    said = " ".join(e.message for e in failures)
    raise AnalysisError(f"{identifier} was not found. {said}", "Check the id, or try later.")


def _keep(
    database: Database, paper: str, side: str, source: str, pages: Edges, report: Progress
) -> None:
    seen = 0
    for page, total in pages:
        with database.write() as db:
            # a page may show that the paper is one with another: ask each time
            here = papers.resolve(db, paper) or paper
            for record, influential in page:
                other = papers.save(db, record)
                here = papers.resolve(db, here) or here
                if side == "citations":
                    papers.cite(db, other, here, influential)
                else:
                    papers.cite(db, here, other, influential)
        seen += len(page)
        report(seen, total or 0, message=f"{source}: {seen} {side}")
