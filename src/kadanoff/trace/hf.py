"""Batches and outputs as users have them: tensors, tuples, dicts, Hugging Face objects."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

__all__ = ["main_output", "map_tensors", "own_loss", "tensors_in"]


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in nested tuples, lists, mappings and model outputs, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors_in(item)
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from tensors_in(item)


def map_tensors(function: Callable[[Tensor], Any], value: Any) -> Any:
    """The same structure with ``function`` applied to each tensor."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(function, item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(map_tensors(function, item) for item in value))
    if isinstance(value, (tuple, list)):
        return type(value)(map_tensors(function, item) for item in value)
    return value


def main_output(output: Any) -> Tensor | None:
    """The tensor a model is asked for: logits, else the last hidden state, else the first one.

    A scalar loss that a Hugging Face model puts first is passed over.
    """
    for name in ("logits", "last_hidden_state", "prediction_logits", "output"):
        value = output.get(name) if isinstance(output, Mapping) else getattr(output, name, None)
        if isinstance(value, Tensor):
            return value
    floating = [t for t in tensors_in(output) if t.is_floating_point()]
    with_axes = [t for t in floating if t.ndim > 0]
    return (with_axes or floating or [None])[0]


def own_loss(output: Any, alone: bool = True) -> Tensor | None:
    """The loss a model computed by itself, a scalar that training could follow.

    Parameters
    ----------
    output
        What the model returned: a mapping or an object with ``loss`` (Hugging Face, where the
        batch holds labels), the loss itself, or a tuple with one scalar among its tensors
        (``(logits, loss)``).
    alone : bool
        Take a scalar without a name too; False where it may be something else.

    Returns
    -------
    Tensor, shape (), or None
    """
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if loss is None and alone:
        loss = _nameless(output)
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.is_floating_point():
        return None
    # a number without a graph is a record of a loss, not a loss
    return loss.reshape(()) if loss.requires_grad or not torch.is_grad_enabled() else None


def _nameless(output: Any) -> Tensor | None:
    """A scalar that is all there is, or the only scalar beside other tensors."""
    if isinstance(output, Tensor):
        return output if output.ndim == 0 else None
    if not isinstance(output, (tuple, list)):
        return None
    tensors = [value for value in output if isinstance(value, Tensor)]
    scalars = [tensor for tensor in tensors if tensor.ndim == 0]
    return scalars[0] if len(scalars) == 1 and len(tensors) > 1 else None
