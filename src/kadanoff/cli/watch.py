"""``kadanoff watch``: train a model and draw the film of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.diagnose import TrialOptions, explain_and_exit
from kadanoff.cli.output import JsonOptions, Output, writable
from kadanoff.cli.panels import Panel
from kadanoff.errors import UsageError

if TYPE_CHECKING:
    from kadanoff.watching import Event, Film

__all__ = ["command"]

WATCHED = 256  # samples of the batch that is watched


@dataclass(frozen=True)
class Run(Panel, title="The run"):
    """The recipe, how long, and what a break leaves."""

    optimizer: Annotated[str, typer.Option(help="sgd, adam, adamw, rmsprop or adagrad.")] = "adam"
    lr: Annotated[
        float | None, typer.Option(help="Its rate; default 0.1 for sgd, 1e-3 for adam.")
    ] = None
    momentum: Annotated[float, typer.Option(help="Of sgd and rmsprop.")] = 0.0
    weight_decay: Annotated[float, typer.Option(help="Of the optimizer.")] = 0.0
    loss: Annotated[
        str | None,
        typer.Option(help="`path/to/file.py:function` of (output, targets); default by targets."),
    ] = None
    steps: Annotated[int, typer.Option(help="Steps of the optimizer.", min=1)] = 1000
    every: Annotated[
        int | None, typer.Option(help="Steps between looks; default a fiftieth of --steps.", min=1)
    ] = None
    checkpoint: Annotated[
        Path | None, typer.Option(help="File to resume from and write to, every few seconds.")
    ] = None


@dataclass(frozen=True)
class Keep(Panel, title="What to write"):
    """The film and its numbers."""

    html: Annotated[Path | None, typer.Option(help="Draw the film as one HTML file.")] = None
    out: Annotated[Path | None, typer.Option(help="Write the film (`Film.load` reads it).")] = None
    log: Annotated[Path | None, typer.Option(help="Write scalars as a .csv, a row a look.")] = None


def command(
    model: opt.Model,
    run: Run,
    keep: Keep,
    result: JsonOptions,
    fail_on: Annotated[
        str, typer.Option("--fail-on", help="Exit with 1 from this severity: critical or warning.")
    ] = "warning",
    explain: Annotated[
        str | None,
        typer.Option(
            help="Print the page of a finding (KD1501, or `all` for the list) and exit.",
            callback=explain_and_exit,
            is_eager=True,
        ),
    ] = None,
    seed: opt.Seed = 0,
    device: opt.Device = "cpu",
    progress: opt.Progress = "auto",
) -> None:
    """Train a model with a given recipe, watch it, and draw the film.

    Signal, gradients, updates, activations, attention, sharpness and the distance from
    initialisation, by step and depth; what goes wrong is said when it does. An interrupted run
    with --checkpoint goes on where it was, however it ended.

    Exit code 0: nothing was found; 1: there is a finding; 2: the call is wrong; 3: it could not be
    trained.

    Example: `kadanoff watch examples/deep_tanh.py:critical --data digits --steps 300 --html f.html`
    """
    from kadanoff.style.progress import console, reporting, waiting

    if fail_on not in ("critical", "warning"):
        raise UsageError(f"--fail-on {fail_on!r} is no severity.", "Write critical or warning.")
    output = Output("watch", result, [keep.html, keep.out, keep.log])
    writable(run.checkpoint)
    recipe = TrialOptions(run.loss, run.optimizer, run.lr, run.momentum, run.weight_decay)
    with waiting("loading the model and the data"):
        from kadanoff.cli.prepared import analysed, prepare_whole
        from kadanoff.data import adapt, load

        chosen, loss = recipe.recipe(), recipe.function()
        assert chosen is not None
        loaded, sample, whole = prepare_whole(model, seed=seed, device=device)
        if whole is None and isinstance(model.batch, int) and model.batch != opt.ALL:
            whole = adapt(loaded.model, load(model.data, batch=None, seed=seed))
    with reporting(progress, "training") as report, analysed(model.target):
        from kadanoff.watching import train

        data = sample if whole is None else whole
        film = train(
            loaded.model,
            data,
            chosen,
            steps=run.steps,
            watched=sample if whole is None else whole.sample(WATCHED, seed),
            batch=None if model.batch == opt.ALL else model.batch,
            loss=loss,
            every=run.every,
            checkpoint=run.checkpoint,
            log=keep.log,
            on_finding=_say if progress == "auto" and output.for_people else None,
            seed=seed,
            progress=report,
        )
    if keep.html is not None:
        film.to_html(keep.html)
    if keep.out is not None:
        film.save(keep.out)
    output.write({"target": model.target, "data": model.data} | film.to_dict(), seed=seed)
    if output.for_people:
        from kadanoff.watching.terminal import film_terminal

        console().print(film_terminal(film))
    output.say_where()
    raise typer.Exit(_exit_code(film, fail_on))


def _say(event: Event) -> None:
    """A finding, when it is found: on stderr, if someone is looking."""
    from kadanoff.style.progress import console

    screen = console(stderr=True)
    if screen.is_terminal:
        screen.print(f"{event.finding.severity}: {event}", style="yellow", markup=False)


def _exit_code(film: Film, fail_on: str) -> int:
    asked = ("critical",) if fail_on == "critical" else ("critical", "warning")
    return int(any(finding.severity in asked for finding in film.findings))
