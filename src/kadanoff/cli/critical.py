"""``kadanoff critical``: the critical initialisation of an activation, and its phase diagram."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonOptions, Output

if TYPE_CHECKING:
    from kadanoff.critical import Criticality

__all__ = ["command"]


def command(
    activation: Annotated[str, typer.Argument(help="Name, e.g. tanh, gelu, leaky_relu(0.1).")],
    result: JsonOptions,
    C_b: Annotated[
        float | None, typer.Option("--C_b", help="Bias variance: analyse this setting instead.")
    ] = None,
    C_W: Annotated[
        float | None, typer.Option("--C_W", help="Weight variance times fan-in, likewise.")
    ] = None,
    gamma: opt.Gamma = 0.0,
    plot: opt.Plot = None,
    progress: opt.Progress = "auto",
) -> None:
    """Critical C_b and C_W of an activation: where signals and gradients survive depth.

    Example: `kadanoff critical gelu`, `kadanoff critical tanh --C_W 0.333 --plot phases.svg`
    """
    from kadanoff.style.progress import waiting

    output = Output("critical", result, figures=[plot])
    with waiting("searching the critical point"):
        from kadanoff.critical import criticality, depth_scales

        point = criticality(activation, gamma=gamma)
        setting = None
        if C_b is not None or C_W is not None:
            b = C_b if C_b is not None else (point.C_b if point.exists else 0.0)
            W = C_W if C_W is not None else (point.C_W if point.exists else 1.0)
            setting = {"C_b": b, "C_W": W} | vars(depth_scales(activation, b, W, gamma))
    if plot is not None:
        _draw(activation, plot, progress)
    output.write({"critical": point, "setting": setting})
    if output.for_people:
        _show(point, setting)
    output.say_where()


def _draw(activation: str, path: Path, progress: str) -> None:
    from kadanoff.critical import phase_diagram
    from kadanoff.style.figures import write
    from kadanoff.style.progress import reporting

    with reporting(progress, "phase diagram") as report:
        diagram = phase_diagram(activation, progress=report)
    write(diagram.figure(), path)


def _show(point: Criticality, setting: dict[str, Any] | None) -> None:
    from rich.table import Table

    from kadanoff.style.progress import console

    screen = console()
    if not point.exists:
        screen.print(f"[bold]{point.activation}[/bold] has no critical point: {point.reason}.")
    else:
        table = Table(title=f"{point.activation}: {point.universality_class}", title_justify="left")
        table.add_column("quantity")
        table.add_column("value", justify="right")
        table.add_column("meaning")
        for name, value, meaning in (
            ("C_W", point.C_W, "fan-in × variance of a weight"),
            ("C_b", point.C_b, "variance of a bias"),
            ("K*", point.K_star, "fixed point of the signal (nan: every K)"),
            ("χ∥", point.chi_parallel, "growth of a difference in magnitude"),
            ("χ⊥", point.chi_perp, "growth of a difference in direction; of gradients"),
            ("p_K", point.p_K, "K − K* ~ ℓ^(−p_K)"),
            ("p_⊥", point.p_perp, "squared angles ~ ℓ^(−p_⊥)"),
            ("ν", point.nu, "V/K² grows by ν a layer (nan: not universal)"),
        ):
            table.add_row(name, f"{value:.8g}", meaning)
        screen.print(table)
    if setting:
        screen.print(
            f"At C_W = {setting['C_W']:g}, C_b = {setting['C_b']:g}: [bold]{setting['phase']}"
            f"[/bold], χ⊥ = {setting['chi_perp']:.4g}, χ∥ = {setting['chi_parallel']:.4g}, "
            f"K* = {setting['K_star']:.4g}. Two inputs forget their difference (or lose touch) "
            f"over {setting['xi_angle']:.3g} layers, gradients change by e over "
            f"{setting['xi_gradient']:.3g}."
        )
