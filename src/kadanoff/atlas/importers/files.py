"""BibTeX, RIS and CSL-JSON files: hostile until read."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from kadanoff.atlas.identity import Record, arxiv_id
from kadanoff.errors import DataError

__all__ = ["parse", "parse_bibtex", "parse_csl", "parse_ris", "read_text"]

LARGEST = 50_000_000
_PACKED = {b"PK\x03\x04": "zip", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


def read_text(path: Path) -> str:
    """Read a text file of reasonable size; archives are refused, not unpacked.

    Raises
    ------
    DataError
        Missing, a folder, too large, packed, or not UTF-8 (nor Latin-1).
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(LARGEST + 1)
    except OSError as error:
        raise DataError(
            f"Cannot read {str(path)!r}: {error.strerror}.", "Check the path."
        ) from None
    if len(content) > LARGEST:
        raise DataError(f"{str(path)!r} is larger than {LARGEST // 10**6} MB.", "Split it.")
    for magic, name in _PACKED.items():
        if content.startswith(magic):
            raise DataError(f"{str(path)!r} is packed ({name}).", "Unpack it first.")
    if b"\x00" in content:
        raise DataError(f"{str(path)!r} is no text file.", "Give a BibTeX, RIS or JSON file.")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def parse(path: Path) -> list[Record]:
    """Read the papers in a file; its ending decides how.

    Raises
    ------
    DataError
        The file cannot be read, or holds no paper.
    """
    readers = {".bib": parse_bibtex, ".ris": parse_ris, ".json": parse_csl}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"I do not read {path.suffix!r} files.", "Give .bib, .ris or .json (CSL).")
    records = reader(read_text(path))
    if not records:
        raise DataError(f"There is no paper in {str(path)!r}.", "Check that it is a library file.")
    return records


_ACCENTS = {
    '"': "\u0308",
    "'": "\u0301",
    "`": "\u0300",
    "^": "\u0302",
    "~": "\u0303",
    "=": "\u0304",
    ".": "\u0307",
    "c": "\u0327",
    "v": "\u030c",
    "u": "\u0306",
    "H": "\u030b",
    "r": "\u030a",
    "k": "\u0328",
}
_LETTERS = {"ss": "ß", "o": "ø", "O": "Ø", "l": "ł", "L": "Ł", "ae": "æ", "AE": "Æ", "i": "i"}


def _detex(text: str) -> str:
    import unicodedata

    def accent(found: re.Match[str]) -> str:
        letter = {"\\i": "i", "\\j": "j"}.get(found.group(2), found.group(2))
        return unicodedata.normalize("NFC", letter + _ACCENTS[found.group(1)])

    text = re.sub(r"\\([\"'`^~=.])\s*\{?(\\[ij]|[A-Za-z])\}?", accent, text)
    text = re.sub(r"\\([cvuHrk])\s*\{(\\[ij]|[A-Za-z])\}", accent, text)
    text = re.sub(
        r"\\(ss|ae|AE|[oOlLi])(?![A-Za-z])(\{\})?\s?", lambda m: _LETTERS[m.group(1)], text
    )
    text = re.sub(r"\\([&%$#_{}])", r"\1", text.replace("---", "—").replace("--", "–"))
    return re.sub(r"\s+", " ", re.sub(r"\\[a-zA-Z]+\s?|[{}]", "", text.replace("~", " "))).strip()


def parse_bibtex(text: str) -> list[Record]:
    """Read BibTeX: braces, quotes, ``#`` and ``@string``; what is broken is skipped."""
    records: list[Record] = []
    strings: dict[str, str] = {}
    for found in re.finditer(r"@\s*([A-Za-z]+)\s*[{(]", text):
        kind = found.group(1).lower()
        if kind in ("comment", "preamble"):
            continue
        key, start = "", found.end()
        if kind != "string":
            head = re.compile(r"\s*([^,\s{}]*)\s*,").match(text, start)
            if not head:
                continue
            key, start = head.group(1), head.end()
        fields = _fields(text, start, strings)
        if kind == "string":
            strings.update(fields)
            continue
        record = _from_bibtex(fields)
        if record:
            record.key = key or None
            records.append(record)
    return records


_FIELD = re.compile(r"\s*,?\s*([A-Za-z][\w:.-]*)\s*=\s*")


def _fields(text: str, at: int, strings: dict[str, str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    while found := _FIELD.match(text, at):
        at = found.end()
        value = ""
        while at < len(text):
            if text[at] in '{"':
                piece, at = _delimited(text, at)
            else:
                word = re.compile(r"[^\s,{}#()\"]*").match(text, at)
                name = word.group() if word else ""
                at += len(name)
                piece = strings.get(name.lower(), name)
            value += piece
            more = re.compile(r"\s*#\s*").match(text, at)
            if not more:
                break
            at = more.end()
        fields.setdefault(found.group(1).lower(), value)
    return fields


def _delimited(text: str, at: int) -> tuple[str, int]:
    closing = "}" if text[at] == "{" else '"'
    depth, start = 0, at + 1
    for place in range(start, min(len(text), start + 100_000)):
        character = text[place]
        if text[place - 1] == "\\":
            continue
        if character == closing and depth == 0:
            return text[start:place], place + 1
        depth += (character == "{") - (character == "}")
    return "", len(text)


def _from_bibtex(fields: dict[str, str]) -> Record | None:
    title = _detex(fields.get("title", ""))
    if not title:
        return None
    year = re.search(r"\d{4}", fields.get("year") or fields.get("date") or "")
    names = re.split(r"\s+and\s+", fields.get("author", "").strip())
    record = Record(
        title=title,
        authors=[_natural(_detex(n)) for n in names if n.strip() and n.strip() != "others"],
        year=int(year.group()) if year else None,
        venue=_detex(fields.get("journal") or fields.get("booktitle") or "") or None,
        abstract=_detex(fields.get("abstract", "")) or None,
        url=fields.get("url"),
        source="bibtex",
    )
    record.add("doi", fields.get("doi", "").replace("\\_", "_"))
    if "arxiv" in (fields.get("archiveprefix") or fields.get("eprinttype") or "arxiv").lower():
        record.add("arxiv", fields.get("eprint"))
    record.add("arxiv", fields.get("arxiv"))
    record.add("arxiv", arxiv_id(fields.get("url", "")))
    return record


def _natural(name: str) -> str:
    """Turn "Family, Given" into "Given Family"."""
    family, _, given = name.partition(",")
    return f"{given.strip()} {family.strip()}".strip()


def parse_ris(text: str) -> list[Record]:
    """Read RIS: one tag a line, ``ER`` ends an entry."""
    records: list[Record] = []
    entry: dict[str, list[str]] = {}
    for line in [*text.splitlines(), "ER  - "]:
        found = re.match(r"([A-Z][A-Z0-9])  ?-\s?(.*)", line)
        if not found:
            continue
        tag, value = found.group(1), found.group(2).strip()
        if tag != "ER":
            entry.setdefault(tag, []).append(value)
            continue

        def first(*tags: str, entry: dict[str, list[str]] = entry) -> str:
            return next((entry[t][0] for t in tags if entry.get(t)), "")

        year = re.search(r"\d{4}", first("PY", "Y1", "DA"))
        record = Record(
            title=first("TI", "T1", "CT"),
            authors=[_natural(n) for t in ("AU", "A1") for n in entry.get(t, [])],
            year=int(year.group()) if year else None,
            venue=first("JO", "JF", "T2") or None,
            abstract=first("AB", "N2") or None,
            url=first("UR") or None,
            source="ris",
        )
        record.add("doi", first("DO"))
        for address in [*entry.get("UR", []), *entry.get("AN", [])]:
            record.add("arxiv", arxiv_id(address))
        if record.title:
            records.append(record)
        entry = {}
    return records


def parse_csl(text: str) -> list[Record]:
    """Read CSL-JSON: a list of items, or one.

    Raises
    ------
    DataError
        It is no JSON.
    """
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"This is no JSON: {str(error)[:200]}.", "Export it again.") from None
    if isinstance(document, dict) and str(document.get("format", "")).startswith("kadanoff-atlas"):
        raise DataError("This is an export of an atlas.", "Use `kadanoff atlas import`.")
    items = document if isinstance(document, list) else [document]
    return [record for item in items if (record := _from_csl(item))]


def _from_csl(item: Any) -> Record | None:
    if not isinstance(item, dict) or not isinstance(item.get("title"), str):
        return None

    def name(author: Any) -> str:
        if not isinstance(author, dict):
            return ""
        parts = (author.get("given"), author.get("non-dropping-particle"), author.get("family"))
        return " ".join(str(p) for p in parts if p) or str(author.get("literal") or "")

    issued = item.get("issued")
    issued = issued if isinstance(issued, dict) else {}
    year = re.search(r"\d{4}", json.dumps([issued.get("date-parts"), issued.get("raw")]))
    authors = item.get("author")
    record = Record(
        title=item["title"],
        authors=[name(a) for a in authors] if isinstance(authors, list) else [],
        year=int(year.group()) if year else None,
        venue=item.get("container-title"),
        abstract=item.get("abstract"),
        url=item.get("URL"),
        source="csl",
    )
    record.add("doi", item.get("DOI"))
    number = item.get("number")
    record.add("arxiv", arxiv_id(number) if isinstance(number, str) else None)
    record.add("arxiv", arxiv_id(item["URL"]) if isinstance(item.get("URL"), str) else None)
    return record if record.title else None
