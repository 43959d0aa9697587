"""Papers as BibTeX, RIS, CSL-JSON, CSV and JSON.

What came from a file goes out as it came: its own fields, word for word, and what the atlas knows
besides. What came in another format is translated.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kadanoff.atlas.bibliography import RIS_NAMES, details, kind_of
from kadanoff.atlas.identity import Entry, plain
from kadanoff.atlas.importers.ris import TAG
from kadanoff.atlas.importers.tex import balanced, entex
from kadanoff.atlas.papers import Paper

__all__ = ["FORMATS", "bibtex", "csl", "csv_text", "paper_json", "ris", "write"]

# name of a format: its media type and the ending of a file
FORMATS = {
    "bibtex": ("application/x-bibtex", "bib"),
    "ris": ("application/x-research-info-systems", "ris"),
    "csl": ("application/vnd.citationstyles.csl+json", "csl.json"),
    "csv": ("text/csv", "csv"),
    "json": ("application/json", "json"),
}
Known = Mapping[str, Sequence[Entry]]


def paper_json(paper: Paper) -> dict[str, Any]:
    """Return a paper as JSON values."""
    return {
        "id": paper.id,
        "title": paper.title,
        "other_titles": list(paper.other_titles),
        "authors": list(paper.authors),
        "year": paper.year,
        "venue": paper.venue,
        "summary": paper.summary,
        "abstract": paper.abstract,
        "url": paper.url,
        "citations": paper.citations,
        "identifiers": [{"scheme": i.scheme, "value": i.value} for i in paper.identifiers],
    }


def write(format: str, rows: Sequence[tuple[Paper, str]], known: Known) -> str:
    """Return (paper, relation) pairs in one of :data:`FORMATS`.

    Parameters
    ----------
    known : mapping of id to entries
        What files said of the papers (:func:`kadanoff.atlas.bibliography.entries`).
    """
    found = [paper for paper, _ in rows]
    match format:
        case "bibtex":
            return bibtex(found, known)
        case "ris":
            return ris(found, known)
        case "csl":
            return json.dumps(csl(found, known), indent=1, ensure_ascii=False) + "\n"
        case "csv":
            return csv_text(rows)
        case _:
            items = [{**paper_json(paper), "relation": kind} for paper, kind in rows]
            return json.dumps(items, indent=1)


def _own(known: Known, paper: Paper, format: str) -> Entry | None:
    return next((e for e in known.get(paper.id, ()) if e.format == format), None)


def bibtex(found: Iterable[Paper], known: Known | None = None) -> str:
    """Return BibTeX entries; titles keep their capitals, foreign input cannot break out."""
    known = known or {}
    written: list[str] = []
    keys: set[str] = set()
    for paper in found:
        own = _own(known, paper, "bibtex")
        wanted = re.sub("[^A-Za-z0-9_.:+/-]", "", own.key if own else "") or paper.id
        key = wanted if wanted not in keys else re.sub("[^A-Za-z0-9_.-]", "", paper.id)
        keys.add(key)
        theirs = {k: _bibtex_value(v) for k, v in own.fields.items()} if own else {}
        fields = {**theirs, **_missing_bibtex(paper, known.get(paper.id, ()), theirs)}
        body = "".join(f",\n  {name} = {{{value}}}" for name, value in fields.items() if value)
        kind = kind_of(known.get(paper.id, ()), "bibtex", bool(paper.venue))
        kind = kind if re.fullmatch("[a-z]+", kind) else "misc"
        written.append(f"@{kind}{{{key}{body}\n}}\n")
    return "\n".join(written)


def _bibtex_value(value: Any) -> str:
    text = _printable(str(value))
    return text if balanced(text) else entex(text)


def _missing_bibtex(
    paper: Paper, known: Sequence[Entry], theirs: Mapping[str, str]
) -> dict[str, str]:
    """Return what the atlas knows and the file did not say."""

    def tex(text: str | None) -> str:
        return entex(plain(text or "", 20_000))

    arxiv = paper.first("arxiv") or ""
    fields = {
        "title": f"{{{tex(paper.title)}}}",
        "author": " and ".join(tex(a) for a in paper.authors),
        "year": "" if "date" in theirs else str(paper.year or ""),
        "journal": ""
        if {"booktitle", "journaltitle", "publisher"} & {*theirs}
        else tex(paper.venue),
        "doi": tex(paper.first("doi")),
        "eprint": tex(arxiv),
        "archiveprefix": "arXiv" if arxiv and "eprinttype" not in theirs else "",
        "url": "" if arxiv or paper.first("doi") else (paper.url or "").replace("%", r"\%"),
        "abstract": tex(paper.abstract),
        **{
            name: ("; " if name == "file" else ", ").join(map(tex, values))
            for name, values in details(known).items()
        },
    }
    return {name: value for name, value in fields.items() if name not in theirs}


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else " " for c in text)


def ris(found: Iterable[Paper], known: Known | None = None) -> str:
    """Return RIS entries, one tag a line; no value can end an entry."""
    known = known or {}
    written: list[str] = []
    for paper in found:
        own = _own(known, paper, "ris")
        tags: dict[str, list[str]] = {}
        if own:
            tags = {k: [str(v) for v in values] for k, values in own.fields.items() if k != "TY"}
        given = {*tags}
        for tag, values in _missing_ris(paper, known.get(paper.id, ())).items():
            if not given & _SAME.get(tag, {tag}):
                tags.setdefault(tag, values)
        kind = kind_of(known.get(paper.id, ()), "ris", bool(paper.venue))
        lines = [f"TY  - {kind if re.fullmatch('[A-Z]+', kind) else 'GEN'}"]
        lines += [f"{tag}  - {_ris_value(v)}" for tag, vs in tags.items() for v in vs if v]
        written.append("\n".join([*lines, "ER  - "]) + "\n")
    return "\n".join(written)


# tags that say the same
_SAME = {
    "TI": {"TI", "T1", "CT"},
    "AU": {"AU", "A1"},
    "PY": {"PY", "Y1", "DA"},
    "JO": {"JO", "JF", "T2", "JA", "PB"},
    "AB": {"AB", "N2"},
    "L1": {"L1", "L2", "L4"},
    "A2": {"A2", "ED"},
}


def _missing_ris(paper: Paper, known: Sequence[Entry]) -> dict[str, list[str]]:
    arxiv = paper.first("arxiv")
    more = details([e for e in known if e.format != "ris"])
    first, _, last = re.sub("-+", "–", next(iter(more.get("pages", [])), "")).partition("–")
    address = f"https://arxiv.org/abs/{arxiv}" if arxiv else paper.url or ""
    return {
        "TI": [paper.title],
        "AU": list(paper.authors),
        "PY": [str(paper.year or "")],
        "JO": [paper.venue or ""],
        "DO": [paper.first("doi") or ""],
        "UR": [address],
        "AB": [paper.abstract or ""],
        "SP": [first],
        "EP": [last],
        **{RIS_NAMES[name]: values for name, values in more.items() if name in RIS_NAMES},
    }


def _ris_value(text: str) -> str:
    """A line that looks like a tag of its own is moved in, so that it is none."""
    lines = _printable(text).splitlines()
    return "\n".join([*lines[:1], *(f" {x}" if TAG.match(x) else x for x in lines[1:])])


def csl(found: Iterable[Paper], known: Known | None = None) -> list[dict[str, Any]]:
    """Return CSL-JSON items."""
    known = known or {}
    items: list[dict[str, Any]] = []
    for paper in found:
        own = _own(known, paper, "csl")
        more = details([e for e in known.get(paper.id, ()) if e.format != "csl"])
        names = {"number": "issue", "pages": "page", "publisher": "publisher", "note": "note"}
        names |= {"volume": "volume", "keywords": "keyword", "address": "publisher-place"}
        names |= {"isbn": "ISBN", "issn": "ISSN", "series": "collection-title", "file": "file"}
        names |= {"edition": "edition", "language": "language"}
        ours: dict[str, Any] = {
            "id": paper.id,
            "type": kind_of(known.get(paper.id, ()), "csl", bool(paper.venue)),
            "title": paper.title,
            "author": [_person(name) for name in paper.authors],
            "issued": {"date-parts": [[paper.year]]} if paper.year else None,
            "container-title": paper.venue,
            "abstract": paper.abstract,
            "DOI": paper.first("doi"),
            "URL": paper.url,
            "number": f"arXiv:{paper.first('arxiv')}" if paper.first("arxiv") else None,
            **{names[k]: "; ".join(v) for k, v in more.items() if k in names},
        }
        ours = {name: value for name, value in ours.items() if value}
        items.append({**ours, **(own.fields if own else {})})
    return items


def _person(name: str) -> dict[str, str]:
    given, _, family = name.rpartition(" ")
    return {"family": family, "given": given} if given else {"literal": name}


def _cell(value: Any) -> Any:
    # a spreadsheet runs a cell that begins like a formula; the apostrophe makes it text
    if isinstance(value, str) and value.lstrip()[:1] in ("=", "+", "-", "@", "\t", "\r", "|", "%"):
        return "'" + value
    return value


def csv_text(rows: Iterable[tuple[Paper, str]]) -> str:
    """Return a CSV table of (paper, relation); no cell is a formula."""
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(
        ["id", "title", "authors", "year", "relation", "venue", "doi", "arxiv", "citations"]
    )
    for paper, relation in rows:
        values = [paper.id, paper.title, "; ".join(paper.authors), paper.year, relation]
        values += [paper.venue, paper.first("doi"), paper.first("arxiv"), paper.citations]
        writer.writerow([_cell("" if value is None else value) for value in values])
    return out.getvalue()
