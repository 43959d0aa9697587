"""OpenAlex: pure parsers, and pages of citing and referenced works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

from kadanoff.atlas.identity import Identifier, Record, arxiv_id
from kadanoff.atlas.importers.client import Client

__all__ = ["BASE", "abstract_text", "edges", "parse_work", "work"]

BASE = "https://api.openalex.org"
_SELECT = (
    "id,doi,ids,title,display_name,publication_year,authorships,primary_location,locations,"
    "abstract_inverted_index,cited_by_count"
)
_PAGE = 100


def abstract_text(index: Any) -> str | None:
    """Put an abstract together again from its inverted index; None if there is none."""
    if not isinstance(index, dict) or not index:
        return None
    placed: dict[int, str] = {}
    for word, places in index.items():
        for place in places if isinstance(places, list) else ():
            if isinstance(place, int) and 0 <= place < 20_000:
                placed[place] = str(word)
    return " ".join(placed[place] for place in sorted(placed)) or None


def parse_work(item: Any) -> Record | None:
    """Read a work; None if it has no title, which happens. Any field may be null."""
    if not isinstance(item, dict):
        return None
    title = item.get("title") or item.get("display_name")
    if not isinstance(title, str):
        return None
    places = [
        p
        for p in [item.get("primary_location"), *_list(item.get("locations"))]
        if isinstance(p, dict)
    ]
    source = places[0].get("source") if places else None
    venue = source.get("display_name") if isinstance(source, dict) else None
    names = [
        a["author"].get("display_name")
        for a in _list(item.get("authorships"))
        if isinstance(a, dict) and isinstance(a.get("author"), dict)
    ]
    record = Record(
        title=re.sub(r"</?(i|b|em|sub|sup|scp|mml:[a-z]+)>", "", title),
        authors=[n for n in names if isinstance(n, str)],
        year=item["publication_year"] if isinstance(item.get("publication_year"), int) else None,
        # arXiv is where a preprint lies, not where it was published
        venue=None if isinstance(venue, str) and venue.startswith("arXiv") else venue,
        abstract=abstract_text(item.get("abstract_inverted_index")),
        url=places[0].get("landing_page_url") if places else None,
        citations=item["cited_by_count"] if isinstance(item.get("cited_by_count"), int) else None,
        source="openalex",
    )
    record.add("openalex", item.get("id"))
    record.add("doi", item.get("doi"))
    for place in places:
        address = place.get("landing_page_url")
        if isinstance(address, str) and "arxiv.org/" in address:
            record.add("arxiv", arxiv_id(address))
    return record if record.title else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def work(client: Client, identifier: Identifier, key: dict[str, str]) -> Record | None:
    """Fetch one work.

    Parameters
    ----------
    client : Client
    identifier : Identifier
    key : dict of str to str
        What goes with every request: a key, an address.
    """
    match identifier.scheme:
        case "openalex":
            name = identifier.value
        case "doi":
            name = f"doi:{identifier.value}"
        case "arxiv":
            name = f"doi:10.48550/arxiv.{identifier.value}"
        case _:
            return None
    return parse_work(client.get(f"works/{quote(name, safe=':')}", select=_SELECT, **key))


def edges(
    client: Client, number: str, side: str, limit: int, key: dict[str, str]
) -> Iterator[tuple[list[tuple[Record, bool]], int | None]]:
    """Fetch pages of ``side`` (citations or references) of work ``number``, with the total.

    Parameters
    ----------
    client : Client
    number : str
        OpenAlex's own, W…
    side : {"citations", "references"}
    limit : int
        Works at most.
    key : dict of str to str
        What goes with every request: a key, an address.
    """
    relation = "cites" if side == "citations" else "cited_by"
    cursor, seen = "*", 0
    while seen < limit:
        page = client.get(
            "works",
            filter=f"{relation}:{number}",
            per_page=min(_PAGE, limit),
            cursor=cursor,
            select=_SELECT,
            **key,
        )
        meta = page.get("meta") if isinstance(page, dict) else None
        meta = meta if isinstance(meta, dict) else {}
        items = _list(page.get("results")) if isinstance(page, dict) else []
        seen += len(items)
        total = meta.get("count")
        found = [(record, False) for item in items if (record := parse_work(item))]
        yield found, total if isinstance(total, int) else None
        following = meta.get("next_cursor")
        if not items or not isinstance(following, str) or following == cursor:
            return
        cursor = following
