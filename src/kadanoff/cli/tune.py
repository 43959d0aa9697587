"""``kadanoff tune``: critical weights for a model, and the proof that they train better."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kadanoff.cli import options as opt
from kadanoff.cli.output import Output, Result
from kadanoff.cli.panels import Panel
from kadanoff.errors import UsageError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["command"]


@dataclass(frozen=True)
class Check(Panel, title="The check"):
    """Training before and after, side by side."""

    check: Annotated[
        bool, typer.Option("--check", help="Diagnose before and after, and train both.")
    ] = False
    html: Annotated[
        Path | None, typer.Option(help="With --check: write the comparison as one HTML file.")
    ] = None
    steps: Annotated[int, typer.Option(help="Training steps of --check.")] = 300
    lr: Annotated[
        float | None, typer.Option(help="Learning rate of --check; default: best of a few.")
    ] = None

    def __post_init__(self) -> None:
        if self.html is not None and not self.check:
            raise UsageError("--html shows the comparison of --check.", "Add --check.")
        if self.steps < 1:
            raise UsageError(f"--steps {self.steps} trains nothing.", "Give at least 1.")
        if self.lr is not None and not self.lr > 0:
            raise UsageError(f"--lr {self.lr} is not positive.", "Give e.g. --lr 0.01.")


def command(
    model: opt.Model,
    check: Check,
    result: Result,
    save: Annotated[
        Path | None, typer.Option(help="Write the tuned state dict (`torch.load` reads it).")
    ] = None,
    seed: opt.Seed = 0,
    device: opt.Device = "cpu",
) -> None:
    """Rescale a model's initial weights to criticality.

    Exit code 0: tuned; 1: with --check, the tuned model still has a finding, or its run ended
    worse than the one before, at infinity, or where it began; 2: the call is wrong; 3: it could
    not be tuned.

    Example: `kadanoff tune examples/deep_tanh.py:default --data digits --check`
    """
    from kadanoff.style.progress import console, waiting

    output = Output("tune", result, [save, check.html])
    with waiting("loading the model and the data"):
        from kadanoff.cli.prepared import analysed, prepare
        from kadanoff.tuning import initialise

        loaded, sample = prepare(model, seed=seed, device=device)
    before = copy.deepcopy(loaded.model) if check.check else None
    with waiting("tuning, sweep") as progress, analysed(model.target):
        plan = initialise(loaded.model, sample, seed=seed, progress=progress)
    found: dict[str, Any] = {"target": model.target, "data": model.data, "initialisation": plan}
    comparison = None
    if before is not None:
        from kadanoff.tuning.check import compare

        with waiting("training both, step") as progress, analysed(model.target):
            comparison = compare(
                before,
                loaded.model,
                sample,
                model.data,
                steps=check.steps,
                lr=check.lr,
                seed=seed,
                batch=model.batch,
                progress=progress,
            )
        found["check"] = comparison.to_dict()
    if save is not None:
        _save(loaded.model, save)
    if check.html is not None and comparison is not None:
        from kadanoff.files import atomic_write
        from kadanoff.tuning.report import comparison_html

        atomic_write(check.html, comparison_html(model.target, plan, comparison))
    output.write(found, seed=seed)
    if output.for_people:
        from kadanoff.tuning.report import plan_terminal

        screen = console()
        screen.print(plan_terminal(plan))
        if comparison is not None:
            screen.print(comparison)
    output.say_where()
    raise typer.Exit(1 if comparison is not None and comparison.failed else 0)


def _save(model: nn.Module, path: Path) -> None:
    import torch

    from kadanoff.files import atomic_open

    with atomic_open(path) as stream:
        torch.save(model.state_dict(), stream)
