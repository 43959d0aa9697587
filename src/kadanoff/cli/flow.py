"""``kadanoff flow``: the statistics of a random network, layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonFile, JsonFlag, Output

# columns of the table: the first input's component, relative to the scale it is measured in
_SCALES = {
    "V": ("V/K²", "K", "K"), "G1": ("G1/K", "K", None), "H1": ("H1/Θ", "Theta", None),
    "A": ("A/Θ²", "Theta", "Theta"), "B": ("B/Θ²", "Theta", "Theta"),
    "D": ("D/KΘ", "K", "Theta"), "F": ("F/KΘ", "K", "Theta"),
    "P": ("P/Θ²", "Theta", "Theta"), "Q": ("Q/Θ²", "Theta", "Theta"),
}  # fmt: skip


def command(
    activation: opt.Activation = "tanh",
    depth: opt.Depth = 10,
    width: opt.Width = 128,
    order: Annotated[int, typer.Option(help="0: infinite width; 1: adds all of order 1/n.")] = 1,
    data: Annotated[
        str | None, typer.Option(help="Dataset, file or callable; random inputs if absent.")
    ] = None,
    inputs: Annotated[int, typer.Option(min=1, help="Number of inputs.")] = 1,
    n_in: opt.InWidth = 64,
    n_out: Annotated[int, typer.Option("--n-out", min=1, help="Number of outputs.")] = 1,
    C_b: opt.Bias = None,
    C_W: opt.Weight = None,
    lambda_b: Annotated[float, typer.Option("--lambda_b", help="Learning rate of biases.")] = 1.0,
    lambda_W: Annotated[
        float, typer.Option("--lambda_W", help="Learning rate of weights, over fan-in.")
    ] = 1.0,
    gamma: opt.Gamma = 0.0,
    init: opt.Init = "gaussian",
    plot: opt.Plot = None,
    seed: opt.Seed = 0,
    as_json: JsonFlag = False,
    json_file: JsonFile = None,
) -> None:
    """Kernel, NTK and their 1/n statistics at every layer of a random network.

    The table shows the first input; --json holds every component and its numerical error.

    Example: `kadanoff flow --activation tanh --depth 10 --width 128 --plot flow.svg`
    """
    output = Output("flow", as_json, json_file, figures=[plot])
    X, note = _inputs(data, inputs, n_in, seed)
    C_b, C_W = opt.variances(activation, C_b, C_W, gamma)
    from kadanoff.rgflow import flow
    from kadanoff.style.progress import waiting

    arch = opt.network(
        X.shape[1], width, depth, n_out, activation, gamma, C_b=C_b, C_W=C_W,
        lambda_b=lambda_b, lambda_W=lambda_W, init=init,
    )  # fmt: skip
    with waiting("averages and layers") as progress:
        result = flow(arch, X, order=order, progress=progress)
    if plot is not None:
        draw(result, plot)
    if as_json:
        output.write(_document(result, note))
    if output.for_people:
        _print(result, note)
    output.say_where()


def _inputs(data: str | None, count: int, n_in: int, seed: int) -> tuple[Any, str]:
    if data is not None:
        batch = opt.table(data, count, seed)
        X = batch.inputs
        return X, f"{len(X)} input(s) of {batch.name}, seed {seed}"
    note = f"{count} random input(s) with |x|²/n_0 = 1, seed {seed}"
    return opt.random_inputs(count, n_in, seed), note


def _document(result: Any, note: str) -> dict[str, Any]:
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


def _relative(result: Any, name: str) -> list[float]:
    """First input's component of an observable over its natural scale, per layer."""
    _, one, two = _SCALES[name]
    value = getattr(result, name).flatten(1)[:, 0]
    scale = getattr(result, one)[:, 0, 0]
    if two is not None:
        scale = scale * getattr(result, two)[:, 0, 0]
    return (value / scale.clamp_min(1e-300)).tolist()


def _print(result: Any, note: str) -> None:
    from rich.console import Console
    from rich.table import Table

    from kadanoff.style.numbers import short

    console = Console()
    shown = [name for name in _SCALES if getattr(result, name) is not None]
    columns = {
        "n": [str(n) for n in result.arch.n[1:]],
        "K": [short(v) for v in result.K[:, 0, 0].tolist()],
        "Θ": [short(v) for v in result.Theta[:, 0, 0].tolist()],
        **{_SCALES[name][0]: [short(v) for v in _relative(result, name)] for name in shown},
    }
    print_ = console.print
    print_(f"[bold]{result.arch!r}[/bold]", highlight=False, soft_wrap=True)
    print_(note + (", first one shown" if len(result.X) > 1 else ""), style="dim")
    titles = list(columns)
    # two tables fit a terminal of 80 columns
    for part in (titles[:6], titles[6:]):
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("layer", *part):
            table.add_column(title, justify="right", no_wrap=True, min_width=len(title))
        for l in range(result.arch.L):
            table.add_row(str(l + 1), *(columns[title][l] for title in part))
        if part:
            print_()
            print_(table)
    print_()
    if result.order:
        print_("Divide by n of the layer before: these are coefficients of 1/n.", style="dim")
        worst = max(
            (float((e / getattr(result, k).abs().max().clamp_min(1e-300)).max()), k)
            for k, e in result.error.items()
        )
        print_(f"Averages: {result.strategy} (largest: {worst[0]:.0e} of {worst[1]}).", style="dim")
    reasons: dict[str, list[str]] = {}
    for name, reason in result.undefined.items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in reasons.items():
        print_(f"Not given: {', '.join(names)}: {reason}", style="dim")


def draw(result: Any, path: Path) -> None:
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
