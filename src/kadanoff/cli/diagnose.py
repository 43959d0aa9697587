"""``kadanoff diagnose``: a model and data in, a verdict out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonFile, JsonFlag, Output

__all__ = ["analysed", "command", "prepare"]


def command(
    target: opt.Target,
    json_file: JsonFile = None,
    data: opt.Data = "digits",
    html: Annotated[Path | None, typer.Option(help="Write the report as one HTML file.")] = None,
    as_json: JsonFlag = False,
    seed: opt.Seed = 0,
    device: opt.Device = "cpu",
    batch: opt.Batch = 128,
    kwargs: opt.Kwargs = None,
    weights: opt.Weights = None,
    loss: Annotated[
        bool, typer.Option("--targets/--no-targets", help="Use the data's targets in the loss.")
    ] = True,
) -> None:
    """Diagnose a model on data: what happens to signals and gradients, layer by layer.

    Exit code 0: healthy; 1: there is a finding; 2: the call is wrong; 3: it could not be analysed.

    Example: `kadanoff diagnose examples/deep_tanh.py:default --data digits --html report.html`
    """
    from dataclasses import replace

    from kadanoff.style.progress import console, waiting

    output = Output("diagnose", as_json, json_file, [html])
    with waiting("loading the model and the data"):
        loaded, sample = prepare(
            target, data, kwargs, weights, seed=seed, device=device, batch=batch
        )
    with waiting("measuring every layer"), analysed(target):
        from kadanoff.diagnosis import diagnose

        inputs = sample if loss else replace(sample, targets=None)
        diagnosis = diagnose(loaded.model, inputs, seed=seed, device=device)
    diagnosis = replace(
        diagnosis,
        notes=(*(f"{data}: {note}" for note in sample.notes), *diagnosis.notes),
        meta={**diagnosis.meta, "target": target, "data": data, "seed": seed},
    )
    if html is not None:
        diagnosis.to_html(html)
    output.write(diagnosis.to_dict())
    if output.for_people:
        console().print(diagnosis)
    output.say_where()
    raise typer.Exit(diagnosis.exit_code)


def prepare(
    target: str,
    data: str,
    kwargs: str | None,
    weights: Path | None,
    *,
    seed: int,
    device: str,
    batch: int | None,
) -> tuple[Any, Any]:
    """Load a model and a batch that it accepts, on the device."""
    import torch

    from kadanoff.cli.target import load_target, load_weights, parse_kwargs
    from kadanoff.data import adapt, load
    from kadanoff.devices import chosen

    # the cheap mistakes first, before anything is built
    chosen(device, torch.float32)
    arguments = parse_kwargs(kwargs)
    loaded = load_target(target, arguments, seed=seed, device=device)
    if weights is not None:
        load_weights(loaded.model, weights)
    sample = load(data, batch=loaded.batch or batch, seed=seed)
    sample = adapt(loaded.model, sample)
    return eager(loaded, sample), sample


def eager(loaded: Any, sample: Any) -> Any:
    """Open a TorchScript model: its layers cannot be seen until it is turned into a graph."""
    import warnings
    from dataclasses import replace

    import torch

    from kadanoff.errors import AnalysisError

    if not isinstance(loaded.model, torch.jit.ScriptModule):
        return loaded
    inputs = sample.inputs
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from torch._export.converter import TS2EPConverter

            arguments = inputs if isinstance(inputs, tuple) else (inputs,)
            program = TS2EPConverter(loaded.model, arguments).convert()
            names = {name for name, _ in loaded.model.named_parameters()}
            return replace(loaded, model=_with_parameters(program.module(), names))
    except Exception as error:
        first = (str(error).strip().splitlines() or ["no message"])[0][:160]
        raise AnalysisError(
            f"{loaded.spec!r} is TorchScript, whose layers cannot be seen, and it could not be "
            f"turned into a graph ({type(error).__name__}: {first}).",
            "Give the eager model it was made from, or a .pt2 file of torch.export.save.",
        ) from error


def _with_parameters(graph: Any, names: set[str]) -> Any:
    """The converter lifts weights into buffers: make parameters of them again."""
    import torch

    for name, value in list(graph.named_buffers()):
        if name in names:
            place, _, leaf = name.rpartition(".")
            owner = graph.get_submodule(place)
            del owner._buffers[leaf]
            owner.register_parameter(leaf, torch.nn.Parameter(value.detach().clone()))
    return graph


class analysed:
    """Turn what an analysis trips over into exit code 3 with one line; see ``--debug``."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        from kadanoff.errors import AnalysisError, KadanoffError

        if error is None or isinstance(error, KadanoffError) or not isinstance(error, Exception):
            return
        first = (str(error).strip().splitlines() or ["no message"])[0][:200]
        raise AnalysisError(
            f"{self.target!r} could not be analysed: {type(error).__name__}: {first}",
            "Run again with --debug to see where.",
        ) from error
