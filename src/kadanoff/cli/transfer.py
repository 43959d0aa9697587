"""``kadanoff transfer``: does a learning rate found on a small model hold on a large one?"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import Output, Result, writable
from kadanoff.cli.panels import Panel
from kadanoff.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["command"]


@dataclass(frozen=True)
class Models(Panel, title="The models"):
    """A family of models, and the sizes to try."""

    model: Annotated[str, typer.Option(help="mlp or resnet.")] = "mlp"
    data: opt.Data = "digits"
    widths: Annotated[str, typer.Option(help="Widths, comma-separated.")] = "32,64,128"
    depths: Annotated[str, typer.Option(help="Depths; the first is swept over widths.")] = "3,6"
    activation: Annotated[str, typer.Option(help="relu, tanh or gelu.")] = "relu"


@dataclass(frozen=True)
class Sweep(Panel, title="The sweep"):
    """How each is trained, and what counts as the same rate."""

    optimizer: Annotated[str, typer.Option(help="sgd, adam, adamw or muon.")] = "adam"
    s: Annotated[float, typer.Option(help="0: NTK scaling, 1: maximal update.")] = 1.0
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
    result: Result,
    plot: opt.Plot = None,
    html: Annotated[Path | None, typer.Option(help="Write a page.")] = None,
) -> None:
    """Sweep the learning rate over widths and depths, and check how activations move.

    Exit code 1 if the rate does not carry or a layer moves otherwise than predicted.

    Example: `kadanoff transfer --model mlp --data digits --widths 32,64,128 --depths 3,6`
    """
    from kadanoff.files import jsonable
    from kadanoff.style.figures import write
    from kadanoff.style.progress import reporting
    from kadanoff.tuning.families import FAMILIES
    from kadanoff.tuning.sweeps import transfer
    from kadanoff.tuning.transfer_report import show_transfer, transfer_figure, write_page

    output = Output("transfer", result, [html], [plot])
    writable(sweep.checkpoint)
    if models.model not in ("mlp", "resnet"):
        raise UsageError(f"No family {models.model!r}.", "Choose mlp or resnet.")
    widths = opt.integers(models.widths, "--widths")
    depths = opt.integers(models.depths, "--depths")
    X, y, n_out = _load(models.data, sweep.seed)
    family = FAMILIES[models.model]

    def build(width: int, depth: int, k: int) -> nn.Module:
        return family(X.shape[1], width, depth, n_out, activation=models.activation, seed=k)

    with reporting(sweep.progress, "training") as report:
        found = transfer(
            build,
            X,
            y,
            widths=widths,
            depths=depths,
            optimizer=sweep.optimizer,
            s=sweep.s,
            steps=sweep.steps,
            seeds=sweep.seeds,
            seed=sweep.seed,
            tolerance=sweep.tolerance,
            checkpoint=sweep.checkpoint,
            progress=report,
        )
    if plot is not None:
        write(transfer_figure(found), plot)
    if html is not None:
        write_page(found, html, f"{models.model} {models.activation} on {models.data}")
    output.write(jsonable(found) | {"fine": found.fine}, seed=sweep.seed)
    if output.for_people:
        show_transfer(found)
    output.say_where()
    if not found.fine:
        raise typer.Exit(1)


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
