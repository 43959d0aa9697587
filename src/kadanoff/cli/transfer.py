"""``kadanoff transfer``: does a learning rate found on a small model hold on a large one?"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonOptions, Output, writable
from kadanoff.cli.panels import Panel
from kadanoff.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from kadanoff.tuning.sweeps import Transfer

__all__ = ["command"]


@dataclass(frozen=True)
class Models(Panel, title="The models"):
    """A family of models, and the sizes to try."""

    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[TARGET]",
            help="`path/to/file.py:factory` with arguments for width and depth, or a config class "
            "of Transformers (`transformers:GPT2Config`); without it --model.",
        ),
    ] = None
    model: Annotated[str, typer.Option(help="Without a TARGET: mlp or resnet.")] = "mlp"
    data: opt.Data = "digits"
    widths: Annotated[
        str, typer.Option(help="Widths: `64,128`, or with the argument: `n_embd=64,128`.")
    ] = "32,64,128"
    depths: Annotated[
        str, typer.Option(help="Depths, likewise; the first is swept over widths.")
    ] = "3,6"
    kwargs: opt.Kwargs = None
    activation: Annotated[str, typer.Option(help="Of --model: relu, tanh or gelu.")] = "relu"


@dataclass(frozen=True)
class Sweep(Panel, title="The sweep"):
    """How each is trained, and what counts as the same rate."""

    knob: Annotated[
        str, typer.Option(help="lr, weight_decay, batch, eps, beta2 (as 1 − β₂) or warmup.")
    ] = "lr"
    values: Annotated[str | None, typer.Option(help="Values of the knob, comma-separated.")] = None
    scaling: Annotated[
        str, typer.Option(help="mup, completep, depth-mup, spectral, ntk or standard.")
    ] = "mup"
    optimizer: Annotated[str, typer.Option(help="sgd, adam, adamw or muon.")] = "adam"
    lr: Annotated[float | None, typer.Option(help="Rate at the smallest size, if not swept.")] = (
        None
    )
    weight_decay: Annotated[
        float | None, typer.Option(help="Decay at the smallest size, if not swept.")
    ] = None
    batch: Annotated[int, typer.Option(help="Samples a step.", min=1)] = 64
    loss: Annotated[
        str | None, typer.Option(help="`path/to/file.py:function` of (output, targets).")
    ] = None
    s: Annotated[
        float, typer.Option(help="Without a TARGET: 0: NTK scaling, 1: maximal update.")
    ] = 1.0
    steps: Annotated[int, typer.Option(help="Training steps a run.", min=10)] = 60
    seeds: Annotated[int, typer.Option(help="Networks a point.", min=2)] = 2
    tolerance: Annotated[
        float, typer.Option(help="Factors of two by which optima may differ.", min=0.0)
    ] = 1.0
    seed: opt.Seed = 0
    checkpoint: Annotated[Path | None, typer.Option(help="File to resume from and write to.")] = (
        None
    )
    progress: opt.Progress = "auto"


def command(
    models: Models,
    sweep: Sweep,
    result: JsonOptions,
    plot: opt.Plot = None,
    html: Annotated[Path | None, typer.Option(help="Write a page.")] = None,
) -> None:
    """Sweep a knob over widths and depths, and check how activations move.

    Exit code 1 if the best value does not carry or a layer moves otherwise than predicted.

    Example: `kadanoff transfer my.py:build --widths width=128,256 --depths layers=4,8 --data text`
    """
    from kadanoff.files import jsonable
    from kadanoff.style.figures import write
    from kadanoff.tuning.transfer_report import show_transfer, transfer_figure, write_page

    target, result = result.beside(models.target)
    models = replace(models, target=target)
    writable(sweep.checkpoint)
    output = Output("transfer", result, [html], [plot])
    found = _own(models, sweep) if models.target is None else _family(models, sweep)
    title = models.target or f"{models.model} {models.activation}"
    if plot is not None:
        write(transfer_figure(found), plot)
    if html is not None:
        write_page(found, html, f"{title} on {models.data}")
    output.write(jsonable(found) | {"fine": found.fine}, seed=sweep.seed)
    if output.for_people:
        show_transfer(found)
    output.say_where()
    if not found.fine:
        raise typer.Exit(1)


def _own(models: Models, sweep: Sweep) -> Transfer:
    """A family of ours, with a rate for each tensor by the equivalence principle."""
    from kadanoff.style.progress import reporting
    from kadanoff.tuning.families import FAMILIES
    from kadanoff.tuning.sweeps import transfer

    if models.model not in ("mlp", "resnet"):
        raise UsageError(f"No family {models.model!r}.", "Choose mlp or resnet, or give a TARGET.")
    if sweep.knob != "lr":
        raise UsageError(f"--knob {sweep.knob} needs a family of yours.", "Give a TARGET.")
    widths = opt.integers(models.widths, "--widths")
    depths = opt.integers(models.depths, "--depths")
    X, y, n_out = _load(models.data, sweep.seed)
    family = FAMILIES[models.model]

    def build(width: int, depth: int, k: int) -> nn.Module:
        return family(X.shape[1], width, depth, n_out, activation=models.activation, seed=k)

    with reporting(sweep.progress, "training") as report:
        return transfer(
            build,
            X,
            y,
            widths=widths,
            depths=depths,
            optimizer=sweep.optimizer,
            s=sweep.s,
            steps=sweep.steps,
            batch=sweep.batch,
            seeds=sweep.seeds,
            seed=sweep.seed,
            tolerance=sweep.tolerance,
            checkpoint=sweep.checkpoint,
            progress=report,
        )


def _family(models: Models, sweep: Sweep) -> Transfer:
    """Any factory of the user's, by a named scaling from its smallest size."""
    from kadanoff.cli.prepared import analysed
    from kadanoff.cli.target import parse_kwargs
    from kadanoff.data import adapt, load
    from kadanoff.data.objects import attribute
    from kadanoff.style.progress import reporting
    from kadanoff.tuning.factories import factory_of, read_sizes
    from kadanoff.tuning.knobs import SweepRecipe, wander

    assert models.target is not None
    widths, depths = read_sizes(models.widths, "--widths"), read_sizes(models.depths, "--depths")
    family = factory_of(
        attribute(models.target, what="target"), widths, depths, parse_kwargs(models.kwargs)
    )
    loss = None if sweep.loss is None else attribute(sweep.loss, what="target")
    smallest = family.build(widths.values[0], depths.values[0], sweep.seed)
    data = adapt(smallest, load(models.data, batch=None, seed=sweep.seed))
    recipe = SweepRecipe(
        sweep.optimizer, sweep.lr, sweep.weight_decay, sweep.batch, sweep.steps, loss
    )
    with reporting(sweep.progress, "training") as report, analysed(models.target):
        return wander(
            family,
            data,
            widths.values,
            depths.values if family.depth else depths.values[:1],
            knob=sweep.knob,
            values=None if sweep.values is None else _numbers(sweep.values),
            scaling=sweep.scaling,
            recipe=recipe,
            seeds=sweep.seeds,
            seed=sweep.seed,
            tolerance=sweep.tolerance,
            checkpoint=sweep.checkpoint,
            progress=report,
        )


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError:
        raise UsageError(f"--values {text!r} is no list of numbers.", "Write 1e-3,3e-3.") from None


def _load(name: str, seed: int) -> tuple[Tensor, Tensor, int]:
    """Inputs, standardised targets or classes, and the number of outputs."""
    batch = opt.table(name, None, seed)
    X, y = batch.inputs.float(), batch.targets
    if y is None:
        raise DataError(f"{name!r} has no targets to learn.", "Give a file with X and y.")
    if y.dtype.is_floating_point:
        y = y.float().reshape(X.shape[0], -1)
        return X, (y - y.mean(0)) / y.std(0), y.shape[1]
    return X, y, int(y.max()) + 1
