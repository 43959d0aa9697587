"""Everything about a model's sparsity on given data at once, and how a terminal shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from torch import nn

from kadanoff.errors import AnalysisError, KadanoffError, UsageError
from kadanoff.sparsity.profiles import LayerProfile, Profile, profile, profile_checkpoints
from kadanoff.sparsity.speed import Acceleration, accelerate, acceleration_of
from kadanoff.sparsity.theory import DriftMeasurement, measure_drift
from kadanoff.sparsity.traffic import BytesReport, bytes_report
from kadanoff.style.numbers import data_size, percent

__all__ = ["SparsityReport", "measure", "show_sparsity"]

_LONGEST_NAME = 30


@dataclass(frozen=True)
class SparsityReport:
    """What fires, what skipping the rest could save, and why it is so.

    Attributes
    ----------
    profile : Profile
        Layer by layer.
    bytes : BytesReport or None
        None where there is nothing to skip row by row (convolutions alone).
    drift : list of DriftMeasurement or None
        None where outputs and targets do not fit into a loss.
    acceleration : Acceleration or None
        Dense against sparse on this machine, if it was asked for.
    checkpoints : list of Profile
        The same model at other weights.
    """

    profile: Profile
    bytes: BytesReport | None
    drift: list[DriftMeasurement] | None
    acceleration: Acceleration | None
    checkpoints: list[Profile]

    def as_dict(self) -> dict[str, Any]:
        """Everything, ready for JSON."""
        return {
            "profile": self.profile.as_dict(),
            "bytes": None if self.bytes is None else self.bytes.as_dict(),
            "drift": self.drift,
            "acceleration": self.acceleration,
            "checkpoints": [checkpoint.as_dict() for checkpoint in self.checkpoints],
        }


def measure(
    model: nn.Module,
    data: Any,
    *,
    error: float = 0.01,
    checkpoints: Sequence[Path] = (),
    time_it: bool = False,
    progress: Callable[..., None] | None = None,
) -> SparsityReport:
    """Profile a model, and whatever else its blocks and targets allow.

    Parameters
    ----------
    model : nn.Module
    data : Batch
        Inputs, and targets if the drift is wanted.
    error : float
        Relative output error that defines inactive for smooth activations.
    checkpoints : sequence of Path
        State dicts of the model.
    time_it : bool
        Also time dense against sparse; the model is left accelerated.
    progress : callable, optional
        Called as ``progress(done, total)``.

    Raises
    ------
    UsageError
        A checkpoint is missing.
    """
    for path in checkpoints:
        if not path.is_file():
            raise UsageError(f"There is no checkpoint {str(path)!r}.", "Check the path.")
    found = profile(model, data, error=error, progress=progress)
    try:
        traffic = bytes_report(model, data, error=error)
    except AnalysisError:
        # convolutions alone: there is nothing to skip row by row
        traffic = None
    drift = None if traffic is None else _drift(model, data)
    acceleration = None
    if time_it and traffic is not None:
        acceleration = acceleration_of(accelerate(model, data))
    history: list[Profile] = []
    if checkpoints:
        history = profile_checkpoints(model, list(checkpoints), data, error=error)
    return SparsityReport(found, traffic, drift, acceleration, history)


def _drift(model: nn.Module, data: Any) -> list[DriftMeasurement] | None:
    if data.targets is None:
        return None
    try:
        return measure_drift(model, data)
    except (KadanoffError, RuntimeError):
        # outputs that do not fit the targets have no loss, yet the profile stands
        return None


def show_sparsity(screen: Console, report: SparsityReport) -> None:
    """Print the mean, a table of layers, what could be saved, the drift and the measured speed."""
    found = report.profile
    screen.print(
        f"[bold]{percent(found.active)}[/] of the hidden neurons are active, the mean of "
        f"{len(found.layers)} layers over {found.tokens} tokens."
    )
    if not all(layer.exact for layer in found.layers):
        screen.print(
            f"Smooth activations count from the magnitude that keeps {percent(found.error)} "
            "output error."
        )
    screen.print(_layers(report))
    if any(layer.expected is not None for layer in found.layers):
        screen.print("random: what fresh weights of the same size would activate.", style="dim")
    if report.bytes is not None:
        screen.print(_savings(report.bytes))
    if report.drift:
        screen.print(_last_drift(report.drift[-1]), markup=False)
    if report.acceleration is not None:
        for line in _speeds(report.acceleration):
            screen.print(line, markup=False)


def _layers(report: SparsityReport) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    heads = (
        "layer",
        "width",
        "active",
        "random",
        "95% of tokens ≤",
        "never",
        "always",
        "overlap",
        "union 8",
        "limit",
    )
    for head in heads:
        table.add_column(head, justify="left" if head == "layer" else "right", no_wrap=True)
    blocks = () if report.bytes is None else report.bytes.blocks
    limits = {block.name: f"{block.limit:.2f}×" for block in blocks}
    for layer in report.profile.layers:
        table.add_row(*_cells(layer), limits.get(layer.name, ""))
    return table


def _cells(layer: LayerProfile) -> list[str]:
    name = layer.name
    if len(name) > _LONGEST_NAME:
        name = "…" + name[1 - _LONGEST_NAME :]
    return [
        name,
        str(layer.width),
        percent(layer.active),
        percent(layer.expected),
        percent(layer.token_quantiles[0.95]),
        percent(layer.never),
        percent(layer.always),
        percent(layer.overlap),
        percent(layer.union.get(8)),
    ]


def _savings(report: BytesReport) -> str:
    return (
        f"MLP blocks are {percent(report.mlp_share)} of the {data_size(report.model_bytes)} "
        f"read per token; at {data_size(report.bandwidth)}/s a token takes "
        f"{1e3 * report.dense_seconds:.3g} ms dense, and skipping could make it "
        f"{report.model_limit:.2f}× faster at best."
    )


def _last_drift(drift: DriftMeasurement) -> str:
    text = f"Gradient drift on the last block: {drift.slope:.3g} ± {drift.stderr:.2g}"
    if drift.predicted is not None:
        text += f" (closed form at initialisation {drift.predicted:.3g})"
    return text + "; positive pushes neurons off."


def _speeds(report: Acceleration) -> list[str]:
    lines = []
    for block in report.blocks:
        words = f"{block.name}: {block.choice}"
        if block.choice != "dense":
            words += f", {block.speedup:.2f}× on one token"
        lines.append(words + (f" ({block.reason})" if block.reason else ""))
    return [*lines, *report.notes]
