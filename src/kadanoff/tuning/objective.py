"""The loss a trial is judged by: the user's, the model's own, or what the targets ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.data.forms import Example, device_of
from kadanoff.errors import DataError, UsageError
from kadanoff.trace.hf import main_output, map_tensors, own_loss
from kadanoff.trace.losses import default_loss

__all__ = ["Loss", "Objective"]

# loss(output, targets), or loss(output) where the data has no targets
Loss = Callable[..., Tensor]


class Objective:
    """Loss of a model on one batch.

    Parameters
    ----------
    loss : callable, optional
        ``loss(output, targets)``, or ``loss(output)`` where the data has no targets. ``output`` is
        what the model returned; where the loss cannot take a structure, it gets the main tensor in
        it. Without one: the loss a Hugging Face model returns, else cross-entropy for integer
        targets and the mean squared error for real ones.

    Raises
    ------
    UsageError
        ``loss`` is no function.
    """

    def __init__(self, loss: Loss | None = None) -> None:
        if loss is not None and not callable(loss):
            raise UsageError(
                f"loss is a {type(loss).__name__}, not a function.",
                "Pass loss(output, targets), e.g. torch.nn.functional.cross_entropy.",
            )
        self.loss = loss
        self._tensor_only = False

    @property
    def name(self) -> str:
        """How the loss is called in a report."""
        if self.loss is None:
            return "the loss that the targets ask for"
        return str(getattr(self.loss, "__name__", type(self.loss).__name__))

    def __call__(self, model: nn.Module, batch: Example) -> Tensor:
        """The loss, a scalar in the graph.

        Raises
        ------
        DataError
            The model cannot take the batch, or the output does not fit the targets.
        UsageError
            The user's loss fails, or does not return one number that depends on the parameters.
        """
        output = batch.run(model)
        device = device_of(model)
        targets = map_tensors(lambda t: t.to(device), batch.targets)
        value = self._own(output, targets) if self.loss is not None else default(output, targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise UsageError(
                f"The loss {self.name} returned {_described(value)}, not one number.",
                "Return a scalar tensor, e.g. with reduction='mean'.",
            )
        return value.reshape(())

    def _own(self, output: Any, targets: Any) -> Tensor:
        assert self.loss is not None
        rest = () if targets is None else (targets,)
        try:
            if not self._tensor_only:
                try:
                    return self.loss(output, *rest)
                except (TypeError, AttributeError, KeyError):
                    tensor = main_output(output)
                    if isinstance(output, Tensor) or tensor is None:
                        raise
                    value = self.loss(tensor, *rest)
                    self._tensor_only = True
                    return value
            return self.loss(main_output(output), *rest)
        except Exception as error:
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UsageError(
                f"The loss {self.name} failed ({type(error).__name__}: {first}).",
                "It is called as loss(output, targets), or loss(output) without targets.",
            ) from error


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def default(output: Any, targets: Any) -> Tensor:
    """The loss without being told: a Hugging Face model's own, else by the targets' type."""
    found = default_loss(output, targets)
    if found is None:
        raise DataError(
            "There is no loss to train with: the data has no targets that go with the output.",
            "Pass (inputs, targets), or loss=.",
        )
    return found


def has_loss(batch: Example, loss: Loss | None, model: nn.Module) -> bool:
    """Whether there is anything to train with: a loss, targets, or the model's own loss."""
    if loss is not None or batch.targets is not None:
        return True
    with torch.no_grad():
        return own_loss(batch.run(model)) is not None
