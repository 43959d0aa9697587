"""The web application and the server that runs it."""

from __future__ import annotations

import mimetypes
import socket
from importlib import resources
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException

from kadanoff import __version__
from kadanoff.atlas import api, pages
from kadanoff.atlas.api.desk import note_json
from kadanoff.atlas.api.shapes import comment_json
from kadanoff.atlas.comments import EditConflict
from kadanoff.atlas.notebook import FILE_LIMIT, NoteConflict
from kadanoff.atlas.security import Guard
from kadanoff.atlas.site import Missing, Site
from kadanoff.atlas.store import Store
from kadanoff.atlas.studies import Registry, StudySource
from kadanoff.errors import KadanoffError, UsageError

__all__ = ["create_app", "listen", "serve"]

_MEDIA = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def create_app(
    store: Store,
    studies: StudySource | None = None,
    token: str | None = None,
    hosts: tuple[str, ...] = (),
) -> FastAPI:
    """Build the application.

    Parameters
    ----------
    store : Store
    studies : StudySource, optional
        Where the studies come from; the installed ones by default.
    token : str, optional
        Secret that every request must bear.
    hosts : tuple of str
        Names, besides loopback, under which the server may be addressed.
    """
    app = FastAPI(title="Kadanoff atlas", version=__version__, docs_url=None, redoc_url=None)
    app.state.site = Site(store, studies or Registry())
    app.include_router(api.router)
    app.include_router(pages.router)
    app.add_api_route("/static/{path:path}", _static, include_in_schema=False)
    app.add_exception_handler(Missing, lambda r, e: _problem(r, 404, str(e), ""))
    app.add_exception_handler(EditConflict, _conflict)
    app.add_exception_handler(NoteConflict, _note_conflict)
    app.add_exception_handler(KadanoffError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    # a library of twenty thousand works, and a PDF
    larger = {"/api/drafts": 64_000_000, "/api/files/": FILE_LIMIT}
    app.add_middleware(Guard, token=token, hosts=hosts, larger=larger)
    return app


def _static(path: str) -> Response:
    # only what the package holds, named piece by piece: ".." is never a piece
    item: Any = resources.files("kadanoff.atlas").joinpath("static")
    for piece in path.split("/"):
        item = next((i for i in item.iterdir() if i.name == piece), None) if item.is_dir() else None
        if item is None:
            raise Missing("There is no such file.")
    if not item.is_file():
        raise Missing("There is no such file.")
    ending = "." + item.name.rsplit(".", 1)[-1]
    media = _MEDIA.get(ending) or mimetypes.guess_type(item.name)[0] or "text/plain"
    return Response(item.read_bytes(), media_type=media, headers={"cache-control": "no-cache"})


def _problem(request: Request, status: int, error: str, remedy: str, **more: Any) -> Response:
    if request.url.path.startswith("/api/"):
        return JSONResponse({"error": error, "remedy": remedy, **more}, status)
    return pages.render("error.html", status, code=status, error=error, remedy=remedy)


def _conflict(request: Request, error: Any) -> Response:
    current = comment_json(error.current)
    return _problem(request, 409, error.message, error.remedy, current=current)


def _note_conflict(request: Request, error: Any) -> Response:
    return _problem(request, 409, error.message, error.remedy, current=note_json(error.current))


def _refused(request: Request, error: Any) -> Response:
    status = 400 if isinstance(error, UsageError) else 503
    return _problem(request, status, error.message, error.remedy)


def _invalid(request: Request, error: Any) -> Response:
    said = "; ".join(
        f"{'.'.join(str(p) for p in item['loc'])}: {item['msg']}" for item in error.errors()[:5]
    )
    said = said.encode("utf-8", "replace").decode()
    return _problem(
        request, 422, f"The request is not as described ({said}).", "See /openapi.json."
    )


def _http(request: Request, error: Any) -> Response:
    response = _problem(request, error.status_code, str(error.detail), "")
    response.headers.update(error.headers or {})
    return response


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket; port 0 takes any free one.

    Raises
    ------
    UsageError
        The address is taken or is not ours.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen(512)
    except OSError as error:
        raise UsageError(
            f"Cannot listen on {host}:{port}: {error.strerror or error}.",
            "Choose another port with --port (0 takes any that is free).",
        ) from None
    return sock


def serve(app: FastAPI, sock: socket.socket) -> None:
    """Serve until interrupted."""
    import uvicorn

    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        timeout_graceful_shutdown=2,
        server_header=False,
        # one machine, one reader: foreign forwarding headers mean nothing here
        proxy_headers=False,
    )
    uvicorn.Server(config).run(sockets=[sock])
