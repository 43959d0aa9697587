"""From a model and a batch to a diagnosis."""

from __future__ import annotations

import copy
import math
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.activations import Activation, activation
from kadanoff.architecture import Network
from kadanoff.diagnosis.expectation import budget, expected
from kadanoff.diagnosis.findings import examine
from kadanoff.diagnosis.gather import collect, tried, whole
from kadanoff.diagnosis.inputs import check_model, prepare
from kadanoff.diagnosis.plain_words import in_plain_words
from kadanoff.diagnosis.result import Diagnosis, Estimate, LayerReport, ParameterReport
from kadanoff.diagnosis.sums import branch_sums
from kadanoff.diagnosis.surveying import Survey, survey
from kadanoff.errors import KadanoffError, UsageError
from kadanoff.trace.fans import layout_of, shape_fans
from kadanoff.trace.layers import Call
from kadanoff.trace.recorder import unwrap
from kadanoff.trace.sandbox import untouched
from kadanoff.trace.scripted import eager
from kadanoff.trace.statistics import (
    Statistics,
    Units,
    mean_and_error,
    pair_correlation,
    reduce,
)

__all__ = ["diagnose"]

PROBES = 2


def diagnose(
    model: nn.Module,
    data: Any,
    *,
    loss: Callable[..., Any] | None = None,
    targets: Any = None,
    optimizer: Any = None,
    steps: int = 1000,
    try_steps: int | None = None,
    every: Any = None,
    theory: str = "quick",
    seed: int = 0,
    device: Any = None,
    batch: int | None = None,
    probes: int = PROBES,
    progress: Callable[..., None] | None = None,
) -> Diagnosis:
    """Measure how signals and gradients travel through a model, and say what is wrong.

    The model is run as its user runs it, with dropout off and batch normalisation in the mode it
    is in; nothing on it is changed. What random weights of the same laws give, with the spread
    from one drawn network to the next, stands beside each measurement. A short trial on a
    copy says whether it learns the batch at all.

    Parameters
    ----------
    model : nn.Module
        Any module, also compiled or from Hugging Face.
    data : tensor, array, (inputs, targets), dict, or iterable of batches
        A dict is passed as keyword arguments. Of an iterable the first batch is taken.
    loss : callable, optional
        ``loss(output, targets)``, or ``loss(output)`` without targets; it gets what the model
        returns (a tuple is also passed part by part, then its main tensor alone). Default: the
        model's own loss, if it returns one; else cross entropy for classes, binary cross entropy
        for one output and labels 0 and 1, mean square for real targets; else, said as such, a
        random projection of the output.
    targets : optional
        Targets, if not in ``data``.
    optimizer : torch.optim.Optimizer, sequence of them, or Recipe, optional
        Who trains the model: its rate is held against the largest stable one, its parameters
        against the model's, and the trial uses a copy of it. Default: Adam at 10⁻³ in the trial.
    steps : int
        Training steps planned, for rates that are too low.
    try_steps : int, optional
        Real steps on a copy of the model. Default: 30 if they take a few seconds at most, else
        none; 0: none.
    every : optional
        More data of the same kind (inputs, targets): labels and non-finite outputs are looked for
        in all of it.
    theory : {"quick", "full", "none"}
        How well to know what random weights of these laws would give: from 4 to 8 networks, on as
        many samples as cost three passes of the model at most; from 64 on all; or not at all.
    seed : int
        Of the random probes and of what is random in the model.
    device : optional
        Where to run; the model is copied if it is elsewhere. Default: where it is.
    batch : int, optional
        Use at most this many samples.
    probes : int
        Random vectors for each Jacobian norm.
    progress : callable, optional
        ``progress(done, total, message=...)`` in steps of the work.

    Returns
    -------
    Diagnosis

    Raises
    ------
    UsageError, DataError
        The model or the batch cannot be used; the message says why and what to do.

    Examples
    --------
    >>> net = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 2))
    >>> diagnose(net, torch.randn(16, 8)).exit_code
    0
    """
    start = time.perf_counter()

    def told(message: str) -> Callable[..., None]:
        def report(done: int, total: int | None = None, **_info: object) -> None:
            if progress is not None:
                progress(done, total, message=message)

        return report

    if probes < 1:
        raise UsageError(f"probes must be at least 1, got {probes}.")
    budget(theory, 0, 0, 0)  # a word that is none of them, before anything is run
    if steps < 1 or (try_steps is not None and try_steps < 0):
        raise UsageError(f"steps = {steps}, try_steps = {try_steps}: both count steps.")
    model, note = unwrap(model) if isinstance(model, nn.Module) else (model, "")
    where = check_model(model, device)
    if where != next(model.parameters()).device and device is not None:
        model = copy.deepcopy(model).to(where)
    inputs = prepare(model, data, targets, batch, where)
    model = eager(model, inputs.args, inputs.kwargs)
    found = survey(model, inputs, loss, seed, probes)
    if every is not None:
        whole(model, every, found, where)
    notes = [note] if note else []
    arch, description = _describe(model, found.calls)
    if arch is not None:
        notes.append(f"aspect: {_regime(arch, inputs.first.detach().flatten(1))}")
    beside = expected(
        model,
        inputs,
        found,
        loss,
        lambda seen: (_layers(model, seen), branch_sums(seen)),
        theory=theory,
        seed=seed,
        probes=probes,
        progress=told("random networks"),
    )
    words = (description, beside.words) if arch is not None else (beside.words or description,)
    layers = beside.layers
    notes += [beside.note] if beside.note else []
    parameters = _parameters(model, found)
    seen = collect(model, inputs, found, layers, parameters, arch, optimizer, steps)
    seen = replace(seen, expected_loss=beside.loss)
    seen = tried(
        seen, model, inputs, loss, optimizer, try_steps, seed, found.seconds, told("trial step")
    )
    findings, verdict = examine(seen)
    x = inputs.first
    statistics = reduce(x) if x.is_floating_point() and x.ndim > 1 else None
    chain = [layer for layer in layers if not layer.residual]
    result = Diagnosis(
        model=type(model).__name__,
        layers=layers,
        parameters=parameters,
        findings=findings,
        verdict=verdict,
        describable=bool(beside.words),
        description="; ".join(filter(None, words)),
        n_parameters=sum(p.numel() for p in model.parameters()),
        n_samples=inputs.samples,
        depth=len(chain),
        aspect=_aspect(chain),
        input_second_moment=_estimate(statistics.second_moment) if statistics else None,
        input_correlation=_input_correlation(x),
        loss=found.loss,
        loss_name=found.loss_name,
        loss_stands_in=found.stands_in,
        constant_loss=found.constant,
        trained=seen.trained,
        trial=seen.trial,
        times=seen.times,
        notes=tuple(dict.fromkeys((*notes, *inputs.notes, *found.notes))),
        sums=beside.sums,
        expected_loss=beside.loss,
        meta=_meta(model, where, seed, probes, time.perf_counter() - start),
    )
    return in_plain_words(result)


def _regime(arch: Network, X: torch.Tensor) -> str:
    """The regime that depth over width puts the network in, for an input of the data's size."""
    from kadanoff.rgflow import aspect

    size = float(X.double().square().mean().sqrt())
    try:
        return str(aspect(arch, torch.full((1, arch.n_in), size, dtype=torch.float64)))
    except KadanoffError as error:
        return f"undefined. {error.message}"


def _describe(model: nn.Module, calls: list[Call]) -> tuple[Any, str]:
    """The theory's description and a sentence; None and the reason if there is none."""
    from kadanoff.architecture import describe

    try:
        with untouched(model, quiet=True):
            arch = describe(model, from_weights=False)
    except KadanoffError as error:
        return None, error.message
    linear = [call for call in calls if call.kind == "linear"]
    if (
        len(linear) != arch.L
        or any(call.parameter is None or call.derived for call in linear)
        or any(call.statistics is not None and len(call.statistics.shape) != 2 for call in linear)
    ):
        return None, "The model is run on sequences or images, layer by layer: only measured."
    arch = replace(arch, **_variances(model, linear))
    names = sorted({act.name for act in arch.activations})
    widths = (
        "-".join(str(n) for n in arch.n)
        if arch.L <= 6
        else (f"{arch.n[0]}-{arch.n[1]}-...-{arch.n[-1]}")
    )
    return arch, f"MLP {widths}, {arch.L} layers, {', '.join(names) or 'linear'}"


def _variances(model: nn.Module, linear: list[Call]) -> dict[str, tuple[float, ...]]:
    """C_W = fan_in · mean(W²) and C_b = mean(b²) of each layer, as drawn."""
    parameters = dict(model.named_parameters())

    def mean_square(p: Tensor | None) -> float:
        if p is None:
            return 0.0
        return float(torch.linalg.vector_norm(p.detach().float())) ** 2 / p.numel()

    owners = [(call.parameter or "").removesuffix("weight") for call in linear]
    weights = [parameters[owner + "weight"] for owner in owners]
    return {
        "C_W": tuple(p.shape[1] * mean_square(p) for p in weights),
        "C_b": tuple(mean_square(parameters.get(owner + "bias")) for owner in owners),
    }


def _backward(
    model: nn.Module, found: Survey, position: int, call: Call
) -> dict[str, Estimate | None]:
    """Jacobians and the gradient per weight of the call at a position."""
    along, back = found.along.get(position), found.to_output.get(position)
    values = {
        "jacobian": _estimate(along) if along is not None else None,
        "jacobian_to_output": _estimate(back) if back is not None else None,
    }
    gradient = found.gradients.get(call.parameter or "")
    if gradient is not None and call.parameter is not None:
        size = dict(model.named_parameters())[call.parameter].numel()
        values["gradient"] = Estimate(gradient / math.sqrt(size))
    return values


def _layers(model: nn.Module, found: Survey) -> tuple[LayerReport, ...]:
    gains = _gains(model)
    critical: dict[str, float | None] = {}
    reports, reused = [], {}
    for position, call in enumerate(found.calls):
        if call.kind not in ("linear", "recurrent", "add") or call.statistics is None:
            continue
        if call.kind == "add" and not call.on_chain:
            continue
        index = len(reports) + 1
        count = reused[call.parameter or call.path] = (
            reused.get(call.parameter or call.path, -1) + 1
        )
        critical_gain = None  # fixed by the activation *before* the layer
        values = _statistics(call.statistics)
        values |= _units(None if call.after is None else call.after.units)
        values |= _backward(model, found, position, call)
        values["weight_gain"] = None if call.derived else gains.get(call.parameter or "")
        previous = _activation_before(call)
        if previous is not None and call.kind == "linear" and call.on_chain and not call.normalised:
            if previous not in critical:
                critical[previous] = _critical_gain(previous)
            critical_gain = critical[previous]
        reports.append(
            LayerReport(
                index=index,
                path=call.path,
                op=call.op,
                call_index=count,
                role=call.role or "hidden",
                parameter=call.parameter,
                fan_in=call.fan_in,
                fan_out=call.fan_out or call.statistics.shape[call.channel],
                activation=call.activation,
                normalised=call.normalised,
                residual=not call.on_chain,
                critical_gain=critical_gain,
                **values,
            )
        )
    return tuple(reports)


def _activation_before(call: Call) -> str | None:
    """What makes the inputs of a layer: an activation, or ``"linear"`` after another layer."""
    if call.before is None or call.before.kind in ("recurrent", "attention"):
        return None
    return "linear" if call.before.kind == "linear" else call.before.op


def _critical_gain(name: str) -> float | None:
    from kadanoff.critical import criticality

    try:
        found: Activation = activation(name)
        point = criticality(found)
        return float(point.C_W) if point.exists else None
    except (KadanoffError, TypeError, ValueError):
        return None


def _statistics(statistics: Statistics) -> dict[str, Any]:
    correlated = statistics.correlation.numel() > 1
    return {
        "mean": _estimate(statistics.mean),
        "second_moment": _estimate(statistics.second_moment),
        "kurtosis": _estimate(statistics.kurtosis),
        "correlation": _estimate(statistics.correlation, pairs=True) if correlated else None,
    }


def _units(units: Units | None) -> dict[str, Any]:
    if units is None:
        return {}
    dead = units.dead.item()
    error = math.sqrt(max(dead * (1 - dead), 1 / units.n_units) / units.n_units)
    return {
        "zeros": _estimate(units.zeros),
        "near_zeros": _estimate(units.near_zeros),
        "saturated": _estimate(units.saturated),
        "dead": None if math.isnan(dead) else Estimate(dead, error),
    }


def _estimate(values: Tensor, pairs: bool = False) -> Estimate:
    return Estimate(*mean_and_error(values, pairs))


def _input_correlation(x: Tensor) -> Estimate | None:
    if not x.is_floating_point() or x.ndim < 2 or len(x) < 2:
        return None
    rows = x.detach().flatten(1)
    return _estimate(pair_correlation(rows.to(torch.promote_types(x.dtype, torch.float32))), True)


def _gains(model: nn.Module) -> dict[str, Estimate]:
    """fan_in · mean(W²) by parameter, filled in with the fan-in of the layer type that owns it."""
    out = {}
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim < 2 or not p.is_floating_point():
                continue
            norm = torch.linalg.vector_norm(p.detach().float()).double().item()
            fan = _fan_in(model, name, p)
            value = fan * norm**2 / p.numel()
            # relative error of a mean of squares of p.numel() Gaussian weights
            out[name] = Estimate(value, value * math.sqrt(2 / p.numel()))
    return out


def _fan_in(model: nn.Module, name: str, p: Tensor) -> int:
    owner = model.get_submodule(name.rpartition(".")[0])
    layout = layout_of(owner)
    if layout == "table":
        return p.shape[1]  # the squared length of a row
    return shape_fans(layout, p.shape, getattr(owner, "groups", 1))[0]


def _parameters(model: nn.Module, found: Survey) -> tuple[ParameterReport, ...]:
    aliases: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        aliases.setdefault(id(parameter), []).append(name)
    out = []
    for name, p in model.named_parameters():
        size = max(p.numel(), 1)
        norm = torch.linalg.vector_norm(p.detach().float()).item() if p.numel() else 0.0
        gradient = found.gradients.get(name)
        out.append(
            ParameterReport(
                name=name,
                shape=tuple(p.shape),
                rms=norm / math.sqrt(size),
                gradient_norm=gradient,
                gradient_rms=None if gradient is None else gradient / math.sqrt(size),
                aliases=tuple(aliases[id(p)][1:]),
                trainable=p.requires_grad,
            )
        )
    return tuple(out)


def _aspect(chain: list[LayerReport]) -> float | None:
    widths = [layer.fan_out for layer in chain[:-1] if layer.role != "embedding"]
    return sum(1 / n for n in widths if n) if widths else None


def _meta(
    model: nn.Module, device: torch.device, seed: int, probes: int, seconds: float
) -> dict[str, Any]:
    from kadanoff import __version__

    first = next(p for p in model.parameters())
    return {
        "kadanoff": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "dtype": str(first.dtype).removeprefix("torch."),
        "device": str(device),
        "seed": seed,
        "probes": probes,
        "seconds": seconds,
    }
