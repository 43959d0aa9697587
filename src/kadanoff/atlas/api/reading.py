"""Papers, the graph around one, what lies between several."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request, Response

from kadanoff.atlas import bibliography, connect, exports, graph, papers
from kadanoff.atlas.api.shapes import Name, Positions, files, site_of
from kadanoff.atlas.notebook import statuses
from kadanoff.atlas.rendering import inline
from kadanoff.atlas.searching import Sort, search

router = APIRouter()


@router.get("/papers")
def list_papers(
    request: Request,
    q: Annotated[str, Query(max_length=300)] = "",
    sort: Sort = "relevance",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0, le=1_000_000)] = 0,
) -> dict[str, Any]:
    """Search all that is known of the papers; operators as on the page."""
    site = site_of(request)
    with site.store.read() as db:
        found, total, ignored = search(db, q, sort, limit, offset, site.marks(db))
    return {"total": total, "ignored": ignored, "papers": [exports.paper_json(p) for p in found]}


@router.get("/papers/{name}")
def read_paper(request: Request, name: Name) -> dict[str, Any]:
    """One paper, by its id or any identifier without a slash."""
    with site_of(request).store.read() as db:
        return exports.paper_json(site_of(request).paper(db, name))


@router.get("/papers/{name}/graph")
def read_graph(
    request: Request,
    name: Name,
    limit: Annotated[int, Query(ge=1, le=graph.MOST)] = graph.SHOWN,
    near: bool = False,
    layout: graph.Layout = "force",
) -> dict[str, Any]:
    """The papers that cite it and that it references, with places on the map."""
    site = site_of(request)
    with site.store.read() as db:
        found = graph.neighbourhood(db, site.paper(db, name).id, limit, near, layout)
        marks = site.marks(db)
        listed = statuses(db)
        known = db.execute("SELECT count(*) FROM layout WHERE focus = ?", (found.focus,))
        stored = known.fetchone()[0]
    if layout == "force" and stored < len(found.nodes):
        # the first to look decides where things stand, for every later visit; on a full disk
        # the places are computed anew each time
        site.store.try_write(lambda db: graph.keep_positions(db, found))
    nodes = [
        {
            "id": n.paper.id,
            "title": n.paper.title,
            "html": inline(n.paper.title),
            "label": n.paper.label,
            "year": n.paper.year,
            "kind": n.kind,
            "x": n.x,
            "y": n.y,
            "cited": n.cited,
            "near": n.near,
            "study": n.paper.id in marks,
            "listed": n.paper.id in listed,
        }
        for n in found.nodes
    ]
    return {
        "focus": found.focus,
        "layout": found.layout,
        "nodes": nodes,
        "links": [{"source": a, "target": b} for a, b in found.links],
        "total": found.total,
        "hidden": found.hidden,
        "axes": found.axes,
    }


@router.put("/papers/{name}/layout", status_code=204)
def move_nodes(request: Request, name: Name, moved: Positions) -> Response:
    """Remember where nodes were dragged to."""
    site = site_of(request)
    with site.store.write() as db:
        found = graph.neighbourhood(db, site.paper(db, name).id, graph.MOST, near=True)
        here = {n.paper.id for n in found.nodes if n.kind != "current"}
        kept = {k: v for k, v in moved.positions.items() if k in here}
        graph.keep_positions(db, found, kept)
    return Response(status_code=204)


@router.delete("/papers/{name}/layout", status_code=204)
def reset_layout(request: Request, name: Name) -> Response:
    """Put all nodes back to where the server places them."""
    site = site_of(request)
    with site.store.write() as db:
        db.execute("DELETE FROM layout WHERE focus = ?", (site.paper(db, name).id,))
    return Response(status_code=204)


Format = Literal["bibtex", "ris", "csl", "csv", "json"]
_MEDIA = tuple(media for media, _ in exports.FORMATS.values())


@router.get("/papers/{name}/export", responses=files(*_MEDIA))
def export_connected(request: Request, name: Name, format: Format = "bibtex") -> Response:
    """The paper and those connected to it, as a file."""
    site = site_of(request)
    with site.store.read() as db:
        focus = site.paper(db, name).id
        kinds = {focus: "current", **graph.kinds_around(db, focus)}
        known = papers.many(db, list(kinds))
        rows = [(known[n], kind) for n, kind in kinds.items()]
        text = exports.write(format, rows, bibliography.entries(db, list(kinds)))
    return as_file(text, format, f"{focus}-connected")


@router.get("/export/papers", responses=files(*_MEDIA))
def export_found(
    request: Request, q: Annotated[str, Query(max_length=300)] = "", format: Format = "bibtex"
) -> Response:
    """The papers that a search finds, as a file; all papers without one."""
    site = site_of(request)
    with site.store.read() as db:
        found, _, _ = search(db, q, "added", 10**6, 0, site.marks(db))
        known = bibliography.entries(db, [p.id for p in found])
        text = exports.write(format, [(p, "") for p in found], known)
    return as_file(text, format, "atlas")


def as_file(text: str, format: str, name: str) -> Response:
    """Return an answer that the browser saves."""
    media, ending = exports.FORMATS[format]
    disposition = f'attachment; filename="{name}.{ending}"'
    return Response(text, media_type=media, headers={"content-disposition": disposition})


@router.get("/connect")
def read_connection(
    request: Request,
    paper: Annotated[list[str], Query(min_length=2, max_length=6)],
) -> dict[str, Any]:
    """The shortest chains of citations between two papers, and what several have in common."""
    site = site_of(request)
    with site.store.read() as db:
        asked = list(dict.fromkeys(site.paper(db, name).id for name in paper))
        ways = connect.chains(db, asked[0], asked[1]) if len(asked) == 2 else []
        shared = connect.common(db, asked)
        ids = {*asked, *(c.id for c in shared)}
        ids |= {name for way in ways for step in way for name in (step.left, step.right)}
        known = papers.many(db, sorted(ids))
    return {
        "papers": {name: exports.paper_json(p) for name, p in known.items()},
        "chains": [[vars(step) for step in way] for way in ways],
        "common": [vars(item) for item in shared],
    }
