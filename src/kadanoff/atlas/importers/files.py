"""Library files: which format a text is in, and reading one from disk. Hostile until read."""

from __future__ import annotations

import re
from pathlib import Path

from kadanoff.atlas.identity import parse_identifier
from kadanoff.atlas.importers.bibtex import parse_bibtex
from kadanoff.atlas.importers.csl import parse_csl
from kadanoff.atlas.importers.parsed import Parsed
from kadanoff.atlas.importers.ris import TAG, parse_ris
from kadanoff.errors import DataError, UsageError

__all__ = ["parse", "parse_text", "read_text"]

LARGEST = 50_000_000
_PACKED = {b"PK\x03\x04": "zip", b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_READERS = {".bib": parse_bibtex, ".ris": parse_ris, ".json": parse_csl}


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


def parse(path: Path) -> Parsed:
    """Read the papers in a file; its ending decides how.

    Raises
    ------
    DataError
        The file cannot be read, or holds nothing.
    """
    suffix = path.suffix.lower()
    if suffix not in (*_READERS, ".txt"):
        raise DataError(
            f"I do not read {path.suffix!r} files.", "Give .bib, .ris, .json (CSL) or .txt (ids)."
        )
    text = read_text(path)
    parsed = _READERS[suffix](text) if suffix in _READERS else parse_text(text)
    if not (parsed.records or parsed.broken or parsed.identifiers):
        raise DataError(f"There is no paper in {str(path)!r}.", "Check that it is a library file.")
    return parsed


def parse_text(text: str) -> Parsed:
    """Read a pasted text: BibTeX, RIS, CSL-JSON, Zotero's JSON, or one arXiv id or DOI a line.

    Raises
    ------
    DataError
        It is none of these.
    """
    start = text.lstrip("\ufeff \t\r\n")
    if not start:
        raise DataError("There is nothing to import.", "Paste a library, or a list of ids.")
    if start[0] in "[{":
        return parse_csl(start)
    if re.search(r"^[ \t]*@\s*[A-Za-z]+\s*[{(]", text, re.MULTILINE):
        return parse_bibtex(text)
    if any(TAG.match(line) and line.startswith(("TY", "T1", "TI")) for line in text.splitlines()):
        return parse_ris(text)
    return _identifiers(text)


def _identifiers(text: str) -> Parsed:
    parsed = Parsed("ids")
    for number, line in enumerate(text.splitlines(), start=1):
        for word in re.split(r"[\s,;]+", line.strip()):
            if not word or re.fullmatch(r"(arxiv|doi)\s*:?", word, re.IGNORECASE):
                continue
            try:
                found = parse_identifier(re.sub(r"^doi\s*:\s*", "", word, flags=re.IGNORECASE))
            except UsageError:
                parsed.fail(number, word, "it is no arXiv id, DOI or other number of a paper")
                continue
            if found not in parsed.identifiers:
                parsed.identifiers.append(found)
    if not parsed.identifiers:
        raise DataError(
            "This is neither BibTeX, RIS or CSL-JSON nor a list of arXiv ids or DOIs.",
            "Export your library as one of these and paste it, or drop the file.",
        )
    return parsed
