"""``kadanoff flow``: the statistics of a random network, layer by layer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from kadanoff.cli.output import JsonFile, JsonFlag, Output
from kadanoff.errors import UsageError

# columns of the table: the first input's component, relative to the scale it is measured in
_SCALES = {
    "V": ("V/K²", "K", "K"), "G1": ("G1/K", "K", None), "H1": ("H1/Θ", "Theta", None),
    "A": ("A/Θ²", "Theta", "Theta"), "B": ("B/Θ²", "Theta", "Theta"),
    "D": ("D/KΘ", "K", "Theta"), "F": ("F/KΘ", "K", "Theta"),
    "P": ("P/Θ²", "Theta", "Theta"), "Q": ("Q/Θ²", "Theta", "Theta"),
}  # fmt: skip


def command(
    activation: Annotated[str, typer.Option(help="Name of the activation function.")] = "tanh",
    depth: Annotated[int, typer.Option(min=0, help="Number of hidden layers (or blocks).")] = 10,
    width: Annotated[int, typer.Option(min=1, help="Width of every hidden layer.")] = 128,
    order: Annotated[int, typer.Option(help="0: infinite width; 1: adds all of order 1/n.")] = 1,
    data: Annotated[
        str | None, typer.Option(help="Dataset, file or callable; random inputs if absent.")
    ] = None,
    inputs: Annotated[int, typer.Option(min=1, help="Number of inputs.")] = 1,
    n_in: Annotated[int, typer.Option("--n-in", min=1, help="Width of random inputs.")] = 64,
    n_out: Annotated[int, typer.Option("--n-out", min=1, help="Number of outputs.")] = 1,
    C_b: Annotated[
        float | None, typer.Option("--C_b", help="Bias variance; critical if absent.")
    ] = None,
    C_W: Annotated[
        float | None, typer.Option("--C_W", help="Weight variance x fan-in; critical if absent.")
    ] = None,
    lambda_b: Annotated[float, typer.Option("--lambda_b", help="Learning rate of biases.")] = 1.0,
    lambda_W: Annotated[
        float, typer.Option("--lambda_W", help="Learning rate of weights, over fan-in.")
    ] = 1.0,
    skip: Annotated[
        float, typer.Option(help="Strength gamma of a skip connection; 0 for none.")
    ] = 0.0,
    init: Annotated[str, typer.Option(help="gaussian or orthogonal.")] = "gaussian",
    plot: Annotated[Path | None, typer.Option(help="Write a figure (.svg or .png) here.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of random inputs or of the draw.")] = 0,
    as_json: JsonFlag = False,
    json_file: JsonFile = None,
) -> None:
    """Kernel, NTK and their 1/n statistics at every layer of a random network.

    The table shows the first input; --json holds every component and its numerical error.

    Example: `kadanoff flow --activation tanh --depth 10 --width 128 --plot flow.svg`
    """
    output = Output("flow", as_json, json_file)
    if plot is not None and plot.suffix not in (".svg", ".png"):
        raise UsageError(f"--plot must end in .svg or .png, got {str(plot)!r}.")
    X, note = _inputs(data, inputs, n_in, seed)
    C_b, C_W = _variances(activation, C_b, C_W, skip)
    from kadanoff.architecture import MLP, Residual
    from kadanoff.rgflow import flow

    common: dict[str, Any] = {
        "C_b": C_b, "C_W": C_W, "lambda_b": lambda_b, "lambda_W": lambda_W, "init": init,
    }  # fmt: skip
    if skip:
        if depth < 1:
            raise UsageError("A skip connection needs at least one block, got --depth 0.")
        arch = Residual(X.shape[1], width, depth, n_out, activation, gamma=skip, **common)
    else:
        arch = MLP(X.shape[1], [width] * depth, n_out, activation, **common)
    result = flow(arch, X, order=order)
    if plot is not None:
        draw(result, plot)
    if as_json:
        output.write(_document(result, note))
    if output.for_people:
        _print(result, note, plot)
    output.say_where()


def _inputs(data: str | None, count: int, n_in: int, seed: int) -> tuple[Any, str]:
    import torch

    if data is not None:
        from kadanoff.data import load

        batch = load(data, batch=count, seed=seed)
        X = batch.inputs
        if not isinstance(X, torch.Tensor) or not X.is_floating_point():
            raise UsageError(
                f"{data!r} does not give one tensor of real inputs.", "Use a numeric dataset."
            )
        return X.flatten(1), f"{len(X)} input(s) of {batch.name}, seed {seed}"
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(count, n_in, generator=g, dtype=torch.float64)
    X = X * math.sqrt(n_in) / X.norm(dim=1, keepdim=True)
    return X, f"{count} random input(s) with |x|²/n_0 = 1, seed {seed}"


def _variances(
    activation: str, C_b: float | None, C_W: float | None, skip: float
) -> tuple[float, float]:
    if C_b is not None and C_W is not None:
        return C_b, C_W
    from kadanoff.critical import criticality

    point = criticality(activation, gamma=skip)
    if not (math.isfinite(point.C_b) and math.isfinite(point.C_W)):
        raise UsageError(
            f"{activation} has no critical point with C_b >= 0.", "Give both --C_b and --C_W."
        )
    return (point.C_b if C_b is None else C_b, point.C_W if C_W is None else C_W)


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


def _print(result: Any, note: str, plot: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from kadanoff.report.numbers import short

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
    if plot is not None:
        print_(f"Figure: {plot}", highlight=False)


def draw(result: Any, path: Path) -> None:
    """Draw what grows with depth, relative to its scale, and write it to ``path``."""
    from matplotlib.ticker import MaxNLocator

    from kadanoff.report import figures

    layers = list(range(1, result.arch.L + 1))
    with figures.style():
        fig, axes = figures.figure(1, 2 if result.order else 1, width=8.0 if result.order else 4.4)
        left = axes[0] if result.order else axes
        left.plot(layers, result.K[:, 0, 0], label="K", marker="o")
        left.plot(layers, result.Theta[:, 0, 0], label="Θ", marker="s", linestyle=(0, (5, 2)))
        left.set(title="Infinite width", xlabel="layer ℓ", ylim=(0, None))
        left.legend()
        if result.order:
            right = axes[1]
            drawn = [name for name in ("V", "A", "B", "F", "G1", "H1") if result_has(result, name)]
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
        figures.save(fig, path.with_suffix(""), formats=(path.suffix[1:],))


def result_has(result: Any, name: str) -> bool:
    """Whether an observable was computed."""
    return getattr(result, name) is not None
