"""Where a loss or a gradient stops being finite, asked while the weights are still good."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from kadanoff.diagnosis.finite import forward_origin
from kadanoff.trace.sandbox import untouched
from kadanoff.watching.film import Broken
from kadanoff.watching.hooks import looking

__all__ = ["cause_of", "gradient_layer", "spoiled"]


def cause_of(model: nn.Module, call: tuple[tuple, dict[str, Any]] | None, step: int = 0) -> Broken:
    """Where the loss of the last forward pass became NaN or infinite.

    Parameters
    ----------
    model : nn.Module
    call : (tuple, dict) or None
        What the model was last called with; the pass is repeated.
    step : int
        At which it happened.
    """
    bad = spoiled(model)
    if bad:
        # a gradient that is not finite spoils the layer where it begins and all before it
        return Broken(
            step,
            "weights",
            bad[-1].rpartition(".")[0],
            f"the weights were not finite before it ({_count(bad)}, the deepest is {bad[-1]!r}): "
            "a step with a gradient that is not finite",
        )
    if call is None:
        return Broken(step, "loss", "", "and the call that made it was not seen")
    args, kwargs = call
    samples = next((len(a) for a in args if isinstance(a, torch.Tensor) and a.ndim), 0)
    with looking(), untouched(model), torch.no_grad():
        found = forward_origin(model, samples, _again(model, args, kwargs))
    if found is None:
        return Broken(
            step, "loss", "", "and every activation is finite: it begins in the loss itself"
        )
    rows = ", ".join(map(str, found.samples[:4])) + (" …" if len(found.samples) > 4 else "")
    where = f"in {found.path!r}" if found.path else "outside every layer"
    text = f"it begins {where}, where {found.op} gives {found.what}"
    if rows and len(found.samples) < samples:
        text += f" for sample {rows} of the batch"
    if found.masked:
        text += ", from a row that is masked altogether"
    elif math.isfinite(found.size) and found.size > 0:
        text += f" from numbers up to {found.size:.3g}"
    return Broken(step, "loss", found.path, text)


def _again(model: nn.Module, args: tuple, kwargs: dict[str, Any]) -> Callable[[], Any]:
    return lambda: model(*args, **kwargs)


def gradient_layer(model: nn.Module) -> str | None:
    """The deepest layer whose gradient is not finite; None if all are.

    Gradients flow from the output back, so what is not finite begins there, or right behind it.

    Parameters
    ----------
    model : nn.Module
    """
    found = None
    for name, p in model.named_parameters():
        if p.grad is not None and not bool(torch.isfinite(p.grad).all()):
            found = name.rpartition(".")[0] or name
    return found


def spoiled(model: nn.Module) -> list[str]:
    """Parameters that hold NaN or infinity, in the order of the model.

    Parameters
    ----------
    model : nn.Module
    """
    with torch.no_grad():
        return [
            name
            for name, p in model.named_parameters()
            if p.is_floating_point() and not bool(torch.isfinite(p).all())
        ]


def _count(names: list[str]) -> str:
    return f"{len(names)} parameter{'s' if len(names) > 1 else ''}"
