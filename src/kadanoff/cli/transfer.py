"""``kadanoff transfer``: does a learning rate found on a small model hold on a large one?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonFile, JsonFlag, Output
from kadanoff.errors import DataError, UsageError


def command(
    model: Annotated[str, typer.Option(help="mlp or resnet.")] = "mlp",
    data: opt.Data = "digits",
    widths: Annotated[str, typer.Option(help="Widths, comma-separated.")] = "32,64,128",
    depths: Annotated[str, typer.Option(help="Depths; the first is swept over widths.")] = "3,6",
    activation: Annotated[str, typer.Option(help="relu, tanh or gelu.")] = "relu",
    optimizer: Annotated[str, typer.Option(help="sgd, adam, adamw or muon.")] = "adam",
    s: Annotated[float, typer.Option(help="0: NTK scaling, 1: maximal update.")] = 1.0,
    steps: Annotated[int, typer.Option(help="Training steps a run.", min=10)] = 60,
    seeds: Annotated[int, typer.Option(help="Networks a point.", min=2)] = 2,
    tolerance: Annotated[
        float, typer.Option(help="Factors of two by which optima may differ.", min=0.0)
    ] = 1.0,
    seed: opt.Seed = 0,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File to resume from and write to.")
    ] = None,
    plot: opt.Plot = None,
    html: Annotated[Path | None, typer.Option(help="Write a page.")] = None,
    progress: opt.Progress = "auto",
    as_json: JsonFlag = False,
    json_file: JsonFile = None,
) -> None:
    """Sweep the learning rate over widths and depths, and check how activations move.

    Exit code 1 if the rate does not carry or a layer moves otherwise than predicted.

    Example: `kadanoff transfer --model mlp --data digits --widths 32,64,128 --depths 3,6`
    """
    from kadanoff.files import jsonable
    from kadanoff.style.figures import write
    from kadanoff.style.progress import reporting
    from kadanoff.tuning.families import FAMILIES
    from kadanoff.tuning.transfer import transfer

    output = Output("transfer", as_json, json_file, [html], [plot])
    if model not in ("mlp", "resnet"):
        raise UsageError(f"No family {model!r}.", "Choose mlp or resnet.")
    sizes = [opt.integers(widths, "--widths"), opt.integers(depths, "--depths")]
    X, y, n_out = _data(data, seed)
    family: Any = FAMILIES[model]

    def build(width: int, depth: int, k: int) -> Any:
        return family(X.shape[1], width, depth, n_out, activation=activation, seed=k)

    with reporting(progress, "training") as report:
        found = transfer(
            build,
            X,
            y,
            widths=sizes[0],
            depths=sizes[1],
            optimizer=optimizer,
            s=s,
            steps=steps,
            seeds=seeds,
            seed=seed,
            tolerance=tolerance,
            checkpoint=checkpoint,
            progress=report,
        )
    if plot is not None:
        write(_figure(found), plot)
    if html is not None:
        _page(found, html, f"{model} {activation} on {data}")
    if as_json:
        output.write(jsonable(found) | {"fine": found.fine})
    if output.for_people:
        _show(found)
    output.say_where()
    if not found.fine:
        raise typer.Exit(1)


def _data(name: str, seed: int) -> tuple[Any, Any, int]:
    batch = opt.table(name, None, seed)
    X, y = batch.inputs.float(), batch.targets
    if y is None:
        raise DataError(f"{name!r} has no targets to learn.", "Give a file with X and y.")
    if y.dtype.is_floating_point:
        y = y.float().reshape(X.shape[0], -1)
        return X, (y - y.mean(0)) / y.std(0), y.shape[1]
    return X, y, int(y.max()) + 1


def _figure(found: Any) -> Any:
    from kadanoff.style.figures import SERIES, figure, house_style, points

    with house_style():
        fig, (left, right) = figure(1, 2, width=8.4, height=3.4)
        for i, c in enumerate(found.curves):
            label = f"width {c.width}, depth {c.depth}"
            points(left, c.bases, c.loss, c.stderr, label=label, index=i)
            left.plot(c.bases, c.loss, color=SERIES[i % len(SERIES)], linewidth=1)
            left.axvline(2**c.optimum, color=SERIES[i % len(SERIES)], linewidth=0.8, alpha=0.6)
        left.set(xscale="log", yscale="log", xlabel="base rate", ylabel="loss at the end")
        left.legend(fontsize="small")
        for i, c in enumerate(found.coordinates):
            points(right, c.widths, c.change, c.stderr, label=c.layer, index=i)
            middle = c.change[len(c.change) // 2]
            at = c.widths[len(c.widths) // 2]
            line = [middle * (w / at) ** c.predicted for w in c.widths]
            right.plot(c.widths, line, color=SERIES[i % len(SERIES)], linewidth=1)
        right.set(xscale="log", yscale="log", xlabel="width", ylabel="change in a few steps")
        if found.coordinates:
            right.legend(
                title="layer\n(line: predicted)",
                fontsize="small",
                loc="center left",
                bbox_to_anchor=(1.0, 0.5),
            )
    return fig


def _verdict(found: Any) -> tuple[str, str]:
    from kadanoff.style.numbers import uncertain

    spread = uncertain(found.spread, found.spread_stderr)
    if any(c.at_edge for c in found.curves):
        head = "Undecided: an optimum lies outside the rates tried."
    elif found.carries:
        head = "The rate carries over."
    else:
        head = "The rate does not carry over."
    moved = [c.layer for c in found.coordinates if not c.fine]
    tail = f"Optima differ by {spread} factors of two (tolerance {found.tolerance:g}). "
    tail += (
        f"Layers that move otherwise than predicted: {', '.join(moved)}."
        if moved
        else "Every layer moves with width as predicted."
    )
    return head, tail


def _rows(found: Any) -> tuple[list[list[str]], list[list[str]]]:
    from kadanoff.style.numbers import short, uncertain

    sweep = [
        [
            str(c.width),
            str(c.depth),
            uncertain(c.optimum, c.optimum_stderr) + (" (at the edge)" if c.at_edge else ""),
            short(min(c.loss)),
        ]
        for c in found.curves
    ]
    check = [
        [
            c.layer,
            uncertain(c.slope, c.slope_stderr),
            short(c.predicted),
            "as predicted" if c.fine else "NOT as predicted",
        ]
        for c in found.coordinates
    ]
    return sweep, check


_SWEEP = ("width", "depth", "log2 of the best base", "lowest loss")
_CHECK = ("layer", "exponent in the width", "predicted", "verdict")


def _page(found: Any, path: Path, subtitle: str) -> None:
    from kadanoff.files import atomic_write
    from kadanoff.style.figures import to_svg
    from kadanoff.style.html import Section, callout, figure_block, page, table

    head, tail = _verdict(found)
    sweep, check = _rows(found)
    svg = to_svg(_figure(found), "Learning-rate sweep and coordinate check", tail)
    note = (
        "Left: loss against base rate at each size; where the vertical lines coincide, the rate "
        "carries over. Right: how far activations move; lines are the prediction."
    )
    body = figure_block(svg, note) + table(_SWEEP, sweep, "Best rates")
    atomic_write(
        path,
        page(
            "Learning-rate transfer",
            [Section("Sweep", body), Section("Coordinates", table(_CHECK, check, "Exponents"))],
            subtitle=f"{subtitle}; {found.optimizer}, s = {found.s:g}",
            verdict=callout("good" if found.fine else "bad", head, tail),
        ),
    )


def _show(found: Any) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    head, tail = _verdict(found)
    console.print(f"[bold {'green' if found.fine else 'red'}]{head}[/]")
    console.print(tail + "\n", highlight=False)
    for columns, rows in zip((_SWEEP, _CHECK), _rows(found)):
        if rows:
            table = Table(*columns, box=None, header_style="bold")
            for row in rows:
                table.add_row(*row)
            console.print(table)
            console.print()
