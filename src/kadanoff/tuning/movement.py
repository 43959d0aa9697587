"""The coordinate check: how far activations move in a few steps, against width or depth."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.trace.hf import tensors_in
from kadanoff.tuning.objective import Objective
from kadanoff.tuning.stream import Stream

__all__ = ["Coordinate", "coordinates", "steps_of"]

TOLERANCE = 0.15


@dataclass(frozen=True)
class Coordinate:
    """Root mean square change of one layer's activations against size.

    ``slope`` is d log(change / size of the activations) / d log(width), of the last layer
    d log(change) / d log(width); ``predicted`` its value in theory (NaN: it has none); ``fine``
    says whether they agree within the tolerance plus two standard errors.
    """

    layer: str
    widths: tuple[int, ...]
    change: tuple[float, ...]
    stderr: tuple[float, ...]
    slope: float
    slope_stderr: float
    predicted: float
    fine: bool


def coordinates(
    build: Callable[[int, int], nn.Module],
    prepare: Callable[[nn.Module, int], list[torch.optim.Optimizer]],
    data: Any,
    sizes: Sequence[int],
    *,
    predicted: float | None,
    objective: Objective | None = None,
    steps: int = 5,
    seeds: int = 4,
    seed: int = 0,
    batch: int | None = None,
    tolerance: float = TOLERANCE,
) -> tuple[Coordinate, ...]:
    """Train a few steps at every size and fit how the motion of each layer goes with it.

    Parameters
    ----------
    build : callable
        (size, seed) -> a fresh model.
    prepare : callable
        (model, seed) -> its optimisers; may change its initial weights.
    data
        As :class:`kadanoff.tuning.stream.Stream` takes it.
    sizes : sequence of int
        Widths or depths, at least two.
    predicted : float, optional
        Slope of hidden layers in theory; that of the output is 0.

    Returns
    -------
    tuple of Coordinate
        One for each module with a matrix that all sizes have, in the order of use.
    """
    objective = Objective() if objective is None else objective
    table: list[list[dict[str, float]]] = []
    for size in sizes:
        rows = []
        for k in range(seeds):
            model = build(size, seed + k)
            stream = Stream(data, model, batch=batch, seed=seed + k)
            optimizers = prepare(model, seed + k)
            first = stream.batch(0)
            before = _activations(model, first)
            steps_of(model, optimizers, stream, objective, range(1, steps + 1))
            after = _activations(model, first)
            rows.append(_moved(before, after))
        table.append(rows)
    shared = [n for n in table[0][0] if all(n in row for rows in table for row in rows)]
    return tuple(
        _fitted(name, name == shared[-1], table, sizes, predicted, tolerance) for name in shared
    )


def steps_of(
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    stream: Stream,
    objective: Objective,
    steps: Sequence[int],
) -> None:
    """Train on some batches of a stream.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    optimizers : list of Optimizer
    stream : Stream
    objective : Objective
    steps : sequence of int
        Numbers of the batches.
    """
    for step in steps:
        model.zero_grad(set_to_none=True)
        objective(model, stream.batch(step)).backward()
        for optimizer in optimizers:
            optimizer.step()


def _activations(model: nn.Module, batch: Any) -> dict[str, Tensor]:
    """What each module with a matrix gives, the first time it is called."""
    found: dict[str, Tensor] = {}
    handles = []

    def keep(name: str) -> Callable[..., None]:
        def hook(_module: nn.Module, _inputs: Any, out: Any) -> None:
            tensor = next((t for t in tensors_in(out) if t.is_floating_point()), None)
            if tensor is not None:
                found.setdefault(name, tensor.detach().double().clone())

        return hook

    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, Tensor) and weight.ndim >= 2:
            handles.append(module.register_forward_hook(keep(name)))
    try:
        with torch.no_grad():
            batch.run(model)
    finally:
        for handle in handles:
            handle.remove()
    return found


def _moved(before: Mapping[str, Tensor], after: Mapping[str, Tensor]) -> dict[str, float]:
    """log of the change over the size; of the last layer log of the change."""
    names = list(before)
    out = {}
    for name in names:
        change = float((after[name] - before[name]).square().mean().sqrt())
        size = 1.0 if name == names[-1] else float(before[name].square().mean().sqrt())
        if change > 0 and size > 0:
            out[name] = math.log(change / size)
    return out


def _fitted(
    name: str,
    last: bool,
    table: list[list[dict[str, float]]],
    sizes: Sequence[int],
    predicted: float | None,
    tolerance: float,
) -> Coordinate:
    level = torch.tensor([[row[name] for row in rows] for rows in table], dtype=torch.float64)
    x = torch.tensor([math.log(size) for size in sizes], dtype=torch.float64)
    x = x - x.mean()
    slopes = torch.einsum("w,wk->k", x, level) / (x * x).sum()
    count = level.shape[1]
    slope, error = float(slopes.mean()), float(slopes.std()) / math.sqrt(count)
    theory = 0.0 if last and predicted is not None else predicted
    fine = theory is None or abs(slope - theory) <= tolerance + 2 * error
    return Coordinate(
        name,
        tuple(sizes),
        tuple(level.mean(1).exp().tolist()),
        tuple((level.mean(1).exp() * level.std(1) / math.sqrt(count)).tolist()),
        slope,
        error,
        math.nan if theory is None else theory,
        fine,
    )
