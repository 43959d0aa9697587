"""``kadanoff ensemble``: statistics of random networks by simulation."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from kadanoff.cli.output import JsonFile, JsonFlag, Output


def command(
    activation: Annotated[str, typer.Option(help="Activation function.")] = "tanh",
    depth: Annotated[int, typer.Option(help="Linear maps, readout included.", min=1)] = 5,
    width: Annotated[int, typer.Option(help="Hidden width.", min=1)] = 64,
    inputs: Annotated[int, typer.Option(help="Number of random inputs.", min=1)] = 1,
    n_in: Annotated[int, typer.Option(help="Input width n_0.", min=1)] = 16,
    c_b: Annotated[float | None, typer.Option("--C_b", "--cb", help="Bias variance C_b.")] = None,
    c_w: Annotated[float | None, typer.Option("--C_W", "--cw", help="Weight variance C_W.")] = None,
    init: Annotated[str, typer.Option(help="gaussian, uniform or orthogonal.")] = "gaussian",
    networks: Annotated[int, typer.Option(help="Networks (the most with --rtol).")] = 10_000,
    method: Annotated[str, typer.Option(help="exact or weights.")] = "exact",
    observables: Annotated[
        str | None, typer.Option(help="Comma-separated names, e.g. V,A,B; default all.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of inputs and networks.", min=0)] = 0,
    rtol: Annotated[
        float | None, typer.Option(help="Stop at this relative standard error.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Worker processes.")] = 1,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File to resume from and write to.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    as_json: JsonFlag = False,
    json_file: JsonFile = None,
) -> None:
    """Simulate random networks and print their statistics with standard errors.

    Without --C_b and --C_W the network is at criticality. The answer depends on the seed alone,
    not on --jobs, and an interrupted run with --checkpoint goes on where it was.

    Example: `kadanoff ensemble --activation relu --depth 5 --width 64 --networks 100000`
    """
    import kadanoff as kd

    output = Output("ensemble", as_json, json_file)
    arch, X = build(activation, depth, width, inputs, n_in, c_b, c_w, init, seed)
    names = split(observables)
    with bar(f"{networks} networks") as progress:
        found = kd.ensemble(
            arch, X, networks, method, seed=seed, observables=names, rtol=rtol, n_jobs=jobs,
            checkpoint=checkpoint, progress=progress, device=device,
        )  # fmt: skip
    output.write(found.to_dict() | {"request": request(arch, X)})
    if output.for_people:
        show(found)
    output.say_where()


def build(
    activation: str,
    depth: int,
    width: int,
    inputs: int,
    n_in: int,
    C_b: float | None,
    C_W: float | None,
    init: str,
    seed: int,
) -> tuple[Any, Any]:
    """The network and inputs that the options describe."""
    import torch

    import kadanoff as kd
    from kadanoff.errors import NotCriticalError, UsageError

    if C_b is None or C_W is None:
        try:
            critical = kd.criticality(activation)
        except NotCriticalError as error:
            raise UsageError(error.message, "Pass both --C_b and --C_W.") from None
        C_b = float(critical.C_b) if C_b is None else C_b
        C_W = float(critical.C_W) if C_W is None else C_W
    arch = kd.MLP(
        n_in, [width] * (depth - 1), max(2, min(width, 16)), activation, C_b=C_b, C_W=C_W, init=init
    )
    X = torch.randn(
        inputs, n_in, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    return arch, X * (n_in**0.5 / X.norm(dim=1, keepdim=True))


def request(arch: Any, X: Any) -> dict[str, Any]:
    """What a result was computed for, so that two results can be matched."""
    return {
        "n": list(arch.n),
        "activation": sorted({act.name for act in arch.activations}),
        "C_b": list(arch.C_b),
        "C_W": list(arch.C_W),
        "init": arch.init,
        "X": X.tolist(),
    }


def split(names: str | None) -> list[str] | None:
    """Names of a comma-separated list."""
    return None if names is None else [name.strip() for name in names.split(",") if name.strip()]


@contextmanager
def bar(label: str) -> Any:
    """A progress bar on standard error with the current relative standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f}%"),
        TimeRemainingColumn(), TextColumn("{task.fields[error]}"),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(label, error="")

        def update(done: int, total: int, relative_error: float = 0.0, **info: Any) -> None:
            text = f"standard error {relative_error:.2%}"
            if "width" in info:
                text = f"width {info['width']}, {text}"
            progress.update(task, completed=done, total=total, error=text)

        yield update


def show(found: Any) -> None:
    """The first component of every observable, layer by layer."""
    from rich.console import Console
    from rich.table import Table

    from kadanoff.report.numbers import uncertain

    title = f"{found.n_networks} networks, method {found.method}, {found.seconds:.1f} s"
    table = Table(title=title, caption="first component of each; standard error in brackets")
    table.add_column("layer", justify="right")
    names = found.names()
    for name in names:
        table.add_column(name, justify="right")
    for l in range(len(found.values[names[0]].value)):
        cells = []
        for name in names:
            m = found.values[name]
            value, error = float(m.value[l].reshape(-1)[0]), float(m.stderr[l].reshape(-1)[0])
            # below rounding: the same for every network
            cells.append(uncertain(0.0 if abs(value) < 1e-12 else value, error))
        table.add_row(str(l + 1), *cells)
    console = Console()
    if console.width < 12 * len(names):
        console = Console(width=min(12 * len(names) + 8, 220))
    console.print(table)
    for name, why in found.undefined.items():
        console.print(f"[dim]{name}: {why}[/dim]")
