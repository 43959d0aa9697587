"""``kadanoff flow``: the statistics of a random network, layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonOptions, Output

if TYPE_CHECKING:
    from rich.table import Table
    from torch import Tensor

    from kadanoff.rgflow import Flow

__all__ = ["command"]

# columns of the table: the first input's component, relative to the scale it is measured in
_SCALES = {
    "V": ("V/K²", "K", "K"),
    "G1": ("G1/K", "K", None),
    "H1": ("H1/Θ", "Theta", None),
    "A": ("A/Θ²", "Theta", "Theta"),
    "B": ("B/Θ²", "Theta", "Theta"),
    "D": ("D/KΘ", "K", "Theta"),
    "F": ("F/KΘ", "K", "Theta"),
    "P": ("P/Θ²", "Theta", "Theta"),
    "Q": ("Q/Θ²", "Theta", "Theta"),
}


@dataclass(frozen=True)
class Flowing(opt.NetworkOptions):
    """A network with its learning rates, as the flow of the NTK needs them."""

    depth: opt.Depth = 10
    width: opt.Width = 128
    init: opt.Init = "gaussian"
    n_out: Annotated[int, typer.Option("--n-out", min=1, help="Number of outputs.")] = 1
    lambda_b: Annotated[float, typer.Option("--lambda_b", help="Learning rate of biases.")] = 1.0
    lambda_W: Annotated[
        float, typer.Option("--lambda_W", help="Learning rate of weights, over fan-in.")
    ] = 1.0


def command(
    net: Flowing,
    result: JsonOptions,
    order: Annotated[int, typer.Option(help="0: infinite width; 1: adds all of order 1/n.")] = 1,
    data: Annotated[
        str | None, typer.Option(help="Dataset, file or callable; random inputs if absent.")
    ] = None,
    inputs: Annotated[int, typer.Option(min=1, help="Number of inputs.")] = 1,
    n_in: opt.InWidth = 64,
    plot: opt.Plot = None,
    seed: opt.Seed = 0,
    progress: opt.Progress = "auto",
) -> None:
    """Kernel, NTK and their 1/n statistics at every layer of a random network.

    The table shows the first input; --json holds every component and its numerical error.

    Example: `kadanoff flow --activation tanh --depth 10 --width 128 --plot flow.svg`
    """
    from kadanoff.rgflow import flow
    from kadanoff.style.progress import reporting

    output = Output("flow", result, figures=[plot])
    X, note = _inputs(data, inputs, n_in, seed)
    rates = {"lambda_b": net.lambda_b, "lambda_W": net.lambda_W}
    arch = net.build(X.shape[1], net.width, net.n_out, init=net.init, **rates)
    with reporting(progress, "averages and layers") as report:
        found = flow(arch, X, order=order, progress=report)
    if plot is not None:
        _draw(found, plot)
    output.write(_document(found, note), seed=seed)
    if output.for_people:
        _show(found, note)
    output.say_where()


def _inputs(data: str | None, count: int, n_in: int, seed: int) -> tuple[Tensor, str]:
    if data is not None:
        batch = opt.table(data, count, seed)
        X = batch.inputs
        return X, f"{len(X)} input(s) of {batch.name}, seed {seed}"
    note = f"{count} random input(s) with |x|²/n_0 = 1, seed {seed}"
    return opt.random_inputs(count, n_in, seed), note


def _document(result: Flow, note: str) -> dict[str, Any]:
    arch = result.arch
    return {
        "architecture": {
            "n": list(arch.n),
            "activation": sorted({a.name for a in arch.activations}),
            "C_b": list(arch.C_b),
            "C_W": list(arch.C_W),
            "lambda_b": list(arch.lambda_b),
            "lambda_W": list(arch.lambda_W),
            "gamma": list(arch.gamma),
            "init": arch.init,
        },
        "inputs": note,
        "order": result.order,
        "observables": {name: getattr(result, name).tolist() for name in result.names()},
        "error": {name: value.tolist() for name, value in result.error.items()},
        "strategy": result.strategy,
        "undefined": result.undefined,
    }


def _relative(result: Flow, name: str) -> list[float]:
    """First input's component of an observable over its natural scale, per layer."""
    _, one, two = _SCALES[name]
    value = getattr(result, name).flatten(1)[:, 0]
    scale = getattr(result, one)[:, 0, 0]
    if two is not None:
        scale = scale * getattr(result, two)[:, 0, 0]
    return (value / scale.clamp_min(1e-300)).tolist()


def _show(result: Flow, note: str) -> None:
    from kadanoff.style.progress import console

    screen = console()
    screen.print(f"[bold]{result.arch!r}[/bold]", soft_wrap=True)
    screen.print(note + (", first one shown" if len(result.X) > 1 else ""), style="dim")
    columns = _columns(result)
    titles = list(columns)
    # two tables fit a terminal of 80 columns
    for part in (titles[:6], titles[6:]):
        if part:
            screen.print()
            screen.print(_table({title: columns[title] for title in part}))
    screen.print()
    if result.order:
        screen.print("Divide by n of the layer before: these are coefficients of 1/n.", style="dim")
        error, name = _worst(result)
        screen.print(f"Averages: {result.strategy} (largest: {error:.0e} of {name}).", style="dim")
    reasons: dict[str, list[str]] = {}
    for name, reason in result.undefined.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        screen.print(f"Not given: {', '.join(names)}: {reason}", style="dim")


def _columns(result: Flow) -> dict[str, list[str]]:
    """What the table shows, layer by layer, under its titles."""
    from kadanoff.style.numbers import short

    columns = {
        "n": [str(n) for n in result.arch.n[1:]],
        "K": [short(v) for v in result.K[:, 0, 0].tolist()],
        "Θ": [short(v) for v in result.Theta[:, 0, 0].tolist()],
    }
    for name, (title, *_) in _SCALES.items():
        if getattr(result, name) is not None:
            columns[title] = [short(v) for v in _relative(result, name)]
    return columns


def _table(columns: dict[str, list[str]]) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("layer", *columns):
        table.add_column(title, justify="right", no_wrap=True, min_width=len(title))
    for layer, cells in enumerate(zip(*columns.values()), start=1):
        table.add_row(str(layer), *cells)
    return table


def _worst(result: Flow) -> tuple[float, str]:
    """The largest numerical error of an observable, relative to its size, and its name."""
    relative = {
        name: float((error / result.require(name).abs().max().clamp_min(1e-300)).max())
        for name, error in result.error.items()
    }
    name = max(relative, key=lambda k: relative[k])
    return relative[name], name


def _draw(result: Flow, path: Path) -> None:
    """Draw what grows with depth, relative to its scale, and write it to ``path``."""
    from matplotlib.ticker import MaxNLocator

    from kadanoff.style import figures

    layers = list(range(1, result.arch.L + 1))
    with figures.house_style():
        fig, axes = figures.figure(1, 2 if result.order else 1, width=8.0 if result.order else 4.4)
        left = axes[0] if result.order else axes
        left.plot(layers, result.K[:, 0, 0], label="K", marker="o")
        left.plot(layers, result.Theta[:, 0, 0], label="Θ", marker="s", linestyle=(0, (5, 2)))
        left.set(title="Infinite width", xlabel="layer ℓ", ylim=(0, None))
        left.legend()
        if result.order:
            right = axes[1]
            possible = ("V", "A", "B", "F", "G1", "H1")
            drawn = [name for name in possible if getattr(result, name) is not None]
            for index, name in enumerate(drawn):
                right.plot(
                    layers,
                    _relative(result, name),
                    label=_SCALES[name][0],
                    marker=figures.MARKERS[index],
                    linestyle=figures.DASHES[index],
                )
            right.axhline(0, color=figures.colour("muted"), linewidth=0.8)
            right.set(title="Coefficients of 1/n", xlabel="layer ℓ")
            right.legend(ncols=2)
        for ax in fig.axes:
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        figures.write(fig, path)
