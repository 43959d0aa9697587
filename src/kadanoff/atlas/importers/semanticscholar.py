"""Semantic Scholar Graph API v1: pure parsers, and pages of citations and references."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from kadanoff.atlas.identity import Identifier, Record
from kadanoff.atlas.importers.client import Client

__all__ = ["BASE", "edges", "parse_edge", "parse_paper", "work"]

BASE = "https://api.semanticscholar.org/graph/v1"
_FIELDS = "paperId,title,year,authors,externalIds,abstract,venue,url,citationCount"
_PAGE = 500


def _paper_id(identifier: Identifier) -> str:
    prefix = {"arxiv": "ARXIV:", "doi": "DOI:", "corpus": "CorpusId:"}.get(identifier.scheme, "")
    # a DOI may hold anything that an address is made of: "/", "?", "#", ".."
    return f"{prefix}{quote(identifier.value, safe='')}"


def parse_paper(item: Any) -> Record | None:
    """Read a paper; None if it has no title, which happens. Any field may be null."""
    if not isinstance(item, dict) or not isinstance(item.get("title"), str):
        return None
    authors = item.get("authors")
    record = Record(
        title=item["title"],
        authors=[
            a["name"]
            for a in (authors if isinstance(authors, list) else [])
            if isinstance(a, dict) and isinstance(a.get("name"), str)
        ],
        year=item["year"] if isinstance(item.get("year"), int) else None,
        venue=item.get("venue"),
        abstract=item.get("abstract"),
        url=item.get("url"),
        citations=item["citationCount"] if isinstance(item.get("citationCount"), int) else None,
        source="semanticscholar",
    )
    record.add("s2", item.get("paperId"))
    external = item.get("externalIds")
    if isinstance(external, dict):
        record.add("doi", external.get("DOI"))
        record.add("arxiv", external.get("ArXiv"))
        record.add("corpus", external.get("CorpusId"))
    return record if record.title else None


def parse_edge(item: Any, side: str) -> tuple[Record, bool] | None:
    """Read one entry of a list of citations or references: the paper, and if it is influential."""
    if not isinstance(item, dict):
        return None
    record = parse_paper(item.get("citingPaper" if side == "citations" else "citedPaper"))
    return (record, bool(item.get("isInfluential"))) if record else None


def work(client: Client, identifier: Identifier) -> Record | None:
    """Fetch one paper."""
    return parse_paper(client.get(f"paper/{_paper_id(identifier)}", fields=_FIELDS))


def edges(
    client: Client, paper: str, side: str, limit: int
) -> Iterator[tuple[list[tuple[Record, bool]], int | None]]:
    """Fetch pages of ``side`` (citations or references); the total is not told by this source.

    Parameters
    ----------
    client : Client
    paper : str
        As the source names it.
    side : {"citations", "references"}
    limit : int
        Works at most.
    """
    offset, seen = 0, 0
    fields = f"{_FIELDS},isInfluential"
    while seen < limit:
        size = min(_PAGE, limit - seen)
        page = client.get(
            f"paper/{quote(paper, safe='')}/{side}", fields=fields, offset=offset, limit=size
        )
        data = page.get("data") if isinstance(page, dict) else None
        items = data if isinstance(data, list) else []
        found = [edge for item in items if (edge := parse_edge(item, side))]
        seen += len(items)
        yield found, None
        following = page.get("next") if isinstance(page, dict) else None
        # `next` is absent on the last page; one that does not advance would never end
        if not isinstance(following, int) or following <= offset or not items:
            return
        offset = following
