"""``kadanoff ensemble``: statistics of random networks by simulation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonOptions, Output, writable
from kadanoff.cli.panels import Panel
from kadanoff.cli.simulation import Simulated, request, simulating

if TYPE_CHECKING:
    from kadanoff.ensembles import Ensemble

__all__ = ["command"]


@dataclass(frozen=True)
class SimulationOptions(Panel, title="The simulation"):
    """How many networks, and how they are drawn."""

    networks: Annotated[int, typer.Option(help="Networks (the most with --rtol).")] = 10_000
    method: opt.Method = "exact"
    observables: opt.Observables = None
    rtol: Annotated[float | None, typer.Option(help="Stop at this relative standard error.")] = None
    seed: opt.Seed = 0
    jobs: opt.Jobs = 1
    checkpoint: Annotated[Path | None, typer.Option(help="File to resume from and write to.")] = (
        None
    )
    device: opt.Device = "cpu"
    progress: opt.Progress = "auto"


def command(
    net: Simulated,
    run: SimulationOptions,
    result: JsonOptions,
    width: opt.Width = 64,
) -> None:
    """Simulate random networks and print their statistics with standard errors.

    Without --C_b and --C_W the network is at criticality. The answer depends on the seed alone,
    not on --jobs, and an interrupted run with --checkpoint goes on where it was.

    Example: `kadanoff ensemble --activation relu --depth 5 --width 64 --networks 100000`
    """
    import kadanoff as kd

    output = Output("ensemble", result)
    writable(run.checkpoint)
    arch, X = net.drawn(width, run.seed)
    with simulating(run.progress, f"{run.networks} networks") as report:
        found = kd.ensemble(
            arch,
            X,
            run.networks,
            run.method,
            seed=run.seed,
            observables=opt.names(run.observables),
            rtol=run.rtol,
            n_jobs=run.jobs,
            checkpoint=run.checkpoint,
            progress=report,
            device=run.device,
        )
    output.write(found.to_dict() | {"request": request(arch, X)}, seed=run.seed)
    if output.for_people:
        _show(found)
    output.say_where()


def _show(found: Ensemble) -> None:
    """The first component of every observable, layer by layer."""
    from rich.table import Table

    from kadanoff.style.numbers import uncertain
    from kadanoff.style.progress import console

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
    # numbers cut off are worse than lines that wrap
    console(at_least=min(12 * len(names) + 8, 220)).print(table)
    for name, why in found.undefined.items():
        console().print(f"[dim]{name}: {why}[/dim]")
