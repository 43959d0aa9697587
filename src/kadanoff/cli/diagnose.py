"""``kadanoff diagnose``: a model and data in, a verdict out."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonOptions, Output
from kadanoff.cli.panels import Panel
from kadanoff.errors import UsageError

if TYPE_CHECKING:
    from kadanoff.diagnosis import Diagnosis, Recipe
    from kadanoff.diagnosis.baseline import Change

__all__ = ["TrialOptions", "command", "explain_and_exit"]


def explain_and_exit(code: str | None) -> None:
    """Print the page of one kind of finding, or the list of all."""
    if code is None:
        return
    import kadanoff.watching.rules  # noqa: F401  enters its kinds into the catalogue
    from kadanoff.diagnosis.catalogue import explain
    from kadanoff.style.progress import console

    console().print(explain(code), markup=False, highlight=False)
    raise typer.Exit(0)


@dataclass(frozen=True)
class TrialOptions(Panel, title="How it is trained"):
    """The loss and the optimiser, and how many steps to try."""

    loss: Annotated[
        str | None,
        typer.Option(
            help="Loss as `module:function` or `path/to/file.py:name`, called as "
            "loss(output, targets). Default: the model's own, else the usual one for the targets."
        ),
    ] = None
    optimizer: Annotated[str | None, typer.Option(help="sgd, adam, adamw, rmsprop or adagrad.")] = (
        None
    )
    lr: Annotated[float | None, typer.Option(help="Its learning rate.")] = None
    momentum: Annotated[float, typer.Option(help="Of SGD.")] = 0.0
    weight_decay: Annotated[float, typer.Option(help="Of the optimizer.")] = 0.0
    steps: Annotated[int, typer.Option(help="Steps planned, for rates too low.", min=1)] = 1000
    tries: Annotated[
        int | None,
        typer.Option(
            "--try",
            min=0,
            help="Real steps on a copy. Default: 30 if they take seconds, else none; 0: none.",
        ),
    ] = None

    def recipe(self) -> Recipe | None:
        """The optimiser, if anything was said of it.

        Raises
        ------
        UsageError
            An unknown name or a number out of range.
        """
        from kadanoff.diagnosis import Recipe

        said = (self.optimizer, self.lr, self.momentum or None, self.weight_decay or None)
        if all(value is None for value in said):
            return None
        name = (self.optimizer or ("sgd" if self.momentum else "adam")).lower()
        return Recipe(name, self.lr, self.momentum, self.weight_decay)

    def function(self) -> Any:
        """The loss, if one is named.

        Raises
        ------
        UsageError
            It is missing, or cannot be called.
        """
        if self.loss is None:
            return None
        from torch import nn

        from kadanoff.data.objects import attribute

        found = attribute(self.loss, what="loss")
        if isinstance(found, type) and issubclass(found, nn.Module):
            found = found()
        if not callable(found):
            raise UsageError(
                f"{self.loss!r} is a {type(found).__name__}, not a function of (output, targets).",
                "Name a function, or a loss module such as torch.nn:CrossEntropyLoss.",
            )
        return found


def command(
    model: opt.Model,
    training: TrialOptions,
    result: JsonOptions,
    html: opt.Html = None,
    use_targets: Annotated[
        bool, typer.Option("--targets/--no-targets", help="Use the data's targets in the loss.")
    ] = True,
    fail_on: Annotated[
        str, typer.Option("--fail-on", help="Exit with 1 from this severity: critical or warning.")
    ] = "warning",
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="A kept `--json` of an earlier diagnosis: exit with 1 if signal, chi, gradients "
            "or the loss at the start moved by more than their spread."
        ),
    ] = None,
    explain: Annotated[
        str | None,
        typer.Option(
            help="Print the page of a finding (KD101, or `all` for the list) and exit.",
            callback=explain_and_exit,
            is_eager=True,
        ),
    ] = None,
    calls: Annotated[
        bool, typer.Option("--calls", help="A row a call, also where the model has blocks.")
    ] = False,
    theory: Annotated[
        str,
        typer.Option(
            "--theory", help="What random weights would give: quick, full (64 networks) or none."
        ),
    ] = "quick",
    meta: Annotated[
        bool,
        typer.Option(
            "--meta", help="Predict from the code alone: no weight is built, any size goes."
        ),
    ] = False,
    seed: opt.Seed = 0,
    device: opt.Device = "cpu",
) -> None:
    """Diagnose a model on data: what happens to signals and gradients, layer by layer.

    Exit code 0: healthy; 1: there is a finding; 2: the call is wrong; 3: it could not be analysed.

    Example: `kadanoff diagnose examples/deep_tanh.py:default --data digits --html report.html`
    """
    from kadanoff.diagnosis.baseline import changes
    from kadanoff.diagnosis.terminal import diagnosis_terminal
    from kadanoff.style.progress import console

    if fail_on not in ("critical", "warning"):
        raise UsageError(f"--fail-on {fail_on!r} is no severity.", "Write critical or warning.")
    output = Output("diagnose", result, [html])
    if meta:
        from kadanoff.cli.meta import foretold
        from kadanoff.cli.prepared import analysed

        with analysed(model.target):
            diagnosis = foretold(model, training.function(), seed, theory, use_targets)
    else:
        diagnosis = _measured(model, training, use_targets, theory, seed, device)
    diagnosis = replace(
        diagnosis,
        meta={**diagnosis.meta, "target": model.target, "data": model.data, "seed": seed},
    )
    if html is not None:
        diagnosis.to_html(html)
    moved = () if baseline is None else changes(diagnosis, baseline)
    since = {} if baseline is None else {"changes": moved}
    output.write({**diagnosis.to_dict(), **since}, seed=seed)
    if output.for_people:
        console().print(diagnosis_terminal(diagnosis, calls=calls))
        if baseline is not None:
            console().print(_since(baseline, moved), markup=False, highlight=False)
    output.say_where()
    raise typer.Exit(diagnosis.exit_code_for(fail_on) or int(bool(moved)))


def _since(baseline: Path, moved: tuple[Change, ...]) -> str:
    """What moved since the baseline, a line each."""
    if not moved:
        return f"Nothing has moved since {baseline}."
    lines = [f"{len(moved)} moved since {baseline}:"]
    lines += [f"  {change.sentence}" for change in moved]
    return "\n".join(lines)


def _measured(
    model: opt.Model,
    training: TrialOptions,
    use_targets: bool,
    theory: str,
    seed: int,
    device: str,
) -> Diagnosis:
    """Load the model and the data, and measure."""
    from kadanoff.style.progress import waiting

    with waiting("loading the model and the data"):
        from kadanoff.cli.prepared import analysed, prepare_whole

        loss, recipe = training.function(), training.recipe()
        loaded, sample, whole = prepare_whole(model, seed=seed, device=device)
    with waiting("measuring every layer") as progress, analysed(model.target):
        from kadanoff.diagnosis import diagnose

        if not use_targets:
            sample = replace(sample, targets=None)
            whole = None if whole is None else replace(whole, targets=None)
        found = diagnose(
            loaded.model,
            sample,
            loss=loss,
            optimizer=recipe,
            steps=training.steps,
            try_steps=training.tries,
            every=whole,
            theory=theory,
            seed=seed,
            device=device,
            progress=progress,
        )
    notes = tuple(f"{model.data}: {note}" for note in sample.notes)
    return replace(found, notes=(*notes, *found.notes))
