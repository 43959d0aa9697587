"""CSL-JSON, and the JSON of Zotero (its own and that of Better BibTeX)."""

from __future__ import annotations

import json
import re
from typing import Any

from kadanoff.atlas.identity import Entry, Record, arxiv_id
from kadanoff.atlas.importers.parsed import Parsed
from kadanoff.errors import DataError

__all__ = ["parse_csl"]

# Zotero's own fields in the words of CSL
_ZOTERO = {
    "title": "title",
    "abstractNote": "abstract",
    "publicationTitle": "container-title",
    "proceedingsTitle": "container-title",
    "bookTitle": "container-title",
    "volume": "volume",
    "issue": "issue",
    "pages": "page",
    "publisher": "publisher",
    "place": "publisher-place",
    "edition": "edition",
    "series": "collection-title",
    "DOI": "DOI",
    "ISBN": "ISBN",
    "ISSN": "ISSN",
    "url": "URL",
    "language": "language",
    "extra": "note",
    "archiveID": "number",
    "citationKey": "id",
}
_TYPES = {
    "journalArticle": "article-journal",
    "conferencePaper": "paper-conference",
    "preprint": "article",
    "bookSection": "chapter",
    "book": "book",
    "thesis": "thesis",
    "report": "report",
    "webpage": "webpage",
}
# Zotero's items that are no works
_PARTS = ("attachment", "note", "annotation")


def parse_csl(text: str) -> Parsed:
    """Read a list of items, one item, or an export of Zotero.

    Raises
    ------
    DataError
        It is no JSON, or an export of an atlas.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"This is no JSON: {str(error)[:200]}.", "Export it again.") from None
    if isinstance(document, dict) and str(document.get("format", "")).startswith("kadanoff-atlas"):
        raise DataError("This is an export of an atlas.", "Use `kadanoff atlas import`.")
    if isinstance(document, dict) and isinstance(document.get("items"), list):
        document = document["items"]
    parsed = Parsed("csl")
    items = document if isinstance(document, list) else [document]
    for number, item in enumerate(items, start=1):
        _item(item, number, parsed)
    return parsed


def _item(item: Any, number: int, parsed: Parsed) -> None:
    excerpt = json.dumps(item, ensure_ascii=False)[:120]
    if isinstance(item, dict) and isinstance(item.get("data"), dict):
        item = item["data"]
    if not isinstance(item, dict):
        parsed.fail(number, excerpt, "it is no item of a library")
        return
    if "itemType" in item:
        if item["itemType"] in _PARTS:
            return
        item = _from_zotero(item)
    if not isinstance(item.get("title"), str) or not item["title"].strip():
        parsed.fail(number, excerpt, "it has no title")
        return
    record = _record(item)
    if not record.title:
        parsed.fail(number, excerpt, "its title holds no text")
        return
    key = item.get("citation-key") or item.get("id")
    record.key = key if isinstance(key, str) else None
    record.entry = Entry("csl", record.key or "", str(item.get("type") or ""), item)
    parsed.records.append(record)


def _from_zotero(item: dict[str, Any]) -> dict[str, Any]:
    """Say a Zotero item in CSL; fields that CSL has no word for stay under their own names."""
    found: dict[str, Any] = {"type": _TYPES.get(str(item["itemType"]), "document")}
    for name, value in item.items():
        if name in _ZOTERO and value:
            found.setdefault(_ZOTERO[name], value)
        elif name not in ("itemType", "creators", "tags", "date", "notes", "attachments") and value:
            found[name] = value
    people: dict[str, list[dict[str, Any]]] = {"author": [], "editor": []}
    for person in _dicts(item.get("creators")):
        named = {"family": person.get("lastName"), "given": person.get("firstName")}
        whole = {k: v for k, v in named.items() if v} or {"literal": person.get("name")}
        people.setdefault(str(person.get("creatorType") or "author"), []).append(whole)
    found.update({role: who for role, who in people.items() if who})
    if isinstance(item.get("date"), str) and (year := re.search(r"\d{4}", item["date"])):
        found["issued"] = {"date-parts": [[int(year.group())]], "raw": item["date"]}
    if tags := [str(t["tag"]) for t in _dicts(item.get("tags")) if t.get("tag")]:
        found["keyword"] = "; ".join(tags)
    if notes := [str(n.get("note") or "") for n in _dicts(item.get("notes"))]:
        found["note"] = "\n\n".join([str(found["note"]), *notes] if found.get("note") else notes)
    if files := [str(a.get("path") or a.get("url")) for a in _dicts(item.get("attachments"))]:
        found["file"] = files
    return found


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def _record(item: dict[str, Any]) -> Record:
    def name(author: dict[str, Any]) -> str:
        parts = (author.get("given"), author.get("non-dropping-particle"), author.get("family"))
        return " ".join(str(p) for p in parts if p) or str(author.get("literal") or "")

    issued = item.get("issued")
    issued = issued if isinstance(issued, dict) else {}
    year = re.search(r"\d{4}", json.dumps([issued.get("date-parts"), issued.get("raw")]))
    venue = item.get("container-title")
    record = Record(
        title=re.sub(r"</?(i|b|sub|sup|span)\b[^>]*>", "", item["title"]),
        authors=[name(a) for a in _dicts(item.get("author"))],
        year=int(year.group()) if year else None,
        venue=venue if isinstance(venue, str) else item.get("publisher"),
        abstract=item.get("abstract"),
        url=item.get("URL"),
        source="csl",
    )
    record.add("doi", item.get("DOI"))
    for value in (item.get("number"), item.get("URL"), item.get("archive_location")):
        record.add("arxiv", arxiv_id(value) if isinstance(value, str) else None)
    return record
