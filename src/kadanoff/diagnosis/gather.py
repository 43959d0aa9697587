"""From raw measurements to the evidence that the rules read, and the trial."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.architecture import Network
from kadanoff.data import example
from kadanoff.diagnosis.chain import backward_trend, gradient_trend, hidden_chain, signal_trend
from kadanoff.diagnosis.evidence import Evidence
from kadanoff.diagnosis.facts import (
    OutputFacts,
    TargetFacts,
    columns,
    duplicate_share,
    optimizer_facts,
)
from kadanoff.diagnosis.findings import examine
from kadanoff.diagnosis.finite import all_finite, forward_origin, rows_not_finite
from kadanoff.diagnosis.inputs import Inputs
from kadanoff.diagnosis.losses import check_all
from kadanoff.diagnosis.recipe import Recipe
from kadanoff.diagnosis.result import LayerReport, ParameterReport, TimeReport
from kadanoff.diagnosis.surveying import Survey
from kadanoff.diagnosis.trial import SECONDS, STEPS, ladder, run_trial, stable_rate
from kadanoff.diagnosis.weights import matrices
from kadanoff.program import looks_trained
from kadanoff.trace.hf import main_output, map_tensors, tensors_in
from kadanoff.trace.sandbox import untouched

__all__ = ["collect", "tried", "whole"]


def collect(
    model: nn.Module,
    inputs: Inputs,
    found: Survey,
    layers: tuple[LayerReport, ...],
    parameters: tuple[ParameterReport, ...],
    arch: Network | None,
    optimizer: Any,
    steps: int,
) -> Evidence:
    """Bring everything that was measured into the form the rules read.

    Parameters
    ----------
    model : nn.Module
    inputs : Inputs
    found : Survey
        The pass that measured.
    layers : tuple of LayerReport
    parameters : tuple of ParameterReport
    arch : Network or None
        The description, where the model is one that has it.
    optimizer
        As :func:`kadanoff.diagnose` takes it.
    steps : int
        Planned steps of training.
    """
    chain = tuple(hidden_chain(layers))
    seen = found.witness.seen
    facts = matrices(model)
    changed = bool(looks_trained(model))
    targets = inputs.targets
    return Evidence(
        layers=layers,
        parameters=parameters,
        chain=chain,
        gradient=gradient_trend(chain),
        signal=signal_trend(chain),
        backward=backward_trend(chain),
        batch_normalised=any(call.op == "batch_norm" for call in found.calls),
        arch=arch,
        model=model,
        samples=inputs.samples,
        dtype=str(next(iter(model.parameters())).dtype).removeprefix("torch."),
        loss=found.loss,
        constant=found.constant,
        loss_name=found.loss_name,
        own_loss=found.loss_name == "the model's own loss",
        stands_in=found.stands_in,
        loss_calls=tuple(found.loss_calls),
        output=OutputFacts.of(found.output, found.ends),
        targets=TargetFacts.of(targets),
        inputs=columns(seen.fed),
        duplicates=duplicate_share((inputs.args, inputs.kwargs), inputs.samples),
        padded=_padded(model, inputs),
        attached=found.attached,
        trainable=frozenset(p.name for p in parameters if p.trainable),
        touched=frozenset(n for n, p in model.named_parameters() if id(p) in seen.touched),
        aside=found.aside,
        cuts=tuple(seen.cuts),
        unregistered=_unregistered(model, seen.loose),
        origin=found.origin,
        attentions=tuple(seen.attentions),
        sums=tuple(seen.sums),
        norms=tuple(seen.norms),
        times=_times(found),
        matrices=facts,
        trained=_knows(found.loss, found.constant, changed),
        changed=changed,
        affine=_affine(model, inputs, seen.trail),
        ops=tuple(seen.trail),
        optimizer=_optimizer(model, optimizer),
        steps=steps,
        constant_targets=found.constant is not None and found.constant < 1e-9,
    )


def _knows(loss: float | None, constant: float | None, changed: bool) -> bool:
    """Whether a model is trained: by its loss, and by its weights where that does not tell."""
    if loss is not None and constant is not None and constant > 0:
        # changed they may be, but with a loss as of a constant output they know nothing
        return loss < 0.7 * constant or (changed and loss < 0.9 * constant)
    return changed


def _optimizer(model: nn.Module, optimizer: Any) -> Any:
    if isinstance(optimizer, Recipe):
        trainable = any(p.requires_grad for p in model.parameters())
        optimizer = optimizer.build(model) if trainable else None
    return optimizer_facts(optimizer, model) if optimizer is not None else None


def _can_be_tried(seen: Evidence) -> bool:
    """Whether there is a finite loss of the model's own that its weights can lower."""
    if seen.stands_in or seen.origin is not None or not seen.trainable or not seen.attached:
        return False
    return seen.loss is not None and math.isfinite(seen.loss)


def tried(
    seen: Evidence,
    model: nn.Module,
    inputs: Inputs,
    loss: Callable[..., Any] | None,
    optimizer: Any,
    try_steps: int | None,
    seed: int,
    cost: float,
    progress: Callable[..., None] | None = None,
) -> Evidence:
    """Add a short trial, and other rates if it failed, where they can be had.

    ``cost`` is about what a training step takes, in seconds.

    Parameters
    ----------
    seen : Evidence
    model : nn.Module
        A copy is trained.
    inputs : Inputs
    loss : callable or None
    optimizer
        As :func:`kadanoff.diagnose` takes it.
    try_steps : int or None
        None: as many as are affordable; 0: no trial.
    seed : int
    cost : float
        Seconds a training step takes, about.
    progress : callable, optional
    """
    if try_steps == 0 or not _can_be_tried(seen):
        return seen
    if seen.trained and optimizer is None and try_steps is None:
        return seen  # it has learned already
    if try_steps is None and cost * STEPS > 3 * SECONDS:
        return _without(seen, model, inputs, loss, optimizer, seed)
    seconds = SECONDS if try_steps is None else 60.0
    trial = run_trial(
        model,
        inputs,
        loss,
        optimizer,
        steps=try_steps or STEPS,
        constant=seen.constant,
        seed=seed,
        seconds=seconds,
        curvature=True,
        progress=progress,
    )
    if trial is None or not trial.losses:
        return _without(seen, model, inputs, loss, optimizer, seed)
    dead = [x.dead.value for x in seen.layers if x.dead is not None and x.dead.value >= 0]
    seen = replace(seen, trial=replace(trial, dead_before=max(dead, default=None)))
    if trial.learns is not False or seen.constant_targets:
        return seen
    before = examine(replace(seen, trial=None))[0]
    others = [f for f in before if f.severity == "critical"]
    if others and optimizer is None:
        return seen  # the cause is known, and the rate is not the user's
    rates = ladder(model, inputs, loss, optimizer, trial, seed=seed)
    return replace(seen, ladder=rates)


def _without(
    seen: Evidence, model: nn.Module, inputs: Inputs, loss: Any, optimizer: Any, seed: int
) -> Evidence:
    """What can be said of the user's rate without a trial."""
    if optimizer is None:
        return seen
    return replace(seen, edge=stable_rate(model, inputs, loss, optimizer, seed=seed))


def whole(model: nn.Module, every: Any, found: Survey, device: torch.device) -> None:
    """Look through all the data for labels out of range and outputs that are not finite.

    Parameters
    ----------
    model : nn.Module
    every
        All the data.
    found : Survey
        What is noted goes there.
    device : torch.device
    """
    call = example(every, model)
    tensors = [t for t in call.tensors if t.ndim]
    if not tensors:
        return
    count, chunk = len(tensors[0]), 256
    main = found.output
    usual = not found.stands_in and found.loss_name == "cross entropy"
    if usual and main is not None and isinstance(call.targets, Tensor):
        check_all(main, call.targets)
    if found.origin is not None or count > 1 << 14:
        return
    dtype = next((p.dtype for p in model.parameters() if p.is_floating_point()), torch.float32)

    def part(low: int) -> tuple[Any, Any]:
        def cut(t: Tensor) -> Tensor:
            t = t[low : low + chunk] if t.ndim and len(t) == count else t
            return t.to(device, dtype) if t.is_floating_point() else t.to(device)

        return map_tensors(cut, call.args), map_tensors(cut, call.kwargs)

    with untouched(model, seed=0, quiet=True), torch.no_grad():
        for low in range(0, count, chunk):
            args, kwargs = part(low)
            try:
                output = model(*args, **kwargs)
            except Exception:  # samples that are coupled cannot be cut: the batch was looked at
                return
            if not all_finite(output):
                main = main_output(output)
                rows = rows_not_finite(main) if main is not None else []
                size = min(chunk, count - low)
                origin = forward_origin(model, size, lambda a=args, k=kwargs: model(*a, **k))
                if origin is not None:
                    samples = origin.samples or tuple(rows)
                    found.origin = replace(origin, samples=tuple(low + i for i in samples))
                return


def _times(found: Survey) -> tuple[TimeReport, ...]:
    # recurrences written as a loop: one weight called again and again
    loops: dict[str, TimeReport] = {}
    for index, values in sorted(found.to_output.items()):
        call = found.calls[index]
        if call.kind != "linear" or call.parameter is None or call.op == "embedding":
            continue
        before = loops.get(call.parameter, TimeReport(call.path, call.op, ()))
        size = call.statistics.second_moment.mean().sqrt() if call.statistics is not None else 0.0
        loops[call.parameter] = replace(
            before,
            gradient=(*before.gradient, float(values.mean().sqrt())),
            signal=(*before.signal, float(size)),
        )
    return (*found.through_time, *(x for x in loops.values() if len(x.gradient) >= 8))


def _padded(model: nn.Module, inputs: Inputs) -> Tensor | None:
    """Where the first integer input is padding, by the embedding's own padding_idx."""
    marks = [m.padding_idx for m in model.modules() if isinstance(m, nn.Embedding)]
    known = [p for p in marks if p is not None]
    for t in tensors_in((inputs.args, inputs.kwargs)):
        if known and t.ndim == 2 and not t.is_floating_point():
            return t == known[0]
    return None


def _affine(model: nn.Module, inputs: Inputs, trail: Sequence[tuple[str, str, str]]) -> bool | None:
    """Whether the output at the mean of two inputs is the mean of their outputs."""
    if any(k in ("activation", "softmax", "attention", "recurrent") for k, _, _ in trail):
        return None
    if len(inputs.args) != 1 or inputs.kwargs or not isinstance(inputs.args[0], Tensor):
        return None
    x = inputs.args[0]
    if not x.is_floating_point() or inputs.samples < 4:
        return None
    with untouched(model, seed=0, quiet=True), torch.no_grad():
        try:
            a = main_output(model(x))
            b = main_output(model(x.flip(0)))
            middle = main_output(model((x + x.flip(0)) / 2))
        except Exception:
            return None
    if a is None or b is None or middle is None:
        return None
    size = float(a.float().std())
    return size > 0 and float((middle - (a + b) / 2).float().abs().max()) < 1e-3 * size


def _unregistered(model: nn.Module, loose: Iterable[tuple[str, str, Tensor]]) -> tuple[str, ...]:
    """Names of weights that were used and are not the model's, by the attribute that holds them."""
    wanted = {id(t): f"a weight used by {op} in {path or 'forward'}" for path, op, t in loose}
    if not wanted:
        return ()
    names: dict[int, str] = {}
    for path, module in model.named_modules():
        for attribute, value in vars(module).items():
            if attribute.startswith("_"):
                continue
            for label, item in _held(value):
                at = f"{path}.{attribute}{label}" if path else f"{attribute}{label}"
                for t in _tensors(item):
                    names.setdefault(id(t), at)
    return tuple(dict.fromkeys(names.get(i, said) for i, said in wanted.items()))


def _held(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"[{k!r}]", v) for k, v in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"[{i}]", v) for i, v in enumerate(value)]
    return [("", value)]


def _tensors(item: Any) -> Iterable[Tensor]:
    if isinstance(item, nn.Module):
        return item.parameters()
    return [item] if isinstance(item, Tensor) else []
