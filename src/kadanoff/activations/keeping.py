"""Activations in files and pickles: by their name, or by the function they were made from."""

from __future__ import annotations

import copyreg
import dataclasses
import importlib
import pickle
import sys
from collections.abc import Mapping
from typing import Any

from kadanoff.activations.base import Activation
from kadanoff.activations.library import FACTORIES, homogeneous
from kadanoff.activations.lookup import activation
from kadanoff.errors import StorageError, UsageError
from kadanoff.results.codec import teach

__all__ = ["in_file", "reduced"]


def in_file(act: Activation) -> dict[str, Any]:
    """What a file keeps of an activation: its recipe, or where its function is defined."""
    head: dict[str, Any] = {"name": act.name, "taken_from": act.taken_from}
    if act.recipe is not None:
        return head | {"recipe": act.recipe}
    if act.source is None and act.slopes is not None:
        return head | {"slopes": act.slopes}
    return head | {"function": _importable(act.source), "is": act.fingerprint().hex()}


def reduced(act: Activation) -> tuple[Any, tuple[Any, ...]]:
    """What pickle keeps of an activation.

    Raises
    ------
    pickle.PicklingError
        It was made from a lambda or an inner function.
    """
    head = in_file(act)
    if "function" not in head:
        return _again, (head,)
    try:
        if act.source is None:
            raise TypeError("made by hand")
        pickle.dumps(act.source)
    except (pickle.PicklingError, AttributeError, TypeError):
        raise pickle.PicklingError(
            f"The activation {act.name!r} is a lambda, an inner function or made by hand, which "
            "pickle cannot keep. Define it with def at the top of a module."
        ) from None
    return _from_function, (act.source, act.taken_from)


def _from_function(function: Any, taken_from: str) -> Activation:
    return dataclasses.replace(activation(function), taken_from=taken_from)


def _again(head: Mapping[str, Any]) -> Activation:
    """An activation that needs no function of the user's."""
    if "slopes" in head:
        act = homogeneous(head["name"], *head["slopes"])
    else:
        name, args, options = head["recipe"]
        act = FACTORIES[name](*args, **dict(options))
    return dataclasses.replace(act, taken_from=head["taken_from"])


def _importable(function: Any) -> str:
    """ "module:name" of a function at the top of a module, or an empty text."""
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    usable = module and name and module != "__main__" and "<" not in name
    return f"{module}:{name}" if usable else ""


def _from_file(head: Mapping[str, Any], given: Mapping[str, Any]) -> Activation:
    if "function" not in head:
        return _again(head)
    name = head["name"]
    key = name.replace(" ", "_")
    if key in given:
        act = activation(given[key])
    elif head["function"]:
        act = activation(_imported(head["function"], key))
    else:
        raise UsageError(
            f"This file holds the activation {name!r}, a function that no file can hold.",
            f"Pass it: load(file, {key}=function).",
        )
    if act.fingerprint().hex() != head["is"]:
        raise UsageError(
            f"The activation {name!r} is not the function that this file was made with.",
            f"Pass that function: load(file, {key}=function).",
        )
    if act.taken_from == head["taken_from"]:
        return act
    return dataclasses.replace(act, taken_from=head["taken_from"])


def _imported(place: str, key: str) -> Any:
    """The function, from a module that the program has already imported itself."""
    module, _, name = place.partition(":")
    # a file must not decide what code is imported
    if module not in sys.modules:
        raise UsageError(
            f"This file holds the activation {place}, whose module is not imported.",
            f"Import {module} first, or pass it: load(file, {key}=function).",
        )
    found: Any = importlib.import_module(module)
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError:
        raise StorageError(
            f"This file holds the activation {place}, which is not there any more."
        ) from None
    return found


copyreg.pickle(Activation, reduced)  # pyright: ignore[reportArgumentType]
teach(Activation, in_file, _from_file)
