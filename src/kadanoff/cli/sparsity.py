"""``kadanoff sparsity``: which neurons fire, and what skipping the others would gain."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonOptions, Output

__all__ = ["command"]


@dataclass(frozen=True)
class DecoderOptions(opt.Model):
    """Sparsity is asked of language models first."""

    data: opt.Data = "text"


def command(
    model: DecoderOptions,
    result: JsonOptions,
    error: Annotated[
        float, typer.Option(help="Relative output error that defines inactive for GELU and SiLU.")
    ] = 0.01,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option(help="State dict of the model, `torch.save`d; may be given several times."),
    ] = None,
    accelerate: Annotated[
        bool, typer.Option("--accelerate", help="Also time dense against sparse on this machine.")
    ] = False,
    html: opt.Html = None,
    seed: opt.Seed = 0,
    device: opt.Device = "cpu",
) -> None:
    """Measure activation sparsity layer by layer, and the bytes and FLOPs it could save.

    Exit code 0: measured; 2: the call is wrong; 3: it could not be analysed.

    Example: `kadanoff sparsity kadanoff.studies.lazy_neurons.toy:Decoder --kwargs
    '{"n_symbols": 128}' --data text --html sparsity.html`
    """
    from kadanoff.style.progress import console, waiting

    output = Output("sparsity", result, [html])
    with waiting("loading the model and the data"):
        from kadanoff.cli.prepared import analysed, prepare
        from kadanoff.sparsity.report import measure, show_sparsity

        loaded, sample = prepare(model, seed=seed, device=device)
    with waiting("measuring every layer") as progress, analysed(model.target):
        found = measure(
            loaded.model.eval(),
            sample,
            error=error,
            checkpoints=checkpoint or [],
            time_it=accelerate,
            progress=progress,
        )
    if html is not None:
        from kadanoff.files import atomic_write
        from kadanoff.sparsity.page import sparsity_html

        atomic_write(html, sparsity_html(found, model.target, model.data))
    output.write({"target": model.target, "data": model.data} | found.as_dict(), seed=seed)
    if output.for_people:
        show_sparsity(console(), found)
    output.say_where()
