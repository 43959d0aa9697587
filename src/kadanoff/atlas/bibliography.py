"""What files say of a paper beyond its title and authors, in one vocabulary (that of BibTeX).

Volume, pages, publisher, keywords, notes, files: kept as each file had them (:class:`Entry`), and
translated here from one format to another for the page and for export.
"""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from kadanoff.atlas.identity import Entry
from kadanoff.atlas.importers.tex import detex

__all__ = ["KINDS", "RIS_NAMES", "details", "entries", "kind_of"]

# our name, BibTeX's, RIS's and CSL's
_NAMES: tuple[tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]], ...] = (
    ("volume", ("volume",), ("VL",), ("volume",)),
    ("number", ("number", "issue"), ("IS",), ("issue",)),
    ("pages", ("pages",), (), ("page",)),
    ("publisher", ("publisher", "school", "institution"), ("PB",), ("publisher",)),
    ("address", ("address", "location"), ("CY",), ("publisher-place",)),
    ("edition", ("edition",), ("ET",), ("edition",)),
    ("series", ("series",), ("T3",), ("collection-title",)),
    ("month", ("month",), (), ()),
    ("isbn", ("isbn",), (), ("ISBN",)),
    ("issn", ("issn",), ("SN",), ("ISSN",)),
    ("language", ("language", "langid"), ("LA",), ("language",)),
    ("editor", ("editor",), ("A2", "ED"), ("editor",)),
    ("keywords", ("keywords",), ("KW",), ("keyword",)),
    ("note", ("note", "annote", "annotation", "comment"), ("N1",), ("note",)),
    ("file", ("file", "local-url"), ("L1", "L2", "L4"), ("file",)),
)
RIS_NAMES = {ours: ris[0] for ours, _, ris, _ in _NAMES if ris}
# BibTeX's kind of entry, RIS's and CSL's
KINDS = (
    ("article", "JOUR", "article-journal"),
    ("inproceedings", "CPAPER", "paper-conference"),
    ("inproceedings", "CONF", "paper-conference"),
    ("book", "BOOK", "book"),
    ("incollection", "CHAP", "chapter"),
    ("inbook", "CHAP", "chapter"),
    ("phdthesis", "THES", "thesis"),
    ("mastersthesis", "THES", "thesis"),
    ("thesis", "THES", "thesis"),
    ("techreport", "RPRT", "report"),
    ("report", "RPRT", "report"),
    ("unpublished", "UNPB", "manuscript"),
    ("online", "ELEC", "webpage"),
    ("misc", "GEN", "article"),
    ("misc", "GEN", "document"),
)
_COLUMN = {"bibtex": 0, "ris": 1, "csl": 2}
_MANY = ("keywords", "note", "file")


def entries(db: sqlite3.Connection, ids: Sequence[str]) -> dict[str, list[Entry]]:
    """Return what files said of each paper."""
    found: dict[str, list[Entry]] = {}
    for name in ids:
        for row in db.execute("SELECT * FROM entry WHERE paper = ? ORDER BY format", (name,)):
            entry = Entry(row["format"], row["key"], row["kind"], json.loads(row["fields"]))
            found.setdefault(name, []).append(entry)
    return found


def kind_of(known: Sequence[Entry], wanted: str, venue: bool) -> str:
    """Return the kind of entry in format ``wanted`` ("bibtex", "ris" or "csl").

    Parameters
    ----------
    known : sequence of Entry
        What files said of the paper.
    wanted : {"bibtex", "ris", "csl"}
    venue : bool
        Whether it appeared somewhere; that decides where no file says.
    """
    for entry in known:
        if entry.format == wanted:
            return entry.kind
        here = _COLUMN[entry.format]
        for kinds in KINDS:
            if kinds[here] == entry.kind:
                return kinds[_COLUMN[wanted]]
    return KINDS[0 if venue else -2][_COLUMN[wanted]]


def details(known: Sequence[Entry]) -> dict[str, list[str]]:
    """Return the details of a paper by our name for each, as plain text."""
    found: dict[str, list[str]] = {}
    for entry in known:
        for name, values in _translated(entry).items():
            have = found.setdefault(name, [])
            if name in _MANY:
                have += [v for v in values if v and v not in have]
            elif not have:
                have += values[:1]
    return {name: values for name, values in found.items() if values}


def _translated(entry: Entry) -> dict[str, list[str]]:
    here = _COLUMN[entry.format] + 1
    found: dict[str, list[str]] = {}
    for row in _NAMES:
        theirs: Sequence[str] = row[here]  # pyright: ignore[reportAssignmentType]
        values = [text for key in theirs for text in _texts(entry, key)]
        if row[0] == "keywords":
            values = [word for text in values for word in _words(text)]
        if values:
            found[row[0]] = values
    if entry.format == "ris" and (pages := _ris_pages(entry.fields)):
        found["pages"] = [pages]
    return found


def _words(text: str) -> list[str]:
    parts = re.split(r"\s*[;\n]\s*" if ";" in text or "\n" in text else r"\s*,\s*", text)
    return [part for part in parts if part]


def _ris_pages(fields: Mapping[str, Any]) -> str:
    first, last = (next(iter(fields.get(tag) or [""])) for tag in ("SP", "EP"))
    return f"{first}–{last}" if first and last else str(first)


def _texts(entry: Entry, key: str) -> list[str]:
    value = entry.fields.get(key)
    if value is None or value == "":
        return []
    if entry.format == "bibtex":
        # a path is no TeX
        return [value if key in ("file", "local-url") else detex(str(value))]
    values = value if isinstance(value, list) else [value]
    return [_text(v) for v in values if v]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(str(value[k]) for k in ("given", "family", "literal") if value.get(k))
    return str(value)
