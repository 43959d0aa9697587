"""BibTeX and BibLaTeX: braces, quotes, ``#`` and ``@string``; what is broken is reported.

An entry whose braces do not close would swallow those after it: reading goes on at the next line
that begins an entry.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kadanoff.atlas.identity import Entry, Record, arxiv_id
from kadanoff.atlas.importers.parsed import Lines, Parsed
from kadanoff.atlas.importers.tex import detex

__all__ = ["parse_bibtex"]

_START = re.compile(r"@\s*([A-Za-z]+)\s*[{(]")
_FIELD = re.compile(r"\s*,?\s*([A-Za-z][\w:.+/-]*)\s*=\s*")
_KEY = re.compile(r"\s*([^,\s{}=]*)\s*,")
_BARE = re.compile(r"[^\s,{}#()\"]*")
_HASH = re.compile(r"\s*#\s*")
_END = re.compile(r"[\s,]*[})]")
_MARK = re.compile(r'(?<!\\)[{}"]')
# the beginning of another entry, at the beginning of a line
_NEXT = re.compile(r"\n[ \t]*@[A-Za-z]+[ \t]*[{(][^\s,{}=]*[ \t]*,")
# where reading goes on after an entry that could not be read
_RESUME = re.compile(r"\n[ \t]*@[A-Za-z]+[ \t]*[{(]")
_MONTHS = {
    m: m
    for m in ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
}


class _BrokenEntry(Exception):
    """An entry cannot be read; the message says why."""


@dataclass
class _Reader:
    text: str
    strings: dict[str, str]

    def fields(self, at: int) -> tuple[dict[str, str], int]:
        """Read ``name = value`` from ``at`` to the entry's closing brace."""
        fields: dict[str, str] = {}
        while found := _FIELD.match(self.text, at):
            value, at = self.value(found.end(), found.group(1))
            fields.setdefault(found.group(1).lower(), value)
        end = _END.match(self.text, at)
        if not end:
            rest = " ".join(self.text[at : at + 30].split())
            raise _BrokenEntry(
                f"after its fields stands {rest!r} where a comma or its closing brace is due"
                if rest
                else "it is never closed"
            )
        return fields, end.end()

    def value(self, at: int, name: str) -> tuple[str, int]:
        value = ""
        while True:
            if at < len(self.text) and self.text[at] in '{"':
                piece, at = self.delimited(at, name)
            else:
                found = _BARE.match(self.text, at)
                word = found.group() if found else ""
                if not word:
                    raise _BrokenEntry(f"its field {name!r} has no value")
                at += len(word)
                piece = self.strings.get(word.lower(), word)
            value += piece
            more = _HASH.match(self.text, at)
            if not more:
                return value, at
            at = more.end()

    def delimited(self, at: int, name: str) -> tuple[str, int]:
        quoted = self.text[at] == '"'
        depth = 0
        for mark in _MARK.finditer(self.text, at + 1):
            sign = mark.group()
            if depth == 0 and sign == ('"' if quoted else "}"):
                value = self.text[at + 1 : mark.start()]
                if _NEXT.search(value):
                    break
                return value, mark.end()
            depth += (sign == "{") - (sign == "}")
        raise _BrokenEntry(f"its field {name!r} is never closed")


def parse_bibtex(text: str) -> Parsed:
    """Read BibTeX; what cannot be read is in ``broken``, with its line and the reason."""
    parsed = Parsed("bibtex")
    lines = Lines(text)
    reader = _Reader(text, dict(_MONTHS))
    at = 0
    while found := _START.search(text, at):
        at = found.end()
        kind = found.group(1).lower()
        if kind in ("comment", "preamble"):
            continue
        try:
            at = _entry(reader, kind, at, parsed)
        except _BrokenEntry as error:
            excerpt = text[found.start() : found.start() + 120]
            parsed.fail(lines.at(found.start()), excerpt, str(error))
            following = _RESUME.search(text, found.start() + 1)
            at = following.start() if following else len(text)
    return parsed


def _entry(reader: _Reader, kind: str, at: int, parsed: Parsed) -> int:
    """Read one entry from behind its opening brace; return where it ends."""
    if kind == "string":
        fields, at = reader.fields(at)
        reader.strings.update(fields)
        return at
    head = _KEY.match(reader.text, at)
    if not head:
        raise _BrokenEntry("it has no key, or no comma after it")
    fields, at = reader.fields(head.end())
    record = _record(fields)
    if not record.title:
        raise _BrokenEntry("it has no title")
    record.key = head.group(1) or None
    record.entry = Entry("bibtex", head.group(1), kind, fields)
    parsed.records.append(record)
    return at


def _record(fields: dict[str, str]) -> Record:
    year = re.search(r"\d{4}", fields.get("year") or fields.get("date") or "")
    names = re.split(r"\s+and\s+", fields.get("author", "").strip())
    record = Record(
        title=detex(fields.get("title", "")),
        authors=[natural(detex(n)) for n in names if n.strip() and n.strip() != "others"],
        year=int(year.group()) if year else None,
        venue=detex(_venue(fields)) or None,
        abstract=detex(fields.get("abstract", "")) or None,
        url=fields.get("url", "").replace("\\_", "_").replace("\\%", "%") or None,
        source="bibtex",
    )
    record.add("doi", fields.get("doi", "").replace("\\_", "_"))
    if "arxiv" in (fields.get("archiveprefix") or fields.get("eprinttype") or "arxiv").lower():
        record.add("arxiv", fields.get("eprint"))
    record.add("arxiv", fields.get("arxiv"))
    record.add("arxiv", arxiv_id(fields.get("url", "")))
    return record


def _venue(fields: dict[str, str]) -> str:
    names = ("journal", "journaltitle", "booktitle", "school", "institution", "publisher")
    return next((fields[name] for name in names if fields.get(name)), "")


def natural(name: str) -> str:
    """Turn "Family, Given" and "Family, Jr, Given" into the order in which it is spoken."""
    parts = [part.strip() for part in name.split(",")]
    if len(parts) == 3:
        return f"{parts[2]} {parts[0]} {parts[1]}".strip()
    family, _, given = name.partition(",")
    return f"{given.strip()} {family.strip()}".strip()
