"""What a paper is called: identifiers in one spelling, titles that can be compared, records."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Any, Literal

from kadanoff.errors import UsageError

__all__ = [
    "CONTINUOUS",
    "Entry",
    "Identifier",
    "Record",
    "arxiv_id",
    "doi",
    "parse_identifier",
    "plain",
    "safe_url",
    "slug",
    "spaced",
    "surname",
    "title_key",
]

Scheme = Literal["doi", "arxiv", "s2", "corpus", "openalex"]

_ARXIV_NEW = re.compile(r"(\d{4}\.\d{4,5})(v\d+)?", re.ASCII)
_ARXIV_OLD = re.compile(r"([a-z-]+(?:\.[A-Z]{2})?/\d{7})(v\d+)?", re.ASCII)
_DOI = re.compile(r"10\.\d{4,9}/[^\s\"<>\x00-\x1f]+", re.IGNORECASE | re.ASCII)
_DATACITE_ARXIV = "10.48550/arxiv."


@dataclass(frozen=True)
class Identifier:
    """A paper's number in one scheme, normalised."""

    scheme: Scheme
    value: str

    def __str__(self) -> str:
        names = {"doi": "DOI", "arxiv": "arXiv", "s2": "S2", "corpus": "CorpusId"}
        return f"{names.get(self.scheme, 'OpenAlex')}:{self.value}"


@dataclass(frozen=True)
class Entry:
    """An entry of a file as it stands there: every field, those unknown to the atlas too."""

    format: str
    key: str
    kind: str
    fields: dict[str, Any]


@dataclass
class Record:
    """What one source says of one paper; whatever it does not say is empty, never guessed."""

    title: str
    authors: list[str] = field(default_factory=list)
    year: int | None = None
    venue: str | None = None
    abstract: str | None = None
    summary: str | None = None
    url: str | None = None
    citations: int | None = None
    identifiers: list[Identifier] = field(default_factory=list)
    other_titles: list[str] = field(default_factory=list)
    source: str = ""
    key: str | None = None
    # what the file said, word for word: fields by name, as (format, kind, fields)
    entry: Entry | None = None

    def __post_init__(self) -> None:
        self.title = plain(self.title, 1000)
        self.authors = [name for name in (plain(a, 200) for a in self.authors[:2000]) if name]
        self.venue = plain(self.venue, 500) or None
        self.abstract = plain(self.abstract, 20_000) or None
        self.url = safe_url(self.url)
        if self.year is not None and not 1000 <= self.year <= 2200:
            self.year = None
        for item in list(self.identifiers):
            self._name_arxiv(item)

    def _name_arxiv(self, item: Identifier) -> None:
        """An arXiv DOI names the arXiv paper too."""
        if item.scheme == "doi" and item.value.startswith(_DATACITE_ARXIV):
            number = arxiv_id(item.value[len(_DATACITE_ARXIV) :])
            if number and Identifier("arxiv", number) not in self.identifiers:
                self.identifiers.append(Identifier("arxiv", number))

    def add(self, scheme: Scheme, value: Any) -> None:
        """Add an identifier if ``value`` is one; anything else is ignored."""
        if not value:
            return
        text = str(value)
        clean: str | None
        match scheme:
            case "doi":
                clean = doi(text)
            case "arxiv":
                clean = arxiv_id(text)
            case "openalex":
                found = re.search(r"W\d{1,15}$", text.strip(), re.ASCII)
                clean = found.group() if found else None
            case "corpus":
                clean = text if re.fullmatch(r"\d{1,15}", text, re.ASCII) else None
            case _:
                clean = text.lower() if re.fullmatch(r"[0-9a-fA-F]{40}", text) else None
        if clean and Identifier(scheme, clean) not in self.identifiers:
            self.identifiers.append(Identifier(scheme, clean))
            self._name_arxiv(self.identifiers[-1])


def plain(value: Any, limit: int) -> str:
    """Make one line of printable text from foreign input: no controls, no direction overrides."""
    if not isinstance(value, str):
        return ""
    flat = " ".join(value[: 4 * limit].split())
    if flat.isprintable():
        return flat[:limit]
    # Cf holds the bidirectional overrides, with which a title could pose as another
    kept = "".join(
        " " if c.isspace() else c
        for c in value[: 4 * limit]
        if c.isspace() or unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Co", "Cn")
    )
    return " ".join(kept.split())[:limit]


def safe_url(value: Any) -> str | None:
    """Return ``value`` if it is an absolute http(s) address without credentials, else None."""
    from urllib.parse import urlsplit

    if not isinstance(value, str) or len(value) > 2000 or re.search(r"[\s\x00-\x1f\\\"'<>]", value):
        return None
    try:
        parts = urlsplit(value)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and not parts.username
    except ValueError:
        return None
    return value if fine else None


def doi(text: str) -> str | None:
    """Return the DOI in ``text`` in lower case, without a resolver in front."""
    found = _DOI.search(text.strip())
    return found.group().rstrip(".,;)").lower()[:300] if found else None


def arxiv_id(text: str) -> str | None:
    """Return the arXiv number in ``text`` without its version."""
    text = text.strip()
    text = re.sub(r"^(https?://)?(export\.|www\.)?arxiv\.org/(abs|pdf|html)/", "", text, flags=re.I)
    text = re.sub(r"^arxiv\s*:\s*", "", text, flags=re.IGNORECASE).removesuffix(".pdf")
    for pattern in (_ARXIV_NEW, _ARXIV_OLD):
        found = pattern.fullmatch(text.split(" ")[0] if text else "")
        if found:
            return found.group(1)
    return None


def parse_identifier(text: str) -> Identifier:
    """Read ``arXiv:2104.00008``, a DOI, a Semantic Scholar or OpenAlex id, or a link to one.

    Raises
    ------
    UsageError
        It is none of these.
    """
    given = text.strip()
    found_doi = doi(given)
    if found_doi:
        if found_doi.startswith(_DATACITE_ARXIV):
            number = arxiv_id(found_doi[len(_DATACITE_ARXIV) :])
            if number:
                return Identifier("arxiv", number)
        return Identifier("doi", found_doi)
    number = arxiv_id(given)
    if number:
        return Identifier("arxiv", number)
    bare = given.rstrip("/").rsplit("/", 1)[-1]
    bare = re.sub(r"^(s2|openalex)\s*:\s*", "", bare, flags=re.IGNORECASE)
    if re.fullmatch(r"[0-9a-fA-F]{40}", bare):
        return Identifier("s2", bare.lower())
    if re.fullmatch(r"[Ww]\d{4,15}", bare, re.ASCII):
        return Identifier("openalex", bare.upper())
    corpus = re.fullmatch(r"corpusid\s*:\s*(\d{1,15})", bare, re.IGNORECASE | re.ASCII)
    if corpus:
        return Identifier("corpus", corpus.group(1))
    raise UsageError(
        f"{given[:120]!r} is no identifier of a paper that I know.",
        "Give arXiv:2104.00008, a DOI, a Semantic Scholar id (40 hex digits) or an OpenAlex id"
        " (W...); a library (.bib, .ris, .json) is taken by the page's Import and by"
        " `kadanoff atlas add FILE`.",
    )


def _ascii(text: str) -> str:
    if text.isascii():
        return text
    # letters that do not decompose, as in Łukasz and Ørsted
    text = text.translate(str.maketrans("łŁøØđĐßæÆœŒ", "lLoOdDsaAoO"))
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(c for c in decomposed if not unicodedata.combining(c))


def title_key(title: str) -> str:
    """Reduce a title to what stays the same between sources: letters and digits, lower case."""
    text = _ascii(re.sub(r"\\[a-zA-Z]+|[{}$\\]", "", title)).casefold()
    return re.sub(r"[\W_]+", "", text)


# scripts that are written without spaces between words: each character is a word of the index
CONTINUOUS = "\u2e80-\u2fdf\u3005-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_CONTINUOUS = re.compile(f"([{CONTINUOUS}])")


def spaced(text: str) -> str:
    """Put spaces around Chinese, Japanese and Korean characters, so that each can be found."""
    return text if text.isascii() else _CONTINUOUS.sub(r" \1 ", text)


def surname(name: str) -> str:
    """Return the family name, comparable: of "Roberts, D. A." and "Daniel A. Roberts" alike."""
    family = name.split(",")[0] if "," in name else (name.split() or [""])[-1]
    return re.sub(r"[\W_]+", "", _ascii(family).casefold())


_SMALL = {
    "a",
    "an",
    "the",
    "on",
    "of",
    "in",
    "is",
    "why",
    "how",
    "and",
    "for",
    "to",
    "with",
    "from",
}


def slug(record: Record) -> str:
    """Make a readable id such as ``jacot2018neural``; ASCII, so that it is one in any URL."""
    who = re.sub(r"[^a-z0-9]", "", surname(record.authors[0])) if record.authors else ""
    words = re.findall(r"[a-z0-9]+", _ascii(record.title).casefold())
    word = next((w for w in words if w not in _SMALL), "")
    return f"{who or 'paper'}{record.year or ''}{word}"[:60]
