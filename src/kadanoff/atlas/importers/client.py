"""Fetching politely: cache, back-off as the server asks, bounded answers, no surprises."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx

from kadanoff import __version__
from kadanoff.atlas.database import Database
from kadanoff.errors import AnalysisError

__all__ = ["Client", "ImportFailed", "NotFound", "Offline"]

LARGEST = 30_000_000
TRIES = 5


class ImportFailed(AnalysisError):
    """A source did not answer as it should; what was fetched before is kept."""


class Offline(ImportFailed):
    """There is no network, or the source cannot be reached."""


class NotFound(ImportFailed):
    """The source does not know this paper."""


class Client:
    """A client for one source.

    Parameters
    ----------
    database : Database
        Keeps what was fetched; asking again within ``fresh`` seconds costs no request.
    base : str
        Address of the API; redirects leave it nowhere.
    headers : dict, optional
        An API key, say.
    pause : float
        Seconds between two requests.
    """

    def __init__(
        self,
        database: Database,
        base: str,
        headers: dict[str, str] | None = None,
        pause: float = 0.0,
        fresh: float = 7 * 86_400.0,
        sleep: Callable[[float], None] = time.sleep,
        refresh: bool = False,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.database = database
        self.base = base.rstrip("/")
        self.host = urlsplit(self.base).hostname or self.base
        self.pause = pause
        self.fresh = fresh
        self.sleep = sleep
        self.refresh = refresh
        self._last = 0.0
        self._http = httpx.Client(
            headers={"user-agent": f"kadanoff-atlas/{__version__}", **(headers or {})},
            timeout=httpx.Timeout(30.0, connect=10.0),
            # a redirect could lead to an address inside the reader's network
            follow_redirects=False,
            transport=transport,
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        """Return the JSON at ``path``, from the cache if it is fresh.

        Raises
        ------
        NotFound
            The source answers 404.
        Offline
            It cannot be reached.
        ImportFailed
            It goes on refusing, or its answer is no JSON.
        """
        return self._ask(path, query, json.loads)

    def text(self, path: str, **query: Any) -> str:
        """Return the text at ``path``; caches and raises as :meth:`get` does."""
        return self._ask(path, query, lambda content: content.decode("utf-8"))

    def _ask(self, path: str, query: dict[str, Any], read: Callable[[bytes], Any]) -> Any:
        address = httpx.URL(f"{self.base}/{path}", params=query or None)
        # whatever an identifier held, it is asked of this host, below this path
        if not str(address).startswith(self.base) or "/../" in f"{address.raw_path.decode()}/":
            raise ImportFailed(f"{path[:80]!r} leads away from {self.base}.", "Check the id.")
        if not self.refresh:
            with self.database.read() as db:
                row = db.execute("SELECT * FROM fetched WHERE url = ?", (str(address),)).fetchone()
            if row and time.time() - row["fetched_at"] < self.fresh:
                return json.loads(row["body"])
        body = self._fetch(str(address), read)
        with self.database.write() as db:
            db.execute(
                "INSERT OR REPLACE INTO fetched VALUES (?, ?, ?)",
                (str(address), json.dumps(body), time.time()),
            )
        return body

    def _fetch(self, address: str, read: Callable[[bytes], Any]) -> Any:
        said = ""
        for attempt in range(TRIES):
            wait = 0.5 * 2**attempt
            self.sleep(max(0.0, self._last + self.pause - time.monotonic()))
            self._last = time.monotonic()
            try:
                with self._http.stream("GET", address) as response:
                    status = response.status_code
                    content = self._bounded(response)
                    asked = _retry_after(response.headers.get("retry-after"))
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol) as error:
                raise Offline(
                    f"{self.host} cannot be reached ({error}).",
                    "Without a network the atlas keeps what it has; try again later.",
                ) from None
            except (httpx.HTTPError, httpx.InvalidURL) as error:
                # a body that breaks off, a time-out: worth another try
                said = f"{type(error).__name__}: {error}"
                self.sleep(wait)
                continue
            if status == 200:
                try:
                    return read(bytes(content))
                except (ValueError, RecursionError) as error:
                    said = f"an answer that cannot be read ({str(error)[:80]})"
                    self.sleep(wait)
                    continue
            said = f"status {status}{_message(content)}"
            if status == 404:
                raise NotFound(f"{self.host} does not know this paper ({said}).", "Check the id.")
            if status != 429 and status < 500:
                key = "Set an API key (docs/atlas.md)." if status in (401, 403) else ""
                raise ImportFailed(f"{self.host} refused: {said}.", key or "Check the id.")
            self.sleep(wait if asked is None else min(asked, 120.0))
        raise ImportFailed(
            f"{self.host} did not answer properly in {TRIES} tries; the last was {said}.",
            "What came before is kept: the same command resumes later. An API key raises limits.",
        )

    def _bounded(self, response: httpx.Response) -> bytes:
        # iter_bytes decompresses piece by piece: a bomb is noticed while it is small
        content = bytearray()
        for piece in response.iter_bytes(65_536):
            content += piece
            if len(content) > LARGEST:
                raise ImportFailed(
                    f"{self.host} sends more than {LARGEST // 10**6} MB.", "This is no answer."
                )
        return bytes(content)


def _message(content: bytes) -> str:
    from kadanoff.atlas.identity import plain

    try:
        answer = json.loads(content)
        text = answer.get("error") or answer.get("message") or ""
        return f" ({plain(str(text), 120)})" if text else ""
    except (ValueError, AttributeError, RecursionError):
        return ""


def _retry_after(value: str | None) -> float | None:
    if not value:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
