"""``kadanoff diagnose --meta``: a factory and data in, a prediction out; nothing is built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import torch

from kadanoff.cli.options import ALL, Model
from kadanoff.cli.target import parse_kwargs
from kadanoff.data import Batch, load_whole
from kadanoff.data.objects import attribute
from kadanoff.diagnosis import Diagnosis
from kadanoff.errors import UsageError

__all__ = ["foretold"]

# samples times positions: the cost of a map grows as their square, memory in proportion; of
# models with more parameters fewer, and no Jacobians, which keep the graph
ROWS = 64
LARGE, HUGE = 1e9, 1e10


def foretold(
    model: Model, loss: Callable[..., Any] | None, seed: int, theory: str, targets: bool
) -> Diagnosis:
    """Predict the model that a target names from its code.

    Raises
    ------
    UsageError
        The target is no factory, or options that need weights are given.
    """
    from kadanoff.diagnosis.predicted import foretell
    from kadanoff.program import build as observed
    from kadanoff.style.progress import reporting

    if model.weights is not None:
        raise UsageError("--meta builds no weights, so it takes no --weights.", "Leave one out.")
    named: Any = attribute(model.target, what="target")
    if isinstance(named, torch.nn.Module) or not callable(named):
        raise UsageError(
            f"{model.target!r} is a {type(named).__name__}; --meta needs a function that makes "
            "the model.",
            "Name a factory, which is then run without memory for weights.",
        )
    if theory == "none":
        raise UsageError("--meta is theory: it does not go with --theory none.")
    wanted = ROWS if model.batch == ALL else min(model.batch or ROWS, ROWS)
    given = parse_kwargs(model.kwargs)
    factory = cast("Callable[..., torch.nn.Module]", named)

    def build() -> torch.nn.Module:
        return factory(**given)

    size = sum(p.numel() for p in observed(build, meta=True).model.parameters())
    rows = ROWS if size <= LARGE else ROWS // 2 if size <= HUGE else ROWS // 8
    whole = load_whole(model.data, batch=wanted, seed=seed).sample(wanted, seed)
    sample, cut = _small(whole, rows)
    data = (
        sample.inputs
        if not targets or sample.targets is None
        else (
            sample.inputs,
            sample.targets,
        )
    )
    with reporting("auto", "running random networks") as progress:
        found = foretell(
            build,
            data,
            loss=loss,
            n_networks=16 if theory == "full" else 4,
            probes=0 if size > HUGE else 1,
            seed=seed,
            progress=progress,
        )
    return replace(found, notes=(*found.notes, *([cut] if cut else [])))


def _small(sample: Batch, rows: int) -> tuple[Batch, str]:
    """Few rows, and what was left out in words."""
    x, y = sample.inputs, sample.targets
    if not isinstance(x, torch.Tensor):
        return sample, ""
    said, tokens = [], rows // 2
    if x.ndim == 2 and not x.is_floating_point() and x.shape[1] > tokens:
        said.append(f"the first {tokens} of {x.shape[1]} tokens")
        if isinstance(y, torch.Tensor) and y.shape == x.shape:
            y = y[:, :tokens]
        x = x[:, :tokens]
    positions = x.shape[1] if not x.is_floating_point() and x.ndim == 2 else 1
    keep = max(2, rows // positions)
    if len(x) > keep:
        said.append(f"{keep} samples")
        x, y = x[:keep], y[:keep] if isinstance(y, torch.Tensor) else y
    cut = f"predicted on {' of '.join(reversed(said))}" if said else ""
    return replace(sample, inputs=x, targets=y), cut
