"""What a user may pass as data, brought to one form."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.data.batch import check_inputs
from kadanoff.data.examples import Example, device_of
from kadanoff.data.examples import examples as read
from kadanoff.errors import DataError, UsageError
from kadanoff.trace.hf import main_output

__all__ = ["Example", "device_of", "examples", "loss_of", "output_of"]


def examples(data: Any, model: nn.Module | None = None, limit: int | None = None) -> list[Example]:
    """Read ``data`` as a list of calls; a mapping's ``labels`` are the targets.

    See :func:`kadanoff.data.examples.examples`.

    Raises
    ------
    DataError
        Nothing in it, something of another kind, or NaN.
    """
    found = [call.without_labels(model) for call in read(data, model, limit)]
    for call in found:
        for tensor in call.tensors:
            check_inputs(tensor, "An input")
    return found


def output_of(result: Any) -> Tensor:
    """The main output tensor: of a tensor, tuple, mapping or Hugging Face output."""
    found = main_output(result)
    if found is not None:
        return found
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
