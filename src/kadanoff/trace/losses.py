"""The loss that outputs and targets call for, where the user names none: one rule for everybody.

Integer targets are classes (cross entropy along whichever axis the classes lie), zeros and ones are
events (binary cross entropy), rows that sum to one are probabilities of classes, other real numbers
are to be met (mean square). A model that computes its own loss is believed. Targets that fit no
rule are an error that says what is wrong with them; nothing is guessed, broadcast or left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kadanoff.errors import DataError
from kadanoff.trace.ends import ends_in
from kadanoff.trace.hf import main_output, own_loss

__all__ = ["IGNORED", "DefaultLoss", "TargetError", "default_loss", "loss_for"]

IGNORED = -100  # the class that torch's cross entropy leaves out


class TargetError(DataError):
    """The targets do not go with the output.

    Attributes
    ----------
    code : str
        What is wrong: ``"labels-from-one"`` (1 … C instead of 0 … C−1), ``"label-range"``,
        ``"label-type"`` (classes given as real numbers), ``"nothing-to-learn"`` (every label is
        ignored), ``"not-finite"``, ``"count"`` (another number of samples than the output),
        ``"shape"``, ``"kind"`` (no tensor).
    """

    def __init__(self, code: str, message: str, remedy: str) -> None:
        super().__init__(message, remedy)
        self.code = code


@dataclass(frozen=True)
class DefaultLoss:
    """A loss function with its name.

    Attributes
    ----------
    name : str
        ``"cross entropy"``, ``"binary cross entropy"``, ``"mse"`` or ``"the model's own loss"``.
    axis : int or None
        Of a cross entropy: the axis of the output along which the classes lie.
    compute : callable or None
        ``compute(output, targets)``, both tensors that have been looked at; None for a loss that
        the model computes.
    """

    name: str
    compute: Callable[[Tensor, Tensor], Tensor] | None
    axis: int | None = None

    def __call__(self, output: Any, targets: Any = None) -> Tensor:
        """The loss of one batch, a scalar: the mean over samples, positions and outputs.

        Parameters
        ----------
        output
            What the model returned.
        targets : Tensor, optional
            As those that :func:`loss_for` has seen; they are not checked again.
        """
        if self.compute is None:
            own = own_loss(output, alone=targets is None)
            assert own is not None
            return own
        main = main_output(output)
        assert main is not None
        # half precision is too narrow for sums of exponentials and of squares
        main = main.to(torch.promote_types(main.dtype, torch.float32))
        return self.compute(main, targets.to(main.device))


def default_loss(output: Any, targets: Any = None, task: str | None = None) -> Tensor | None:
    """The loss of one batch, None if there is nothing to compare the output with.

    See :func:`loss_for` for parameters and errors.

    Parameters
    ----------
    output : Any
        Whatever the model returned.
    targets : optional
    task : {"classification", "regression"}, optional
        Where the targets leave it open.
    """
    found = loss_for(output, targets, task)
    return None if found is None else found(output, targets)


def loss_for(output: Any, targets: Any = None, task: str | None = None) -> DefaultLoss | None:
    """Which loss a batch of outputs and targets calls for.

    Parameters
    ----------
    output
        What the model returned: a tensor, or a structure that holds one (see
        :func:`kadanoff.trace.hf.main_output`). A loss in it counts, ``(logits, loss)`` or
        ``.loss``; a loss without a name only if there are no targets beside it, as it cannot have
        been made of them.
    targets : Tensor or None
        (N, ...) for an output (N, C, ...) or (N, ..., C): integer classes 0 … C−1, −100 where a
        position does not count. (N, ...) for an output of N times as many entries: real numbers,
        or zeros and ones. Rows of an output (N, C) that are nonnegative and sum to 1 are
        probabilities of the classes.
    task : str, optional
        What the targets are meant as, where it is known (:attr:`kadanoff.data.batch.Batch.task`):
        ``"regression"`` takes zeros and ones as numbers.

    Returns
    -------
    DefaultLoss or None
        None without targets and without a loss of the model's own.

    Raises
    ------
    TargetError
        The targets do not go with the output.
    """
    if own_loss(output, alone=targets is None) is not None:
        return DefaultLoss("the model's own loss", None)
    if targets is None:
        return None
    main = main_output(output)
    if not isinstance(targets, Tensor) or main is None:
        raise TargetError(
            "kind",
            f"No default loss compares an output of type {type(output).__name__} with targets of "
            f"type {type(targets).__name__}.",
            "Pass a loss function: loss=lambda output, targets: ...",
        )
    if targets.ndim == 0 or main.ndim == 0 or len(targets) != len(main):
        raise TargetError(
            "count",
            f"{_count(targets)} for {_count(main, 'output')}: targets of shape "
            f"{tuple(targets.shape)}, output of shape {tuple(main.shape)}.",
            "Give one target for each sample the model was given.",
        )
    if targets.is_complex() or main.is_complex():
        raise TargetError("kind", "Complex outputs or targets have no default loss.", "Pass loss=.")
    if targets.is_floating_point():
        return _real(main, targets, task)
    return _classes(main, targets)


def _count(tensor: Tensor, what: str = "target") -> str:
    count = len(tensor) if tensor.ndim else 1
    return f"{count} {what}{'' if count == 1 else 's'}"


# -- classes -----------------------------------------------------------------------------------


def _classes(main: Tensor, targets: Tensor) -> DefaultLoss:
    axis = _class_axis(main.shape, targets.shape)
    if axis is not None:
        _check_labels(targets, main.shape[axis])
        return DefaultLoss("cross entropy", lambda z, y: _cross_entropy(z, y, axis), axis)
    if _same_entries(main.shape, targets.shape):
        low, high = int(targets.min()), int(targets.max())
        if low < 0 or high > 1:
            raise _unfit_numbers(main, targets, low, high)
        if main.shape == targets.shape and _sum_to_one(targets):
            return DefaultLoss(
                "cross entropy", lambda z, y: _soft_cross_entropy(z, y, z.ndim - 1), -1
            )
        return _binary(main)
    raise _unfit(main, targets)


def _class_axis(output: torch.Size, targets: torch.Size) -> int | None:
    """The axis of the output that targets lack: the last one for sequences, 1 for images."""
    if len(output) != len(targets) + 1:
        return None
    order = [1, len(output) - 1] if len(output) > 3 else [len(output) - 1, 1]
    for axis in dict.fromkeys([*order, *range(1, len(output))]):
        if output[:axis] + output[axis + 1 :] == targets:
            # one unit is an event that happens or not, no choice among classes
            return axis if output[axis] > 1 else None
    return None


def _check_labels(labels: Tensor, classes: int) -> None:
    counted = labels[labels != IGNORED]
    if not counted.numel():
        raise TargetError(
            "nothing-to-learn",
            f"All {labels.numel()} labels are {IGNORED}, which stands for positions that do not "
            "count.",
            "Give labels for some of them.",
        )
    low, high = int(counted.min()), int(counted.max())
    if low >= 0 and high < classes:
        return
    if low == 1 and high == classes:
        raise TargetError(
            "labels-from-one",
            f"The labels run from 1 to {high}, but the model has {classes} outputs, which are "
            f"classes 0 to {classes - 1}.",
            "Subtract 1 from the labels.",
        )
    hint = (
        f" Positions that do not count are marked by {IGNORED}."
        if low < 0
        else " The readout needs one output for each class."
    )
    raise TargetError(
        "label-range",
        f"The labels run from {low} to {high}, but the model has {classes} outputs, which are "
        f"classes 0 to {classes - 1}.",
        f"Give labels from 0 to {classes - 1}.{hint}",
    )


def _cross_entropy(logits: Tensor, labels: Tensor, axis: int) -> Tensor:
    logits = logits.movedim(axis, -1).flatten(0, -2)
    return F.cross_entropy(logits, labels.flatten().long(), ignore_index=IGNORED)


def _soft_cross_entropy(logits: Tensor, probabilities: Tensor, axis: int) -> Tensor:
    probabilities = probabilities.to(logits.dtype)
    return F.cross_entropy(logits.movedim(axis, -1), probabilities.movedim(axis, -1))


# -- real numbers ------------------------------------------------------------------------------


def _real(main: Tensor, targets: Tensor, task: str | None) -> DefaultLoss:
    if not bool(torch.isfinite(targets).all()):
        count = int((~torch.isfinite(targets)).sum())
        raise TargetError(
            "not-finite",
            f"{count} of {targets.numel()} target entries are NaN or infinite.",
            "Remove or impute them.",
        )
    if not _same_entries(main.shape, targets.shape):
        axis = _class_axis(main.shape, targets.shape)
        if axis is not None and bool((targets == targets.round()).all()):
            raise TargetError(
                "label-type",
                f"The targets are whole numbers of type {str(targets.dtype)[6:]}, one for each "
                f"{main.shape[axis]} outputs: classes must be integers.",
                "Pass targets.long().",
            )
        raise _unfit(main, targets)
    if task != "regression":
        if main.shape == targets.shape and _sum_to_one(targets) and ends_in(main) != "sigmoid":
            return DefaultLoss(
                "cross entropy", lambda z, y: _soft_cross_entropy(z, y, z.ndim - 1), -1
            )
        events = bool(((targets == 0) | (targets == 1)).all())
        if events and bool(targets.min() < targets.max()):
            return _binary(main)
    return DefaultLoss("mse", lambda z, y: F.mse_loss(z, y.reshape(z.shape).to(z.dtype)))


def _binary(main: Tensor) -> DefaultLoss:
    """Binary cross entropy of logits, or of probabilities if the model ends in a sigmoid."""
    if ends_in(main) == "sigmoid":
        function = F.binary_cross_entropy
    else:
        function = F.binary_cross_entropy_with_logits

    def compute(z: Tensor, y: Tensor) -> Tensor:
        return function(z, y.reshape(z.shape).to(z.dtype))

    return DefaultLoss("binary cross entropy", compute)


def _sum_to_one(targets: Tensor) -> bool:
    """Whether the rows are probabilities of two or more classes (one-hot or soft)."""
    if targets.ndim != 2 or targets.shape[-1] < 2:
        return False
    sums = targets.double().sum(-1)
    return bool((targets >= 0).all()) and bool(((sums - 1).abs() < 1e-4).all())


def _same_entries(output: torch.Size, targets: torch.Size) -> bool:
    """Whether sample by sample there are as many targets as outputs: (N, 1) and (N,) agree."""
    return output[0] == targets[0] and output.numel() == targets.numel()


# -- what fits no rule -------------------------------------------------------------------------


def _unfit_numbers(main: Tensor, targets: Tensor, low: int, high: int) -> TargetError:
    return TargetError(
        "label-type",
        f"The targets are integers from {low} to {high}, one for each entry of the output of shape "
        f"{tuple(main.shape)}: as classes they need several outputs each, as events they must be "
        "0 or 1.",
        "Pass targets.float() if they are quantities to be met.",
    )


def _unfit(main: Tensor, targets: Tensor) -> TargetError:
    kind = "real numbers" if targets.is_floating_point() else "integers"
    squeezed = targets.ndim > 1 and targets.shape[-1] == 1
    if not targets.is_floating_point() and squeezed and targets.ndim == main.ndim:
        remedy = "Pass targets.squeeze(-1): classes have no axis of their own."
    elif targets.is_floating_point():
        remedy = "Give one target for each output, or integer classes."
    else:
        remedy = "Give one class for each row of outputs, or one real number for each output."
    return TargetError(
        "shape",
        f"Targets of shape {tuple(targets.shape)} ({kind}) do not fit an output of shape "
        f"{tuple(main.shape)}.",
        remedy,
    )
