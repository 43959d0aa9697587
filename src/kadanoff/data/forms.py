"""What a user hands over as data, brought to one form: how the model is called, and the targets."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.errors import DataError, KadanoffError
from kadanoff.trace.hf import map_tensors, tensors_in

__all__ = ["Example", "as_tensor", "device_of", "example", "examples"]


@dataclass(frozen=True)
class Example:
    """One call of a model: positional and keyword arguments, and the targets if there are any."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    targets: Any = None

    @property
    def tensors(self) -> list[Tensor]:
        """All input tensors, in order."""
        return list(tensors_in((self.args, self.kwargs)))

    def map(self, function: Any) -> Example:
        """The same call with ``function`` applied to each input tensor."""
        args, kwargs = map_tensors(function, self.args), map_tensors(function, self.kwargs)
        return replace(self, args=args, kwargs=kwargs)

    def without_labels(self, model: nn.Module | None = None) -> Example:
        """The same call with a keyword ``labels`` made the targets, if the model can do without."""
        parameter = (_parameters(model) or {}).get("labels")
        if "labels" not in self.kwargs or _insists(parameter):
            return self
        kwargs = {name: value for name, value in self.kwargs.items() if name != "labels"}
        targets = self.kwargs["labels"] if self.targets is None else self.targets
        return Example(self.args, kwargs, targets)

    def run(self, model: nn.Module) -> Any:
        """Call the model, on the device its parameters are on.

        Raises
        ------
        DataError
            The model fails on these inputs.
        """
        device = device_of(model)
        here = self.map(lambda t: t.to(device))
        try:
            return model(*here.args, **here.kwargs)
        except (RuntimeError, TypeError, IndexError, ValueError) as error:
            if isinstance(error, KadanoffError):
                raise
            shapes = ", ".join(f"{tuple(t.shape)} {t.dtype}" for t in here.tensors)
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise DataError(
                f"The model cannot take the data ({shapes}): {first}.",
                "Pass data as the model is called with.",
            ) from error


def device_of(model: nn.Module) -> torch.device:
    """Device of the model's first parameter (cpu if it has none)."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def example(data: Any, model: nn.Module | None = None, targets: Any = None) -> Example:
    """Read one batch.

    Parameters
    ----------
    data
        A tensor or array; a pair (inputs, targets); a mapping, which becomes keyword arguments, or
        one argument where the model's ``forward`` takes a single one of another name; a tuple of
        arguments where it takes several; an object with ``inputs`` and ``targets``; or an
        iterable of these, of which the first is taken. A single input is given by name where
        ``forward`` takes keywords alone.
    model : nn.Module, optional
        Who is to be called.
    targets : optional
        Targets, if not in ``data``.

    Raises
    ------
    DataError
        Nothing in it, or something of another kind.
    """
    if isinstance(data, Example):
        return data if targets is None else replace(data, targets=as_tensor(targets))
    if hasattr(data, "inputs") and hasattr(data, "targets") and not isinstance(data, Mapping):
        return _of(data.inputs, model, data.targets if targets is None else targets)
    if targets is None and _is_pair(data, model):
        return _of(data[0], model, data[1])
    return _of(data, model, targets)


def examples(data: Any, model: nn.Module | None = None, limit: int | None = None) -> list[Example]:
    """Read one batch or several.

    Parameters
    ----------
    data, model
        As in :func:`example`; every batch of an iterable is taken.
    limit : int, optional
        Read at most so many.

    Raises
    ------
    DataError
        Nothing in it, or something of another kind.
    """
    found = []
    for item in _batches(data, model):
        found.append(example(item, model))
        if limit is not None and len(found) >= limit:
            break
    if not found:
        raise DataError("The data hold no example.", "Pass at least one batch of inputs.")
    return found


def _batches(data: Any, model: nn.Module | None) -> Iterable[Any]:
    if isinstance(data, (Mapping, Example)) or _is_array(data) or hasattr(data, "inputs"):
        return [data]
    if isinstance(data, (tuple, list)) and _is_pair(data, model) and not _alike(*data):
        return [data]
    if isinstance(data, tuple) and data and all(map(_is_array, data)) and _required(model) > 1:
        return [data]
    if isinstance(data, Iterable) and not isinstance(data, (str, bytes)):
        return data
    raise _unknown(data)


def _alike(a: Any, b: Any) -> bool:
    """Whether two tensors look like two batches of inputs rather than inputs and targets."""
    return (
        isinstance(a, Tensor)
        and isinstance(b, Tensor)
        and a.dtype == b.dtype
        and a.ndim > 1
        and a.shape[1:] == b.shape[1:]
    )


def _of(inputs: Any, model: nn.Module | None, targets: Any) -> Example:
    """Read inputs whose targets, if any, are known to be apart."""
    if _is_array(inputs):
        name = _only_keyword(model)
        if name is not None:
            return Example((), {name: as_tensor(inputs)}, as_tensor(targets))
        return Example((as_tensor(inputs),), {}, as_tensor(targets))
    if isinstance(inputs, Mapping):
        names = {str(name): as_tensor(value) for name, value in inputs.items()}
        if _one_argument(model, names):
            return Example((names,), {}, as_tensor(targets))
        return Example((), names, as_tensor(targets))
    if isinstance(inputs, (tuple, list)) and inputs:
        found = _of_several(inputs, model, targets)
        if found is not None:
            return found
    if isinstance(inputs, Iterable) and not isinstance(inputs, (str, bytes)):
        first = next(iter(inputs), None)
        if first is None:
            raise DataError("The data yields no batch.", "Pass at least one batch.")
        if not isinstance(first, (str, bytes)):
            return example(first, model, targets)
    raise _unknown(inputs)


def _of_several(
    inputs: tuple[Any, ...] | list[Any], model: nn.Module | None, targets: Any
) -> Example | None:
    """A list of samples, several arguments, or nested numbers; None if it is none of these."""
    if isinstance(inputs, list) and _ragged(inputs) and _required(model) == 1:
        return Example(([as_tensor(x) for x in inputs],), {}, as_tensor(targets))
    if all(_is_array(x) or isinstance(x, Mapping) for x in inputs):
        return Example(tuple(as_tensor(x) for x in inputs), {}, as_tensor(targets))
    try:
        return Example((torch.as_tensor(inputs),), {}, as_tensor(targets))
    except (ValueError, TypeError, RuntimeError):
        return None


def _ragged(inputs: list[Any]) -> bool:
    """Whether it is a list of samples, such as sequences of several lengths."""
    return len(inputs) > 1 and all(map(_is_array, inputs))


def _unknown(data: Any) -> DataError:
    return DataError(
        f"The data is a {type(data).__name__}, which holds no tensor.",
        "Pass a tensor, (inputs, targets), a dict of tensors, or an iterable of these.",
    )


def _is_array(value: Any) -> bool:
    return isinstance(value, Tensor) or hasattr(value, "__array__")


def _is_pair(data: Any, model: nn.Module | None) -> bool:
    if not isinstance(data, (tuple, list)) or len(data) != 2 or hasattr(data, "_fields"):
        return False
    if all(isinstance(part, (tuple, list)) and len(part) == 2 for part in data):
        return False  # two batches, each a pair
    return not (all(map(_is_array, data)) and _required(model) > 1)


def _parameters(model: nn.Module | None) -> dict[str, inspect.Parameter] | None:
    """Those of ``forward``; None where they cannot be told or anything is taken."""
    if model is None:
        return None
    try:
        found = dict(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):
        return None
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return None if any(p.kind in variadic for p in found.values()) else found


def _insists(parameter: inspect.Parameter | None) -> bool:
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return (
        parameter is not None
        and parameter.kind in positional
        and parameter.default is inspect.Parameter.empty
    )


def _required(model: nn.Module | None) -> int:
    """How many positional arguments ``forward`` insists on (0 where that cannot be told)."""
    return sum(map(_insists, (_parameters(model) or {}).values()))


def _only_keyword(model: nn.Module | None) -> str | None:
    """The name under which ``forward`` wants its input, if it takes none by position."""
    found = list((_parameters(model) or {}).values())
    if not found or any(p.kind is not inspect.Parameter.KEYWORD_ONLY for p in found):
        return None
    needed = [p.name for p in found if p.default is inspect.Parameter.empty]
    return needed[0] if len(needed) == 1 else None


def _one_argument(model: nn.Module | None, names: Mapping[str, Any]) -> bool:
    """Whether ``forward`` wants the mapping itself: one argument, not named like an entry."""
    parameters = _parameters(model)
    return parameters is not None and _required(model) == 1 and not set(names) & set(parameters)


def as_tensor(value: Any) -> Any:
    """A tensor of an array or of nested lists; anything else as it is."""
    if isinstance(value, (Tensor, Mapping, str, bool, int, float)) or value is None:
        return value
    if hasattr(value, "__array__") or isinstance(value, (list, tuple)):
        try:
            return torch.as_tensor(value)
        except (ValueError, TypeError, RuntimeError):
            return value
    return value
