"""Growing the atlas: a paper with its citations and references, a list of ids, or a file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kadanoff.atlas import drafts, merge, papers, undoing
from kadanoff.atlas.database import Database
from kadanoff.atlas.identity import Identifier, Record, parse_identifier
from kadanoff.atlas.importers import arxiv, openalex, semanticscholar
from kadanoff.atlas.importers.client import Client, ImportFailed, NotFound, Offline
from kadanoff.atlas.importers.files import parse
from kadanoff.errors import AnalysisError

__all__ = ["Outcome", "add_draft", "add_file", "add_paper", "is_file"]

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
    # entries of a file that could not be read, or not without a doubt
    findings: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        """Whether all sources answered to the end and every entry was read."""
        return not (self.problems or self.findings)

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
        lines += [f"To look at: {finding}" for finding in self.findings]
        return "\n".join(lines)


def is_file(what: str) -> bool:
    """Say whether ``what`` means a file: by its ending, or because there is one."""
    return bool(re.search(r"\.(bib|ris|json|txt)$", what, re.IGNORECASE)) or Path(what).is_file()


def add_file(database: Database, path: Path) -> Outcome:
    """Add the papers in a BibTeX, RIS or CSL-JSON file; what could not be read is in ``findings``.

    Raises
    ------
    DataError
        The file cannot be read, or holds no paper.
    """
    parsed = parse(path)
    outcome = Outcome(title=path.name, findings=[broken.text() for broken in parsed.broken])
    with database.write() as db:
        draft = drafts.create(db, parsed, path.name)
        doubts = drafts.entries(db, draft, "doubtful")
        outcome.findings += [f"entry {e.position} “{e.title}”: {e.why}" for e in doubts]
        outcome.new = drafts.apply(db, draft)["new"]
        outcome.papers = [e.paper for e in drafts.entries(db, draft, limit=10**6) if e.paper]
    return outcome


def add_draft(
    database: Database, number: str, progress: Progress | None = None, **client: Any
) -> Outcome:
    """Fetch the works of a list of numbers (:mod:`kadanoff.atlas.drafts`), without their citations.

    What came is kept; the same call goes on where it was cut off.

    Parameters
    ----------
    database : Database
    number : str
        Of the draft.
    progress : callable, optional
        Called as ``progress(done, total, message=...)``.
    """
    report = progress or (lambda done, total, **info: None)
    outcome = Outcome(title="List of ids")
    with database.read() as db:
        waiting = drafts.waiting(db, number)
    clients = _clients(database, False, client)
    try:
        for done, (position, identifier) in enumerate(waiting):
            report(done, len(waiting), message=f"Looking for {identifier}")
            records, failures = _look_up(identifier, clients)
            # a source that does not know a work has said all it has to say
            failed = [e for e in failures if not isinstance(e, NotFound)]
            if not records:
                said = " ".join(str(e) for e in failures) or "no source knows it"
                outcome.problems.append(f"{identifier}: {said}")
                if failed and all(isinstance(e, Offline) for e in failed):
                    break
                continue
            with database.write() as db:
                record = _combined(records)
                known = merge.find_all(db, record)
                name = undoing.settle(db, number, position, record, known[0] if known else None)
                outcome.new += not known
            outcome.papers.append(name)
        report(len(waiting), len(waiting), message="Done")
    finally:
        for one in clients.values():
            one.close()
    return outcome


def _combined(records: list[Record]) -> Record:
    """What several sources say of one work; the first to say something is believed."""
    first, *others = records
    for other in others:
        for name in ("year", "venue", "abstract", "url", "citations"):
            if getattr(first, name) is None:
                setattr(first, name, getattr(other, name))
        first.authors = first.authors or other.authors
        first.identifiers += [i for i in other.identifiers if i not in first.identifiers]
    return first


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
    preprints = os.environ.get("KADANOFF_ARXIV_URL", arxiv.BASE)
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
        # arXiv asks for three seconds between requests
        "arxiv": Client(
            database,
            preprints,
            refresh=refresh,
            **{"pause": 3.0 if preprints == arxiv.BASE else 0.0, **more},
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
    records, failures = _look_up(identifier, clients)
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


def _look_up(
    identifier: Identifier, clients: dict[str, Client]
) -> tuple[list[Record], list[ImportFailed]]:
    """Ask the sources for one work; what they say, and why some said nothing."""
    records: list[Record] = []
    failures: list[ImportFailed] = []

    def scholar() -> Record | None:
        known = identifier.scheme != "openalex"
        return semanticscholar.work(clients["semanticscholar"], identifier) if known else None

    def alex() -> Record | None:
        return openalex.work(clients["openalex"], _best(identifier, records), _alex_key())

    def preprint() -> Record | None:
        # for what the others have not: the paper at all, or its abstract
        if any(record.abstract for record in records):
            return None
        numbers = [identifier, *(i for r in records for i in r.identifiers)]
        number = next((i for i in numbers if i.scheme == "arxiv"), identifier)
        return arxiv.work(clients["arxiv"], number)

    for look in (scholar, alex, preprint):
        try:
            record = look()
        except ImportFailed as error:
            failures.append(error)
            continue
        if record:
            if not any(i.scheme == identifier.scheme for i in record.identifiers):
                record.identifiers.append(identifier)
            records.append(record)
    return records, failures


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
                    papers.cite(db, other, here, influential, source)
                else:
                    papers.cite(db, here, other, influential, source)
        seen += len(page)
        report(seen, total or 0, message=f"{source}: {seen} {side}")
