"""One recorded forward pass and its backward passes: all raw measurements of a model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.diagnosis.inputs import Inputs
from kadanoff.errors import DataError, UsageError
from kadanoff.trace.hf import main_output
from kadanoff.trace.jacobians import jacobians_along, jacobians_to_output
from kadanoff.trace.layers import Call, Layers
from kadanoff.trace.losses import loss_for
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
    chain : list of int
        Positions in ``calls`` of what carries the whole signal.
    along, to_output : dict of int to Tensor
        Squared partial-Jacobian norms per sample, keyed by position in ``calls``.
    gradients : dict of str to float
        Norm of the loss gradient by parameter name.
    """

    calls: list[Call]
    chain: list[int] = field(default_factory=list)
    along: dict[int, Tensor] = field(default_factory=dict)
    to_output: dict[int, Tensor] = field(default_factory=dict)
    gradients: dict[str, float] = field(default_factory=dict)
    loss: float | None = None
    loss_name: str = ""
    notes: list[str] = field(default_factory=list)


def survey(
    model: nn.Module, inputs: Inputs, loss: Callable[..., Tensor] | None, seed: int, probes: int
) -> Survey:
    """Run the model once as its user does, and backward a few times.

    Raises
    ------
    ForwardError
        The model fails on this batch; names the layer it failed in.
    """
    generator = torch.Generator().manual_seed(seed)
    layers = Layers(graph=True, adds=True)
    recorder = Recorder(model, layers)
    with untouched(model, seed=seed, quiet=True, graph=True), torch.enable_grad():
        try:
            with recorder:
                output = model(*inputs.args, **inputs.kwargs)
        except Exception as error:
            raise _failure(model, inputs, recorder.last_path, layers.calls, error) from error
        result = Survey(layers.calls)
        main = main_output(output)
        if main is None:
            raise UsageError(
                f"The model returned {type(output).__name__} without a floating tensor.",
                "Return the output tensor, or a tuple or dict that holds it.",
            )
        result.chain = layers.complete(main)
        if not main.requires_grad:
            result.notes.append(
                "the output does not depend on parameters through autograd (no_grad or "
                "detach inside the model): no Jacobians and gradients"
            )
            return result
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
        _gradients(model, result, inputs, output, main, loss, generator)
    return result


def _along(result: Survey, main: Tensor, samples: int, probes: int, generator: Any) -> None:
    chain = [result.calls[i] for i in result.chain]
    shapes = [call.statistics.shape for call in chain if call.statistics is not None]
    if len(shapes) < 2 or len(shapes) != len(chain):
        return
    edges, dtypes = [call.edge for call in chain], [call.dtype or main.dtype for call in chain]
    steps = jacobians_along(edges, shapes, dtypes, main.device, samples, probes, generator)
    result.along = {i: v for i, v in zip(result.chain, steps) if v is not None}


def _gradients(
    model: nn.Module,
    result: Survey,
    inputs: Inputs,
    output: Any,
    main: Tensor,
    loss: Callable[..., Tensor] | None,
    generator: torch.Generator,
) -> None:
    value, result.loss_name = _loss(inputs, output, main, loss, generator)
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    parameters = [p for p in model.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(value, parameters, allow_unused=True)
    with torch.no_grad():
        norms = {}
        for name, gradient in zip(names, gradients):
            if gradient is not None:
                gradient = gradient.coalesce().values() if gradient.is_sparse else gradient
                peak = gradient.abs().amax() if gradient.numel() else gradient.sum()
                peak = torch.where(peak > 0, peak, torch.ones_like(peak))
                norms[name] = torch.linalg.vector_norm(gradient / peak).double() * peak.double()
        result.gradients = {name: norm.item() for name, norm in norms.items()}
    result.loss = float(value.detach())


def _loss(
    inputs: Inputs, output: Any, main: Tensor, loss: Any, generator: torch.Generator
) -> tuple[Tensor, str]:
    targets = inputs.targets
    if loss is not None:
        name = getattr(loss, "__name__", type(loss).__name__)
        try:
            value = loss(main, targets) if targets is not None else loss(output)
        except Exception as error:
            raise UsageError(
                f"The loss {name} failed: {_first_line(error)}.",
                "It is called as loss(output, targets), or loss(output) without targets.",
            ) from error
        if not isinstance(value, Tensor) or value.numel() != 1 or not value.requires_grad:
            raise UsageError(
                f"The loss {name} must return one number that depends on the parameters.",
                "Return a scalar tensor, e.g. with reduction='mean'.",
            )
        return value.reshape(()), name
    found = loss_for(output, targets)
    if found is not None:
        return found(output, targets), found.name
    probe = torch.randn(main.shape, generator=generator).to(main.device, main.dtype)
    rows = main.shape[0] if main.ndim else 1
    value = (main * probe).sum() / (rows * (main.numel() / rows) ** 0.5)
    return value, "random projection of the output"


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
