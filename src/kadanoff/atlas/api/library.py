"""Bringing papers in: from the network, from a library; and everything out and in again."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.concurrency import run_in_threadpool

from kadanoff.atlas import backup, drafts, undoing
from kadanoff.atlas.api.shapes import Choice, Library, Name, Number, Wanted, site_of
from kadanoff.atlas.importers.files import parse_text
from kadanoff.atlas.site import Missing
from kadanoff.errors import DataError

router = APIRouter()


@router.post("/drafts", status_code=201)
def new_draft(request: Request, library: Library) -> dict[str, Any]:
    """Read a library; nothing is imported before it was looked at."""
    parsed = parse_text(library.text)
    with site_of(request).store.write() as db:
        number = drafts.create(db, parsed, library.name)
        return _draft(db, number).json()


def _draft(db: Any, number: str) -> drafts.Draft:
    found = drafts.get(db, number)
    if found is None:
        raise Missing(f"There is no import {number[:80]!r}.")
    return found


@router.get("/drafts/{draft}")
def read_draft(request: Request, draft: Name) -> dict[str, Any]:
    """How an import stands."""
    with site_of(request).store.read() as db:
        return _draft(db, draft).json()


@router.get("/drafts/{draft}/entries")
def read_entries(
    request: Request,
    draft: Name,
    action: Literal["", "new", "merge", "skip", "fetch", "doubtful"] = "",
    limit: Annotated[int, Query(ge=1, le=500)] = 200,
    offset: Annotated[int, Query(ge=0, le=10_000_000)] = 0,
) -> list[dict[str, Any]]:
    """The entries of an import, with what will be done with each and why."""
    with site_of(request).store.read() as db:
        _draft(db, draft)
        return [vars(e) for e in drafts.entries(db, draft, action, limit, offset)]


@router.put("/drafts/{draft}/entries/{number}")
def decide(request: Request, draft: Name, number: Number, choice: Choice) -> dict[str, Any]:
    """Decide otherwise what is done with an entry."""
    with site_of(request).store.write() as db:
        _draft(db, draft)
        return vars(drafts.decide(db, draft, number, choice.action, choice.target))


@router.post("/drafts/{draft}/apply")
def apply_draft(request: Request, draft: Name) -> dict[str, Any]:
    """Import what was looked at; ids are fetched in a process of its own (``job``)."""
    site = site_of(request)
    with site.store.write() as db:
        _draft(db, draft)
        done = drafts.apply(db, draft)
        fetch = bool(drafts.waiting(db, draft))
    job = site.run_draft(draft).json() if fetch else None
    return {**done, "job": job}


@router.post("/drafts/{draft}/fetch", status_code=202)
def fetch_draft(request: Request, draft: Name) -> dict[str, Any]:
    """Fetch the ids of an import that did not come the first time."""
    site = site_of(request)
    with site.store.read() as db:
        _draft(db, draft)
    return site.run_draft(draft).json()


@router.post("/drafts/{draft}/undo")
def undo_draft(request: Request, draft: Name) -> dict[str, Any]:
    """Take an import back."""
    with site_of(request).store.write() as db:
        _draft(db, draft)
        return undoing.undo(db, draft)


@router.post("/imports", status_code=202)
def start_import(request: Request, wanted: Wanted) -> dict[str, Any]:
    """Import a paper with its citations and references, in a process of its own."""
    return site_of(request).run_import(wanted.identifier).json()


@router.get("/export")
def export_all(request: Request) -> dict[str, Any]:
    """Everything in this atlas: papers, citations, comments, notes, tags, lists."""
    with site_of(request).store.read() as db:
        return backup.dump(db)


@router.post("/import")
async def import_all(request: Request) -> dict[str, int]:
    """Add an export of an atlas to this one."""
    body = await request.body()

    def restore() -> dict[str, int]:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise DataError(f"This is no JSON: {str(error)[:200]}.", "Export it again.") from None
        with site_of(request).store.write() as db:
            return backup.restore(db, document)

    return await run_in_threadpool(restore)
