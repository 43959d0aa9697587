"""Results as plain trees and arrays, and back.

Everything that is no JSON value becomes an object with one key that begins with ``$``::

    {"$array": "a0", "of": "torch"}            a tensor; its numbers are kept under "a0"
    {"$tuple": [...]}, {"$items": [[k, v]]}    tuples, dicts with keys that are no strings
    {"$float": "nan"}                          what JSON cannot write
    {"$class": "kadanoff.rgflow.run:Flow", "fields": {...}}

Only dataclasses of this package are made again, from their fields: reading a file runs no code
that the file brings.
"""

from __future__ import annotations

import dataclasses
import importlib
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kadanoff.errors import StorageError, UsageError

__all__ = ["decode", "encode", "teach"]

_PACKAGE = "kadanoff"
Decoder = Callable[[Any, Mapping[str, Any]], Any]

# types that are not made again from their fields: how to write and how to read them
_encoders: dict[type, Callable[[Any], Any]] = {}
_decoders: dict[str, Decoder] = {}


def teach(kind: type, write: Callable[[Any], Any], read: Decoder) -> None:
    """Write and read instances of ``kind`` in a way of their own.

    Parameters
    ----------
    kind : type
    write : callable
        ``instance -> plain tree``.
    read : callable
        ``(plain tree, given) -> instance``, ``given`` being what the caller of ``load`` passes for
        what no file can hold.
    """
    _encoders[kind] = write
    _decoders[_tag(kind)] = read


def encode(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    """``value`` as a tree of JSON values; the numbers of tensors are put into ``arrays``.

    Parameters
    ----------
    value : object
        A result: dataclasses of this package, tensors, arrays, numbers, strings and containers.
    arrays : dict
        Filled with one array a tensor, under the names that the tree refers to.

    Raises
    ------
    UsageError
        Something in it cannot be kept; the message names it.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": repr(value)}
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        return _array(value, arrays)
    if isinstance(value, list):
        return [encode(item, arrays) for item in value]
    if isinstance(value, tuple):
        return {"$tuple": [encode(item, arrays) for item in value]}
    kind = type(value)
    if isinstance(value, Mapping) and not dataclasses.is_dataclass(value):
        return _mapping(value, arrays)
    if kind in _encoders:
        return {"$class": _tag(kind), "made": encode(_encoders[kind](value), arrays)}
    if dataclasses.is_dataclass(value) and kind.__module__.split(".")[0] == _PACKAGE:
        fields = {
            field.name: encode(getattr(value, field.name), arrays)
            for field in dataclasses.fields(value)
            if field.init
        }
        return {"$class": _tag(kind), "fields": fields}
    raise UsageError(
        f"A {kind.__name__} cannot be kept in a file: {str(value)[:80]}.",
        "Results hold tensors, numbers, strings and containers of these.",
    )


def decode(tree: Any, arrays: Mapping[str, np.ndarray], given: Mapping[str, Any]) -> Any:
    """What :func:`encode` wrote.

    Parameters
    ----------
    tree : JSON value
    arrays : mapping of str to array
    given : mapping of str to object
        What no file can hold, by name: activations that are no function of a module.

    Raises
    ------
    StorageError
        The tree is damaged, or of another version.
    """
    if isinstance(tree, list):
        return [decode(item, arrays, given) for item in tree]
    if not isinstance(tree, dict):
        return tree
    tag = next((key for key in tree if key.startswith("$")), None)
    if tag is None:
        return {key: decode(item, arrays, given) for key, item in tree.items()}
    if tag == "$float":
        return float(tree[tag])
    if tag == "$tuple":
        return tuple(decode(item, arrays, given) for item in tree[tag])
    if tag == "$items":
        return {decode(k, arrays, given): decode(v, arrays, given) for k, v in tree[tag]}
    if tag == "$array":
        # a copy, since the arrays of a file are read-only
        array = np.array(arrays[tree[tag]])
        if tree["of"] == "numpy":
            return array
        return torch.from_numpy(array).to(getattr(torch, tree["of"]))
    if tag == "$class":
        return _instance(tree, arrays, given)
    raise StorageError(f"This file holds {tag!r}, which this version of Kadanoff does not know.")


def _array(value: Tensor | np.ndarray | np.generic, arrays: dict[str, np.ndarray]) -> Any:
    name = f"a{len(arrays)}"
    if not isinstance(value, Tensor):
        arrays[name] = np.asarray(value)
        return {"$array": name, "of": "numpy"}
    numbers = value.detach().cpu()
    if numbers.is_sparse:
        numbers = numbers.to_dense()
    # numpy has no bfloat16
    kept = numbers.float() if numbers.dtype == torch.bfloat16 else numbers
    arrays[name] = kept.numpy()
    return {"$array": name, "of": str(numbers.dtype).removeprefix("torch.")}


def _mapping(value: Mapping[Any, Any], arrays: dict[str, np.ndarray]) -> Any:
    plain = all(isinstance(key, str) and not key.startswith("$") for key in value)
    if plain:
        return {key: encode(item, arrays) for key, item in value.items()}
    return {"$items": [[encode(k, arrays), encode(v, arrays)] for k, v in value.items()]}


def _instance(
    tree: dict[str, Any], arrays: Mapping[str, np.ndarray], given: Mapping[str, Any]
) -> Any:
    module, _, name = str(tree["$class"]).partition(":")
    if module.split(".")[0] != _PACKAGE:
        raise StorageError(f"This file asks for {module}:{name}, which is not of this package.")
    try:
        kind: Any = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        raise StorageError(
            f"This file holds a {name} of {module}, which this version of Kadanoff does not have.",
            "Read it with the version that wrote it, which the file names.",
        ) from None
    if "made" in tree:
        return _decoders[tree["$class"]](decode(tree["made"], arrays, given), given)
    if not dataclasses.is_dataclass(kind):
        raise StorageError(f"This file asks for {module}:{name}, which is no result.")
    fields = {key: decode(item, arrays, given) for key, item in tree["fields"].items()}
    make: Any = kind
    try:
        return make(**fields)
    except TypeError as error:
        raise StorageError(
            f"This file's {name} does not fit this version of Kadanoff: {error}.",
            "Read it with the version that wrote it, which the file names.",
        ) from None


def _tag(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"
