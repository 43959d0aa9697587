"""The pages: whole ones, and the parts of one that change while it is open."""

from __future__ import annotations

import time
from functools import lru_cache
from importlib import resources
from typing import Annotated, Any
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from kadanoff.atlas import comments, graph, papers, seed
from kadanoff.atlas.rendering import markdown
from kadanoff.atlas.security import SEALED
from kadanoff.atlas.site import Site

__all__ = ["render", "router"]

router = APIRouter(include_in_schema=False)


@lru_cache(1)
def _environment() -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = resources.files("kadanoff.atlas").joinpath("templates")
    environment = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["markdown"] = markdown
    environment.filters["iso"] = lambda t: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(t))
    environment.filters["when"] = lambda t: time.strftime("%d %b %Y, %H:%M", time.localtime(t))
    environment.filters["path"] = lambda s: quote(s, safe="")
    return environment


def render(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return the page ``template`` filled in."""
    defaults = {"query": "", "home": seed.HOME, "section": ""}
    html = _environment().get_template(template).render({**defaults, **values})
    return HTMLResponse(html, status)


def _site(request: Request) -> Site:
    return request.app.state.site


@router.get("/")
def home() -> RedirectResponse:
    """Go to the essay."""
    return RedirectResponse(f"/papers/{seed.HOME}", 303)


@router.get("/papers/{name}")
def paper(request: Request, name: str) -> Response:
    """A paper, what it is connected to, its studies and comments."""
    site = _site(request)
    with site.store.read() as db:
        found = site.paper(db, name)
        if found.id != name:
            return RedirectResponse(f"/papers/{quote(found.id, safe='')}", 303)
        # the table needs no places; those come with the graph
        around = papers.neighbours(db, found.id)
        ids = sorted(around["cites"] | around["referenced"])
        kinds = dict.fromkeys(around["referenced"], "referenced")
        kinds.update(dict.fromkeys(around["cites"], "cites"))
        known = papers.many(db, ids)
        near_scores = graph.recommend(db, found.id)
        near = papers.many(db, [n for n, _ in near_scores])
        values = {
            "paper": found,
            "near": [near[n] for n, _ in near_scores],
            "rows": sorted(
                ((known[n], kinds[n]) for n in ids),
                key=lambda r: (r[1] != "cites", -(r[0].year or 0), r[0].title.casefold()),
            ),
            "counts": {k: len(v) for k, v in around.items()},
            "marks": site.marks(db),
            "thread": comments.thread(db, found.id),
            "studies": site.studies_of(db, found.id),
            "listed": _listed(db, found.id),
        }
    values["outcomes"] = [site.outcome(s) for s in values.pop("studies")]
    return render("paper.html", **values)


def _listed(db: Any, name: str) -> bool:
    return db.execute("SELECT 1 FROM reading WHERE paper = ?", (name,)).fetchone() is not None


@router.get("/papers/{name}/card")
def card(request: Request, name: str) -> Response:
    """A paper's details, for the panel beside the graph."""
    site = _site(request)
    with site.store.read() as db:
        found = site.paper(db, name)
        counts = {k: len(v) for k, v in papers.neighbours(db, found.id).items()}
        values = {"marks": site.marks(db), "listed": _listed(db, found.id), "counts": counts}
    return render("_card.html", paper=found, **values)


@router.get("/papers/{name}/thread")
def thread(request: Request, name: str) -> Response:
    """The comments on a paper."""
    site = _site(request)
    with site.store.read() as db:
        found = site.paper(db, name)
        return render("_comments.html", paper=found, thread=comments.thread(db, found.id))


@router.post("/papers/{name}/thread")
async def post_comment(request: Request, name: str) -> Response:
    """Add a comment from a form, for browsers without scripts."""
    fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)

    def keep() -> str:
        site = _site(request)
        with site.store.write() as db:
            found = site.paper(db, name)
            body, author = (fields.get(k, [""])[0] for k in ("body", "author"))
            comments.add(db, found.id, body, author)
            return found.id

    found = await run_in_threadpool(keep)
    return RedirectResponse(f"/papers/{quote(found, safe='')}#comments", 303)


@router.get("/studies/{name}/panel")
def study_panel(request: Request, name: str) -> Response:
    """A study's state: its run, its claims, its figures."""
    site = _site(request)
    return render("_study.html", outcome=site.outcome(site.study(name)))


@router.get("/studies/{name}/report")
def study_report(request: Request, name: str) -> Response:
    """The page of the full run that came with the package."""
    site = _site(request)
    return _sealed(site.report(site.studies.kept(site.study(name).name)))


@router.get("/runs/{number}/report")
def run_report(request: Request, number: str) -> Response:
    """The page of a run on this machine."""
    site = _site(request)
    return _sealed(site.report(site.jobs.out(number)))


def _sealed(html: str) -> Response:
    return HTMLResponse(html, headers={"content-security-policy": SEALED})


@router.get("/search")
def search(request: Request, q: Annotated[str, Query(max_length=300)] = "") -> Response:
    """Papers that contain the words."""
    site = _site(request)
    with site.store.read() as db:
        found, total = papers.search(db, q, limit=100)
        values = {"papers": found, "total": total, "marks": site.marks(db)}
    return render(
        "list.html", title="Search" if q else "All papers", query=q, section="search", **values
    )


@router.get("/reading")
def reading(request: Request) -> Response:
    """The reading list."""
    site = _site(request)
    with site.store.read() as db:
        ids = [r[0] for r in db.execute("SELECT paper FROM reading ORDER BY added_at DESC")]
        known = papers.many(db, ids)
        values = {"papers": [known[n] for n in ids], "total": len(ids), "marks": site.marks(db)}
    return render("list.html", title="Reading list", section="reading", **values)
