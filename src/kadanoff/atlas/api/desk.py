"""What a reader keeps of a paper: note, tags, collections, reading status, files."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Body, Query, Request, Response
from starlette.concurrency import run_in_threadpool

from kadanoff.atlas import notebook
from kadanoff.atlas.api.shapes import Address, Labels, Name, NewNote, Status, may, site_of
from kadanoff.atlas.rendering import markdown

router = APIRouter()


def note_json(note: notebook.Note) -> dict[str, Any]:
    """Return a note as written and as HTML."""
    return {**dataclasses.asdict(note), "html": markdown(note.body)}


@router.get("/papers/{name}/note")
def read_note(request: Request, name: Name) -> dict[str, Any]:
    """The note on a paper; version 0 is none."""
    site = site_of(request)
    with site.store.read() as db:
        return note_json(notebook.note_of(db, site.paper(db, name).id))


@router.put("/papers/{name}/note", responses=may(409))
def write_note(request: Request, name: Name, new: NewNote) -> dict[str, Any]:
    """Write the note; 409 with its present state if another window was faster."""
    site = site_of(request)
    with site.store.write() as db:
        paper = site.paper(db, name).id
        return note_json(notebook.set_note(db, paper, new.body, new.version))


@router.get("/labels")
def read_labels(request: Request) -> dict[str, dict[str, int]]:
    """All tags and collections, with the number of their papers."""
    with site_of(request).store.read() as db:
        return {
            "tags": dict(notebook.labels(db, "tag")),
            "collections": dict(notebook.labels(db, "collection")),
        }


@router.put("/papers/{name}/tags")
def write_tags(request: Request, name: Name, given: Labels) -> list[str]:
    """Give a paper exactly these tags."""
    site = site_of(request)
    with site.store.write() as db:
        return notebook.set_labels(db, site.paper(db, name).id, "tag", given.names)


@router.put("/papers/{name}/collections")
def write_collections(request: Request, name: Name, given: Labels) -> list[str]:
    """Put a paper into exactly these collections."""
    site = site_of(request)
    with site.store.write() as db:
        return notebook.set_labels(db, site.paper(db, name).id, "collection", given.names)


@router.put("/reading/{name}", status_code=204)
def add_to_reading(
    request: Request, name: Name, given: Annotated[Status | None, Body()] = None
) -> Response:
    """Put a paper on the reading list, or change its status."""
    site = site_of(request)
    with site.store.write() as db:
        status = (given or Status(status="to-read")).status
        notebook.set_status(db, site.paper(db, name).id, status)
    return Response(status_code=204)


@router.delete("/reading/{name}", status_code=204)
def drop_from_reading(request: Request, name: Name) -> Response:
    """Take a paper off the reading list."""
    site = site_of(request)
    with site.store.write() as db:
        notebook.set_status(db, site.paper(db, name).id, None)
    return Response(status_code=204)


@router.post("/files/{name}", status_code=201)
async def add_file(
    request: Request, name: Name, file: Annotated[str, Query(max_length=200)] = "paper.pdf"
) -> dict[str, Any]:
    """Keep a PDF with a paper; the body is the file."""
    content = await request.body()

    def keep() -> dict[str, Any]:
        site = site_of(request)
        with site.store.write() as db:
            paper = site.paper(db, name).id
            return vars(notebook.add_file(db, site.store.folder, paper, content, file))

    return await run_in_threadpool(keep)


@router.post("/papers/{name}/links", status_code=201)
def add_link(request: Request, name: Name, given: Address) -> dict[str, Any]:
    """Note where a PDF of a paper lies."""
    site = site_of(request)
    with site.store.write() as db:
        return vars(notebook.add_link(db, site.paper(db, name).id, given.address))


@router.delete("/files/{name}", status_code=204)
def remove_document(
    request: Request, name: Name, address: Annotated[str, Query(max_length=2000)]
) -> Response:
    """Take a file or link off a paper."""
    site = site_of(request)
    with site.store.write() as db:
        notebook.remove_document(db, site.paper(db, name).id, address)
    return Response(status_code=204)
