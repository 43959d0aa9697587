"""``kadanoff predict``: what the trained networks will say, before any is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonOptions, Output
from kadanoff.cli.panels import Panel
from kadanoff.errors import DataError, UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Points", "TrainingOptions", "command"]


@dataclass(frozen=True)
class Points(Panel, title="The data"):
    """What is learned, and what is asked."""

    data: opt.Data = "diabetes"
    train: Annotated[int, typer.Option(help="Training points.", min=1)] = 200
    test: Annotated[int, typer.Option(help="Test points.", min=1)] = 50


@dataclass(frozen=True)
class Trained(opt.NetworkOptions):
    """A network that is trained, of one finite width."""

    activation: opt.Activation = "relu"
    width: opt.Width = 256


@dataclass(frozen=True)
class TrainingOptions(Panel, title="The training"):
    """How the networks come by their answers, and to which order that is predicted."""

    order: Annotated[int, typer.Option(help="0: infinite width; 1: adds 1/n (<= 64 points).")] = 0
    method: Annotated[str, typer.Option(help="gradient or bayes.")] = "gradient"
    time: Annotated[float, typer.Option(help="Steps or time of training; inf is the end.")] = (
        math.inf
    )
    eta: Annotated[float | None, typer.Option(help="Step of descent; flow if absent.")] = None
    ridge: Annotated[float, typer.Option(help="Regulariser of the descent.")] = 0.0
    noise: Annotated[float, typer.Option(help="Label noise variance, for bayes.")] = 0.0
    algorithm: Annotated[
        str, typer.Option(help="gradient or giant_leap; at order 1 they differ.")
    ] = "gradient"


@dataclass(frozen=True)
class More(Panel, title="Beside the prediction"):
    """Further questions to the same networks."""

    batch: Annotated[
        int | None, typer.Option(help="Mini-batch for the largest stable step.", min=1)
    ] = None
    networks: Annotated[
        int, typer.Option(help="Also train this many networks: measured loss beside predicted.")
    ] = 0
    depths: Annotated[
        str | None,
        typer.Option(help="Hidden layers to compare by evidence and information, e.g. 1,2,4."),
    ] = None


def command(
    points: Points,
    net: Trained,
    training: TrainingOptions,
    more: More,
    result: JsonOptions,
    seed: opt.Seed = 0,
    progress: opt.Progress = "auto",
) -> None:
    """Predict the outputs of trained networks on test points, with error bars, beside the targets.

    Example: `kadanoff predict --activation relu --depth 3 --data diabetes --train 200 --test 50`
    """
    output = Output("predict", result)
    if more.networks and training.method == "bayes":
        raise UsageError("The posterior is not trained.", "Leave --networks out.")
    X, y, notes = _load(points, seed)
    if more.depths is not None:
        hidden = opt.integers(more.depths, "--depths")
        _choose_depth(points, net, hidden, training.noise, (X, y), seed, progress, output)
        return
    from kadanoff.cli.prediction import predicted
    from kadanoff.cli.prediction_view import show_prediction

    arch = net.build(X.shape[1], net.width, _outputs(y))
    found = predicted(arch, (X, y), points, training, more, seed=seed, progress=progress)
    found["notes"] = [*notes, *found["notes"]]
    output.write(found, seed=seed)
    if output.for_people:
        show_prediction(found)
    output.say_where()


def _choose_depth(
    points: Points,
    net: Trained,
    hidden: list[int],
    noise: float,
    data: tuple[Tensor, Tensor],
    seed: int,
    progress: str,
    output: Output,
) -> None:
    """Compare networks of several depths by the evidence of the labels."""
    from dataclasses import replace

    from kadanoff.cli.prediction_view import depth_choice, show_depths
    from kadanoff.learning import choose_depth
    from kadanoff.learning.prediction import MAX_TRAIN_ORDER_1
    from kadanoff.style.progress import reporting

    if points.train > MAX_TRAIN_ORDER_1:
        raise UsageError(
            f"--depths compares at order 1/n, which takes at most {MAX_TRAIN_ORDER_1} points; "
            f"--train is {points.train}.",
            f"Pass --train {MAX_TRAIN_ORDER_1}.",
        )
    X, y = data
    nets = [
        replace(net, depth=layers + 1).build(X.shape[1], net.width, _outputs(y))
        for layers in hidden
    ]
    with reporting(progress, "comparing depths") as report:
        choice = choose_depth(
            nets, X[: points.train], y[: points.train], noise, seed=seed, progress=report
        )
    output.write(depth_choice(choice), seed=seed)
    if output.for_people:
        show_depths(choice)
    output.say_where()


def _load(points: Points, seed: int) -> tuple[Tensor, Tensor, list[str]]:
    """Inputs (train + test, n_0), targets, and what was done to them."""
    count = points.train + points.test
    batch = opt.table(points.data, count, seed)
    X, y = batch.inputs.double(), batch.targets
    if y is None:
        raise DataError(f"{points.data!r} has no targets to predict.", "Give a file with X and y.")
    if X.shape[0] < count:
        raise DataError(
            f"{points.data!r} has {X.shape[0]} points, fewer than train + test = {count}.",
            "Lower --train or --test.",
        )
    notes = list(batch.notes)
    if y.dtype.is_floating_point:
        y = y.double().reshape(count, -1)
        mean, std = y.mean(0), y.std(0)
        if float((mean.abs() / std.clamp_min(1e-12)).max()) > 0.5 or float(std.max()) > 3:
            y = (y - mean) / std.clamp_min(1e-12)
            notes.append("targets standardised")
    return X, y, notes


def _outputs(y: Tensor) -> int:
    """One output a class, or a column of real targets."""
    return y.shape[1] if y.ndim > 1 else int(y.max()) + 1
