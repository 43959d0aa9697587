"""``kadanoff study``: the papers around the theory, run again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonOptions, Output
from kadanoff.cli.panels import add
from kadanoff.errors import StorageError, UsageError

if TYPE_CHECKING:
    from kadanoff.studies.study import Study

__all__ = ["app"]

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    help="Run the central results of papers again, claim by claim.",
    epilog="Example: `kadanoff study run edge-of-chaos --quick`",
)


def list_(result: JsonOptions) -> None:
    """List the studies with their papers and what the kept full runs found."""
    from kadanoff.studies.registry import all as studies

    output = Output("study list", result)
    rows = [_row(study) for study in studies()]
    output.write({"studies": rows})
    if output.for_people:
        from rich.table import Table

        from kadanoff.style.progress import console

        table = Table(box=None, pad_edge=False, show_header=True, header_style="bold")
        for head in ("study", "about", "full run"):
            table.add_column(head, no_wrap=head == "study")
        for row in rows:
            table.add_row(row["name"], row["title"], row["kept"] or "not kept")
        console().print(table)
    output.say_where()


def _row(study: Study) -> dict[str, Any]:
    """What the list says of a study."""
    from kadanoff.studies.runner import kept
    from kadanoff.studies.verdicts import tally

    folder = kept(study.name)
    return {
        "name": study.name,
        "title": study.title,
        "paper": study.paper,
        "summary": study.summary,
        "extra": study.extra,
        "claims": len(study.claims),
        "kept": tally(_read(folder)["claims"]) if folder else None,
    }


def run_(
    name: Annotated[str, typer.Argument(help="A name from `kadanoff study list`.")],
    result: JsonOptions,
    quick: Annotated[bool, typer.Option("--quick", help="About a minute (the default).")] = False,
    full: Annotated[bool, typer.Option("--full", help="The real size.")] = False,
    out: Annotated[
        Path | None, typer.Option(help="Folder; `kadanoff-studies/NAME-SIZE` by default.")
    ] = None,
    seed: opt.Seed = 0,
    device: opt.Device = "cpu",
    progress: opt.Progress = "auto",
    keep: Annotated[
        bool, typer.Option("--keep", help="Put a full result among those of the package.")
    ] = False,
) -> None:
    """Run a study; the same command goes on where a killed run stopped.

    Exit code 1 if a claim fails.
    """
    from kadanoff.studies import runner
    from kadanoff.studies.registry import get
    from kadanoff.style.progress import reporting

    if quick and full:
        raise UsageError("--quick and --full exclude each other.", "Give one of them.")
    if keep and not full:
        raise UsageError("--keep is for full runs.", "Add --full.")
    study, size = get(name), "full" if full else "quick"
    output = Output("study", result)
    folder = out or Path("kadanoff-studies") / f"{study.name}-{size}"
    with reporting(progress, study.title) as report:

        def tell(done: int, total: int, message: str) -> None:
            if report is not None:
                report(done, total, message=message)

        try:
            document = runner.run(study, folder, size=size, seed=seed, device=device, progress=tell)
        except KeyboardInterrupt:
            again = f"kadanoff study run {study.name} --{size} --out {shlex.quote(str(folder))}"
            again += (f" --seed {seed}" if seed else "") + (" --keep" if keep else "")
            typer.echo(f"Interrupted. Finished parts are kept; go on with: {again}", err=True)
            raise typer.Exit(130) from None
    if keep:
        runner.keep(folder)
    output.write(document, seed=seed)
    if output.for_people:
        _show(document, folder / "index.html")
    output.say_where()
    if any(claim["verdict"] == "fails" for claim in document["claims"]):
        raise typer.Exit(1)


def show(
    name: Annotated[str, typer.Argument(help="A name from `kadanoff study list`.")],
    result: JsonOptions,
    out: Annotated[
        Path | None, typer.Option(help="Folder of a run; the kept full result by default.")
    ] = None,
    html: Annotated[Path | None, typer.Option(help="Write the page to this file.")] = None,
) -> None:
    """Show what a study found: the kept full run, or the run in a folder."""
    from kadanoff.files import atomic_write
    from kadanoff.studies.page import study_page
    from kadanoff.studies.registry import get
    from kadanoff.studies.runner import kept

    output = Output("study", result, [html])
    study = get(name)
    places = [out] if out else [kept(study.name), *_runs(study.name)]
    folder = next((p for p in places if p and (p / "result.json").is_file()), None)
    if folder is None:
        where = f" in {str(out)!r}" if out else ""
        raise UsageError(
            f"There is no result of {study.name!r}{where}.",
            f"Run it: kadanoff study run {study.name} --quick.",
        )
    document = _read(folder)
    if html is not None:
        atomic_write(html, study_page(document, folder))
    output.write(document)
    if output.for_people:
        page = folder / "index.html"
        _show(document, html or (page if page.is_file() else None))
    output.say_where()


def _runs(name: str) -> list[Path]:
    return [Path("kadanoff-studies") / f"{name}-{size}" for size in ("full", "quick")]


def _read(folder: Path) -> dict[str, Any]:
    try:
        document = json.loads((folder / "result.json").read_text("utf-8"))
        missing = {"claims", "blocks", "name"} - set(document)
        if missing:
            raise ValueError(f"it lacks {', '.join(sorted(missing))}")
    except (OSError, ValueError, TypeError) as error:
        raise StorageError(
            f"The result in {str(folder)!r} cannot be read ({error}).", "Run the study again."
        ) from error
    return document


def _show(document: dict[str, Any], page: Path | None) -> None:
    """What was found, section by section: each claim, its numbers, and what they had to be."""
    from rich.padding import Padding
    from rich.text import Text

    from kadanoff.studies.claims import SOURCES
    from kadanoff.studies.page import by_section, measure, number
    from kadanoff.studies.verdicts import tally
    from kadanoff.style.progress import console
    from kadanoff.style.terminal import WIDTH

    screen = console()
    wide = min(screen.width, WIDTH)

    def indented(line: Text, columns: int) -> None:
        screen.print(Padding(line, (0, 0, 0, columns)), width=wide)

    screen.print(Text(f"{document['title']} ({document['size']} run)", "bold"))
    lead = document.get("lead") or document["summary"]
    screen.print(Text(" ".join(lead.split())), width=wide)
    colours = {"holds": "green", "fails": "red", "undecided": "yellow"}
    for section, claims in by_section(document["claims"]).items():
        screen.print()
        screen.print(Text(section, "bold"), width=wide)
        for claim in claims:
            whose = SOURCES.get(claim["source"], claim["source"])
            line = Text.assemble(
                (f"{claim['verdict']:<10}", colours[claim["verdict"]]),
                claim["text"],
                (f" ({whose})", "dim"),
            )
            screen.print(line, width=wide)
            for measured in claim.get("measured") or []:
                name, value, asked = measure(measured)
                named = f"{name}: " if name else ""
                indented(Text.assemble(named, (value, "bold"), ("  " + asked, "dim")), 10)
            if claim["paper_value"] is not None:
                indented(Text(f"The paper prints {number(claim['paper_value'])}."), 10)
            if claim.get("baseline"):
                rival = claim["baseline"]
                worth = number(rival["value"], rival["stderr"])
                indented(Text(f"Beside it: {rival['what']}: {worth}."), 10)
            if claim.get("open"):
                indented(Text(claim["open"]), 10)
    screen.print()
    screen.print(
        f"{tally(document['claims'])}; {document['seconds']:.0f} s.", highlight=False, width=wide
    )
    if page is not None:
        screen.print(f"Page: {page}", soft_wrap=True)


add(app, "list", list_, epilog="Example: `kadanoff study list`")
add(app, "run", run_, epilog="Example: `kadanoff study run exact-priors --quick --seed 1`")
add(app, "show", show, epilog="Example: `kadanoff study show edge-of-chaos --html page.html`")
