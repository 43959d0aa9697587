"""Signs of life in the terminal for work that takes longer than two seconds."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console

from kadanoff.errors import UsageError

__all__ = ["console", "reporting", "waiting"]

Report = Callable[..., None]

DELAY = 2.0  # seconds: a spinner that flashes up for less is noise


def console(*, stderr: bool = False, at_least: int = 0) -> Console:
    """A console that honours ``NO_COLOR``, ``COLUMNS`` and the encoding of its stream.

    Parameters
    ----------
    stderr : bool
        Write there, not to standard output.
    at_least : int
        Columns below which a table would lose numbers: longer lines wrap, which is better.
    """
    stream = sys.stderr if stderr else sys.stdout
    # a pipe has no width: give it the one reports are made for, not 80
    width = None if stream.isatty() else 100
    screen = Console(file=stream, width=width, highlight=False)
    if screen.width < at_least:
        return Console(file=stream, width=at_least, highlight=False)
    return screen


@contextmanager
def waiting(words: str) -> Iterator[Callable[..., None]]:
    """Show a spinner on stderr after two seconds, if someone is looking.

    Yields a callable ``progress(done, total, message=...)`` that puts the count, and what is
    counted, behind the words.
    """
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda *_args, **_info: None
        return
    status = screen.status(words)
    timer = threading.Timer(DELAY, status.start)
    timer.daemon = True
    timer.start()

    def progress(done: int, total: int | None = None, **info: object) -> None:
        what = f"{words}: {info['message']}" if info.get("message") else words
        status.update(f"{what} {done}" + (f" of {total}" if total else ""))

    try:
        yield progress
    finally:
        timer.cancel()
        status.stop()


def reporting(kind: str, words: str) -> AbstractContextManager[Report | None]:
    """Return how a command shows progress on stderr: what ``--progress`` asks for.

    Parameters
    ----------
    kind : {"auto", "none", "json"}
        ``auto``: a bar if someone is looking; ``json``: a line ``{"done", "total", "message"}``
        for each step.
    words : str
        Stands beside the bar until a step brings a message of its own.

    Returns
    -------
    context manager
        Yields ``report(done, total, message=...)``, or None where nothing is shown.

    Raises
    ------
    UsageError
        Another ``kind``.
    """
    if kind not in ("auto", "none", "json"):
        raise UsageError(f"--progress {kind!r} is unknown.", "Use auto, none or json.")
    if kind == "json":
        return nullcontext(_json_line)
    if kind == "none" or not sys.stderr.isatty():
        return nullcontext(None)
    return _bar(words)


def _json_line(done: float, total: float, **info: object) -> None:
    print(json.dumps({"done": done, "total": total, **info}), file=sys.stderr, flush=True)


@contextmanager
def _bar(words: str) -> Iterator[Report]:
    from rich.progress import Progress

    with Progress(console=console(stderr=True), transient=True) as shown:
        task = shown.add_task(words)

        def report(done: float, total: float, **info: object) -> None:
            text = str(info.get("message") or words)
            shown.update(task, completed=done, total=total or None, description=text)

        yield report
