"""``kadanoff compare``: predictions of the flow beside a simulated ensemble."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonOptions, Output
from kadanoff.cli.panels import Panel
from kadanoff.cli.simulation import Simulated, request, simulating
from kadanoff.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from kadanoff.architecture import Network
    from kadanoff.ensembles import Comparison, Ensemble, Scaling

__all__ = ["command"]


@dataclass(frozen=True)
class Deep(Simulated):
    """A network with at least one hidden layer."""

    depth: Annotated[int, typer.Option(help="Linear maps, readout included.", min=2)] = 4


@dataclass(frozen=True)
class Measurement(Panel, title="The measurement"):
    """The simulation that the predictions are held against."""

    networks: Annotated[int, typer.Option(help="Networks at each width.")] = 20_000
    method: opt.Method = "exact"
    observables: opt.Observables = None
    ensemble: Annotated[
        Path | None,
        typer.Option(help="Take the measurement from the JSON of `kadanoff ensemble` instead."),
    ] = None
    seed: opt.Seed = 0
    jobs: opt.Jobs = 1
    progress: opt.Progress = "auto"


def command(
    net: Deep,
    run: Measurement,
    result: JsonOptions,
    width: Annotated[
        str, typer.Option(help="Hidden width; several (16,32,64) extrapolate to infinite width.")
    ] = "64",
    order: Annotated[int, typer.Option(help="0: infinite width alone; 1: with 1/n.")] = 1,
    level: Annotated[float, typer.Option(help="Reject beyond this many standard errors.")] = 4.0,
    plot: Annotated[
        Path | None,
        typer.Option(help="Figure; with several widths it shows the scaling with 1/n and depth."),
    ] = None,
) -> None:
    """Set predictions beside a simulation: z-scores, and the size of the next order in 1/n.

    Exit code 1 if a prediction is rejected.

    Example: `kadanoff compare --activation tanh --depth 4 --width 16,32,64 --plot scaling.svg`
    """
    import kadanoff as kd
    from kadanoff.ensembles import Scaling
    from kadanoff.style.progress import waiting

    output = Output("compare", result, figures=[plot])
    widths = opt.integers(width, "--width")
    if run.ensemble is not None:
        arch, X, measured = _read(run.ensemble)
    else:
        arch, X = net.drawn(widths[0], run.seed)
        measured = _measured(arch, X, widths, run)
    with waiting("predicting, average") as report:
        flow = kd.flow(arch, X, order=order, progress=report)
    found = kd.compare(flow, measured, level=level)
    if plot is not None:
        if isinstance(measured, Scaling):
            measured.plot(plot, flow)
        else:
            found.plot(plot)
    seed = None if run.ensemble is not None else run.seed
    output.write(found.to_dict() | {"request": request(arch, X)}, seed=seed)
    if output.for_people:
        _show(found)
    output.say_where()
    if not found.passed:
        raise typer.Exit(1)


def _measured(arch: Network, X: Tensor, widths: list[int], run: Measurement) -> Ensemble | Scaling:
    """An ensemble of one width, or the scaling over several."""
    import kadanoff as kd
    from kadanoff.ensembles import scaling

    options: dict[str, Any] = {
        "seed": run.seed,
        "observables": opt.names(run.observables),
        "n_jobs": run.jobs,
    }
    with simulating(run.progress, "simulating") as report:
        options["progress"] = report
        if len(widths) > 1:
            return scaling(arch, X, widths, run.networks, run.method, **options)
        return kd.ensemble(arch, X, run.networks, run.method, **options)


def _read(path: Path) -> tuple[Network, Tensor, Ensemble]:
    """The network, the inputs and the measurement that ``kadanoff ensemble`` wrote."""
    import torch

    import kadanoff as kd
    from kadanoff.ensembles import Ensemble

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        asked = data["request"]
        n = asked["n"]
        names = asked["activation"] or ["linear"]
        C_b, C_W, init = asked["C_b"], asked["C_W"], asked["init"]
        X = torch.tensor(asked["X"], dtype=torch.float64)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{str(path)!r} is no result of `kadanoff ensemble` ({error}).",
            "Write one with: kadanoff ensemble ... --json FILE.",
        ) from None
    arch = kd.MLP(n[0], n[1:-1], n[-1], names[0], C_b=C_b, C_W=C_W, init=init)
    arch = replace(arch, gamma=tuple(asked.get("gamma", arch.gamma)))
    return arch, X, replace(Ensemble.from_dict(data), arch=arch)


def _show(found: Comparison) -> None:
    from rich.table import Table

    from kadanoff.style.numbers import short, uncertain
    from kadanoff.style.progress import console

    table = Table(title="predicted and measured: the worst component of each")
    for name in ("", "layer", "slots", "predicted", "measured", "next order", "z", "verdict"):
        table.add_column(name, justify="left" if name in ("", "verdict") else "right")
    for x in found.summary():
        verdict, slots = found.verdict(x), "".join(map(str, x.component)) or "-"
        table.add_row(
            x.observable,
            str(x.layer),
            slots,
            short(x.predicted, 4),
            uncertain(x.measured, x.stderr),
            short(x.systematic, 2) if x.systematic else "-",
            f"{x.z + 0.0:.2f}",
            verdict,
            style="bold red" if verdict == "rejected" else None,
        )
    screen = console()
    screen.print(table)
    bad = len(found.rejected)
    verdict = f"{bad} of {len(found.lines)} predictions rejected"
    if not bad:
        verdict = f"none of {len(found.lines)} predictions rejected"
    screen.print(f"{verdict} at {found.level:g} standard errors; next order {found.systematic}.")
