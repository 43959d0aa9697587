"""``kadanoff tune``: initial weights and rates for a model, and proof that they train better."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonOptions, Output
from kadanoff.cli.panels import Panel
from kadanoff.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

    from kadanoff.tuning import Tuned

__all__ = ["command"]


@dataclass(frozen=True)
class RaceTraining(Panel, title="How you train"):
    """The optimiser, the loss and the length of the run that is tuned for."""

    optimizer: Annotated[
        str | None,
        typer.Option(help="sgd, adam, adamw or muon; without it only initial weights are set."),
    ] = None
    lr: Annotated[
        float | None,
        typer.Option(help="Your rate as it is; default 1e-3 (with --check alone: best of a few)."),
    ] = None
    steps: Annotated[
        int | None,
        typer.Option(help="Steps of your run (default 1000), and of --check's runs (300)."),
    ] = None
    loss: Annotated[
        str | None,
        typer.Option(help="`path/to/file.py:function` of (output, targets); default by targets."),
    ] = None

    def __post_init__(self) -> None:
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"--steps {self.steps} trains nothing.", "Give at least 1.")
        if self.lr is not None and not self.lr > 0:
            raise UsageError(f"--lr {self.lr} is not positive.", "Give e.g. --lr 0.01.")


@dataclass(frozen=True)
class RaceOptions(Panel, title="The race"):
    """Short trials that decide; or theory alone."""

    race: Annotated[
        bool | None,
        typer.Option("--race/--no-race", help="Run trials; default: if there is a loss."),
    ] = None
    effort: Annotated[
        float, typer.Option(help="Steps that the race may take, over --steps.", min=0.0)
    ] = 0.1
    base: Annotated[
        float | None, typer.Option(help="Theory's rates at this motion of the output a step.")
    ] = None
    trained: Annotated[
        bool, typer.Option("--trained", help="Rescale also a model that looks trained.")
    ] = False


@dataclass(frozen=True)
class Check(Panel, title="The check"):
    """Training before and after, side by side."""

    check: Annotated[
        bool, typer.Option("--check", help="Diagnose before and after, and train both.")
    ] = False
    html: Annotated[
        Path | None, typer.Option(help="With --check: write the comparison as one HTML file.")
    ] = None

    def __post_init__(self) -> None:
        if self.html is not None and not self.check:
            raise UsageError("--html shows the comparison of --check.", "Add --check.")


def command(
    model: opt.Model,
    training: RaceTraining,
    race: RaceOptions,
    check: Check,
    result: JsonOptions,
    out: Annotated[
        Path | None, typer.Option(help="Write the parameter groups (`groups_from` reads them).")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write the tuned state dict (`torch.load` reads it).")
    ] = None,
    seed: opt.Seed = 0,
    device: opt.Device = "cpu",
    progress: opt.Progress = "auto",
) -> None:
    """Find initial weights and learning rates that train at least as well as what you have.

    With an optimiser, short trials on copies decide; the answer may be to leave everything as it
    is. Without one, initial weights are rescaled to criticality.

    Exit code 0: tuned; 1: with --check, the tuned model still has a finding, or its run ended
    worse than the one before, at infinity, or where it began; 2: the call is wrong; 3: it could
    not be tuned.

    Example: `kadanoff tune examples/deep_tanh.py:default --data digits --optimizer adamw`
    """
    from kadanoff.style.progress import console, reporting, waiting

    output = Output("tune", result, [out, save, check.html])
    if out is not None and training.optimizer is None:
        raise UsageError("--out writes the groups of an optimiser.", "Add --optimizer adamw.")
    with waiting("loading the model and the data"):
        from kadanoff.cli.prepared import analysed, prepare

        loaded, sample = prepare(model, seed=seed, device=device)
        loss = None if training.loss is None else _loss(training.loss)
    before = copy.deepcopy(loaded.model) if check.check else None
    found: dict[str, Any] = {"target": model.target, "data": model.data}
    with reporting(progress, "tuning") as report, analysed(model.target):
        if training.optimizer is None:
            from kadanoff.tuning import initialise

            plan = initialise(
                loaded.model, sample, seed=seed, progress=report, trained=race.trained
            )
            tuned, found["initialisation"] = None, plan
        else:
            tuned = _raced(loaded.model, model, training, race, loss, seed, report)
            plan, found = None, found | tuned.to_dict()
    comparison = None
    if before is not None:
        from kadanoff.tuning.check import compare

        with reporting(progress, "training both") as report, analysed(model.target):
            comparison = compare(
                before,
                loaded.model,
                sample,
                model.data,
                steps=training.steps or 300,
                lr=training.lr,
                seed=seed,
                batch=model.batch,
                tuned=tuned,
                loss=loss,
                progress=report,
            )
        found["check"] = comparison.to_dict()
    if save is not None:
        _save(loaded.model, save)
    if out is not None and tuned is not None:
        tuned.save(out)
    from kadanoff.tuning.report import comparison_html, plan_terminal

    if check.html is not None and comparison is not None:
        from kadanoff.files import atomic_write

        atomic_write(check.html, comparison_html(model.target, plan or tuned, comparison))
    output.write(found, seed=seed)
    if output.for_people:
        screen = console()
        screen.print(tuned if tuned is not None else plan_terminal(plan))
        if tuned is not None and any(e.rescaled for e in tuned.entries):
            where = "tuned.pt" if save is None else str(save)
            how = " (write them with --save tuned.pt)" if save is None else ""
            screen.print(f"The initial weights were changed too{how}:", highlight=False)
            screen.print(f'model.load_state_dict(torch.load("{where}"))', highlight=False)
        if comparison is not None:
            screen.print(comparison)
    output.say_where()
    raise typer.Exit(1 if comparison is not None and comparison.failed else 0)


def _raced(
    module: nn.Module,
    model: opt.Model,
    training: RaceTraining,
    race: RaceOptions,
    loss: Any,
    seed: int,
    report: Any,
) -> Tuned:
    """Tune on the whole dataset, taken ``--batch`` samples at a time."""
    from kadanoff.data import adapt, load
    from kadanoff.tuning import tune

    whole = adapt(module, load(model.data, batch=None, seed=seed))
    return tune(
        module,
        whole,
        training.optimizer,
        loss=loss,
        steps=training.steps,
        lr=training.lr,
        race=race.race,
        effort=race.effort,
        base=race.base,
        batch=model.batch,
        seed=seed,
        trained=race.trained,
        progress=report,
    )


def _loss(spec: str) -> Any:
    """The user's loss, or what is wrong with its name."""
    from kadanoff.data.objects import attribute

    found = attribute(spec, what="target")
    if not callable(found):
        raise UsageError(f"{spec!r} is a {type(found).__name__}, not a function.", "Name one.")
    return found


def _save(model: nn.Module, path: Path) -> None:
    import torch

    from kadanoff.files import atomic_open

    with atomic_open(path) as stream:
        torch.save(model.state_dict(), stream)
