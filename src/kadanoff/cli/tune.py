"""``kadanoff tune``: critical weights for a model, and the proof that they train better."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.diagnose import analysed, prepare
from kadanoff.cli.output import JsonFile, JsonFlag, Output

__all__ = ["command"]


def command(
    target: opt.Target,
    json_file: JsonFile = None,
    data: opt.Data = "digits",
    check: Annotated[
        bool, typer.Option("--check", help="Diagnose before and after, and train both.")
    ] = False,
    save: Annotated[
        Path | None, typer.Option(help="Write the tuned state dict (`torch.load` reads it).")
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="With --check: write the comparison as one HTML file.")
    ] = None,
    as_json: JsonFlag = False,
    steps: Annotated[int, typer.Option(help="Training steps of --check.")] = 300,
    lr: Annotated[
        float | None, typer.Option(help="Learning rate of --check; default: best of a few.")
    ] = None,
    seed: opt.Seed = 0,
    device: opt.Device = "cpu",
    batch: opt.Batch = 128,
    kwargs: opt.Kwargs = None,
    weights: opt.Weights = None,
) -> None:
    """Rescale a model's initial weights to criticality.

    Exit code 0: tuned; 1: with --check, the tuned model still has a finding; 2: the call is wrong;
    3: it could not be tuned.

    Example: `kadanoff tune examples/deep_tanh.py:default --data digits --check`
    """
    from kadanoff.errors import UsageError
    from kadanoff.style.progress import console, waiting

    output = Output("tune", as_json, json_file, [save, html])
    if html is not None and not check:
        raise UsageError("--html shows the comparison of --check.", "Add --check.")
    if steps < 1:
        raise UsageError(f"--steps {steps} trains nothing.", "Give at least 1.")
    if lr is not None and not lr > 0:
        raise UsageError(f"--lr {lr} is not positive.", "Give e.g. --lr 0.01.")
    with waiting("loading the model and the data"):
        loaded, sample = prepare(
            target, data, kwargs, weights, seed=seed, device=device, batch=batch
        )
    import copy

    from kadanoff.tuning import initialise

    before: Any = copy.deepcopy(loaded.model) if check else None
    with waiting("tuning, sweep") as progress, analysed(target):
        plan = initialise(loaded.model, sample, seed=seed, progress=progress)
    result: dict[str, Any] = {"target": target, "data": data, "initialisation": plan}
    comparison = None
    if check:
        from kadanoff.tuning.check import compare

        with waiting("training both, step") as progress, analysed(target):
            comparison = compare(
                before, loaded.model, sample, data, steps=steps, lr=lr, seed=seed,
                batch=batch, progress=progress,
            )  # fmt: skip
        result["check"] = comparison.to_dict()
    if save is not None:
        _save(loaded.model, save)
    if html is not None and comparison is not None:
        from kadanoff.files import atomic_write
        from kadanoff.tuning.report import comparison_html

        atomic_write(html, comparison_html(target, plan, comparison))
    from kadanoff.style.json import envelope

    output.write(envelope("tune", result, seed=seed))
    if output.for_people:
        from kadanoff.tuning.report import plan_terminal

        screen = console()
        screen.print(plan_terminal(plan))
        if comparison is not None:
            screen.print(comparison)
    output.say_where()
    sick = comparison is not None and not comparison.after.healthy
    raise typer.Exit(1 if sick else 0)


def _save(model: Any, path: Path) -> None:
    import torch

    from kadanoff.files import atomic_open

    with atomic_open(path) as stream:
        torch.save(model.state_dict(), stream)
