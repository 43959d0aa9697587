"""The atlas as JSON: everything that the page does, a program can do too."""

from __future__ import annotations

import dataclasses
import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from kadanoff.atlas import comments, exports, graph, papers
from kadanoff.atlas.rendering import markdown
from kadanoff.atlas.security import SEALED
from kadanoff.atlas.site import Missing, Site
from kadanoff.atlas.studies import Figure
from kadanoff.errors import DataError


class Problem(BaseModel):
    """What was wrong, and what to do."""

    error: str
    remedy: str = ""


def _may(*codes: int) -> dict[int | str, dict[str, Any]]:
    return {code: {"model": Problem} for code in (400, 403, 413, 415, 421, *codes)}


def _files(*media: str) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {name: {} for name in media}}}


router = APIRouter(prefix="/api", responses=_may(404, 422))

Name = Annotated[str, Path(min_length=1, max_length=300)]
Number = Annotated[int, Path(ge=1, le=2**63 - 1)]
Version = Annotated[int, Query(ge=1, le=2**63 - 1)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewComment(_Strict):
    """A comment to add; ``parent`` makes it a reply."""

    body: str = Field(max_length=comments.LIMIT)
    author: str = Field("", max_length=80)
    parent: int | None = Field(None, ge=1, le=2**63 - 1)


class Edit(_Strict):
    """New text for the comment that was read at ``version``."""

    body: str = Field(max_length=comments.LIMIT)
    version: int = Field(ge=1, le=2**63 - 1)


class Positions(_Strict):
    """Where nodes were dragged to."""

    positions: dict[str, tuple[Coordinate, Coordinate]] = Field(max_length=2000)


Coordinate = Annotated[float, Field(ge=-1e5, le=1e5, allow_inf_nan=False)]
Positions.model_rebuild()


class Text(_Strict):
    """Markdown to look at before it is kept."""

    body: str = Field(max_length=comments.LIMIT)


class Wanted(_Strict):
    """What to import: arXiv id, DOI, Semantic Scholar or OpenAlex id."""

    identifier: str = Field(min_length=1, max_length=300)


def _site(request: Request) -> Site:
    return request.app.state.site


def comment_json(comment: comments.Comment) -> dict[str, Any]:
    """Return a comment with its text as written and as HTML."""
    return {
        **{k: v for k, v in vars(comment).items() if k != "replies"},
        "html": markdown(comment.body),
        "replies": [comment_json(reply) for reply in comment.replies],
    }


@router.get("/papers")
def list_papers(
    request: Request,
    q: Annotated[str, Query(max_length=300)] = "",
    sort: Literal["relevance", "year", "title", "citations"] = "relevance",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> dict[str, Any]:
    """Search titles, authors, abstracts and summaries."""
    with _site(request).store.read() as db:
        found, total = papers.search(db, q, sort, limit, offset)
    return {"total": total, "papers": [exports.paper_json(p) for p in found]}


@router.get("/papers/{name}")
def read_paper(request: Request, name: Name) -> dict[str, Any]:
    """One paper, by its id or any identifier without a slash."""
    with _site(request).store.read() as db:
        return exports.paper_json(_site(request).paper(db, name))


@router.get("/papers/{name}/graph")
def read_graph(
    request: Request,
    name: Name,
    limit: Annotated[int, Query(ge=1, le=graph.MOST)] = graph.MOST,
    near: bool = False,
) -> dict[str, Any]:
    """The papers that cite it and that it references, with places on the map."""
    site = _site(request)
    with site.store.read() as db:
        found = graph.neighbourhood(db, site.paper(db, name).id, limit, near)
        marks = site.marks(db)
        known = db.execute("SELECT count(*) FROM layout WHERE focus = ?", (found.focus,))
        stored = known.fetchone()[0]
    if stored < len(found.nodes):
        # the first to look decides where things stand, for every later visit
        with site.store.write() as db:
            graph.keep_positions(db, found)
    nodes = [
        {
            "id": n.paper.id,
            "title": n.paper.title,
            "label": n.paper.label,
            "year": n.paper.year,
            "kind": n.kind,
            "x": n.x,
            "y": n.y,
            "weight": n.weight,
            "study": n.paper.id in marks,
        }
        for n in found.nodes
    ]
    links = [{"source": a, "target": b} for a, b in found.links]
    return {"focus": found.focus, "nodes": nodes, "links": links, "hidden": found.hidden}


@router.put("/papers/{name}/layout", status_code=204)
def move_nodes(request: Request, name: Name, moved: Positions) -> Response:
    """Remember where nodes were dragged to."""
    site = _site(request)
    with site.store.write() as db:
        found = graph.neighbourhood(db, site.paper(db, name).id, near=True)
        here = {n.paper.id for n in found.nodes if n.kind != "current"}
        kept = {k: v for k, v in moved.positions.items() if k in here}
        graph.keep_positions(db, found, kept)
    return Response(status_code=204)


@router.delete("/papers/{name}/layout", status_code=204)
def reset_layout(request: Request, name: Name) -> Response:
    """Put all nodes back to where the server places them."""
    site = _site(request)
    with site.store.write() as db:
        db.execute("DELETE FROM layout WHERE focus = ?", (site.paper(db, name).id,))
    return Response(status_code=204)


@router.get("/papers/{name}/export", responses=_files("application/x-bibtex", "text/csv"))
def export_connected(
    request: Request, name: Name, format: Literal["bibtex", "csv", "json"] = "bibtex"
) -> Response:
    """The paper and those connected to it, as a file."""
    site = _site(request)
    with site.store.read() as db:
        found = graph.neighbourhood(db, site.paper(db, name).id)
    rows = [(n.paper, n.kind) for n in found.nodes]
    match format:
        case "bibtex":
            text, media, ending = exports.bibtex(p for p, _ in rows), "application/x-bibtex", "bib"
        case "csv":
            text, media, ending = exports.csv_text(rows), "text/csv", "csv"
        case _:
            items = [{**exports.paper_json(p), "relation": kind} for p, kind in rows]
            text, media, ending = json.dumps(items, indent=1), "application/json", "json"
    disposition = f'attachment; filename="{found.focus}-connected.{ending}"'
    return Response(text, media_type=media, headers={"content-disposition": disposition})


@router.get("/papers/{name}/comments")
def read_comments(request: Request, name: Name) -> list[dict[str, Any]]:
    """The comments on a paper, as trees."""
    site = _site(request)
    with site.store.read() as db:
        return [comment_json(c) for c in comments.thread(db, site.paper(db, name).id)]


@router.post("/papers/{name}/comments", status_code=201)
def add_comment(request: Request, name: Name, new: NewComment) -> dict[str, Any]:
    """Add a comment or a reply."""
    site = _site(request)
    with site.store.write() as db:
        paper = site.paper(db, name).id
        return comment_json(comments.add(db, paper, new.body, new.author, new.parent))


@router.put("/comments/{number}", responses=_may(409))
def edit_comment(request: Request, number: Number, change: Edit) -> dict[str, Any]:
    """Change a comment; 409 with its present state if another window was faster."""
    with _site(request).store.write() as db:
        return comment_json(comments.edit(db, number, change.body, change.version))


@router.delete("/comments/{number}", responses=_may(409))
def delete_comment(request: Request, number: Number, version: Version) -> dict[str, Any]:
    """Take a comment off the page."""
    with _site(request).store.write() as db:
        return comment_json(comments.delete(db, number, version))


@router.post("/preview")
def preview(text: Text) -> dict[str, str]:
    """Render Markdown and maths."""
    return {"html": markdown(text.body)}


@router.put("/reading/{name}", status_code=204)
def add_to_reading(request: Request, name: Name) -> Response:
    """Put a paper on the reading list."""
    import time

    site = _site(request)
    with site.store.write() as db:
        paper = site.paper(db, name).id
        db.execute("INSERT OR IGNORE INTO reading VALUES (?, ?)", (paper, time.time()))
    return Response(status_code=204)


@router.delete("/reading/{name}", status_code=204)
def drop_from_reading(request: Request, name: Name) -> Response:
    """Take a paper off the reading list."""
    site = _site(request)
    with site.store.write() as db:
        db.execute("DELETE FROM reading WHERE paper = ?", (site.paper(db, name).id,))
    return Response(status_code=204)


@router.get("/studies")
def list_studies(request: Request) -> list[dict[str, Any]]:
    """The studies of this installation."""
    return [dataclasses.asdict(study) for study in _site(request).studies.all()]


@router.post("/studies/{name}/runs", status_code=202)
def run_study(request: Request, name: Name) -> dict[str, Any]:
    """Run a study quickly, in a process of its own."""
    return _site(request).run_study(name).json()


@router.get("/jobs/{number}")
def read_job(request: Request, number: Name) -> dict[str, Any]:
    """How far a run is."""
    job = _site(request).jobs.get(number)
    if job is None:
        raise Missing(f"There is no run {number[:80]!r}.")
    return job.json()


@router.delete("/jobs/{number}")
def cancel_job(request: Request, number: Name) -> dict[str, Any]:
    """Cancel a run."""
    job = _site(request).jobs.cancel(number)
    if job is None:
        raise Missing(f"There is no run {number[:80]!r}.")
    return job.json()


@router.get("/jobs/{number}/figures/{index}", responses=_files("image/svg+xml", "image/png"))
def figure(request: Request, number: Name, index: Annotated[int, Path(ge=0, le=1000)]) -> Response:
    """A figure of a finished run, by its number."""
    site = _site(request)
    return _picture(site.figure(site.jobs.out(number), index))


@router.get("/studies/{name}/figures/{index}", responses=_files("image/svg+xml", "image/png"))
def kept_figure(
    request: Request, name: Name, index: Annotated[int, Path(ge=0, le=1000)]
) -> Response:
    """A figure of the full run that came with the package, by its number."""
    site = _site(request)
    return _picture(site.figure(site.studies.kept(site.study(name).name), index))


def _picture(found: Figure) -> Response:
    headers = {"content-security-policy": SEALED, "cache-control": "private, max-age=3600"}
    return FileResponse(found.file, media_type=found.media, headers=headers)


@router.post("/imports", status_code=202)
def start_import(request: Request, wanted: Wanted) -> dict[str, Any]:
    """Import a paper with its citations and references, in a process of its own."""
    return _site(request).run_import(wanted.identifier).json()


@router.get("/export")
def export_all(request: Request) -> dict[str, Any]:
    """Everything in this atlas: papers, citations, comments, reading list."""
    with _site(request).store.read() as db:
        return exports.dump(db)


@router.post("/import")
async def import_all(request: Request) -> dict[str, int]:
    """Add an export of an atlas to this one."""
    from starlette.concurrency import run_in_threadpool

    body = await request.body()

    def restore() -> dict[str, int]:
        try:
            document = json.loads(body)
        except (ValueError, RecursionError) as error:
            raise DataError(f"This is no JSON: {str(error)[:200]}.", "Export it again.") from None
        with _site(request).store.write() as db:
            return exports.restore(db, document)

    return await run_in_threadpool(restore)
