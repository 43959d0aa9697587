"""What goes in and out of the API, and what all of it needs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from kadanoff.atlas import comments
from kadanoff.atlas.notebook import NOTE_LIMIT
from kadanoff.atlas.rendering import markdown
from kadanoff.atlas.site import Site

__all__ = [
    "Address",
    "Choice",
    "Edit",
    "Labels",
    "Library",
    "Name",
    "NewComment",
    "NewNote",
    "Number",
    "Positions",
    "Problem",
    "Status",
    "Text",
    "Version",
    "Wanted",
    "comment_json",
    "files",
    "may",
    "site_of",
]

Name = Annotated[str, Path(min_length=1, max_length=300)]
Number = Annotated[int, Path(ge=1, le=2**63 - 1)]
Version = Annotated[int, Query(ge=1, le=2**63 - 1)]


class Problem(BaseModel):
    """What was wrong, and what to do."""

    error: str
    remedy: str = ""


def may(*codes: int) -> dict[int | str, dict[str, Any]]:
    """Describe the refusals of an address."""
    return {code: {"model": Problem} for code in (400, 403, 413, 415, 421, *codes)}


def files(*media: str) -> dict[int | str, dict[str, Any]]:
    """Describe an answer that is a file."""
    return {200: {"content": {name: {} for name in media}}}


def site_of(request: Request) -> Site:
    """Return the atlas behind a request."""
    return request.app.state.site


def comment_json(comment: comments.Comment) -> dict[str, Any]:
    """Return a comment with its text as written and as HTML."""
    return {
        **{k: v for k, v in vars(comment).items() if k != "replies"},
        "html": markdown(comment.body),
        "replies": [comment_json(reply) for reply in comment.replies],
    }


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewComment(_Strict):
    """A comment to add; ``parent`` makes it a reply, ``page`` is one of the paper's PDF."""

    body: str = Field(max_length=comments.LIMIT)
    author: str = Field("", max_length=80)
    parent: int | None = Field(None, ge=1, le=2**63 - 1)
    page: int | None = Field(None, ge=1, le=100_000)


class Edit(_Strict):
    """New text for the comment that was read at ``version``."""

    body: str = Field(max_length=comments.LIMIT)
    version: int = Field(ge=1, le=2**63 - 1)


class NewNote(_Strict):
    """New text for the note that was read at ``version``; 0 is that there was none."""

    body: str = Field(max_length=NOTE_LIMIT)
    version: int = Field(ge=0, le=2**63 - 1)


class Labels(_Strict):
    """All tags, or all collections, of a paper."""

    names: list[Annotated[str, Field(max_length=60)]] = Field(max_length=100)


class Status(_Strict):
    """A reading status: to-read, reading or read."""

    status: str = Field("to-read", max_length=20)


class Address(_Strict):
    """Where a PDF lies."""

    address: str = Field(min_length=1, max_length=2000)


Coordinate = Annotated[float, Field(ge=-1e5, le=1e5, allow_inf_nan=False)]


class Positions(_Strict):
    """Where nodes were dragged to."""

    positions: dict[str, tuple[Coordinate, Coordinate]] = Field(max_length=2000)


class Text(_Strict):
    """Markdown to look at before it is kept."""

    body: str = Field(max_length=NOTE_LIMIT)


class Wanted(_Strict):
    """What to import: arXiv id, DOI, Semantic Scholar or OpenAlex id."""

    identifier: str = Field(min_length=1, max_length=300)


class Library(_Strict):
    """A library to import: BibTeX, RIS, CSL-JSON, Zotero's JSON, or a list of ids."""

    text: str = Field(min_length=1)
    name: str = Field("Pasted", max_length=200)


class Choice(_Strict):
    """What to do with an entry: new, merge (with ``target``), skip or fetch."""

    action: str = Field(max_length=10)
    target: str | None = Field(None, max_length=300)
