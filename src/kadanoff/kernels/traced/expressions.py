"""What a traced model computed, call by call, so that it can be computed again on other numbers.

A model is traced on a batch of a prime number of samples that divides none of its sizes. Numbers
divisible by it in the arguments of shape functions therefore stem from the batch, and are put
right when the calls are repeated on another number of samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

__all__ = ["BATCHES", "Expression", "batch_for", "parts_of", "replay"]

BATCHES = (3, 5, 7, 11, 13, 17, 19, 23)
# arguments of these may hold the size of the batch
_SHAPED = {
    "view",
    "reshape",
    "expand",
    "repeat",
    "unflatten",
    "zeros",
    "ones",
    "full",
    "empty",
    "rand",
    "randn",
    "arange",
    "new_zeros",
    "new_ones",
    "new_full",
    "new_empty",
    "broadcast_to",
    "tile",
    "split",
    "repeat_interleave",
    "as_strided",
    "narrow",
    "range",
    "linspace",
}


@dataclass(eq=False)
class Expression:
    """One call, or a leaf: data, samples of a kernel's node, or a parameter.

    Attributes
    ----------
    func : callable or None
        None for a leaf.
    name : str
        Canonical name of the function.
    args, kwargs
        Of the call, with an Expression for each tensor that is not the same at every call.
    leaf : object
        What a leaf stands for.
    """

    func: Callable[..., Any] | None = None
    name: str = ""
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    leaf: Any = None

    def leaves(self) -> list[Expression]:
        """The leaves it depends on, each once."""
        found: dict[int, Expression] = {}
        seen: set[int] = set()
        stack = [self]
        while stack:
            here = stack.pop()
            if id(here) in seen:
                continue
            seen.add(id(here))
            if here.func is None:
                found[id(here)] = here
            stack += parts_of((here.args, here.kwargs))
        return list(found.values())


def parts_of(item: Any) -> list[Expression]:
    """Expressions in nested arguments."""
    if isinstance(item, Expression):
        return [item]
    if isinstance(item, Mapping):
        return parts_of(list(item.values()))
    if isinstance(item, (list, tuple)):
        return [part for one in item for part in parts_of(one)]
    return []


def batch_for(sizes: Iterable[int]) -> int:
    """A number of samples that divides none of the sizes, so that it is told apart from them."""
    known = {int(size) for size in sizes if size > 0}
    for count in BATCHES:
        if not any(size % count == 0 for size in known):
            return count
    return 29


def replay(root: Expression, values: Callable[[Expression], Any], batch: int, traced: int) -> Any:
    """The value of an expression on ``batch`` samples.

    Parameters
    ----------
    root : Expression
    values : callable
        The value of each leaf.
    batch, traced : int
        Samples now, and in the trace.
    """
    known: dict[int, Any] = {}
    stack = [root]
    while stack:
        here = stack[-1]
        if id(here) in known:
            stack.pop()
            continue
        if here.func is None:
            known[id(here)] = values(here)
            stack.pop()
            continue
        waiting = [p for p in parts_of((here.args, here.kwargs)) if id(p) not in known]
        if waiting:
            stack += waiting
            continue
        known[id(here)] = _call(here, known, batch, traced)
        stack.pop()
    return known[id(root)]


def _call(here: Expression, known: dict[int, Any], batch: int, traced: int) -> Any:
    shaped = here.name in _SHAPED

    def put(item: Any) -> Any:
        if isinstance(item, Expression):
            return known[id(item)]
        if isinstance(item, (list, tuple)):
            items = [put(one) for one in item]
            return tuple(items) if isinstance(item, tuple) else items
        if isinstance(item, dict):
            return {key: put(one) for key, one in item.items()}
        if shaped and type(item) is int and item and item % traced == 0:
            return item // traced * batch
        return item

    args, kwargs = put(here.args), put(here.kwargs)
    assert here.func is not None
    raw = getattr(here.func, "__name__", "")
    in_place = raw.endswith("_") and not raw.endswith("__")
    if (in_place or raw == "__setitem__") and args and isinstance(args[0], Tensor):
        args = (args[0].clone(), *args[1:])
    found = here.func(*args, **kwargs)
    return args[0] if raw == "__setitem__" else found


def pick(found: Any, index: int) -> Any:
    """One of several results."""
    return found[index]


def constant(value: Tensor) -> Tensor:
    """A tensor that is the same at every call, on which one may write."""
    return torch.as_tensor(value).clone()
