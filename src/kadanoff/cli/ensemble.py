"""``kadanoff ensemble``: statistics of random networks by simulation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonFile, JsonFlag, Output


def command(
    activation: opt.Activation = "tanh",
    depth: opt.Depth = 5,
    width: opt.Width = 64,
    inputs: opt.Inputs = 1,
    n_in: opt.InWidth = 16,
    C_b: opt.Bias = None,
    C_W: opt.Weight = None,
    gamma: opt.Gamma = 0.0,
    init: opt.Init = "gaussian",
    networks: Annotated[int, typer.Option(help="Networks (the most with --rtol).")] = 10_000,
    method: opt.Method = "exact",
    observables: opt.Observables = None,
    seed: opt.Seed = 0,
    rtol: Annotated[
        float | None, typer.Option(help="Stop at this relative standard error.")
    ] = None,
    jobs: opt.Jobs = 1,
    checkpoint: Annotated[
        Path | None, typer.Option(help="File to resume from and write to.")
    ] = None,
    device: opt.Device = "cpu",
    progress: opt.Progress = "auto",
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
    arch, X = build(activation, depth, width, inputs, n_in, C_b, C_W, init, seed, gamma)
    names = split(observables)
    with simulating(progress, f"{networks} networks") as report:
        found = kd.ensemble(
            arch, X, networks, method, seed=seed, observables=names, rtol=rtol, n_jobs=jobs,
            checkpoint=checkpoint, progress=report, device=device,
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
    gamma: float = 0.0,
) -> tuple[Any, Any]:
    """The network and inputs that the options describe."""
    C_b, C_W = opt.variances(activation, C_b, C_W, gamma)
    n_out = max(2, min(width, 16))
    arch = opt.network(n_in, width, depth, n_out, activation, gamma, C_b=C_b, C_W=C_W, init=init)
    return arch, opt.random_inputs(inputs, n_in, seed)


def request(arch: Any, X: Any) -> dict[str, Any]:
    """What a result was computed for, so that two results can be matched."""
    return {
        "n": list(arch.n),
        "activation": sorted({act.name for act in arch.activations}),
        "C_b": list(arch.C_b),
        "C_W": list(arch.C_W),
        "gamma": list(arch.gamma),
        "init": arch.init,
        "X": X.tolist(),
    }


def split(names: str | None) -> list[str] | None:
    """Names of a comma-separated list."""
    return None if names is None else [name.strip() for name in names.split(",") if name.strip()]


@contextmanager
def simulating(kind: str, words: str) -> Iterator[Any]:
    """Progress of a simulation, with the relative standard error that it has reached."""
    from kadanoff.style.progress import reporting

    with reporting(kind, words) as report:

        def tell(done: int, total: int, relative_error: float = 0.0, **info: Any) -> None:
            if report is None:
                return
            about = f"width {info['width']}" if "width" in info else words
            report(done, total, message=f"{about}, standard error {relative_error:.2%}")

        yield tell


def show(found: Any) -> None:
    """The first component of every observable, layer by layer."""
    from rich.console import Console
    from rich.table import Table

    from kadanoff.style.numbers import uncertain

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
