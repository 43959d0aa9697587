"""Comments: threads, edits that never overwrite silently, deletions that keep the replies."""

from __future__ import annotations

import sqlite3
import time
import uuid
from dataclasses import dataclass, field

from kadanoff.atlas import papers
from kadanoff.atlas.identity import plain
from kadanoff.errors import UsageError

__all__ = ["LIMIT", "Comment", "EditConflict", "add", "delete", "edit", "get", "thread"]

LIMIT = 10_000
DEPTH = 6


@dataclass
class Comment:
    """One comment with its replies; a deleted one that has replies keeps its place, empty."""

    id: int
    uid: str
    paper: str
    parent: int | None
    author: str
    body: str
    version: int
    created_at: float
    edited_at: float | None
    deleted: bool
    page: int | None = None
    replies: list[Comment] = field(default_factory=list)


class EditConflict(UsageError):
    """The comment was changed or deleted meanwhile; ``current`` is what it is now."""

    def __init__(self, current: Comment) -> None:
        self.current = current
        state = "deleted" if current.deleted else "edited"
        super().__init__(
            f"This comment was {state} in another window meanwhile (version {current.version}).",
            "Your text is still in the editor: read the new version, then save again.",
        )


def _clean(body: str, author: str) -> tuple[str, str]:
    body = body.replace("\r\n", "\n").replace("\x00", "").strip()
    if not body:
        raise UsageError("A comment needs some text.", "Write something first.")
    if len(body) > LIMIT:
        raise UsageError(
            f"The comment has {len(body)} characters; at most {LIMIT} are kept.", "Split it."
        )
    return body, plain(author, 80) or "Anonymous"


def _from_row(row: sqlite3.Row) -> Comment:
    deleted = row["deleted_at"] is not None
    return Comment(
        id=row["id"],
        uid=row["uid"],
        paper=row["paper"],
        parent=row["parent"],
        author="" if deleted else row["author"],
        body="" if deleted else row["body"],
        version=row["version"],
        created_at=row["created_at"],
        edited_at=row["edited_at"],
        deleted=deleted,
        page=row["page"],
    )


def get(db: sqlite3.Connection, number: int) -> Comment:
    """Return comment ``number``.

    Raises
    ------
    UsageError
        There is none.
    """
    row = db.execute("SELECT * FROM comment WHERE id = ?", (number,)).fetchone()
    if row is None:
        raise UsageError(f"There is no comment {number}.", "Reload the page.")
    return _from_row(row)


def thread(db: sqlite3.Connection, paper: str) -> list[Comment]:
    """Return the comments on ``paper`` as trees, oldest first."""
    rows = db.execute("SELECT * FROM comment WHERE paper = ? ORDER BY id", (paper,)).fetchall()
    found = {row["id"]: _from_row(row) for row in rows}
    roots: list[Comment] = []
    for comment in found.values():
        above = found.get(comment.parent) if comment.parent else None
        (above.replies if above else roots).append(comment)

    def visible(comments: list[Comment]) -> list[Comment]:
        for comment in comments:
            comment.replies = visible(comment.replies)
        return [c for c in comments if not c.deleted or c.replies]

    return visible(roots)


def add(
    db: sqlite3.Connection,
    paper: str,
    body: str,
    author: str = "",
    parent: int | None = None,
    page: int | None = None,
) -> Comment:
    """Keep a new comment, or a reply to ``parent``; replies nest at most six deep.

    Parameters
    ----------
    page : int, optional
        The page of the paper's PDF that it is about.

    Raises
    ------
    UsageError
        Empty or too long, or the parent is not a comment on this paper.
    """
    body, author = _clean(body, author)
    if parent is not None:
        above = get(db, parent)
        if above.paper != paper:
            raise UsageError(
                f"Comment {parent} is not on this paper.", "Reply on that paper's page."
            )
        depth, walk = 1, above
        while walk.parent is not None:
            depth, walk = depth + 1, get(db, walk.parent)
        if depth >= DEPTH:
            parent = above.parent
    cursor = db.execute(
        "INSERT INTO comment (uid, paper, parent, author, body, created_at, page)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (uuid.uuid4().hex, paper, parent, author, body, time.time(), page),
    )
    papers.index(db, paper)
    return get(db, int(cursor.lastrowid or 0))


def edit(db: sqlite3.Connection, number: int, body: str, version: int) -> Comment:
    """Replace the text of a comment that is still at ``version``; the old text is kept.

    Parameters
    ----------
    db : sqlite3.Connection
    number : int
        Of the comment.
    body : str
        Markdown.
    version : int
        The one that the editor has seen.

    Raises
    ------
    EditConflict
        It was changed meanwhile.
    UsageError
        There is no such comment, or the text is empty or too long.
    """
    now = get(db, number)
    body, _ = _clean(body, now.author)
    if now.deleted or now.version != version:
        raise EditConflict(now)
    _keep_old(db, now)
    db.execute(
        "UPDATE comment SET body = ?, version = version + 1, edited_at = ? WHERE id = ?",
        (body, time.time(), number),
    )
    papers.index(db, now.paper)
    return get(db, number)


def delete(db: sqlite3.Connection, number: int, version: int) -> Comment:
    """Take a comment off the page; its text stays in the history, its replies stay visible.

    Parameters
    ----------
    db : sqlite3.Connection
    number : int
        Of the comment.
    version : int
        The one that the reader has seen.

    Raises
    ------
    EditConflict
        It was changed meanwhile.
    """
    now = get(db, number)
    if now.deleted:
        return now
    if now.version != version:
        raise EditConflict(now)
    _keep_old(db, now)
    db.execute(
        "UPDATE comment SET deleted_at = ?, version = version + 1 WHERE id = ?",
        (time.time(), number),
    )
    papers.index(db, now.paper)
    return get(db, number)


def _keep_old(db: sqlite3.Connection, comment: Comment) -> None:
    db.execute(
        "INSERT INTO comment_history VALUES (?, ?, ?, ?)",
        (comment.id, comment.version, comment.body, time.time()),
    )
