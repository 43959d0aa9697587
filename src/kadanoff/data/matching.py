"""Giving a model the data in the shape and type it wants, or saying why it cannot have it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from kadanoff.data.batch import Batch
from kadanoff.data.forms import example
from kadanoff.errors import AnalysisError, DataError

__all__ = ["adapt"]

_REAL = (torch.nn.Linear, torch.nn.modules.conv._ConvNd, torch.nn.Bilinear)


def adapt(model: torch.nn.Module, batch: Batch) -> Batch:
    """Return ``batch`` in a shape, dtype and device that ``model`` accepts.

    Features are tried as they come, then as an image (digits: 1 x 8 x 8), as one channel of a
    sequence, and flat; the first form the model runs on wins, and ``notes`` say which it was.
    Real features take the dtype of the model's parameters. Integers are never turned into real
    numbers, as that hides a mistake; whole real numbers become tokens for a model that begins
    with an embedding, and token sequences longer than the model's context are cut. The model is
    run on two samples in evaluation mode, without gradients, and
    is left as it was.

    Raises
    ------
    DataError
        No form fits; the message names the first layer and what it wants.
    AnalysisError
        The model fails for another reason than its input.
    """
    parameter = next((p for p in model.parameters() if p.is_floating_point()), None)
    if parameter is not None:
        batch = batch.to(parameter.device)
    if not isinstance(batch.inputs, torch.Tensor):
        failure = _try(model, batch.inputs)
        if failure is None:
            return batch
        raise _explain(model, batch, failure)
    wants_tokens = _first_leaf(model, torch.nn.Embedding)
    if batch.tokens and not wants_tokens and _first_leaf(model, _REAL):
        raise DataError(
            f"The inputs of {batch.name!r} are integers ({_dtype(batch.inputs)}), but the model's "
            "first layer needs real numbers.",
            "Convert them to float32 if they are quantities; tokens need an embedding first.",
        )
    candidates = list(_forms(batch, parameter, wants_tokens))
    first: Exception | None = None
    for inputs, note in candidates:
        failure = _try(model, inputs)
        if failure is None:
            notes = (*batch.notes, note) if note else batch.notes
            return replace(batch, inputs=inputs, notes=notes)
        first = first or failure
    cut = _shorter(model, batch) if wants_tokens and batch.tokens else None
    if cut is not None:
        return cut
    assert first is not None  # there is always at least one form
    raise _explain(model, batch, first)


def _shorter(model: torch.nn.Module, batch: Batch) -> Batch | None:
    """The longest beginning of the token sequences that fits the model's context, if one does."""
    x, y = batch.inputs.long(), batch.targets
    length = x.shape[1] if x.ndim == 2 else 0
    follows = y is not None and y.shape == x.shape
    while (length := length // 2) >= 2 and (follows or y is None):
        if _try(model, x[:, :length]) is None:
            targets = None if y is None else y[:, :length]
            notes = (*batch.notes, f"sequences cut to {length} tokens, the model's context")
            return replace(batch, inputs=x[:, :length], targets=targets, notes=notes)
    return None


def _forms(
    batch: Batch, parameter: torch.Tensor | None, wants_tokens: bool
) -> Iterator[tuple[torch.Tensor, str]]:
    x = batch.inputs
    if not x.is_floating_point():
        yield (x.long() if wants_tokens and x.dtype != torch.int64 else x), ""
        return
    if wants_tokens and bool((x == x.round()).all()) and bool((x >= 0).all()):
        yield x.long(), "whole numbers given as integer tokens"
        return
    if parameter is not None and x.dtype != parameter.dtype:
        x = x.to(parameter.dtype)
    yield x, ""
    n, rest = len(x), tuple(x.shape[1:])
    d = math.prod(rest)
    shapes: list[tuple[int, ...]] = []
    if batch.image is not None and rest != batch.image:
        shapes.append(batch.image)
    if len(rest) == 2:
        shapes.append((1, *rest))
    side = math.isqrt(d)
    if side * side == d and side > 1:
        shapes.append((1, side, side))
    if d % 3 == 0 and math.isqrt(d // 3) ** 2 * 3 == d and d > 3:
        shapes.append((3, math.isqrt(d // 3), math.isqrt(d // 3)))
    shapes += [(d,), (1, d), (d, 1)]
    for shape in dict.fromkeys(s for s in shapes if s != rest):
        words = " x ".join(str(k) for k in shape)
        yield x.reshape(n, *shape), f"each sample given to the model as {words}"


def _try(model: torch.nn.Module, inputs: Any) -> Exception | None:
    with _undisturbed(model), torch.no_grad():
        try:
            call = example((inputs, None), model)
            if isinstance(inputs, torch.Tensor) and len(inputs) > 2:
                few = call.map(lambda t: t[:2])
                try:
                    model(*few.args, **few.kwargs)
                    return None
                except Exception:  # an exported program may insist on its own batch size
                    pass
            model(*call.args, **call.kwargs)
        except Exception as error:  # whatever a user's forward may raise
            return error
    return None


@contextmanager
def _undisturbed(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode inside; flags, buffers and random numbers as before afterwards."""
    flags = [(module, module.training) for module in model.modules()]
    devices = {p.device for p in model.parameters() if p.device.type == "cuda"}
    with torch.random.fork_rng(devices=list(devices)):
        try:
            for module, _ in flags:
                module.training = False
            yield
        finally:
            for module, training in flags:
                module.training = training


def _first_leaf(model: torch.nn.Module, kinds: Any) -> bool:
    """Whether the first module with a weight is of one of these kinds."""
    # bare parameters met on the way (position table, class token) say nothing
    for module in model.modules():
        if isinstance(module, (torch.nn.Embedding, *_REAL)):
            return isinstance(module, kinds)
    return False


def _explain(model: torch.nn.Module, batch: Batch, failure: Exception) -> Exception:
    lines = str(failure).strip().splitlines() or ["no message"]
    said = f"{type(failure).__name__}: {lines[0][:200]}"
    if isinstance(failure, (AttributeError, NameError, ImportError, KeyError, ZeroDivisionError)):
        return AnalysisError(f"The model fails when it is run: {said}", "Fix its forward method.")
    x = batch.inputs
    shape = f"of shape {tuple(x.shape)}" if isinstance(x, torch.Tensor) else "given"
    return DataError(
        f"The model does not take the inputs {shape} from {batch.name!r} ({said}).",
        _wants(model, x),
    )


def _wants(model: torch.nn.Module, x: Any) -> str:
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Embedding):
            top = f" and the data goes up to {int(x.max())}" if isinstance(x, torch.Tensor) else ""
            return (
                f"Its first layer {name!r} is an embedding of {module.num_embeddings} tokens{top}; "
                "give integers below that, shape (samples, length), e.g. --data text."
            )
        if isinstance(module, torch.nn.Linear):
            return (
                f"Its first layer {name!r} wants {module.in_features} features: give data of shape "
                f"(samples, {module.in_features})."
            )
        if isinstance(module, torch.nn.modules.conv._ConvNd):
            axes = ", ".join(
                ["length", "height, width", "depth, height, width"][
                    len(module.kernel_size) - 1 : len(module.kernel_size)
                ]
            )
            return (
                f"Its first layer {name!r} wants {module.in_channels} channel(s): give data of "
                f"shape (samples, {module.in_channels}, {axes})."
            )
    return "Give data of the shape its forward method wants."


def _dtype(x: torch.Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
