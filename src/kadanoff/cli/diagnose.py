"""``kadanoff diagnose``: a model and data in, a verdict out."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import Output, Result

__all__ = ["command"]


def command(
    model: opt.Model,
    result: Result,
    html: opt.Html = None,
    loss: Annotated[
        bool, typer.Option("--targets/--no-targets", help="Use the data's targets in the loss.")
    ] = True,
    seed: opt.Seed = 0,
    device: opt.Device = "cpu",
) -> None:
    """Diagnose a model on data: what happens to signals and gradients, layer by layer.

    Exit code 0: healthy; 1: there is a finding; 2: the call is wrong; 3: it could not be analysed.

    Example: `kadanoff diagnose examples/deep_tanh.py:default --data digits --html report.html`
    """
    from kadanoff.style.progress import console, waiting

    output = Output("diagnose", result, [html])
    with waiting("loading the model and the data"):
        from kadanoff.cli.prepared import analysed, prepare

        loaded, sample = prepare(model, seed=seed, device=device)
    with waiting("measuring every layer"), analysed(model.target):
        from kadanoff.diagnosis import diagnose

        inputs = sample if loss else replace(sample, targets=None)
        diagnosis = diagnose(loaded.model, inputs, seed=seed, device=device)
    diagnosis = replace(
        diagnosis,
        notes=(*(f"{model.data}: {note}" for note in sample.notes), *diagnosis.notes),
        meta={**diagnosis.meta, "target": model.target, "data": model.data, "seed": seed},
    )
    if html is not None:
        diagnosis.to_html(html)
    output.write(diagnosis.to_dict(), seed=seed)
    if output.for_people:
        console().print(diagnosis)
    output.say_where()
    raise typer.Exit(diagnosis.exit_code)
