"""Autograd functions of the user's own, which no function mode sees.

``MyFunction.apply(x, weight)`` hands the parameter to code that may do anything with it. While a
network runs, parameters among its arguments are replaced by numbers, drawn at that moment.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from kadanoff.program.mode import Network

__all__ = ["entered", "left"]

_lock = threading.Lock()
_running = threading.local()
_count = 0
_own: Any = None


def _apply(cls: type, *args: Any, **kwargs: Any) -> Any:
    stack: list[Network] = getattr(_running, "stack", [])
    if stack:
        why = f"used in the autograd function {cls.__name__}"
        args = stack[-1].numbers(args, why)
        kwargs = stack[-1].numbers(kwargs, why)
    return _own.__func__(cls, *args, **kwargs)


def entered(network: Network) -> None:
    """``network`` runs in this thread from now on."""
    global _count, _own
    with _lock:
        if _count == 0:
            _own = torch.autograd.Function.__dict__["apply"]
            torch.autograd.Function.apply = classmethod(_apply)  # pyright: ignore
        _count += 1
    if not hasattr(_running, "stack"):
        _running.stack = []
    _running.stack.append(network)


def left() -> None:
    """The network that was entered last in this thread has ended."""
    global _count
    _running.stack.pop()
    with _lock:
        _count -= 1
        if _count == 0:
            torch.autograd.Function.apply = _own  # pyright: ignore
