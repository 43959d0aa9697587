"""What a request needs, put together once: the store, the jobs, the studies."""

from __future__ import annotations

import sqlite3
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kadanoff.atlas import papers
from kadanoff.atlas.identity import parse_identifier
from kadanoff.atlas.jobs import Job, Jobs
from kadanoff.atlas.store import Store
from kadanoff.atlas.studies import (
    Figure,
    Registry,
    StudyEntry,
    StudyResult,
    StudySource,
    read_result,
)

__all__ = ["Missing", "Site"]


class Missing(Exception):
    """There is no such thing here (404)."""


@dataclass
class Site:
    """The atlas behind the pages.

    Parameters
    ----------
    store : Store
    studies : StudySource
        Where the studies come from.
    """

    store: Store
    studies: StudySource = field(default_factory=Registry)

    def __post_init__(self) -> None:
        self.jobs = Jobs(self.store, self.store.folder / "runs")

    def paper(self, db: sqlite3.Connection, name: str) -> papers.Paper:
        """Return a paper by any of its names.

        Raises
        ------
        Missing
        """
        found = papers.get(db, name)
        if found is None:
            raise Missing(f"There is no paper {name[:80]!r} in this atlas.")
        return found

    def marks(self, db: sqlite3.Connection) -> dict[str, StudyEntry]:
        """Return the studies by the id of their paper, as far as it is in the atlas."""
        found = {}
        for study in self.studies.all():
            name = papers.resolve(db, study.paper_id) if study.paper_id else None
            if name:
                found.setdefault(name, study)
        return found

    def studies_of(self, db: sqlite3.Connection, name: str) -> list[StudyEntry]:
        """Return all studies of one paper."""
        return [
            s for s in self.studies.all() if s.paper_id and papers.resolve(db, s.paper_id) == name
        ]

    def study(self, name: str) -> StudyEntry:
        """Return a study by name.

        Raises
        ------
        Missing
        """
        for study in self.studies.all():
            if study.name == name:
                return study
        raise Missing(f"There is no study {name[:80]!r}.")

    def run_study(self, name: str) -> Job:
        """Start the quick run of a study, or return the one that is going on."""
        study = self.study(name)
        return self.jobs.start("study", study.name, lambda out: self.studies.command(name, out))

    def run_import(self, identifier: str) -> Job:
        """Start importing a paper, or return the import that is going on."""
        name = str(parse_identifier(identifier))
        program = [sys.executable, "-m", "kadanoff.cli.app", "atlas", "add", name]
        options = ["--data-dir", str(self.store.folder), "--progress", "json", "--json"]
        return self.jobs.start("import", name, lambda out: [*program, *options])

    def run_draft(self, draft: str) -> Job:
        """Start fetching the ids of an import."""
        program = [sys.executable, "-m", "kadanoff.cli.app", "atlas", "add", "--draft", draft]
        options = ["--data-dir", str(self.store.folder), "--progress", "json", "--json"]
        return self.jobs.start("draft", draft, lambda out: [*program, *options])

    def outcome(self, study: StudyEntry) -> dict[str, Any]:
        """Return the newest run of a study, the newest result, and the one that was kept."""
        last = self.jobs.latest("study", study.name)
        done = last if last and last.status == "done" else None
        done = done or self.jobs.latest("study", study.name, "done")
        folder: Path | None = self.jobs.out(done.id) if done else None
        result: StudyResult | None = read_result(folder) if folder else None
        home = self.studies.kept(study.name)
        kept = read_result(home) if home else None
        return {"study": study, "job": last, "run": done, "result": result, "kept": kept}

    def figure(self, folder: Path | None, index: int) -> Figure:
        """Return a figure of a result by its number: no path ever comes from outside.

        Raises
        ------
        Missing
        """
        result = read_result(folder) if folder else None
        if result is None or index >= len(result.figures):
            raise Missing(f"There is no figure {index}.")
        return result.figures[index]

    def report(self, folder: Path | None) -> str:
        """Return a study's own page.

        Raises
        ------
        Missing
        """
        import json

        from kadanoff.studies.page import study_page

        try:
            assert folder is not None
            return study_page(json.loads((folder / "result.json").read_text("utf-8")), folder)
        except (AssertionError, OSError, ValueError, KeyError, TypeError):
            raise Missing("There is no such report.") from None
