"""An atlas on a free port of this machine, and studies small enough for a test."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from kadanoff.atlas.server import create_app, listen
from kadanoff.atlas.store import Store
from kadanoff.atlas.studies import StudyEntry

TINY = Path(__file__).with_name("tiny_study.py")


class TinyStudies:
    """One study, of ``steps`` steps."""

    def __init__(self, steps: int = 3, pause: float = 0.02, home: Path | None = None) -> None:
        self.steps, self.pause, self.home = steps, pause, home

    def all(self) -> list[StudyEntry]:
        return [StudyEntry("tiny", "Tiny study", "arXiv:2104.00008")]

    def kept(self, name: str) -> Path | None:
        return self.home

    def command(self, name: str, out: Path) -> list[str]:
        return [sys.executable, str(TINY), str(out), str(self.steps), str(self.pause)]


@contextmanager
def served(
    store: Store, studies: TinyStudies | None = None, token: str | None = None
) -> Iterator[str]:
    """Serve ``store``; gives the address."""
    sock: socket.socket = listen("127.0.0.1", 0)
    app = create_app(store, studies or TinyStudies(), token=token)
    config = uvicorn.Config(app, log_level="error", access_log=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        sock.close()
