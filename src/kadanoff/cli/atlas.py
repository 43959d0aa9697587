"""``kadanoff atlas``: the map of papers, on a local page."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonFlag, JsonOptions, Output
from kadanoff.cli.panels import add as register
from kadanoff.errors import DataError, UsageError, require_extra

if TYPE_CHECKING:
    import sqlite3

    from kadanoff.atlas.store import Store

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    invoke_without_command=True,
    help="Serve the map of papers on a local page, or grow, export and import it.",
    epilog="Example: `kadanoff atlas` opens the page; `kadanoff atlas add arXiv:2104.00008`",
)

DataDir = Annotated[
    Path | None, typer.Option("--data-dir", help="Folder of the atlas (its database and runs).")
]


def _store(folder: Path | None) -> Store:
    for module in ("fastapi", "uvicorn", "jinja2", "nh3", "httpx", "markdown_it", "latex2mathml"):
        require_extra(module, "atlas")
    from kadanoff.atlas.store import Store

    return Store(folder)


def serve(
    ctx: typer.Context,
    host: Annotated[
        str, typer.Option(help="Address to listen on; beyond loopback a token is required.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8421,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    token: Annotated[
        str | None,
        typer.Option(envvar="KADANOFF_ATLAS_TOKEN", help="Secret of visitors; made up if absent."),
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="Host name under which others reach it.")
    ] = None,
    data_dir: DataDir = None,
    as_json: JsonFlag = False,
) -> None:
    """Serve the map of papers on a local page, or grow, export and import it."""
    if ctx.invoked_subcommand:
        return
    output = Output("atlas", JsonOptions(as_json))
    store = _store(data_dir)
    from kadanoff.atlas.security import is_loopback
    from kadanoff.atlas.server import create_app, listen
    from kadanoff.atlas.server import serve as run

    if not is_loopback(host):
        import secrets

        token = token or secrets.token_urlsafe(24)
        if len(token) < 16:
            raise UsageError(
                f"The token has {len(token)} characters; at least 16 keep guessers out.",
                "Leave --token away to have one made.",
            )
    sock = listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    address = f"http://{shown}:{sock.getsockname()[1]}/"
    entry = f"{address}?token={token}" if token else address
    # whoever waits for the address reads one line
    output.write({"url": entry, "data_dir": str(store.folder), "pid": os.getpid()}, one_line=True)
    if output.for_people:
        typer.echo(f"The atlas is at {entry}  (Ctrl+C ends it; kept in {store.folder})")
    sys.stdout.flush()
    if browser:
        import threading
        import webbrowser

        # the socket listens already: the browser may come before the server answers
        threading.Thread(target=webbrowser.open, args=(entry,), daemon=True).start()
    try:
        run(create_app(store, token=token, hosts=tuple(name or ())), sock)
    except KeyboardInterrupt:
        pass
    finally:
        store.close()


def add(
    what: Annotated[
        str | None,
        typer.Argument(help="arXiv id, DOI, Semantic Scholar or OpenAlex id, or a file."),
    ] = None,
    *,
    result: JsonOptions,
    data_dir: DataDir = None,
    limit: Annotated[
        int,
        typer.Option(min=0, help="At most so many citations and references each; 0: the paper."),
    ] = 1000,
    refresh: Annotated[bool, typer.Option(help="Fetch anew what is in the cache.")] = False,
    draft: Annotated[
        str | None, typer.Option(help="Fetch the ids of an import that the page prepared.")
    ] = None,
    progress: opt.Progress = "auto",
) -> None:
    """Add a paper with its citations and references, or the papers of a BibTeX/RIS/CSL file."""
    from kadanoff.style.progress import reporting

    if not what and not draft:
        raise UsageError("Nothing to add.", "Give an arXiv id, a DOI or a file.")
    output = Output("atlas add", result)
    shown = reporting(progress, "Importing")
    store = _store(data_dir)
    from kadanoff.atlas.growing import add_draft, add_file, add_paper, is_file

    try:
        if what and is_file(what):
            outcome = add_file(store, Path(what))
        else:
            with shown as report:
                outcome = (
                    add_draft(store, draft, progress=report)
                    if draft
                    else add_paper(store, what or "", limit, refresh, progress=report)
                )
    finally:
        store.close()
    output.write(outcome.json())
    if output.for_people:
        typer.echo(outcome.text())
    output.say_where()
    if not outcome.complete:
        raise typer.Exit(3 if outcome.problems else 1)


def export_(
    file: Annotated[
        Path | None, typer.Argument(help="Where to; the ending decides: .json, .bib, .ris, .csv.")
    ] = None,
    *,
    result: JsonOptions,
    data_dir: DataDir = None,
) -> None:
    """Write everything as JSON; or the papers as .bib, .ris or .csv."""
    from kadanoff.atlas import backup
    from kadanoff.files import atomic_write

    output = Output("atlas export", result)
    ending = file.suffix.lower() if file else ".json"
    if ending not in (".json", *_FORMATS):
        raise UsageError(f"I do not write {ending!r} files.", "Use .json, .bib, .ris or .csv.")
    store = _store(data_dir)
    try:
        with store.read() as db:
            count = db.execute("SELECT count(*) FROM paper").fetchone()[0]
            document = backup.dump(db) if ending == ".json" else {}
            text = _lines(db, ending)
    finally:
        store.close()
    if document:
        text = json.dumps(document, indent=1, ensure_ascii=False) + "\n"
    if file is None:
        output.write(document)
        if output.for_people:
            typer.echo(text, nl=False)
        return
    atomic_write(file, text)
    output.write({"file": str(file), "papers": count})
    if output.for_people:
        typer.echo(f"Wrote {count} papers to {file}.")


_FORMATS = {".bib": "bibtex", ".ris": "ris", ".csv": "csv"}


def _lines(db: sqlite3.Connection, ending: str) -> str:
    """The papers as BibTeX, as RIS or as a table; nothing for another ending."""
    from kadanoff.atlas import bibliography, exports, papers

    if ending not in _FORMATS:
        return ""
    ids = [row[0] for row in db.execute("SELECT id FROM paper ORDER BY added_at, number")]
    known = papers.many(db, ids)
    rows = [(known[name], "") for name in ids]
    return exports.write(_FORMATS[ending], rows, bibliography.entries(db, ids))


def import_(
    file: Annotated[Path, typer.Argument(help="What `kadanoff atlas export` wrote.")],
    result: JsonOptions,
    data_dir: DataDir = None,
) -> None:
    """Add an export to this atlas; doing it twice changes nothing."""
    from kadanoff.atlas import backup
    from kadanoff.atlas.importers.files import read_text

    output = Output("atlas import", result)
    text = read_text(file)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{str(file)!r} is no JSON: {str(error)[:200]}.", "Export it again."
        ) from None
    store = _store(data_dir)
    try:
        with store.write() as db:
            counts = backup.restore(db, document)
    finally:
        store.close()
    output.write(counts)
    if output.for_people:
        typer.echo(f"Read {counts['papers']} papers and {counts['comments']} new comments.")
    output.say_where()


app.callback()(serve)
register(
    app,
    "add",
    add,
    epilog="Example: `kadanoff atlas add arXiv:2104.00008` or `kadanoff atlas add my.bib`",
)
register(app, "export", export_, epilog="Example: `kadanoff atlas export atlas.json`")
register(app, "import", import_, epilog="Example: `kadanoff atlas import atlas.json`")
