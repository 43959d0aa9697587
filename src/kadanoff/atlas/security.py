"""What stands between the page and the rest of the world, as one ASGI middleware.

Host checked (DNS rebinding), origin checked (CSRF), a token where the page leaves the machine,
bodies bounded and never decompressed, a Content-Security-Policy without inline anything.
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlencode, urlsplit

__all__ = ["CSP", "DOCUMENT", "SEALED", "Guard", "is_loopback"]

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "font-src 'self'; connect-src 'self'; manifest-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'; object-src 'none'"
)
# for documents that come with their own style and nothing else: figures, reports of studies
SEALED = "default-src 'none'; style-src 'unsafe-inline'; font-src data:; img-src data:; sandbox"
# for PDFs: the browser's own viewer may show them, nothing in them may run or ask for anything
DOCUMENT = (
    "default-src 'none'; style-src 'unsafe-inline'; object-src 'self'; img-src 'self' data:; "
    "frame-ancestors 'none'; form-action 'none'; base-uri 'none'"
)
_HEADERS = {
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # not no-referrer: that would make browsers send "Origin: null" with our own forms
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}
COOKIE = "kadanoff_atlas"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


def is_loopback(host: str) -> bool:
    """Say whether ``host`` names this machine only."""
    if host.casefold() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _host_of(authority: str) -> str | None:
    if not authority or any(c in authority for c in "/@\\ ?#"):
        return None
    try:
        parts = urlsplit(f"//{authority}")
        return parts.hostname if parts.port is None or parts.port else None
    except ValueError:
        return None


class Guard:
    """Refuses what the page itself would never send.

    Parameters
    ----------
    app : ASGI application
    token : str, optional
        Secret that every request must bear (cookie, ``Authorization: Bearer``, or once as
        ``?token=``); needed as soon as the server listens beyond loopback.
    hosts : tuple of str
        Names besides loopback under which the server may be addressed. With a token, numeric
        addresses are accepted too: a rebinding attack needs a name.
    body_limit : int
        Largest body in bytes.
    larger : mapping of str to int, optional
        Larger limits for what begins with a path, say for a library that is imported.
    """

    def __init__(
        self,
        app: Any,
        token: str | None = None,
        hosts: tuple[str, ...] = (),
        body_limit: int = 8_000_000,
        larger: Mapping[str, int] | None = None,
    ) -> None:
        self.app = app
        self.token = token
        self.hosts = {host.casefold() for host in hosts}
        self.body_limit = body_limit
        self.larger = dict(larger or {})

    def _limit(self, path: str) -> int:
        return next(
            (n for start, n in self.larger.items() if path.startswith(start)), self.body_limit
        )

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers: dict[str, str] = {}
        for key, value in scope["headers"]:
            name = key.decode("latin-1").lower()
            # two Host headers are an attempt to be two hosts
            headers[name] = (
                f"{headers[name]}, {value!r}" if name in headers else value.decode("latin-1")
            )

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                present = {k.lower() for k, _ in message["headers"]}
                extra = [(k.encode(), v.encode()) for k, v in _HEADERS.items()]
                message["headers"] = [
                    *message["headers"],
                    *(item for item in extra if item[0] not in present),
                ]
                if b"cache-control" not in present:
                    message["headers"].append((b"cache-control", b"no-store"))
            await send(message)

        refusal = self._refusal(scope, headers)
        if refusal:
            if refusal[0] == 413:
                await _drain(receive, self._limit(scope["path"]))
            await _reply(answer, *refusal)
            return
        if self.token and not self._bears_token(headers):
            given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token", [""])[0]
            if scope["method"] == "GET" and self._is_token(given):
                cookie = f"{COOKIE}={quote(self.token)}; Path=/; HttpOnly; SameSite=Strict"
                there = _without_token(scope)
                await _reply(answer, 303, "", {"location": there, "set-cookie": cookie})
            else:
                await _reply(
                    answer,
                    401,
                    "This atlas asks for its token: open the address that was "
                    "printed when it started.",
                )
            return
        await self.app(scope, _bounded(receive, self._limit(scope["path"])), answer)

    def _refusal(self, scope: Any, headers: dict[str, str]) -> tuple[int, str] | None:
        host = _host_of(headers.get("host", ""))
        if host is None or not self._known(host):
            return 421, f"This server does not answer to the name {str(host)[:100]!r}."
        if "content-encoding" in headers:
            return 415, "Compressed bodies are not accepted: send it as it is."
        length = headers.get("content-length", "0")
        if not length.isdigit():
            return 400, "The Content-Length is no number."
        if int(length) > (limit := self._limit(scope["path"])):
            return 413, f"The body is too large: at most {limit} bytes."
        if scope["method"] in ("GET", "HEAD"):
            return None
        origin = headers.get("origin")
        if origin is not None:
            if urlsplit(origin).netloc.casefold() != headers["host"].casefold():
                return 403, "This request comes from another page."
        elif headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return 403, "This request comes from another page."
        elif "sec-fetch-site" not in headers and headers.get("content-type", "").split(";")[0] in (
            *("application/x-www-form-urlencoded", "multipart/form-data", "text/plain"),
        ):
            # what a form of another site could send through an old browser
            return 403, "A form needs an Origin header; programs send application/json."
        return None

    def _known(self, host: str) -> bool:
        if is_loopback(host) or host.casefold() in self.hosts:
            return True
        if not self.token:
            return False
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return False
        return True

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), (self.token or "").encode())

    def _bears_token(self, headers: dict[str, str]) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.casefold() == "bearer" and self._is_token(bearer.strip()):
            return True
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return morsel is not None and self._is_token(morsel.value)


def _without_token(scope: Any) -> str:
    """Return the address that was asked for without the token: on this server, whatever it was."""
    # "//host/" would be an address on another machine
    path = "/" + quote(scope["path"].lstrip("/\\"))
    pairs = parse_qsl(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True)
    rest = urlencode([(k, v) for k, v in pairs if k != "token"])
    return f"{path}?{rest}" if rest else path


def _bounded(receive: Receive, limit: int) -> Receive:
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        seen += len(message.get("body", b""))
        if seen > limit:
            from starlette.exceptions import HTTPException

            await _drain(receive, limit, message)
            raise HTTPException(413, f"The body is too large: at most {limit} bytes.")
        return message

    return bounded


async def _drain(receive: Receive, limit: int, message: Message | None = None) -> None:
    # a client that is cut off while it sends never sees the answer; but there is an end to it
    seen = 0
    while seen < 4 * limit:
        message = message or await receive()
        seen += len(message.get("body", b""))
        if not message.get("more_body", False):
            return
        message = None


async def _reply(send: Send, status: int, text: str, headers: dict[str, str] | None = None) -> None:
    pairs = {"content-type": "text/plain; charset=utf-8", "connection": "close", **(headers or {})}
    pairs["content-length"] = str(len(text.encode()))
    encoded = [(k.encode(), v.encode()) for k, v in pairs.items()]
    await send({"type": "http.response.start", "status": status, "headers": encoded})
    await send({"type": "http.response.body", "body": text.encode()})
