"""The pages: whole ones, and the parts of one that change while it is open."""

from __future__ import annotations

import sqlite3
import time
from functools import lru_cache
from importlib import resources
from typing import Annotated, Any
from urllib.parse import parse_qs, quote, urlencode

from fastapi import APIRouter, Query, Request
from fastapi.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.concurrency import run_in_threadpool

from kadanoff.atlas import (
    bibliography,
    comments,
    connect,
    drafts,
    graph,
    notebook,
    papers,
    seed,
    similarity,
)
from kadanoff.atlas.rendering import inline, markdown
from kadanoff.atlas.searching import OPERATORS, STATUSES, Sort, search
from kadanoff.atlas.security import DOCUMENT, SEALED
from kadanoff.atlas.site import Missing, Site

__all__ = ["render", "router"]

router = APIRouter(include_in_schema=False)
_PAGE = 100


@lru_cache(1)
def _environment() -> Any:
    from jinja2 import Environment, FunctionLoader, StrictUndefined
    from markupsafe import Markup

    folder = resources.files("kadanoff.atlas").joinpath("templates")
    environment = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["markdown"] = markdown
    environment.filters["inline"] = lambda text: Markup(inline(text))
    environment.filters["cited"] = cited_words
    environment.filters["iso"] = lambda t: time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(t))
    environment.filters["when"] = lambda t: time.strftime("%d %b %Y, %H:%M", time.localtime(t))
    environment.filters["path"] = lambda s: quote(s, safe="")
    return environment


def cited_words(count: int) -> str:
    """Say how many works of this atlas cite a paper; none known is not none."""
    if count == 0:
        return "no citing work known here"
    return f"cited by {count:,} work{'' if count == 1 else 's'} here"


def render(template: str, status: int = 200, **values: Any) -> HTMLResponse:
    """Return the page ``template`` filled in."""
    defaults = {"query": "", "home": seed.HOME, "section": ""}
    html = _environment().get_template(template).render({**defaults, **values})
    return HTMLResponse(html, status)


def _site(request: Request) -> Site:
    return request.app.state.site


@router.get("/")
def home(request: Request) -> RedirectResponse:
    """Go to the essay."""
    return _there(request, seed.HOME)


def _there(request: Request, name: str) -> RedirectResponse:
    """Send to a paper's own address; what the address said besides goes along."""
    rest = f"?{request.url.query}" if request.url.query else ""
    return RedirectResponse(f"/papers/{quote(name, safe='')}{rest}", 303)


@router.get("/papers/{name}")
def paper(request: Request, name: str) -> Response:
    """A paper, what it is connected to, its studies, the reader's notes, and comments."""
    site = _site(request)
    with site.store.read() as db:
        found = site.paper(db, name)
        if found.id != name:
            return _there(request, found.id)
        values = {
            "paper": found,
            **_connected(db, found.id),
            "marks": site.marks(db),
            "statuses": notebook.statuses(db),
            "thread": comments.thread(db, found.id),
            "studies": site.studies_of(db, found.id),
            "note": notebook.note_of(db, found.id),
            "tags": notebook.labels_of(db, found.id, "tag"),
            "collections": notebook.labels_of(db, found.id, "collection"),
            "all_tags": [n for n, _ in notebook.labels(db, "tag")],
            "all_collections": [n for n, _ in notebook.labels(db, "collection")],
            "documents": notebook.documents(db, found.id),
            "more": bibliography.details(bibliography.entries(db, [found.id]).get(found.id, [])),
            "here": papers.cited_here(db, [found.id])[found.id],
        }
    values["outcomes"] = [site.outcome(s) for s in values.pop("studies")]
    return render("paper.html", **values)


def _connected(db: sqlite3.Connection, name: str) -> dict[str, Any]:
    """What the table and the two ranked lists show; places on the map come with the graph."""
    kinds = graph.kinds_around(db, name)
    ranked = graph.most_relevant(db, kinds)[: graph.MOST]
    near = similarity.recommend(db, name)
    prior, derivative = graph.prior_works(db, name), graph.derivative_works(db, name)
    ids = {*ranked, *(n for n, _ in near), *(r.id for r in (*prior, *derivative))}
    known = papers.many(db, sorted(ids))
    return {
        "rows": [(known[n], kinds[n]) for n in ranked] + [(known[n], "near") for n, _ in near],
        "cited": papers.cited_here(db, ids),
        "nearness": similarity.nearness(db, name, sorted(ids)),
        "sources": _sources(db, name),
        "counts": {k: sum(v == k for v in kinds.values()) for k in ("cites", "referenced")},
        "near_count": len(near),
        "prior": [(known[r.id], r.count) for r in prior],
        "derivative": [(known[r.id], r.count) for r in derivative],
    }


def _sources(db: sqlite3.Connection, name: str) -> dict[str, str]:
    """Return where each citation to or from a paper is known from, by the other paper's id."""
    query = "SELECT src, dst, source FROM cites WHERE (src = ?1 OR dst = ?1) AND source <> ''"
    rows = db.execute(query, (name,)).fetchall()
    return {row["src"] if row["dst"] == name else row["dst"]: row["source"] for row in rows}


@router.get("/papers/{name}/card")
def card(
    request: Request, name: str, focus: Annotated[str, Query(max_length=300)] = ""
) -> Response:
    """A paper's details, for the panel beside the graph."""
    site = _site(request)
    with site.store.read() as db:
        found = site.paper(db, name)
        counts = {k: len(v) for k, v in papers.neighbours(db, found.id).items()}
        main = papers.resolve(db, focus) if focus else None
        near = similarity.nearness(db, main, [found.id])[found.id] if main else 0.0
        values = {
            "marks": site.marks(db),
            "statuses": notebook.statuses(db),
            "counts": counts,
            "focus": main if main != found.id else None,
            "nearness": near,
            "source": _sources(db, main).get(found.id, "") if main else "",
        }
    return render("_card.html", paper=found, **values)


@router.get("/papers/{name}/thread")
def thread(request: Request, name: str) -> Response:
    """The comments on a paper."""
    site = _site(request)
    with site.store.read() as db:
        found = site.paper(db, name)
        return render(
            "_comments.html",
            paper=found,
            thread=comments.thread(db, found.id),
            documents=notebook.documents(db, found.id),
        )


@router.post("/papers/{name}/thread")
async def post_comment(request: Request, name: str) -> Response:
    """Add a comment from a form, for browsers without scripts."""
    fields = parse_qs((await request.body()).decode("utf-8", "replace"), max_num_fields=10)

    def keep() -> str:
        site = _site(request)
        with site.store.write() as db:
            found = site.paper(db, name)
            body, author, place = (fields.get(k, [""])[0] for k in ("body", "author", "page"))
            number = int(place) if place.isdecimal() and 0 < len(place) < 6 else None
            comments.add(db, found.id, body, author, page=number)
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


@router.get("/files/{digest}")
def own_file(request: Request, digest: str) -> Response:
    """A PDF of the reader's own, in the browser's viewer."""
    site = _site(request)
    with site.store.read() as db:
        found = notebook.file_of(db, site.store.folder, digest)
    if found is None:
        raise Missing("There is no such file.")
    path, name = found
    headers = {
        "content-security-policy": DOCUMENT,
        "content-disposition": f"inline; filename*=UTF-8''{quote(name, safe='')}",
        "cache-control": "private, max-age=3600",
    }
    return FileResponse(path, media_type="application/pdf", headers=headers)


@router.get("/search")
def find(
    request: Request,
    q: Annotated[str, Query(max_length=300)] = "",
    sort: Sort = "relevance",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> Response:
    """Papers that fit a search."""
    return _list(request, q, sort, page, "Search" if q else "All papers", "search")


@router.get("/reading")
def reading(
    request: Request,
    status: Annotated[str, Query(max_length=20)] = "",
    sort: Sort = "added",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> Response:
    """The reading list, with collections and tags."""
    wanted = f"status:{status}" if status in STATUSES else "in:list"
    return _list(request, wanted, sort, page, "My list", "reading", chosen=status)


def _list(
    request: Request, q: str, sort: Sort, page: int, title: str, section: str, **more: Any
) -> Response:
    site = _site(request)
    with site.store.read() as db:
        marks = site.marks(db)
        found, total, ignored = search(db, q, sort, _PAGE, (page - 1) * _PAGE, marks)
        values = {
            "papers": found,
            "total": total,
            "ignored": ignored,
            "marks": marks,
            "statuses": notebook.statuses(db),
            "cited": papers.cited_here(db, [p.id for p in found]),
            "tags": notebook.labels(db, "tag"),
            "collections": notebook.labels(db, "collection"),
            "pages": max(1, -(-total // _PAGE)),
        }
    return render(
        "list.html",
        title=title,
        query=q if section == "search" else "",
        asked=q,
        section=section,
        sort=sort,
        page=page,
        operators=OPERATORS,
        **{"chosen": "", **more},
        **values,
    )


@router.get("/connect")
def connection(
    request: Request,
    paper: Annotated[list[str] | None, Query(max_length=6)] = None,
    add: Annotated[str, Query(max_length=300)] = "",
) -> Response:
    """What lies between papers: chains of citations, and the works they have in common."""
    site = _site(request)
    with site.store.read() as db:
        asked = list(dict.fromkeys(site.paper(db, name).id for name in paper or []))
        missing = ""
        if add.strip():
            name = papers.resolve(db, add) or next((p.id for p in search(db, add)[0]), None)
            if name:
                query = urlencode([("paper", n) for n in dict.fromkeys([*asked, name])])
                return RedirectResponse(f"/connect?{query}", 303)
            missing = add
        ways = connect.chains(db, asked[0], asked[1]) if len(asked) == 2 else []
        shared = connect.common(db, asked) if len(asked) > 1 else []
        ids = {*asked, *(c.id for c in shared[:_PAGE])}
        ids |= {name for way in ways for step in way for name in (step.left, step.right)}
        values = {
            "known": papers.many(db, sorted(ids)),
            "marks": site.marks(db),
            "cited": papers.cited_here(db, ids),
        }
    shown = {"asked": asked, "ways": ways, "common": shared[:_PAGE], "total": len(shared)}
    return render("connect.html", section="connect", missing=missing, **shown, **values)


@router.get("/studies")
def all_studies(request: Request) -> Response:
    """The studies of this installation, and what they found."""
    site = _site(request)
    outcomes = [site.outcome(study) for study in site.studies.all()]
    with site.store.read() as db:
        known = {o["study"].name: papers.get(db, o["study"].paper_id) for o in outcomes}
    return render("studies.html", section="studies", outcomes=outcomes, known=known)


@router.get("/import")
def import_page(request: Request) -> Response:
    """Bring papers in: paste, drop, or fetch."""
    with _site(request).store.read() as db:
        return render("import.html", section="import", drafts=drafts.latest(db))


@router.get("/import/{number}")
def draft_page(
    request: Request,
    number: str,
    action: Annotated[str, Query(max_length=10)] = "",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> Response:
    """An import to look at before it is done, or to undo."""
    site = _site(request)
    with site.store.read() as db:
        draft = drafts.get(db, number)
        if draft is None:
            raise Missing("There is no such import.")
        wanted = action if action in ("doubtful", *drafts.ACTIONS) else ""
        listed = drafts.entries(db, number, wanted, _PAGE, (page - 1) * _PAGE)
    total = draft.counts[wanted] if wanted else sum(draft.counts[a] for a in drafts.ACTIONS)
    job = site.jobs.latest("draft", number)
    return render(
        "draft.html",
        section="import",
        draft=draft,
        entries=listed,
        action=wanted,
        page=page,
        pages=max(1, -(-total // _PAGE)),
        job=job,
    )
