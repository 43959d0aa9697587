"""Connections to the atlas's SQLite file: a pool, and transactions that queue."""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from kadanoff.errors import StorageError

__all__ = ["Database"]

FORMAT = 2

# what format 1 lacks; its full-text index had to be searched from end to end for each change
_TO_2 = """
ALTER TABLE paper ADD COLUMN number INTEGER;
UPDATE paper SET number = rowid;
ALTER TABLE cites ADD COLUMN source TEXT NOT NULL DEFAULT '';
ALTER TABLE comment ADD COLUMN page INTEGER;
ALTER TABLE reading ADD COLUMN status TEXT NOT NULL DEFAULT 'to-read';
DROP TABLE paper_fts;
"""


class Database:
    """One SQLite file in WAL mode: many readers beside one writer, in threads and processes.

    Parameters
    ----------
    path : Path
        The file; made on first use.

    Raises
    ------
    StorageError
        The file cannot be opened, is no database, or was written by a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        # SQLite's own waiting is a poll without order; within one process writers queue here
        self._writing = threading.RLock()
        try:
            with self._connection() as db:
                version = db.execute("PRAGMA user_version").fetchone()[0]
                if version > FORMAT:
                    raise StorageError(
                        f"{str(path)!r} has format {version}; this version reads up to {FORMAT}.",
                        "Update kadanoff, or choose another folder with --data-dir.",
                    )
                if version < FORMAT:
                    self._make(db)
        except sqlite3.Error as error:
            raise StorageError(
                f"Could not open the atlas {str(path)!r}: {error}.",
                "Check that the folder is writable; a damaged file can be moved away and "
                "restored with `kadanoff atlas import EXPORT.json`.",
            ) from error

    def _make(self, db: sqlite3.Connection) -> None:
        """Bring the file to the present format, all of it or nothing, whoever comes first."""
        schema = resources.files("kadanoff.atlas").joinpath("schema.sql").read_text("utf-8")
        db.execute("BEGIN IMMEDIATE")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        for script in ((_TO_2,) if version == 1 else ()) + (schema,) * (version < FORMAT):
            # executescript would commit first
            for statement in _statements(script):
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {FORMAT}")
        db.execute("COMMIT")

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
        db.row_factory = sqlite3.Row
        db.execute("PRAGMA journal_mode = WAL")
        # a comment that was answered with "saved" survives a power cut too
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA foreign_keys = ON")
        return db

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            db = self._idle.get_nowait()
        except queue.Empty:
            db = self._open()
        try:
            yield db
        except BaseException:
            db.close()
            raise
        self._idle.put(db)

    @contextmanager
    def read(self) -> Iterator[sqlite3.Connection]:
        """Give a connection whose queries all see one state of the file."""
        with self._connection() as db:
            db.execute("BEGIN")
            yield db
            db.execute("COMMIT")

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """Give a connection in a transaction: all of the block is kept or nothing.

        Raises
        ------
        StorageError
            The disk is full or read-only, or another process holds the file for a minute.
        """
        try:
            with self._writing, self._connection() as db:
                db.execute("BEGIN IMMEDIATE")
                yield db
                db.execute("COMMIT")
        except sqlite3.OperationalError as error:
            raise StorageError(
                f"Could not write to the atlas {str(self.path)!r}: {error}.",
                "Check the disk's space and rights; nothing was changed.",
            ) from error

    def try_write(self, work: Callable[[sqlite3.Connection], None]) -> bool:
        """Do what a reader would not miss; False where the disk is full or read-only.

        The page without it is better than no page.
        """
        try:
            with self.write() as db:
                work(db)
        except StorageError:
            return False
        return True

    def close(self) -> None:
        """Close the idle connections."""
        while True:
            try:
                self._idle.get_nowait().close()
            except queue.Empty:
                return


def _statements(script: str) -> Iterator[str]:
    """Give the statements of a script one by one."""
    text = ""
    for line in script.splitlines():
        text += line + "\n"
        if sqlite3.complete_statement(text):
            yield text
            text = ""
