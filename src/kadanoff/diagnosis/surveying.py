"""One recorded forward pass and its backward passes: all raw measurements of a model."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.diagnosis.finite import Origin, all_finite, backward_origin, forward_origin
from kadanoff.diagnosis.inputs import Inputs
from kadanoff.diagnosis.losses import Loss, constant_loss, evaluate
from kadanoff.diagnosis.result import TimeReport
from kadanoff.diagnosis.sightings import LossCall
from kadanoff.diagnosis.witness import Witness
from kadanoff.errors import AnalysisError, DataError, UsageError
from kadanoff.trace.ends import ends_in
from kadanoff.trace.hf import main_output, tensors_in
from kadanoff.trace.jacobians import jacobians_along, jacobians_to_output
from kadanoff.trace.layers import Call, Layers
from kadanoff.trace.recorder import Recorder
from kadanoff.trace.sandbox import untouched

__all__ = ["ForwardError", "Survey", "survey"]


class ForwardError(DataError):
    """The model failed on the batch.

    Attributes
    ----------
    path : str
        Of the module it failed in, ``""`` for the model itself.
    calls : list of Call
        What had been recorded until then.
    """

    def __init__(self, message: str, remedy: str, path: str, calls: list[Call]) -> None:
        super().__init__(message, remedy)
        self.path, self.calls = path, calls


@dataclass
class Survey:
    """Raw measurements, still per sample.

    Attributes
    ----------
    calls : list of Call
    witness : Witness
        Sums, softmaxes, norms, scans, cuts and loss calls.
    chain : list of int
        Positions in ``calls`` of what carries the whole signal.
    along, to_output : dict of int to Tensor
        Squared partial-Jacobian norms per sample, keyed by position in ``calls``.
    gradients : dict of str to float
        Norm of the loss gradient by name, of the trainable parameters that get one.
    through_time : list of TimeReport
        Each recurrence step by step.
    output : Tensor or None
        The main output, detached, and the function it ``ends`` in.
    loss, loss_name, stands_in, constant
        Value of the loss, what it is, and the loss of the best constant output.
    aside : set of str
        Trainable parameters that reach an output which the loss does not use.
    seconds : float
        Forward pass and gradient of the loss: what a training step costs.
    loss_calls : list of LossCall
    origin : Origin or None
        Where the first NaN or infinity comes from.
    """

    calls: list[Call]
    witness: Witness
    chain: list[int] = field(default_factory=list)
    along: dict[int, Tensor] = field(default_factory=dict)
    to_output: dict[int, Tensor] = field(default_factory=dict)
    gradients: dict[str, float] = field(default_factory=dict)
    through_time: list[TimeReport] = field(default_factory=list)
    output: Tensor | None = None
    ends: str | None = None
    attached: bool = True
    loss: float | None = None
    loss_name: str = ""
    stands_in: bool = False
    constant: float | None = None
    aside: frozenset[str] = frozenset()
    seconds: float = 0.0
    loss_calls: list[LossCall] = field(default_factory=list)
    origin: Origin | None = None
    notes: list[str] = field(default_factory=list)


def survey(
    model: nn.Module, inputs: Inputs, loss: Callable[..., Any] | None, seed: int, probes: int
) -> Survey:
    """Run the model once as its user does, and backward a few times.

    Parameters
    ----------
    model : nn.Module
    inputs : Inputs
    loss : callable or None
        The user's; None chooses by output and targets.
    seed : int
        Of dropout and probes.
    probes : int
        Random directions a Jacobian is measured along.

    Raises
    ------
    ForwardError
        The model fails on this batch; names the layer it failed in.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = Layers(graph=True, adds=True)
    witness = Witness(model, inputs.samples, tensors_in((inputs.args, inputs.kwargs)))
    recorder = Recorder(model, layers, witness)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    with untouched(model, seed=seed, quiet=True, graph=True), torch.enable_grad():
        started = time.perf_counter()
        try:
            with recorder:
                output = model(*inputs.args, **inputs.kwargs)
        except Exception as error:
            raise _failure(model, inputs, recorder.last_path, layers.calls, error) from error
        result = Survey(layers.calls, witness)
        result.seconds = time.perf_counter() - started
        main = main_output(output)
        if main is None:
            raise UsageError(
                f"The model returned {type(output).__name__} without a floating tensor.",
                "Return the output tensor, or a tuple or dict that holds it.",
            )
        result.output, result.ends = main.detach(), ends_in(main)
        result.attached = any(t.requires_grad for t in tensors_in(output))
        result.chain = layers.complete(main)
        witness.in_loss = True
        with Recorder(model, witness, paths=False):
            used = evaluate(loss, output, main, inputs.targets, generator, inputs.task)
        result.loss_calls = witness.seen.losses
        result.loss, result.loss_name = float(used.value.detach()), used.name
        result.stands_in = used.stands_in
        result.constant = constant_loss(result.loss_calls, result.loss)
        _backward(model, result, inputs, output, main, used, trainable, probes, generator)
        _not_finite(model, result, inputs, loss, output, used, seed)
    return result


def _backward(
    model: nn.Module,
    result: Survey,
    inputs: Inputs,
    output: Any,
    main: Tensor,
    used: Loss,
    trainable: set[str],
    probes: int,
    generator: torch.Generator,
) -> None:
    """Jacobians and gradients.

    Raises
    ------
    AnalysisError
        The model's own backward pass fails.
    """
    try:
        if not main.requires_grad:
            if not result.attached:
                result.notes.append(
                    "the output does not depend on parameters through autograd (no_grad or "
                    "detach inside the model): no Jacobians and gradients"
                )
        else:
            _jacobians(result, inputs, main, probes, generator)
        if used.value.requires_grad:
            started = time.perf_counter()
            _gradients(model, result, used.value, trainable)
            result.seconds += time.perf_counter() - started
            _aside(model, result, output, trainable)
    except RuntimeError as error:
        raise AnalysisError(
            f"The backward pass of {type(model).__name__} fails: {_first_line(error)}.",
            "Call loss.backward() yourself to see it; torch.autograd.set_detect_anomaly(True) "
            "names the operation. A model that changes tensors in place may need train mode.",
        ) from error


def _jacobians(
    result: Survey, inputs: Inputs, main: Tensor, probes: int, generator: torch.Generator
) -> None:
    samples = main.shape[0] if main.ndim else 1
    samples = inputs.samples if main.numel() % max(inputs.samples, 1) == 0 else samples
    useful = [
        i
        for i, call in enumerate(result.calls)
        if call.edge is not None and call.kind in ("linear", "add", "recurrent")
    ]
    picked = [result.calls[i].edge for i in useful]
    values = jacobians_to_output(main, picked, samples, probes, generator)
    result.to_output = {i: v for i, v in zip(useful, values) if v is not None}
    _along(result, main, samples, probes, generator)


def _along(result: Survey, main: Tensor, samples: int, probes: int, generator: Any) -> None:
    chain = [result.calls[i] for i in result.chain]
    shapes = [call.statistics.shape for call in chain if call.statistics is not None]
    if len(shapes) < 2 or len(shapes) != len(chain):
        return
    edges, dtypes = [call.edge for call in chain], [call.dtype or main.dtype for call in chain]
    steps = jacobians_along(edges, shapes, dtypes, main.device, samples, probes, generator)
    result.along = {i: v for i, v in zip(result.chain, steps) if v is not None}


def _gradients(model: nn.Module, result: Survey, value: Tensor, trainable: set[str]) -> None:
    named = [(name, p) for name, p in model.named_parameters() if name in trainable]
    scans = result.witness.seen.scans
    wanted = [p for _, p in named] + [scan.edge for scan in scans]
    if not wanted:
        return
    found = torch.autograd.grad(value, wanted, allow_unused=True, retain_graph=True)
    with torch.no_grad():
        norms = {}
        for (name, _), gradient in zip(named, found):
            if gradient is not None:
                gradient = gradient.coalesce().values() if gradient.is_sparse else gradient
                peak = gradient.abs().amax() if gradient.numel() else gradient.sum()
                peak = torch.where(peak > 0, peak, torch.ones_like(peak))
                norms[name] = torch.linalg.vector_norm(gradient / peak).double() * peak.double()
        result.gradients = {name: norm.item() for name, norm in norms.items()}
        cells: dict[str, TimeReport] = {}
        for scan, gradient in zip(scans, found[len(named) :]):
            if gradient is None:
                continue
            one = scan.steps == 1
            rows = gradient[None] if one else gradient.movedim(scan.axis, 0)
            sizes = rows.flatten(1).double().square().mean(1).sqrt()
            told = TimeReport(scan.path, scan.op, tuple(sizes.tolist()), scan.signal)
            if not one:
                result.through_time.append(told)
                continue
            before = cells.get(scan.path, TimeReport(scan.path, scan.op, ()))
            cells[scan.path] = replace(
                told,
                gradient=before.gradient + told.gradient,
                signal=before.signal + told.signal,
            )
        result.through_time += cells.values()


def _aside(model: nn.Module, result: Survey, output: Any, trainable: set[str]) -> None:
    """Which parameters without gradient reach another output than the loss uses."""
    named = dict(model.named_parameters())
    lost = [name for name in trainable if name not in result.gradients]
    ends = [t for t in tensors_in(output) if t.requires_grad]
    if not lost or len(ends) < 2:
        return
    total = torch.stack([t.float().sum() for t in ends]).sum()
    found = torch.autograd.grad(
        total, [named[name] for name in lost], allow_unused=True, retain_graph=True
    )
    result.aside = frozenset(n for n, g in zip(lost, found) if g is not None)


def _not_finite(
    model: nn.Module,
    result: Survey,
    inputs: Inputs,
    loss: Callable[..., Any] | None,
    output: Any,
    used: Loss,
    seed: int,
) -> None:
    """If anything is not finite, run again and find where it begins."""

    def run() -> Any:
        torch.manual_seed(seed)
        return model(*inputs.args, **inputs.kwargs)

    def last(output: Any) -> Tensor:
        main = main_output(output)
        assert main is not None
        again = torch.Generator().manual_seed(seed)
        return evaluate(loss, output, main, inputs.targets, again, inputs.task).value

    if not all_finite(output) or not all_finite(used.value):
        result.origin = forward_origin(model, inputs.samples, run, last)
    elif not all(map(_number, result.gradients.values())):
        result.origin = backward_origin(lambda: last(run()), result.calls, used.value)


def _number(value: float) -> bool:
    return value - value == 0


def _failure(
    model: nn.Module, inputs: Inputs, path: str, calls: list[Call], error: Exception
) -> ForwardError:
    """The model's own error, with the layer it came from: the module entered last."""
    layer = dict(model.named_modules()).get(path, model)
    where = f"layer {path!r} ({_short(layer)})" if path else f"{type(model).__name__}.forward"
    shapes = tuple(inputs.first.shape)
    count = len(calls)
    return ForwardError(
        f"The model failed in {where} after {count} recorded layer{'s' if count != 1 else ''}, "
        f"on input of shape {shapes}: {type(error).__name__}: {_first_line(error)}.",
        "Check the shape and type of the data against what this layer takes.",
        path,
        calls,
    )


def _short(module: nn.Module) -> str:
    text = repr(module).splitlines()[0].rstrip("(")
    return text if len(text) < 80 else type(module).__name__


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else "no message"
    return (text if len(text) < 160 else text[:157] + "...").rstrip(".")
