"""Comments: read, add, edit, delete, look at before sending."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request

from kadanoff.atlas import comments
from kadanoff.atlas.api.shapes import (
    Edit,
    Name,
    NewComment,
    Number,
    Text,
    Version,
    comment_json,
    may,
    site_of,
)
from kadanoff.atlas.rendering import markdown

router = APIRouter()


@router.get("/papers/{name}/comments")
def read_comments(request: Request, name: Name) -> list[dict[str, Any]]:
    """The comments on a paper, as trees."""
    site = site_of(request)
    with site.store.read() as db:
        return [comment_json(c) for c in comments.thread(db, site.paper(db, name).id)]


@router.post("/papers/{name}/comments", status_code=201)
def add_comment(request: Request, name: Name, new: NewComment) -> dict[str, Any]:
    """Add a comment or a reply."""
    site = site_of(request)
    with site.store.write() as db:
        paper = site.paper(db, name).id
        return comment_json(comments.add(db, paper, new.body, new.author, new.parent, new.page))


@router.put("/comments/{number}", responses=may(409))
def edit_comment(request: Request, number: Number, change: Edit) -> dict[str, Any]:
    """Change a comment; 409 with its present state if another window was faster."""
    with site_of(request).store.write() as db:
        return comment_json(comments.edit(db, number, change.body, change.version))


@router.delete("/comments/{number}", responses=may(409))
def delete_comment(request: Request, number: Number, version: Version) -> dict[str, Any]:
    """Take a comment off the page."""
    with site_of(request).store.write() as db:
        return comment_json(comments.delete(db, number, version))


@router.post("/preview")
def preview(text: Text) -> dict[str, str]:
    """Render Markdown and maths."""
    return {"html": markdown(text.body)}
