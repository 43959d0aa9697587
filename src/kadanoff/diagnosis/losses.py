"""The loss a model is trained with: the user's, the model's own, or the usual one for its targets.

Bad targets are errors here, with their values, never a reason to fall back to something else.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.diagnosis.sightings import LossCall
from kadanoff.errors import UsageError
from kadanoff.trace.losses import TargetError, loss_for

__all__ = ["Loss", "call_loss", "check_all", "constant_loss", "evaluate"]

STAND_IN = "random projection of the output"


@dataclass(frozen=True)
class Loss:
    """A value that depends on the parameters, its name, and whether it is a stand-in."""

    value: Tensor
    name: str
    stands_in: bool = False


def evaluate(
    loss: Callable[..., Any] | None,
    output: Any,
    main: Tensor,
    targets: Any,
    generator: torch.Generator,
    task: str | None = None,
) -> Loss:
    """The loss of one forward pass.

    Parameters
    ----------
    loss : callable or None
        The user's; None chooses by output and targets.
    output
        What the model returned.
    main : Tensor
        Its main tensor.
    targets : Tensor or None
    generator : torch.Generator
        Of the random projection that stands in where there is nothing to learn.
    task : str, optional
        "regression" takes whole numbers as numbers.

    Raises
    ------
    UsageError
        The user's loss fails, or returns no number that depends on the parameters.
    TargetError
        Targets that do not go with this output: wrong count, labels out of range or fractional.
    """
    if loss is not None:
        name = getattr(loss, "__name__", type(loss).__name__)
        value = call_loss(loss, output, main, targets)
        if not isinstance(value, Tensor) or value.numel() != 1:
            shape = f" of shape {tuple(value.shape)}" if isinstance(value, Tensor) else ""
            raise UsageError(
                f"The loss {name} must return one number; it returned a "
                f"{type(value).__name__}{shape}.",
                "Return a scalar tensor, e.g. with reduction='mean'.",
            )
        return Loss(value.reshape(()), name)
    try:
        usual = loss_for(output, targets, task)
    except TargetError as error:
        raise _labelled(error) from None
    if usual is not None:
        value = usual(output, targets)
        if value.requires_grad or not main.requires_grad:
            return Loss(value, usual.name)
    probe = torch.randn(main.shape, generator=generator).to(main.device, main.dtype)
    rows = main.shape[0] if main.ndim else 1
    value = (main * probe).sum() / (rows * (main.numel() / rows) ** 0.5)
    return Loss(value, STAND_IN, True)


# what is wrong with targets, as the catalogue of findings calls it
_CODES = {
    "labels-from-one": "KD104 labels-out-of-range",
    "label-range": "KD104 labels-out-of-range",
    "label-type": "KD105 float-class-labels",
    "count": "KD112 target-count",
    "shape": "KD113 target-shape",
    "not-finite": "KD308 targets-not-finite",
}


def _labelled(error: TargetError) -> TargetError:
    name = _CODES.get(error.code)
    message = f"{name}: {error.message}" if name else error.message
    return TargetError(error.code, message, error.remedy)


def check_all(output: Tensor, targets: Tensor) -> None:
    """Check the targets of all the data, of which the output has seen only some.

    Raises
    ------
    TargetError
        As for one batch.
    """
    rows = output[:1].expand(len(targets), *output.shape[1:])
    try:
        loss_for(rows, targets)
    except TargetError as error:
        raise _labelled(error) from None


def _plain(output: Any) -> Any:
    if dataclasses.is_dataclass(output) and not isinstance(output, (type, Mapping)):
        return tuple(getattr(output, f.name) for f in dataclasses.fields(output))
    return output


def call_loss(loss: Callable[..., Any], output: Any, main: Tensor, targets: Any) -> Any:
    """Call a user's loss with what the model returns, in the way it can be called.

    With the whole output first; where that fails, with its parts, then with its main tensor.

    Parameters
    ----------
    loss : callable
    output
        What the model returned.
    main : Tensor
        Its main tensor.
    targets : Tensor or None

    Raises
    ------
    UsageError
        It fails in every way; the message is that of the first.
    """
    rest = () if targets is None else (targets,)
    ways: list[tuple[Any, ...]] = [(output, *rest)]
    parts = tuple(output.values()) if isinstance(output, Mapping) else _plain(output)
    if isinstance(parts, (tuple, list)):
        ways.append((*parts, *rest))
    if main is not output:
        ways.append((main, *rest))
    count = _positional(loss)
    if count is not None:
        ways.sort(key=lambda way: len(way) != count)
    if rest and count == 1:
        ways.insert(0, (output,))
    first: Exception | None = None
    for way in ways:
        try:
            return loss(*way)
        except Exception as error:  # whatever a user's function may raise
            first = first or error
    name = getattr(loss, "__name__", type(loss).__name__)
    lines = [line.strip() for line in str(first).splitlines() if line.strip()] or ["no message"]
    raise UsageError(
        f"The loss {name} failed: {type(first).__name__}: {lines[0][:200].rstrip('.')}.",
        "It is called as loss(output, targets), or loss(output) without targets; a tuple is also "
        "passed part by part.",
    ) from first


def _positional(loss: Callable[..., Any]) -> int | None:
    """How many arguments a loss insists on; None if it takes any number."""
    function = loss.forward if isinstance(loss, nn.Module) else loss
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    if any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters):
        return None
    by_place = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in by_place and p.default is inspect.Parameter.empty for p in parameters)


def constant_loss(calls: list[LossCall], value: float) -> float | None:
    """The loss of the best output that is the same for every sample; None if it cannot be told."""
    for call in calls:
        if call.weighted or not _same(call.value, value):
            continue
        found = _constant(call)
        if found is not None:
            return found
    return None


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= 1e-4 * max(abs(a), abs(b))


def _constant(call: LossCall) -> float | None:
    y = call.target.detach()
    if call.op in ("cross_entropy", "nll_loss") and not y.is_floating_point():
        y = y[y != call.ignore] if call.ignore is not None else y
        if not y.numel() or int(y.min()) < 0:
            return None
        share = torch.bincount(y.reshape(-1)).double() / y.numel()
        return float(-(share * share.clamp_min(1e-300).log()).sum())
    y = y.double()
    if call.op == "cross_entropy":
        share = y.mean(0)
        return float(-(share * share.clamp_min(1e-300).log()).sum())
    if call.op.startswith("binary_cross_entropy"):
        p = y.mean(0).clamp(1e-12, 1 - 1e-12)
        return float(-(p * p.log() + (1 - p) * (1 - p).log()).mean())
    if call.op == "mse_loss" and y.ndim:
        return float(y.var(0, unbiased=False).mean())
    if call.op == "l1_loss" and y.ndim:
        return float((y - y.median(0).values).abs().mean())
    return None
