"""Criticality without a description: measure each step's partial Jacobian, rescale, repeat.

A step runs from one call on the model's main chain to the next. Its χ = (1/n')|∂z'/∂z|² is
proportional to the square of the weight's scale where the step ends in a linear layer, and a
constant (the skip path) plus the branch's share where it ends in a residual sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.errors import AnalysisError, DataError, KadanoffError
from kadanoff.trace.graph import main_chain
from kadanoff.trace.hf import main_output, tensors_in
from kadanoff.trace.jacobians import jacobians_along
from kadanoff.trace.layers import Call, Layers
from kadanoff.trace.recorder import Recorder, unwrap
from kadanoff.trace.sandbox import untouched
from kadanoff.tuning.gains import (
    Change,
    Initialisation,
    gain_of,
    pairwise,
    unscaled,
    worst_of,
)
from kadanoff.tuning.rescaling import Picture, Step, silence_biases, swept

__all__ = ["tune_numerically"]

# once a few probes are content, eight times as many decide: a narrow layer's χ, measured with few,
# is off by more than the tolerance
FINE = 8
# activations whose argument is an angle: its size is the bandwidth, which is the user's to choose
PERIODIC = ("sin", "cos")
# an activation that lets less than this of the mean square through is saturated or dead: no weight
# after it should make up for that
MOST = 100.0
# preactivations that are larger by this than the first ones, with all χ at 1, have no fixed point;
# then layers whose mean square grows by so much more than their gradients keep the former
GROWN, APART = 1000.0, 1.5
# a first layer that gives preactivations of a mean square within this factor of 1 is left
MILD = 10.0


@dataclass
class _Sizes:
    """Shape, dtype and mean squares of what went into and came out of one call."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    taken: float
    given: float


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
    """See :func:`kadanoff.tuning.initialise`; works on any model whose layers can be recorded.

    Parameters
    ----------
    model : nn.Module
        Changed in place.
    args, kwargs
        What it is called with.
    seed : int
        Of probes, and of weights drawn anew.
    tolerance : float
        Relative distance of a second moment from its target that is good enough.
    probes : int
        Random directions a Jacobian is measured along.
    progress : callable or None
    """
    model, _ = unwrap(model)
    parameters: dict[str, Tensor] = dict(model.named_parameters())
    generator = torch.Generator().manual_seed(seed)

    if isinstance(model, torch.jit.ScriptModule):
        raise AnalysisError(
            "The layers of a TorchScript model cannot be seen while it runs.",
            "Tune the eager model it was made from.",
        )
    fine = FINE * probes
    kept = kept_back(parameters)
    off = unscaled((args, kwargs))

    hold = False

    def look(probes: int = probes) -> Picture:
        return _look(model, args, kwargs, seed, probes, kept, off, hold)

    picture = look(fine)
    before = {s.weight: gain_of(parameters[s.weight], s.fan_in) for s in picture.steps}
    within = worst_of([s.chi for s in picture.steps if s.kind != "input"]) <= tolerance
    settled = all(_settled(s) for s in picture.steps)
    left = tuple(f"{name}: {why}" for name, why in picture.left.items())
    notes = (off,) if off else ()
    if within and settled:
        changes = _changes(picture, before, parameters)
        return Initialisation("untouched", changes, left, 0, 0.0, notes)
    silence_biases(picture, parameters)
    sweeps = 0
    for hold in (False, True):  # noqa: B007 (look reads it)
        picture = look()
        limit = 10 + 2 * len(picture.steps)
        picture, took, worst = swept(
            picture,
            look,
            (probes, fine),
            parameters,
            generator,
            tolerance,
            None if progress is None else lambda k, limit=limit: progress(k, limit),
        )
        sweeps += took
        if worst <= tolerance and picture.growth < GROWN:
            break
    if worst > tolerance:
        step = max(picture.steps, key=lambda s: abs(s.chi - 1) if s.kind != "input" else 0.0)
        raise AnalysisError(
            f"After {sweeps} sweeps the squared Jacobian into {step.weight!r} is {step.chi:.3g}, "
            f"not 1 ± {tolerance:g}; the weights were left as they were.",
            "Give a larger sample, more probes, or a wider tolerance.",
        )
    changes = _changes(picture, before, parameters)
    return Initialisation("numerical", changes, left, sweeps, worst, notes)


def kept_back(parameters: Mapping[str, Tensor]) -> dict[str, str]:
    """Weights that are not to be touched, each with the reason: frozen, or zero on purpose."""
    kept = {n: "frozen" for n, p in parameters.items() if not p.requires_grad}
    matrices = {n: p for n, p in parameters.items() if p.ndim > 1 and n not in kept}
    zero = [n for n, p in matrices.items() if not bool(p.detach().any())]
    if len(zero) < len(matrices):  # where all are zero, nobody can have meant it
        kept |= dict.fromkeys(zero, "zero at the start, on purpose")
    return kept


def _mean_square(value: Any) -> float:
    if not isinstance(value, Tensor) or not value.is_floating_point() or not value.numel():
        return math.nan
    return float(value.detach().double().square().mean())


def _seen(output: Tensor | None, calls: list[Call]) -> Tensor:
    """The output, if there is something to tune behind it."""
    if output is None or not output.requires_grad:
        raise AnalysisError(
            "The model's output is no real tensor that depends on its parameters.",
            "Return a floating point tensor, or a structure that begins with one.",
        )
    if not any(call.kind == "linear" for call in calls):
        raise AnalysisError(
            "No layer of the model could be seen while it ran (TorchScript hides them).",
            "Tune the eager model it was made from.",
        )
    return output


def _look(
    model: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    seed: int,
    probes: int,
    kept: Mapping[str, str],
    off: str | None,
    hold: bool,
) -> Picture:
    """Run the model once and measure every step of its main chain."""
    sizes: dict[int, _Sizes] = {}

    def observe(call: Call, args: tuple, _kwargs: dict, output: Any) -> None:
        result = output[0] if isinstance(output, (tuple, list)) else output
        # an activation that works in place has overwritten what it took
        taken = args[0] if args and not call.in_place else None
        wanted = call.kind in ("linear", "activation")
        sizes[call.order] = _Sizes(
            tuple(result.shape),
            result.dtype,
            _mean_square(taken) if wanted else math.nan,
            _mean_square(result) if wanted else math.nan,
        )

    layers = Layers(graph=True, adds=True, observe=observe)
    with untouched(model, seed=seed, quiet=True, graph=True), torch.enable_grad():
        args, source = _joined(args)
        try:
            with Recorder(model, layers):
                output = main_output(model(*args, **kwargs))
        except KadanoffError:
            raise
        except Exception as error:
            first = (str(error).splitlines() or ["no message"])[0]
            raise DataError(
                f"The model fails on the sample ({type(error).__name__}: {first[:160]}).",
                "Give a batch as the model is called with.",
            ) from error
        calls = layers.calls
        output = _seen(output, calls)
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
            [sizes[i].shape for i in chain],
            [sizes[i].dtype for i in chain],
            output.device,
            samples,
            probes,
            torch.Generator().manual_seed(seed),
        )
    means = [None if c is None else float(c.mean()) for c in chis]
    return _interpret(calls, chain, means, sizes, kept, off, hold)


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
    sizes: dict[int, _Sizes],
    kept: Mapping[str, str],
    off: str | None,
    hold: bool,
) -> Picture:
    # the scale of a weight that is computed in the forward pass is not ours to set
    calls = [replace(c, parameter=None) if c.derived else c for c in calls]
    tied = {c.parameter for c in calls if c.op.startswith("embedding") and c.parameter}
    left = dict.fromkeys(sorted(tied), "an embedding, or tied to one")
    for call in calls:
        if call.kind == "linear" and call.parameter and call.parameter not in tied:
            why = kept.get(call.parameter, "inside a branch that needs nothing")
            left.setdefault(call.parameter, why)
    given = [sizes[i].given for i in chain if sizes[i].given > 0]
    # a jump to a fixed point is none: it must go on to the end
    goes_on = len(given) > 1 and given[-1] > APART * given[-2]
    picture = Picture([], left, hold, max(given) / given[0] if goes_on else 1.0)
    _add_input(picture, calls, chain, sizes, {*tied, *kept}, off)
    for (a, b), chi in zip(pairwise(chain), chis):
        weights = [c for c in calls[a + 1 : b + 1] if c.kind == "linear" and c.parameter]
        if weights and chi is not None:
            _add_step(picture, calls, (a, b), chi, sizes, {*tied, *kept})
    return picture


def _add_input(
    picture: Picture,
    calls: list[Call],
    chain: list[int],
    sizes: dict[int, _Sizes],
    fixed: set[str],
    off: str | None,
) -> None:
    """The first layer, if its size is ours to set."""
    first = next((c.order for c in calls if c.kind == "linear"), None)
    if not chain or chain[0] != first:
        return
    call = calls[chain[0]]
    name = call.parameter
    if not name or name in fixed or call.statistics is None:
        return
    after = call.after
    z2 = _second_moment(call)
    if call.normalised:
        picture.left[name] = "a normalisation makes its scale irrelevant"
    elif off:
        picture.left[name] = "the inputs are not standardised: mend them, not the weights"
    elif after is not None and after.op in PERIODIC:
        picture.left[name] = f"sets the frequencies of {after.op}: a choice, not a mistake"
    elif after is not None and _between(z2, sizes[after.order].taken):
        picture.left[name] = "a factor or a sum stands between it and its activation"
    elif 1 / MILD < z2 < MILD:
        picture.left[name] = "gives preactivations of ordinary size"
    else:
        step = Step("input", name, call.fan_in, z2, "brings z² to 1")
        picture.steps.append(step)
        picture.left.pop(name, None)


def _between(z2: float, taken: float) -> bool:
    """Whether an activation takes something else than what the layer before it gave."""
    return math.isfinite(taken) and z2 > 0 and abs(math.log(max(taken, 1e-300) / z2)) > 0.1


def _add_step(
    picture: Picture,
    calls: list[Call],
    ends: tuple[int, int],
    chi: float,
    sizes: dict[int, _Sizes],
    fixed: set[str],
) -> None:
    """One step of the chain and, inside it, the maps that lie on branches."""
    a, b = ends
    left, inside = picture.left, calls[a + 1 : b + 1]
    weights = [c for c in inside if c.kind == "linear" and c.parameter]
    last = weights[-1]
    name = last.parameter or ""
    if any(c.kind == "norm" for c in inside) or calls[b].normalised:
        if name not in fixed:
            left[name] = "a normalisation makes its scale irrelevant"
        return
    kind = "layer" if calls[b].kind == "linear" else "block"
    if kind == "layer":
        _add_maps(picture, calls, [c for c in weights if c is not calls[b]], sizes, fixed)
    if name in fixed or last.fan_in == 0:
        return
    if kind == "layer" and len(weights) > 1:
        # paths of several lengths end in it: no one χ, but it has inputs like any other map
        _add_maps(picture, calls, [last], sizes, fixed)
        return
    if kind == "layer" and _pooled(sizes[a].shape, calls[b].input_shape):
        # an average over places damps a random change, not the signal: χ says nothing here
        left[name] = "reads an average over places"
        if calls[b] is not _last_layer(calls):
            _add_maps(picture, calls, [last], sizes, fixed)
        return
    grows = _growth(sizes[a], sizes[b])
    if picture.hold and kind == "layer" and grows > APART * chi:
        # What keeps a few large units alone (Top-k) has most of the signal and little of the
        # gradient: at χ = 1 the signal would grow by grows / χ a layer, at depth without bound.
        reason = "keeps the mean square: with χ = 1 it would grow from layer to layer"
        picture.steps.append(Step("map", name, last.fan_in, grows, reason))
        left.pop(name, None)
        return
    others = [c.parameter or "" for c in weights[:-1]] if kind == "block" else []
    picture.steps.append(Step(kind, name, last.fan_in, chi, "brings χ to 1", others))
    left.pop(name, None)


def _growth(before: _Sizes, after: _Sizes) -> float:
    """Mean square of a layer's outputs over those of the one before; 0 where places were pooled."""
    if len(before.shape) != len(after.shape) or not before.given > 0:
        return 0.0
    changed = sum(m != n for m, n in zip(before.shape, after.shape, strict=True))
    return after.given / before.given if changed <= 1 else 0.0


def _add_maps(
    picture: Picture,
    calls: list[Call],
    weights: list[Call],
    sizes: dict[int, _Sizes],
    fixed: set[str],
) -> None:
    """Maps off the chain: each keeps the mean square from preactivation to preactivation."""
    for call in weights:
        name, size = call.parameter or "", sizes[call.order]
        if name in fixed or call.fan_in == 0 or not size.taken > 0:
            continue
        # what the nearest activation took from the mean square, its next map gives back
        wanted = 1.0
        for earlier in reversed(calls[: call.order]):
            if earlier.kind == "activation":
                seen = sizes[earlier.order]
                taken = seen.taken if math.isfinite(seen.taken) else 2 * seen.given
                wanted = taken / seen.given if seen.given > 0 else 1.0
                break
            if earlier.kind == "linear":
                break
        if not 0 < wanted < MOST:
            continue
        ratio = size.given / (size.taken * wanted)
        reason = "keeps the mean square between its inputs and its outputs"
        picture.steps.append(Step("map", name, call.fan_in, ratio, reason))
        picture.left.pop(name, None)


def _second_moment(call: Call) -> float:
    statistics: Any = call.statistics
    return float(statistics.second_moment.mean())


def _pooled(before: tuple[int, ...], after: tuple[int, ...] | None) -> bool:
    """Whether places were summed over: (B, C, places) or (B, places, C) became (B, C)."""
    if after is None or len(before) <= max(2, len(after)):
        return False
    channels = math.prod(after[1:])
    return math.prod(before[1:]) > channels and channels in (before[1], before[-1])


def _last_layer(calls: list[Call]) -> Call | None:
    return next((c for c in reversed(calls) if c.kind == "linear"), None)


def _settled(step: Step) -> bool:
    """Whether an input layer needs nothing; others are judged by χ alone."""
    return step.kind != "input" or 1 / MILD < step.chi < MILD


def _changes(
    picture: Picture, before: dict[str, float], parameters: dict[str, Tensor]
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
