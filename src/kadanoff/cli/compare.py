"""``kadanoff compare``: predictions of the flow beside a simulated ensemble."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.ensemble import build, request, simulating, split
from kadanoff.cli.output import JsonFile, JsonFlag, Output


def command(
    activation: opt.Activation = "tanh",
    depth: Annotated[int, typer.Option(help="Linear maps, readout included.", min=2)] = 4,
    width: Annotated[
        str, typer.Option(help="Hidden width; several (16,32,64) extrapolate to infinite width.")
    ] = "64",
    inputs: opt.Inputs = 1,
    n_in: opt.InWidth = 16,
    C_b: opt.Bias = None,
    C_W: opt.Weight = None,
    gamma: opt.Gamma = 0.0,
    init: opt.Init = "gaussian",
    networks: Annotated[int, typer.Option(help="Networks at each width.")] = 20_000,
    method: opt.Method = "exact",
    observables: opt.Observables = None,
    order: Annotated[int, typer.Option(help="0: infinite width alone; 1: with 1/n.")] = 1,
    level: Annotated[float, typer.Option(help="Reject beyond this many standard errors.")] = 4.0,
    ensemble: Annotated[
        Path | None,
        typer.Option(help="Take the measurement from the JSON of `kadanoff ensemble` instead."),
    ] = None,
    seed: opt.Seed = 0,
    jobs: opt.Jobs = 1,
    plot: Annotated[
        Path | None,
        typer.Option(help="Figure; with several widths it shows the scaling with 1/n and depth."),
    ] = None,
    progress: opt.Progress = "auto",
    as_json: JsonFlag = False,
    json_file: JsonFile = None,
) -> None:
    """Set predictions beside a simulation: z-scores, and the size of the next order in 1/n.

    Exit code 1 if a prediction is rejected.

    Example: `kadanoff compare --activation tanh --depth 4 --width 16,32,64 --plot scaling.svg`
    """
    from rich.console import Console

    import kadanoff as kd
    from kadanoff.ensembles import scaling

    output = Output("compare", as_json, json_file, figures=[plot])
    widths = opt.integers(width, "--width")
    names = split(observables)
    several = len(widths) > 1
    if ensemble is not None:
        arch, X, found = _read(ensemble)
    else:
        arch, X = build(activation, depth, widths[0], inputs, n_in, C_b, C_W, init, seed, gamma)
        options: dict[str, Any] = {"seed": seed, "observables": names, "n_jobs": jobs}
        with simulating(progress, "simulating") as report:
            run: Any = scaling if several else kd.ensemble
            found = run(
                arch, X, *([widths] if several else []), networks, method, progress=report,
                **options,
            )  # fmt: skip
    flow = kd.flow(arch, X, order=order)
    result = kd.compare(flow, found, level=level)
    if plot is not None:
        if several and ensemble is None:
            found.plot(plot, flow)
        else:
            result.plot(plot)
    output.write(result.to_dict() | {"request": request(arch, X)})
    if output.for_people:
        _show(result, Console())
    output.say_where()
    if not result.passed:
        raise typer.Exit(1)


def _read(path: Path) -> tuple[Any, Any, Any]:
    import json
    from dataclasses import replace

    import torch

    import kadanoff as kd
    from kadanoff.ensembles import Ensemble
    from kadanoff.errors import UsageError

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        asked = data["request"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"{str(path)!r} is no result of `kadanoff ensemble` ({error}).",
            "Write one with: kadanoff ensemble ... --json FILE.",
        ) from None
    n = asked["n"]
    names = asked["activation"] or ["linear"]
    arch = kd.MLP(
        n[0], n[1:-1], n[-1], names[0], C_b=asked["C_b"], C_W=asked["C_W"], init=asked["init"]
    )
    arch = replace(arch, gamma=tuple(asked.get("gamma", arch.gamma)))
    X = torch.tensor(asked["X"], dtype=torch.float64)
    return arch, X, replace(Ensemble.from_dict(data), arch=arch)


def _show(result: Any, console: Any) -> None:
    from rich.table import Table

    from kadanoff.style.numbers import short, uncertain

    table = Table(title="predicted and measured: the worst component of each")
    for name in ("", "layer", "slots", "predicted", "measured", "next order", "z", "verdict"):
        table.add_column(name, justify="left" if name in ("", "verdict") else "right")
    for x in result.summary():
        verdict, slots = result.verdict(x), "".join(map(str, x.component)) or "-"
        table.add_row(
            x.observable, str(x.layer), slots, short(x.predicted, 4),
            uncertain(x.measured, x.stderr), short(x.systematic, 2) if x.systematic else "-",
            f"{x.z + 0.0:.2f}", verdict, style="bold red" if verdict == "rejected" else None,
        )  # fmt: skip
    console.print(table)
    bad = len(result.rejected)
    verdict = f"{bad} of {len(result.lines)} predictions rejected"
    if not bad:
        verdict = f"none of {len(result.lines)} predictions rejected"
    console.print(f"{verdict} at {result.level:g} standard errors; next order {result.systematic}.")
