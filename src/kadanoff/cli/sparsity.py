"""``kadanoff sparsity``: which neurons fire, and what skipping the others would gain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import JsonFile, JsonFlag, Output

__all__ = ["command"]


def command(
    target: opt.Target,
    json_file: JsonFile = None,
    data: opt.Data = "text",
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
    html: Annotated[Path | None, typer.Option(help="Write the report as one HTML file.")] = None,
    as_json: JsonFlag = False,
    seed: opt.Seed = 0,
    device: opt.Device = "cpu",
    batch: opt.Batch = 128,
    kwargs: opt.Kwargs = None,
    weights: opt.Weights = None,
) -> None:
    """Measure activation sparsity layer by layer, and the bytes and FLOPs it could save.

    Exit code 0: measured; 2: the call is wrong; 3: it could not be analysed.

    Example: `kadanoff sparsity kadanoff.studies.lazy_neurons.toy:Decoder --kwargs
    '{"n_symbols": 128}' --data text --html sparsity.html`
    """
    from kadanoff.cli.diagnose import analysed, prepare
    from kadanoff.style.json import envelope
    from kadanoff.style.progress import console, waiting

    output = Output("sparsity", as_json, json_file, [html])
    with waiting("loading the model and the data"):
        loaded, sample = prepare(
            target, data, kwargs, weights, seed=seed, device=device, batch=batch
        )
    model = loaded.model.eval()
    with waiting("measuring every layer") as progress, analysed(target):
        found, report, drifts, choices, history = _measure(
            model, sample, error, checkpoint or [], accelerate, progress
        )
    tree = envelope("sparsity", {
        "target": target, "data": data, "profile": found.as_dict(),
        "bytes": None if report is None else report.as_dict(),
        "drift": drifts, "acceleration": choices,
        "checkpoints": [p.as_dict() for p in history],
    }, seed=seed)  # fmt: skip
    if html is not None:
        from kadanoff.cli.sparsity_page import sparsity_html
        from kadanoff.files import atomic_write

        atomic_write(html, sparsity_html(target, data, found, report, drifts, choices, history))
    output.write(tree)
    if output.for_people:
        _print(console(), found, report, drifts, choices)
    output.say_where()


def _measure(
    model: Any, sample: Any, error: float, checkpoints: list[Path], accelerate: bool, progress: Any
) -> tuple[Any, Any, Any, Any, list[Any]]:
    from kadanoff import sparsity
    from kadanoff.errors import AnalysisError, KadanoffError, UsageError

    for path in checkpoints:
        if not path.is_file():
            raise UsageError(f"There is no checkpoint {str(path)!r}.", "Check the path.")
    found = sparsity.profile(model, sample, error=error, progress=progress)
    try:
        report = sparsity.bytes_report(model, sample, error=error)
    except AnalysisError:
        # convolutions alone: there is nothing to skip row by row
        report = None
    drifts = None
    if report is not None and sample.targets is not None:
        try:
            drifts = [vars(row) for row in sparsity.measure_drift(model, sample)]
        except (KadanoffError, RuntimeError):
            # outputs that do not fit the targets have no loss, yet the profile stands
            drifts = None
    choices = None
    if accelerate and report is not None:
        fast: Any = sparsity.accelerate(model, sample)
        choices = fast.acceleration
    history = []
    if checkpoints:
        history = sparsity.profile_checkpoints(model, checkpoints, sample, error=error)
    return found, report, drifts, choices, history


def _print(screen: Any, found: Any, report: Any, drifts: Any, choices: Any) -> None:
    from rich.table import Table

    from kadanoff.style.numbers import data_size, percent

    screen.print(
        f"[bold]{percent(found.active)}[/] of the hidden neurons are active, the mean of "
        f"{len(found.layers)} layers over {found.tokens} tokens."
    )
    if not all(layer.exact for layer in found.layers):
        screen.print(
            f"Smooth activations count from the magnitude that keeps {percent(found.error)} "
            "output error."
        )
    table = Table(box=None, pad_edge=False, header_style="dim")
    heads = ("layer", "width", "active", "random", "95% of tokens ≤", "never", "always", "overlap",
             "union 8", "limit")  # fmt: skip
    for head in heads:
        table.add_column(head, justify="left" if head == "layer" else "right", no_wrap=True)
    limits = {} if report is None else {b.name: b.limit for b in report.blocks}
    for layer in found.layers:
        name = layer.name if len(layer.name) <= 30 else "…" + layer.name[-29:]
        table.add_row(
            name, str(layer.width), percent(layer.active), percent(layer.expected),
            percent(layer.token_quantiles[0.95]),
            percent(layer.never), percent(layer.always), percent(layer.overlap),
            percent(layer.union.get(8)),
            f"{limits[layer.name]:.2f}×" if layer.name in limits else "",
        )  # fmt: skip
    screen.print(table)
    if any(layer.expected is not None for layer in found.layers):
        screen.print("random: what fresh weights of the same size would activate.", style="dim")
    if report is not None:
        screen.print(
            f"MLP blocks are {percent(report.mlp_share)} of the {data_size(report.model_bytes)} "
            f"read per token; at {data_size(report.bandwidth)}/s a token takes "
            f"{1e3 * report.dense_seconds:.3g} ms dense, and skipping could make it "
            f"{report.model_limit:.2f}× faster at best."
        )
    if drifts:
        last = drifts[-1]
        text = f"Gradient drift on the last block: {last['slope']:.3g} ± {last['stderr']:.2g}"
        if last["predicted"] is not None:
            text += f" (closed form at initialisation {last['predicted']:.3g})"
        screen.print(text + "; positive pushes neurons off.", markup=False)
    if choices is not None:
        for row in choices.blocks:
            words = f"{row.name}: {row.choice}"
            if row.choice != "dense":
                words += f", {row.speedup:.2f}× on one token"
            screen.print(words + (f" ({row.reason})" if row.reason else ""), markup=False)
        for note in choices.notes:
            screen.print(note, markup=False)
