"""What a user may pass as data, brought to one form."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.errors import DataError, KadanoffError, UsageError

__all__ = ["Example", "device_of", "examples", "loss_of", "output_of"]


@dataclass(frozen=True)
class Example:
    """One call of the model: positional and keyword inputs, and the targets if there are any."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    targets: Tensor | None = None

    def run(self, model: nn.Module) -> Any:
        """Call the model, on the device its parameters are on."""
        device = device_of(model)
        args = [_move(a, device) for a in self.args]
        kwargs = {name: _move(a, device) for name, a in self.kwargs.items()}
        try:
            return model(*args, **kwargs)
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            if isinstance(error, KadanoffError):
                raise
            shapes = [f"{tuple(a.shape)} {a.dtype}" for a in args if isinstance(a, Tensor)]
            raise DataError(
                f"The model cannot take the data ({', '.join(shapes) or 'keywords'}): "
                f"{str(error).splitlines()[0] if str(error) else type(error).__name__}.",
                "Pass data as model(data) wants them.",
            ) from error


def device_of(model: nn.Module) -> torch.device:
    """Device of the model's first parameter (cpu if it has none)."""
    for tensor in model.parameters():
        return tensor.device
    return torch.device("cpu")


def _move(value: Any, device: torch.device) -> Any:
    return value.to(device) if isinstance(value, Tensor) else value


def examples(data: Any, limit: int | None = None) -> list[Example]:
    """Read ``data`` as a list of calls.

    Parameters
    ----------
    data : Tensor, (inputs, targets), mapping of keyword inputs, object with ``inputs``, or an
        iterable of these. A mapping's ``labels`` are the targets.
    limit : int, optional
        Read at most so many.

    Raises
    ------
    DataError
        Nothing in it, or something of another kind.
    """
    found = []
    for item in _items(data):
        found.append(_example(item))
        if limit is not None and len(found) >= limit:
            break
    if not found:
        raise DataError("The data hold no example.", "Pass at least one batch of inputs.")
    return found


def _items(data: Any) -> Iterable[Any]:
    if isinstance(data, (Tensor, Mapping, Example)) or hasattr(data, "inputs"):
        return [data]
    if isinstance(data, tuple) and len(data) == 2 and isinstance(data[0], (Tensor, Mapping)):
        return [data]
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        return data
    raise DataError(
        f"Cannot use data of type {type(data).__name__}.",
        "Pass a tensor, (inputs, targets), a dict of keyword inputs, or a list of these.",
    )


def _example(item: Any) -> Example:
    if isinstance(item, Example):
        return item
    targets = None
    if hasattr(item, "inputs") and not isinstance(item, Mapping):
        if isinstance(item.inputs, tuple):
            return Example(item.inputs, {}, getattr(item, "targets", None))
        item = (item.inputs, getattr(item, "targets", None))
    if isinstance(item, (tuple, list)) and len(item) == 2:
        item, targets = item
    if isinstance(item, Mapping):
        if targets is None:
            targets = item.get("labels")
        return Example((), {k: v for k, v in item.items() if k != "labels"}, targets)
    if isinstance(item, Tensor):
        if item.numel() == 0:
            raise DataError(f"An input of shape {tuple(item.shape)} is empty.", "Pass some rows.")
        if item.is_floating_point() and not bool(torch.isfinite(item).all()):
            raise DataError("The inputs hold NaN or infinite values.", "Clean the data first.")
        return Example((item,), {}, targets if isinstance(targets, Tensor) else None)
    raise DataError(
        f"Cannot use an input of type {type(item).__name__}.",
        "Pass tensors, or dicts of keyword inputs.",
    )


def output_of(result: Any) -> Tensor:
    """The main output tensor: of a tensor, tuple, mapping or Hugging Face output."""
    if isinstance(result, Tensor):
        return result
    for name in ("logits", "last_hidden_state"):
        if isinstance(getattr(result, name, None), Tensor):
            return getattr(result, name)
    values = list(result.values()) if isinstance(result, Mapping) else result
    if isinstance(values, (tuple, list)):
        for value in values:
            if isinstance(value, Tensor):
                return value
    raise UsageError(
        f"The model returned {type(result).__name__}, in which no tensor was found.",
        "Wrap it so that it returns a tensor.",
    )


def loss_of(output: Tensor, targets: Tensor) -> Tensor:
    """Mean loss: cross-entropy for integer targets, half the squared error for real ones."""
    targets = targets.to(output.device)
    if targets.is_floating_point():
        if targets.numel() != output.numel():
            raise DataError(
                f"Targets of shape {tuple(targets.shape)} do not fit outputs of shape "
                f"{tuple(output.shape)}.",
                "Give one target per output.",
            )
        error = output.float() - targets.reshape(output.shape)
        return 0.5 * error.square().sum(-1).mean()
    logits = output.reshape(-1, output.shape[-1]).float()
    if logits.shape[0] != targets.numel():
        raise DataError(
            f"{targets.numel()} targets do not fit outputs of shape {tuple(output.shape)}.",
            "Give one class per output row.",
        )
    return torch.nn.functional.cross_entropy(logits, targets.reshape(-1).long())
