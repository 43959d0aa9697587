"""What of a training loop can be seen from outside it.

Backward passes are heard by standing in for :func:`torch.autograd.backward`, which every
``loss.backward()`` ends in; steps by the hooks that torch offers for all optimisers. Both are taken
off when the last listener goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.autograd
from torch import Tensor

__all__ = ["backward_passes", "looking", "looks", "optimizer_steps"]

Before = Callable[[Any], Any]
After = Callable[[Any], None]


class _Ear:
    """Tells listeners of each outermost backward pass: as it begins, and once it is done."""

    def __init__(self) -> None:
        self.listeners: list[tuple[Before, After]] = []
        self.plain: Callable[..., Any] | None = None
        self.inside = False

    def __call__(self, tensors: Any, *args: Any, **kwargs: Any) -> Any:
        assert self.plain is not None
        if self.inside:  # a checkpoint computes again inside the backward pass
            return self.plain(tensors, *args, **kwargs)
        self.inside = True
        try:
            # what the graph has saved is gone once the pass is done
            heard = [(after, before(tensors)) for before, after in self.listeners]
            result = self.plain(tensors, *args, **kwargs)
        finally:
            self.inside = False
        for after, found in heard:
            after(found)
        return result

    def add(self, listener: tuple[Before, After]) -> None:
        if not self.listeners:
            self.plain = torch.autograd.backward
            torch.autograd.backward = self
        self.listeners.append(listener)

    def remove(self, listener: tuple[Before, After]) -> None:
        self.listeners.remove(listener)
        if not self.listeners and torch.autograd.backward is self:
            torch.autograd.backward = self.plain  # pyright: ignore[reportAttributeAccessIssue]


_EAR = _Ear()
_LOOKING = [0]


@contextmanager
def looking() -> Iterator[None]:
    """While a model is looked at: no watch takes this for training."""
    _LOOKING[0] += 1
    try:
        yield
    finally:
        _LOOKING[0] -= 1


def looks() -> bool:
    """Whether some watch is looking at a model just now."""
    return _LOOKING[0] > 0


def backward_passes(
    before: Callable[[Tensor], Any], after: Callable[[Any], None]
) -> Callable[[], None]:
    """Hear the loss of each ``loss.backward()``.

    Parameters
    ----------
    before : callable
        ``before(loss)`` as the pass begins; the loss has one element and its graph.
    after : callable
        ``after(what before returned)`` when the gradients are there.

    Returns
    -------
    callable
        Stops it.
    """

    def begins(tensors: Any) -> tuple[Any] | None:
        if isinstance(tensors, (tuple, list)) and len(tensors) == 1:
            tensors = tensors[0]
        if looks() or not isinstance(tensors, Tensor) or tensors.numel() != 1:
            return None
        return (before(tensors),)

    def done(found: tuple[Any] | None) -> None:
        if found is not None:
            after(found[0])

    listener = (begins, done)
    _EAR.add(listener)
    return lambda: _EAR.remove(listener)


def optimizer_steps(
    before: Callable[[Any], None], after: Callable[[Any], None]
) -> Callable[[], None]:
    """Hear of each step of any optimiser of torch.

    Parameters
    ----------
    before, after : callable
        ``f(optimizer)``.

    Returns
    -------
    callable
        Stops it.
    """
    from torch.optim.optimizer import (
        register_optimizer_step_post_hook,
        register_optimizer_step_pre_hook,
    )

    def pre(optimizer: Any, _args: Any, _kwargs: Any) -> None:
        if not looks():
            before(optimizer)

    def post(optimizer: Any, _args: Any, _kwargs: Any) -> None:
        if not looks():
            after(optimizer)

    handles = [register_optimizer_step_pre_hook(pre), register_optimizer_step_post_hook(post)]

    def stop() -> None:
        for handle in handles:
            handle.remove()

    return stop
