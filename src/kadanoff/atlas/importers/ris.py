"""RIS: one tag a line, ``ER`` ends an entry; a line without a tag goes on with the one before."""

from __future__ import annotations

import re

from kadanoff.atlas.identity import Entry, Record, arxiv_id
from kadanoff.atlas.importers.bibtex import natural
from kadanoff.atlas.importers.parsed import Parsed

__all__ = ["TAG", "parse_ris"]

TAG = re.compile(r"([A-Z][A-Z0-9])  ?-(?: (.*)|\s*)$")


def parse_ris(text: str) -> Parsed:
    """Read RIS; an entry without a title or without its end is in ``broken``."""
    parsed = Parsed("ris")
    tags: dict[str, list[str]] = {}
    start, last = 0, ""
    for number, line in enumerate(text.splitlines(), start=1):
        found = TAG.match(line.rstrip())
        if not found:
            if last and line.strip():
                tags[last][-1] += "\n" + line.rstrip()
            continue
        tag, value = found.group(1), (found.group(2) or "").strip()
        if tag == "TY" and tags:
            parsed.fail(start, _said(tags), "it does not end with ER before the next begins")
            tags = {}
        if tag == "ER":
            _end(tags, start, parsed)
            tags, last = {}, ""
            continue
        start = start if tags else number
        tags.setdefault(tag, []).append(value)
        last = tag
    if tags:
        # the last line of a file that was cut off
        parsed.fail(start, _said(tags), "it does not end with ER: the file was cut off")
    return parsed


def _said(tags: dict[str, list[str]]) -> str:
    return " / ".join(f"{tag} {values[0]}" for tag, values in list(tags.items())[:4])


def _end(tags: dict[str, list[str]], start: int, parsed: Parsed) -> None:
    record = _record(tags)
    if not record.title:
        reason = "it has no title (TI, T1 or CT)" if tags else "an end (ER) without an entry"
        parsed.fail(start, _said(tags), reason)
        return
    key = next(iter(tags.get("ID", [])), "")
    record.key = key or None
    kind = next(iter(tags.get("TY", [])), "GEN")
    record.entry = Entry("ris", key, kind, dict(tags))
    parsed.records.append(record)


def _record(tags: dict[str, list[str]]) -> Record:
    def first(*names: str) -> str:
        found = next((tags[t][0] for t in names if tags.get(t) and tags[t][0]), "")
        return " ".join(found.split())

    year = re.search(r"\d{4}", first("PY", "Y1", "DA"))
    record = Record(
        title=first("TI", "T1", "CT"),
        authors=[natural(n) for t in ("AU", "A1") for n in tags.get(t, [])],
        year=int(year.group()) if year else None,
        venue=first("JO", "JF", "T2", "JA", "PB") or None,
        abstract=first("AB", "N2") or None,
        url=first("UR") or None,
        source="ris",
    )
    record.add("doi", first("DO"))
    for address in [*tags.get("UR", []), *tags.get("AN", []), *tags.get("M3", [])]:
        record.add("arxiv", arxiv_id(address))
    return record
