"""What the user hands over as a batch, sorted into a model's call and targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import DataError, UsageError
from kadanoff.program.records import Task
from kadanoff.trace.hf import map_tensors, tensors_in

__all__ = ["task"]


def task(
    batch: Any,
    targets: Any,
    loss: Callable[..., Tensor] | None,
    probes: int,
    device: torch.device,
    dtype: torch.dtype,
) -> Task:
    """A batch as a :class:`~kadanoff.program.records.Task`.

    Parameters
    ----------
    batch : tensor, array, mapping (keyword arguments), or (inputs, targets)
    targets : optional
        If they are not in ``batch``.
    loss : callable, optional
    probes : int
    device, dtype
        Where to, and to what type floating inputs are cast.

    Raises
    ------
    DataError
        No tensor, an empty one, or numbers that are not finite.
    """
    if isinstance(batch, (tuple, list)) and len(batch) == 2 and targets is None:
        batch, targets = batch
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(batch, Mapping):
        kwargs = dict(batch)
    elif isinstance(batch, (tuple, list)):
        args = tuple(batch)
    else:
        try:
            args = (batch if isinstance(batch, Tensor) else torch.as_tensor(batch),)
        except Exception as error:
            raise DataError(
                f"The batch is a {type(batch).__name__}, which is no tensor ({error}).",
                "Pass a tensor, (inputs, targets), or a mapping of keyword arguments.",
            ) from None
    if not isinstance(probes, int) or probes < 0:
        raise UsageError(f"probes must be a whole number >= 0, got {probes!r}.")
    tensors = list(tensors_in((args, kwargs)))
    if not tensors:
        raise DataError(f"The batch ({type(batch).__name__}) holds no tensor.")
    for t in tensors:
        if not t.numel() or t.ndim == 0:
            raise DataError(f"The batch holds a tensor of shape {tuple(t.shape)}.")
        if t.is_meta:
            raise DataError("The batch is on the meta device: its numbers are needed.")
        if t.is_floating_point() and not bool(torch.isfinite(t).all()):
            raise DataError("The batch holds NaN or infinite values.", "Remove them first.")

    def place(t: Tensor) -> Tensor:
        t = t.detach()
        return t.to(device, dtype) if t.is_floating_point() else t.to(device)

    return Task(
        map_tensors(place, args),
        map_tensors(place, kwargs),
        None if targets is None else map_tensors(lambda t: t.to(device), _tensor(targets)),
        loss,
        probes,
        tensors[0].shape[0],
    )


def _tensor(targets: Any) -> Any:
    if isinstance(targets, (Tensor, Mapping, tuple)):
        return targets
    return torch.as_tensor(targets)
