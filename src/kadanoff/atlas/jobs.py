"""Studies and imports run as processes of their own, known to the database.

A job writes its progress to a file in its folder and its exit code beside it, so that neither a
reload of the page nor a restart of the server loses it: whoever asks reads the files.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kadanoff.atlas.database import Database
from kadanoff.atlas.identity import plain
from kadanoff.errors import UsageError
from kadanoff.files import make_folder

__all__ = ["Job", "Jobs"]

AT_ONCE = 2


@dataclass(frozen=True)
class Job:
    """A run: ``status`` is running, done, failed or cancelled."""

    id: str
    kind: str
    name: str
    status: str
    done: float
    total: float
    message: str
    started_at: float
    finished_at: float | None

    def json(self) -> dict[str, Any]:
        """Return the job as JSON values."""
        return asdict(self)


class Jobs:
    """Starts, watches and cancels jobs.

    Parameters
    ----------
    database : Database
    folder : Path
        Each job gets a folder in it.
    """

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.folder = folder

    def start(self, kind: str, name: str, command: Any) -> Job:
        """Start ``command(out_folder) -> argv``; if the same job is running, return that one.

        Parameters
        ----------
        kind, name : str
            What sort of job, and which of them.
        command : callable
            From the folder for its results to the words of the command.

        Raises
        ------
        UsageError
            Two jobs are running already.
        """
        for job in self.running():
            if (job.kind, job.name) == (kind, name):
                return job
        with self.database.write() as db:
            rows = db.execute("SELECT kind, name, id FROM job WHERE status = 'running'").fetchall()
            same = next((r["id"] for r in rows if (r["kind"], r["name"]) == (kind, name)), None)
            if same is None and len(rows) >= AT_ONCE:
                raise UsageError(
                    f"{len(rows)} runs are going on already.", "Wait for one, or cancel one."
                )
            if same is None:
                number = uuid.uuid4().hex
                out = make_folder(self.folder / number, "Choose another place with --data-dir.")
                process = _launch(command(out), out)
                db.execute(
                    "INSERT INTO job (id, kind, name, status, folder, pid, born, started_at)"
                    " VALUES (?, ?, ?, 'running', ?, ?, ?, ?)",
                    (number, kind, name, str(out), process, _born(process), time.time()),
                )
                same = number
        found = self.get(same)
        assert found is not None
        return found

    def get(self, number: str) -> Job | None:
        """Return the job as it is now, or None."""
        with self.database.read() as db:
            row = db.execute("SELECT * FROM job WHERE id = ?", (number,)).fetchone()
        return self._look(row) if row else None

    def running(self) -> list[Job]:
        """Return the jobs that still run."""
        with self.database.read() as db:
            rows = db.execute("SELECT * FROM job WHERE status = 'running'").fetchall()
        return [job for row in rows if (job := self._look(row)).status == "running"]

    def latest(self, kind: str, name: str, status: str | None = None) -> Job | None:
        """Return the newest job of this name (with this status), or None.

        Parameters
        ----------
        kind, name : str
            What sort of job, and which of them.
        status : str, optional
        """
        with self.database.read() as db:
            rows = db.execute(
                "SELECT * FROM job WHERE kind = ? AND name = ? ORDER BY started_at DESC LIMIT 50",
                (kind, name),
            ).fetchall()
        found = (self._look(row) for row in rows)
        return next((job for job in found if status in (None, job.status)), None)

    def out(self, number: str) -> Path | None:
        """Return the folder of a job, or None."""
        with self.database.read() as db:
            row = db.execute("SELECT folder FROM job WHERE id = ?", (number,)).fetchone()
        return Path(row[0]) if row else None

    def cancel(self, number: str) -> Job | None:
        """Stop a job and all its processes; a job that has ended stays as it is."""
        with self.database.read() as db:
            row = db.execute("SELECT * FROM job WHERE id = ?", (number,)).fetchone()
        if row is None:
            return None
        if self._look(row).status == "running":
            # the verdict first: whoever looks meanwhile must not call it failed
            with self.database.write() as db:
                _end(db, number, "cancelled", "Cancelled.")
            _stop(row["pid"], row["born"])
        return self.get(number)

    def _look(self, row: sqlite3.Row) -> Job:
        folder = Path(row["folder"])
        done, total, message, tail = _progress(folder)
        status, finished = row["status"], row["finished_at"]
        if status == "running":
            alive = _born(row["pid"]) == row["born"] and row["born"] is not None
            code = _exit_code(folder)
            if code is None and not alive:
                # between the two looks it may have ended in order
                code = _exit_code(folder)
                code = -1 if code is None else code
            if code is not None:
                # exit code 1 is a finding (a claim that fails), not a failure of the run
                good = code == 0 or (code == 1 and (folder / "result.json").is_file())
                status, finished = ("done" if good else "failed"), time.time()
                message = "Done." if good else (tail or f"The run ended with code {code}.")
                # a disk that is full must not keep a reader from seeing it
                self.database.try_write(lambda db: _end(db, row["id"], status, message))
        else:
            message = row["message"] or message
        return Job(
            id=row["id"],
            kind=row["kind"],
            name=row["name"],
            status=status,
            done=done,
            total=total,
            message=message,
            started_at=row["started_at"],
            finished_at=finished,
        )


def _end(db: sqlite3.Connection, number: str, status: str, message: str) -> None:
    db.execute(
        "UPDATE job SET status = ?, message = ?, finished_at = ?"
        " WHERE id = ? AND status = 'running'",
        (status, message, time.time(), number),
    )


def _launch(argv: list[str], out: Path) -> int:
    with (out / "log.txt").open("wb") as log, (out / "progress.jsonl").open("wb") as progress:
        process = subprocess.Popen(
            [sys.executable, "-m", "kadanoff.atlas.worker", str(out), "--", *argv],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=progress,
            # a group of its own: it outlives the server, and can be cancelled as a whole
            start_new_session=True,
        )
    # reaped by _born; a warning at garbage collection would be about a process we mean to keep
    process.returncode = 0
    return process.pid


def _born(pid: int | None) -> str | None:
    """Return a mark of the process that dies with it: its start time; None if it is gone."""
    if pid is None:
        return None
    try:
        # if it is a child of ours that has ended, let it go
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return None
    except (ChildProcessError, AttributeError, OSError):
        pass
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError):
        pass
    if sys.platform.startswith("linux"):
        return None
    try:
        os.kill(pid, 0)
    except OSError:
        return None
    return "alive"


def _stop(pid: int, born: str | None) -> None:
    for sign in (signal.SIGTERM, getattr(signal, "SIGKILL", signal.SIGTERM)):
        if _born(pid) != born:
            break
        try:
            os.killpg(pid, sign)
        except (OSError, AttributeError):
            return
        for _ in range(40):
            if _born(pid) != born:
                break
            time.sleep(0.05)
    # the worker may have gone while what it started has not
    try:
        os.killpg(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    except (OSError, AttributeError):
        return


def _exit_code(folder: Path) -> int | None:
    try:
        return int((folder / "exit").read_text())
    except (OSError, ValueError):
        return None


def _progress(folder: Path) -> tuple[float, float, str, str]:
    """Return (done, total, message, last line that is no progress) from the end of the file."""
    try:
        with (folder / "progress.jsonl").open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - 20_000))
            lines = stream.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return 0.0, 0.0, "", ""
    done = total = 0.0
    message = tail = ""
    for line in lines:
        try:
            item = json.loads(line)
            done, total = float(item["done"]), float(item["total"])
            text = item.get("message") or item.get("stage") or item.get("label") or ""
            message = plain(str(text), 300)
        except (ValueError, KeyError, TypeError, AttributeError):
            # what the command line says to a terminal, without its mark
            tail = plain(re.sub(r"^(error|Error): ", "", line), 500) or tail
    return done, total, message, tail
