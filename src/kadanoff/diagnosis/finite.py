"""Where NaN and infinity come from: the first operation that makes one, and on which sample."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.trace.hf import tensors_in
from kadanoff.trace.recorder import FunctionCall, Observer, Recorder

__all__ = ["Origin", "all_finite", "backward_origin", "forward_origin", "rows_not_finite"]

# where minus infinity is meant: masks
_MASKS = {
    "masked_fill",
    "where",
    "full",
    "full_like",
    "new_full",
    "triu",
    "tril",
    "fill",
    "tensor",
    "zeros",
    "clone",
    "to",
    "expand",
    "view",
    "reshape",
    "getitem",
    "setitem",
    "unsqueeze",
    "float",
    "type",
    "cat",
    "stack",
    "get",
    "broadcast_to",
    "repeat",
}


@dataclass(frozen=True)
class Origin:
    """The first operation whose result is not finite.

    Attributes
    ----------
    what : str
        ``"nan"`` or ``"inf"``.
    op, path : str
        Operation, and module that called it (``""``: outside every module, in the loss).
    samples : tuple of int
        Rows of the batch concerned, if they can be told.
    backward : bool
        Whether it is a gradient.
    masked : bool
        Whether a softmax met a row of nothing but minus infinity.
    size : float
        Largest finite magnitude among the operands.
    in_loss : bool
    """

    what: str
    op: str
    path: str
    samples: tuple[int, ...] = ()
    backward: bool = False
    masked: bool = False
    size: float = math.nan
    in_loss: bool = False


def all_finite(value: Any) -> bool:
    """Whether every floating tensor in it is finite."""
    for tensor in tensors_in(value):
        if tensor.is_floating_point() and tensor.numel():
            t = tensor.detach()
            if not bool(torch.isfinite(t.sum())) and not bool(torch.isfinite(t).all()):
                return False
    return True


def rows_not_finite(tensor: Tensor) -> list[int]:
    """Rows along the first axis that hold NaN or infinity."""
    if not tensor.is_floating_point() or not tensor.ndim:
        return []
    bad = ~torch.isfinite(tensor.detach())
    return (
        bad.flatten(1).any(1).nonzero().flatten().tolist()
        if bad.ndim > 1
        else (bad.nonzero().flatten().tolist())
    )


class _Watch(Observer):
    """Stops looking at the first NaN; remembers the first infinity that is no mask."""

    def __init__(self, samples: int) -> None:
        self.nan: Origin | None = None
        self.inf: Origin | None = None
        self.samples = samples
        self.in_loss = False
        self.path = ""

    def after(self, call: FunctionCall, output: Any) -> None:
        """Look at one result."""
        if self.nan is None:
            self.path = call.path
            with torch.no_grad():
                self._look(call.name, call.args, call.kwargs, output)

    def _look(self, name: str, args: tuple, kwargs: dict, output: Any) -> None:
        for tensor in tensors_in(output):
            if not tensor.is_floating_point() or not tensor.numel() or tensor.is_meta:
                continue
            bad = ~torch.isfinite(tensor)
            if not bool(bad.any()):
                continue
            nan = bool(torch.isnan(tensor).any())
            if not nan and (self.inf is not None or name in _MASKS):
                continue
            found = self._origin(name, (args, kwargs), tensor, nan)
            if nan:
                self.nan = found
            else:
                self.inf = found
            return

    def _origin(self, name: str, given: Any, tensor: Tensor, nan: bool) -> Origin:
        rows = rows_not_finite(tensor) if tensor.ndim and len(tensor) == self.samples else []
        masked, size = False, 0.0
        for t in tensors_in(given):
            if t.is_floating_point() and t.numel():
                kept = t[torch.isfinite(t)]
                size = max(size, float(kept.abs().max()) if kept.numel() else 0.0)
                if "softmax" in name or "attention" in name:
                    masked = masked or bool((t == -math.inf).all(-1).any() if t.ndim > 1 else False)
                    masked = masked or bool(t.dtype == torch.bool)
            elif t.dtype == torch.bool and "attention" in name:
                masked = masked or bool((~t).all(-1).any())
        return Origin(
            "nan" if nan else "inf", name, self.path, tuple(rows), False, masked, size, self.in_loss
        )


def forward_origin(
    model: nn.Module,
    samples: int,
    forward: Callable[[], Any],
    loss: Callable[[Any], Any] | None = None,
) -> Origin | None:
    """Run the model again and find the operation that makes the first NaN or infinity.

    Parameters
    ----------
    model : nn.Module
    samples : int
        In the batch: what axis counts them.
    forward : callable
        Runs the model.
    loss : callable, optional
        From its output.
    """
    watch = _Watch(samples)
    with Recorder(model, watch):
        output = forward()
        if loss is not None:
            watch.in_loss = True
            loss(output)
    return _first(watch.nan, watch.inf)


def _first(nan: Origin | None, inf: Origin | None) -> Origin | None:
    """An infinity comes first; but one that a sum or a factor makes is as a rule a mask."""
    if inf is not None and (nan is None or inf.op not in ("add", "sub", "rsub", "mul")):
        return inf
    return nan


def backward_origin(forward: Callable[[], Tensor], calls: list[Any], loss: Tensor) -> Origin:
    """Where a gradient becomes NaN although the loss is finite.

    Parameters
    ----------
    forward : callable
        Runs model and loss once more and returns the loss.
    calls : list of Call
        Recorded calls with their edges, in the order of the forward pass.
    loss : Tensor
        Still attached to the graph of ``calls``.
    """
    op = ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with torch.autograd.detect_anomaly(check_nan=True):
                forward().backward()
        except RuntimeError as error:
            match = re.search(r"Function '(\w+?)(?:Backward\d*)?' returned nan", str(error))
            op = match.group(1).lower() if match else ""
    edges = [(call, call.edge) for call in calls if call.edge is not None]
    path, rows = "", []
    if edges:
        grads = torch.autograd.grad(
            loss, [edge for _, edge in edges], retain_graph=True, allow_unused=True
        )
        for (call, _), grad in zip(edges, grads):
            if grad is not None and not bool(torch.isfinite(grad).all()):
                path, rows = call.path, rows_not_finite(grad)
    return Origin("nan" if op else "inf", op or "backward", path, tuple(rows), True)
