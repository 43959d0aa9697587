"""arXiv: its Atom feed, for titles and abstracts of preprints; it knows nothing of citations."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from kadanoff.atlas.identity import Identifier, Record, arxiv_id
from kadanoff.atlas.importers.client import Client, ImportFailed, NotFound

__all__ = ["BASE", "parse_feed", "work"]

BASE = "https://export.arxiv.org/api"
_NAMES = {"a": "http://www.w3.org/2005/Atom", "x": "http://arxiv.org/schemas/atom"}


def parse_feed(text: str) -> list[Record]:
    """Read a feed; an entry without a title is left out.

    Raises
    ------
    ValueError
        It is no feed, or one with entities of its own.
    """
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("a feed with a document type of its own")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"no XML ({error})") from None
    records = [_entry(entry) for entry in root.findall("a:entry", _NAMES)]
    return [record for record in records if record and record.title]


def _text(entry: ElementTree.Element, path: str) -> str:
    return " ".join((entry.findtext(path, "", _NAMES) or "").split())


def _entry(entry: ElementTree.Element) -> Record | None:
    number = arxiv_id(_text(entry, "a:id"))
    # the feed tells of an error in an entry without a number
    if number is None:
        return None
    year = re.match(r"\d{4}", _text(entry, "a:published"))
    names = [" ".join((n.text or "").split()) for n in entry.findall("a:author/a:name", _NAMES)]
    record = Record(
        title=_text(entry, "a:title"),
        authors=names,
        year=int(year.group()) if year else None,
        venue=_text(entry, "x:journal_ref") or None,
        abstract=_text(entry, "a:summary") or None,
        url=f"https://arxiv.org/abs/{number}",
        source="arxiv",
    )
    record.add("arxiv", number)
    record.add("doi", _text(entry, "x:doi"))
    return record


def work(client: Client, identifier: Identifier) -> Record | None:
    """Fetch one preprint; None for anything that is not on arXiv.

    Raises
    ------
    NotFound
        arXiv has no such number.
    ImportFailed
        It does not answer as it should.
    """
    if identifier.scheme != "arxiv":
        return None
    feed = client.text("query", id_list=identifier.value, max_results=1)
    try:
        records = parse_feed(feed)
    except ValueError as error:
        raise ImportFailed(f"arXiv sends {error}.", "Try again later.") from None
    if not records:
        raise NotFound(f"arXiv does not know {identifier}.", "Check the number.")
    return records[0]
