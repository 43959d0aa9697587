"""Criticality without a description: measure each step's partial Jacobian, rescale, repeat.

A step runs from one call on the model's main chain to the next. Its χ = (1/n')|∂z'/∂z|² is
proportional to the square of the weight's scale where the step ends in a linear layer, and a
constant (the skip path) plus the branch's share where it ends in a residual sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.errors import AnalysisError, DataError, KadanoffError
from kadanoff.trace.graph import main_chain
from kadanoff.trace.hf import main_output, tensors_in
from kadanoff.trace.jacobians import jacobians_along
from kadanoff.trace.recorder import Call, Recorder, unwrap
from kadanoff.trace.roles import normalised
from kadanoff.trace.sandbox import untouched
from kadanoff.tuning.initialise import (
    Change,
    Initialisation,
    gain_of,
    pairwise,
    set_gain,
    worst_of,
)

__all__ = ["tune_numerically"]

# once a few probes are content, eight times as many decide: a narrow layer's χ, measured with few,
# is off by more than the tolerance
FINE = 8


@dataclass
class _Step:
    """One step of the main chain: which weight sets its χ, and how."""

    kind: str  # "layer", "block", "input"
    weight: str
    fan_in: int
    chi: float
    reason: str
    others: list[str] = field(default_factory=list)  # further weights of a residual branch


@dataclass
class _Picture:
    """What one forward pass showed."""

    steps: list[_Step]
    left: dict[str, str]


def tune_numerically(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    *,
    seed: int,
    tolerance: float,
    probes: int,
    progress: Callable[..., None] | None,
) -> Initialisation:
    """See :func:`kadanoff.tuning.initialise`; works on any model whose layers can be recorded."""
    model, _ = unwrap(model)
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(seed)

    if isinstance(model, torch.jit.ScriptModule):
        raise AnalysisError(
            "The layers of a TorchScript model cannot be seen while it runs.",
            "Tune the eager model it was made from.",
        )
    fine = FINE * probes

    def look(probes: int = probes) -> _Picture:
        return _look(model, args, kwargs, seed, probes)

    picture = look(fine)
    before = {s.weight: gain_of(parameters[s.weight], s.fan_in) for s in picture.steps}
    within = worst_of([s.chi for s in picture.steps if s.kind != "input"]) <= tolerance
    settled = all(_settled(s) for s in picture.steps)
    left = tuple(f"{name}: {why}" for name, why in picture.left.items())
    if within and settled:
        return Initialisation("untouched", _changes(picture, before, parameters), left, 0, 0.0)
    _silence_biases(picture, parameters)
    picture = look()
    limit = 10 + 2 * len(picture.steps)
    sweeps, worst, precise = 0, math.inf, False
    for sweeps in range(1, limit + 1):
        _rescale(picture, parameters, generator, look)
        picture = look(fine if precise else probes)
        layers = worst_of([s.chi for s in picture.steps if s.kind == "layer"])
        blocks = worst_of([s.chi for s in picture.steps if s.kind == "block"])
        worst = max(layers, blocks)
        if progress is not None:
            progress(sweeps, limit)
        # a block's χ is quadratic in its scale only on average over weights: no need to chase it
        if layers <= tolerance / 4 and blocks <= 0.8 * tolerance:
            if precise:
                break
            precise, picture = True, look(fine)
    if worst > tolerance:
        step = max(picture.steps, key=lambda s: abs(s.chi - 1) if s.kind != "input" else 0.0)
        raise AnalysisError(
            f"After {sweeps} sweeps the squared Jacobian into {step.weight!r} is {step.chi:.3g}, "
            f"not 1 ± {tolerance:g}; the weights were left as they were.",
            "Give a larger sample, more probes, or a wider tolerance.",
        )
    return Initialisation("numerical", _changes(picture, before, parameters), left, sweeps, worst)


def _look(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], seed: int, probes: int
) -> _Picture:
    """Run the model once and measure every step of its main chain."""
    shapes: dict[int, tuple[tuple[int, ...], torch.dtype]] = {}

    def observe(call: Call, _args: tuple, _kwargs: dict, output: Any) -> None:
        result = output[0] if isinstance(output, (tuple, list)) else output
        shapes[call.order] = (tuple(result.shape), result.dtype)

    recorder = Recorder(model, graph=True, adds=True, observe=observe)
    with untouched(model, seed=seed, quiet=True, graph=True), torch.enable_grad():
        args, source = _joined(args)
        try:
            with recorder:
                output = main_output(model(*args, **kwargs))
        except KadanoffError:
            raise
        except Exception as error:
            first = (str(error).splitlines() or ["no message"])[0]
            raise DataError(
                f"The model fails on the sample ({type(error).__name__}: {first[:160]}).",
                "Give a batch as the model is called with.",
            ) from error
        if output is None or not output.requires_grad:
            raise AnalysisError(
                "The model's output is no real tensor that depends on its parameters.",
                "Return a floating point tensor, or a structure that begins with one.",
            )
        calls = recorder.calls
        if not any(call.kind == "linear" for call in calls):
            raise AnalysisError(
                "No layer of the model could be seen while it ran (TorchScript hides them).",
                "Tune the eager model it was made from.",
            )
        edges = [call.edge for call in calls]
        # seen from the input, a skip around the very first layer is a path like any other
        found = main_chain(output, edges if source is None else [source, *edges])
        found = found if source is None else [i - 1 for i in found if i]
        chain = [
            i
            for i in found
            if calls[i].kind in ("linear", "add") and not calls[i].op.startswith("embedding")
        ]
        samples = len(next(tensors_in((args, kwargs))))
        chis = jacobians_along(
            [calls[i].edge for i in chain],
            [shapes[i][0] for i in chain],
            [shapes[i][1] for i in chain],
            output.device,
            samples,
            probes,
            torch.Generator().manual_seed(seed),
        )
    return _interpret(calls, chain, [None if c is None else float(c.mean()) for c in chis], shapes)


def _joined(args: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
    """Make the first real input part of the graph; returns its gradient edge too."""
    for position, value in enumerate(args):
        if isinstance(value, Tensor) and value.is_floating_point():
            inner = value.detach().requires_grad_().clone()
            edge = torch.autograd.graph.get_gradient_edge(inner)
            return (*args[:position], inner, *args[position + 1 :]), edge
    return args, None


def _interpret(
    calls: list[Call],
    chain: list[int],
    chis: list[float | None],
    shapes: dict[int, Any],
) -> _Picture:
    tied = {c.parameter for c in calls if c.op.startswith("embedding") and c.parameter}
    steps: list[_Step] = []
    left = dict.fromkeys(sorted(tied), "an embedding, or tied to one")
    for call in calls:
        if call.kind == "linear" and call.parameter and call.parameter not in tied:
            left.setdefault(call.parameter, "inside a branch that needs nothing")
    first = next((c.order for c in calls if c.kind == "linear"), None)
    if chain and chain[0] == first and calls[chain[0]].parameter and calls[chain[0]].statistics:
        call = calls[chain[0]]
        if normalised(calls, chain[0]):
            left[call.parameter or ""] = "a normalisation makes its scale irrelevant"
        elif call.parameter not in tied:
            z2 = _second_moment(call)
            steps.append(_Step("input", call.parameter or "", call.fan_in, z2, "brings z² to 1"))
            left.pop(call.parameter or "", None)
    for (a, b), chi in zip(pairwise(chain), chis):
        inside = calls[a + 1 : b + 1]
        weights = [c for c in inside if c.kind == "linear" and c.parameter]
        if not weights or chi is None:
            continue
        last = weights[-1]
        name = last.parameter or ""
        if any(c.kind == "norm" for c in inside) or normalised(calls, b):
            left[name] = "a normalisation makes its scale irrelevant"
            continue
        if name in tied or last.fan_in == 0:
            continue
        kind = "layer" if calls[b].kind == "linear" else "block"
        reason = "brings χ to 1"
        if kind == "layer" and b == chain[-1] and _pooled(shapes[a][0], calls[b].input_shape):
            # an average over places damps a random change, not the signal: χ says nothing here
            left[name] = "reads a global average"
            continue
        others = [c.parameter or "" for c in weights[:-1]] if kind == "block" else []
        steps.append(_Step(kind, name, last.fan_in, chi, reason, others))
        left.pop(name, None)
    return _Picture(steps, left)


def _second_moment(call: Call) -> float:
    statistics: Any = call.statistics
    return float(statistics.second_moment.mean())


def _pooled(before: tuple[int, ...], after: tuple[int, ...] | None) -> bool:
    return (
        len(before) > 2
        and after is not None
        and math.prod(before[2:]) > 1
        and math.prod(after[1:]) == before[1]
    )


def _settled(step: _Step) -> bool:
    """Whether an input layer needs nothing; others are judged by χ alone."""
    return step.kind != "input" or abs(step.chi - 1) < 1e-3


@torch.no_grad()
def _silence_biases(picture: _Picture, parameters: dict[str, Tensor]) -> None:
    for step in picture.steps:
        for name in (step.weight, *step.others):
            bias = parameters.get(name.removesuffix("weight") + "bias")
            if bias is not None and bias.ndim == 1:
                bias.zero_()


def _rescale(
    picture: _Picture,
    parameters: dict[str, Tensor],
    generator: torch.Generator,
    look: Callable[[], _Picture],
) -> None:
    """One sweep: every layer by what was just measured, every block with its skip path known."""
    shared: dict[str, list[_Step]] = {}
    for step in picture.steps:
        shared.setdefault(step.weight, []).append(step)
    blocks: dict[str, float] = {}
    for name, steps in shared.items():
        weight, fan_in = parameters[name], steps[0].fan_in
        if steps[0].kind == "block":
            blocks[name] = _geometric([s.chi for s in steps])
            continue
        chi = _geometric([s.chi for s in steps])
        now = gain_of(weight, fan_in)
        if chi > 0 and now > 0:
            set_gain(weight, fan_in, now / chi, generator)
        else:
            with torch.no_grad():
                weight.zero_()
            set_gain(weight, fan_in, 1.0, generator)
    if blocks:
        _rescale_blocks(blocks, parameters, look)


@torch.no_grad()
def _rescale_blocks(
    blocks: dict[str, float], parameters: dict[str, Tensor], look: Callable[[], _Picture]
) -> None:
    """χ(s) = a + s²b: switch the branches off to see a, then solve for the scale s."""
    kept = {name: parameters[name].clone() for name in blocks}
    for name in blocks:
        parameters[name].zero_()
    without = {s.weight: s.chi for s in look().steps if s.kind == "block"}
    for name, chi in blocks.items():
        a = without.get(name, math.nan)
        branch = chi - a
        # the skip path alone may have all that is allowed: leave the branch a small share
        room = max(1.0 - a, 0.02)
        if not math.isfinite(a) or (abs(chi - 1) <= 0.01) or branch <= 0:
            scale = 1.0
        else:
            scale = math.sqrt(room / branch)
        parameters[name].copy_(kept[name] * scale)


def _geometric(values: list[float]) -> float:
    if any(value <= 0 for value in values):
        return 0.0
    return math.exp(sum(math.log(value) for value in values) / len(values))


def _changes(
    picture: _Picture, before: dict[str, float], parameters: dict[str, Tensor]
) -> tuple[Change, ...]:
    return tuple(
        Change(
            s.weight,
            before.get(s.weight, math.nan),
            gain_of(parameters[s.weight], s.fan_in),
            s.chi if s.kind != "input" else math.nan,
            s.reason,
        )
        for s in picture.steps
    )
