"""Signs of life in the terminal for work that takes longer than two seconds."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

__all__ = ["console", "waiting"]

DELAY = 2.0  # seconds: a spinner that flashes up for less is noise


def console(*, stderr: bool = False) -> Console:
    """A console that honours ``NO_COLOR``, ``COLUMNS`` and the encoding of its stream."""
    stream = sys.stderr if stderr else sys.stdout
    # a pipe has no width: give it the one reports are made for, not 80
    width = None if stream.isatty() else 100
    return Console(file=stream, width=width, highlight=False)


@contextmanager
def waiting(words: str) -> Iterator[Callable[..., None]]:
    """Show a spinner on stderr after two seconds, if someone is looking.

    Yields a callable ``progress(done, total)`` that puts the count behind the words.
    """
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield lambda *_args, **_info: None
        return
    status = screen.status(words)
    timer = threading.Timer(DELAY, status.start)
    timer.daemon = True
    timer.start()

    def progress(done: int, total: int | None = None, **_info: object) -> None:
        status.update(f"{words} {done}" + (f" of {total}" if total else ""))

    try:
        yield progress
    finally:
        timer.cancel()
        status.stop()
