"""What a reader keeps of a paper: a note, tags, collections, a reading status, files.

A note is one text per paper; an edit that crosses another one is refused with the present text, as
with comments, and what an edit replaced stays in the database. Files are stored under the SHA-256
of their content, so that the same PDF is there once and a name never is a path.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from kadanoff.atlas import papers
from kadanoff.atlas.identity import plain, safe_url
from kadanoff.atlas.searching import STATUSES
from kadanoff.errors import UsageError
from kadanoff.files import atomic_write, make_folder

__all__ = [
    "Document",
    "Note",
    "NoteConflict",
    "add_file",
    "add_link",
    "documents",
    "file_of",
    "labels",
    "labels_of",
    "note_of",
    "remove_document",
    "set_labels",
    "set_note",
    "set_status",
    "status_of",
    "statuses",
]

NOTE_LIMIT = 100_000
FILE_LIMIT = 100_000_000
Kind = Literal["tag", "collection"]


@dataclass(frozen=True)
class Note:
    """The reader's note; version 0 is none."""

    body: str
    version: int
    edited_at: float | None


class NoteConflict(UsageError):
    """The note was changed meanwhile; ``current`` is what it is now."""

    def __init__(self, current: Note) -> None:
        self.current = current
        super().__init__(
            f"This note was changed in another window meanwhile (version {current.version}).",
            "Your text is still in the editor: read the new version, then save again.",
        )


@dataclass(frozen=True)
class Document:
    """A file of the reader's own (``address`` is its hash), or a link to one elsewhere."""

    address: str
    name: str
    size: int | None

    @property
    def own(self) -> bool:
        """Whether the file lies with the atlas."""
        return "/" not in self.address

    @property
    def href(self) -> str:
        """Where the page finds it."""
        return f"/files/{self.address}" if self.own else self.address


def note_of(db: sqlite3.Connection, paper: str) -> Note:
    """Return the note on a paper."""
    row = db.execute("SELECT * FROM note WHERE paper = ?", (paper,)).fetchone()
    return Note(row["body"], row["version"], row["edited_at"]) if row else Note("", 0, None)


def set_note(db: sqlite3.Connection, paper: str, body: str, version: int) -> Note:
    """Replace the note that is still at ``version``; an empty one goes, its text stays kept.

    Parameters
    ----------
    db : sqlite3.Connection
    paper : str
        Its id.
    body : str
        Markdown.
    version : int
        The one that the editor has seen; 0 if there was none.

    Raises
    ------
    NoteConflict
        It was changed meanwhile.
    UsageError
        It is too long.
    """
    body = body.replace("\r\n", "\n").replace("\x00", "").strip()
    if len(body) > NOTE_LIMIT:
        raise UsageError(
            f"The note has {len(body)} characters; at most {NOTE_LIMIT} are kept.", "Shorten it."
        )
    now = note_of(db, paper)
    if now.version != version:
        raise NoteConflict(now)
    if now.version:
        db.execute(
            "INSERT INTO note_history VALUES (?, ?, ?, ?)",
            (paper, now.version, now.body, time.time()),
        )
    db.execute(
        "INSERT INTO note VALUES (?, ?, 1, ?) ON CONFLICT DO UPDATE SET body = excluded.body,"
        " version = version + 1, edited_at = excluded.edited_at",
        (paper, body, time.time()),
    )
    papers.index(db, paper)
    return note_of(db, paper)


def labels_of(db: sqlite3.Connection, paper: str, kind: Kind) -> list[str]:
    """Return the tags or collections of a paper.

    Parameters
    ----------
    db : sqlite3.Connection
    paper : str
        Its id.
    kind : {"tag", "collection"}
    """
    rows = db.execute(
        "SELECT name FROM label WHERE paper = ? AND kind = ? ORDER BY name", (paper, kind)
    )
    return [row[0] for row in rows]


def labels(db: sqlite3.Connection, kind: Kind) -> list[tuple[str, int]]:
    """Return all tags or collections with the number of their papers."""
    rows = db.execute(
        "SELECT name, count(*) AS n FROM label WHERE kind = ? GROUP BY name ORDER BY name", (kind,)
    )
    return [(row["name"], row["n"]) for row in rows]


def set_labels(db: sqlite3.Connection, paper: str, kind: Kind, names: Sequence[str]) -> list[str]:
    """Give a paper exactly these tags or collections.

    Parameters
    ----------
    db : sqlite3.Connection
    paper : str
        Its id.
    kind : {"tag", "collection"}
    names : sequence of str
        Upper and lower case are the same name.
    """
    wanted = {text.casefold(): text for name in names if (text := plain(name, 60))}
    have = {name.casefold(): name for name in labels_of(db, paper, kind)}
    for gone in have.keys() - wanted.keys():
        db.execute(
            "DELETE FROM label WHERE paper = ? AND kind = ? AND name = ?", (paper, kind, have[gone])
        )
    for new in wanted.keys() - have.keys():
        db.execute(
            "INSERT OR IGNORE INTO label VALUES (?, ?, ?, ?)",
            (kind, wanted[new], paper, time.time()),
        )
    papers.index(db, paper)
    return labels_of(db, paper, kind)


def status_of(db: sqlite3.Connection, paper: str) -> str | None:
    """Return the reading status, or None for a paper that is not on the list."""
    row = db.execute("SELECT status FROM reading WHERE paper = ?", (paper,)).fetchone()
    return row[0] if row else None


def statuses(db: sqlite3.Connection) -> dict[str, str]:
    """Return the reading status of all papers on the list."""
    return dict(db.execute("SELECT paper, status FROM reading").fetchall())


def set_status(db: sqlite3.Connection, paper: str, status: str | None) -> None:
    """Put a paper on the reading list with a status, or take it off (None).

    Parameters
    ----------
    db : sqlite3.Connection
    paper : str
        Its id.
    status : str, optional
        One of :data:`kadanoff.atlas.searching.STATUSES`.

    Raises
    ------
    UsageError
        There is no such status.
    """
    if status is None:
        db.execute("DELETE FROM reading WHERE paper = ?", (paper,))
        return
    if status not in STATUSES:
        raise UsageError(f"{status[:40]!r} is no status.", f"Use one of {', '.join(STATUSES)}.")
    db.execute(
        "INSERT INTO reading VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET status = excluded.status",
        (paper, time.time(), status),
    )


def documents(db: sqlite3.Connection, paper: str) -> list[Document]:
    """Return the files and links of a paper, the oldest first."""
    rows = db.execute("SELECT * FROM document WHERE paper = ? ORDER BY added_at", (paper,))
    return [Document(r["address"], r["name"], r["size"]) for r in rows]


def add_link(db: sqlite3.Connection, paper: str, address: str) -> Document:
    """Note where a PDF lies.

    Parameters
    ----------
    db : sqlite3.Connection
    paper : str
        Its id.
    address : str

    Raises
    ------
    UsageError
        It is no http(s) address.
    """
    url = safe_url(address.strip())
    if url is None:
        raise UsageError(
            f"{address[:120]!r} is no address of a file.", "Give one that begins with https://."
        )
    found = Document(url, plain(url.rsplit("/", 1)[-1] or url, 200), None)
    return _keep(db, paper, found)


def add_file(
    db: sqlite3.Connection, folder: Path, paper: str, content: bytes, name: str
) -> Document:
    """Keep a PDF.

    Parameters
    ----------
    folder : Path
        Of the atlas; the file goes to ``files/`` in it.

    Raises
    ------
    UsageError
        It is no PDF.
    StorageError
        The disk is full or read-only.
    """
    if not content.startswith(b"%PDF-"):
        raise UsageError(
            f"{plain(name, 80)!r} is no PDF: it begins with {content[:8]!r}.", "Choose a PDF."
        )
    digest = hashlib.sha256(content).hexdigest()
    place = make_folder(folder / "files", "Choose another folder with --data-dir.")
    if not (place / f"{digest}.pdf").is_file():
        atomic_write(place / f"{digest}.pdf", content)
    return _keep(db, paper, Document(digest, plain(name, 200) or "paper.pdf", len(content)))


def _keep(db: sqlite3.Connection, paper: str, found: Document) -> Document:
    db.execute(
        "INSERT INTO document VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT DO UPDATE SET name = excluded.name",
        (paper, found.address, found.name, found.size, time.time()),
    )
    return found


def remove_document(db: sqlite3.Connection, paper: str, address: str) -> None:
    """Take a file or link off a paper; the file itself stays, for the papers that share it.

    Parameters
    ----------
    db : sqlite3.Connection
    paper : str
        Its id.
    address : str
        The link, or the file's hash.
    """
    db.execute("DELETE FROM document WHERE paper = ? AND address = ?", (paper, address))


def file_of(db: sqlite3.Connection, folder: Path, digest: str) -> tuple[Path, str] | None:
    """Return the path and name of a stored file by its hash, or None.

    Parameters
    ----------
    db : sqlite3.Connection
    folder : Path
        Of the atlas.
    digest : str
        SHA-256 of the file in hexadecimal digits.
    """
    row = db.execute("SELECT name FROM document WHERE address = ?", (digest,)).fetchone()
    path = folder / "files" / f"{digest}.pdf"
    return (path, row[0]) if row and "/" not in digest and path.is_file() else None
