"""Batches in one order, the same for every contender: reproducible, and never used up."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.data.batch import check_inputs
from kadanoff.data.forms import Example, example, examples
from kadanoff.errors import DataError, UsageError
from kadanoff.trace.hf import map_tensors, tensors_in

__all__ = ["Stream"]

# data of more samples than this, given as one batch, is taken in parts
WHOLE = 256
PART = 64
# batches of an iterable that are kept at once
KEPT = 256


class Stream:
    """What the trials train on.

    Parameters
    ----------
    data
        A batch (in any form of :func:`kadanoff.data.forms.example`); a dataset given as one
        batch of more than 256 samples, which is taken ``batch`` samples at a time; an iterable of
        batches, which begins anew when it runs out; or a function of the number of the step that
        returns a batch.
    model : nn.Module
        Who is to take them.
    batch : int, optional
        Samples at a time of a dataset; without it 64.
    seed : int
        Of the order.

    Attributes
    ----------
    distinct : int or None
        Batches that differ; None if a function makes them without end.
    """

    def __init__(
        self, data: Any, model: nn.Module, *, batch: int | None = None, seed: int = 0
    ) -> None:
        if batch is not None and batch < 1:
            raise UsageError(f"batch = {batch} holds no sample.", "Give at least 1.")
        self._model, self._seed = model, seed
        self._made: dict[int, Example] = {}
        self._function: Callable[[int], Any] | None = None
        self._whole: Example | None = None
        self._list: list[Example] = []
        self.distinct: int | None
        if _is_function(data):
            self._function, self.distinct = data, None
            self.batch(0)
            return
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)  # a loader that shuffles draws from the global generator
            # a tuple of two is inputs and targets, also where both are tokens of one shape
            pair = isinstance(data, tuple) and len(data) == 2
            self._list = [example(data, model)] if pair else examples(data, model, limit=KEPT)
        for item in self._list:
            _check(item)
        self._size = batch or PART
        samples = samples_of(self._list[0])
        large = samples is not None and samples > (self._size if batch else WHOLE)
        if len(self._list) == 1 and large and samples is not None:
            self._whole, self._samples = self._list[0], samples
            self.distinct = max(1, samples // self._size)
        else:
            self.distinct = len(self._list)

    def batch(self, step: int) -> Example:
        """The batch of a step.

        Raises
        ------
        DataError
            It is empty, NaN or infinite, or no batch at all.
        """
        if self._function is not None:
            if step not in self._made:
                if len(self._made) >= KEPT:
                    self._made.pop(next(iter(self._made)))
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(self._seed + step)
                    self._made[step] = example(self._function(step), self._model)
                _check(self._made[step])
            return self._made[step]
        if self._whole is None:
            return self._list[step % len(self._list)]
        assert self.distinct is not None
        epoch, place = divmod(step, self.distinct)
        generator = torch.Generator().manual_seed(self._seed + epoch)
        order = torch.randperm(self._samples, generator=generator)
        return part(self._whole, order[place * self._size : (place + 1) * self._size])


def _is_function(data: Any) -> bool:
    shaped = isinstance(data, (Tensor, Mapping, Example, nn.Module)) or hasattr(data, "inputs")
    return callable(data) and not shaped and not hasattr(data, "__iter__")


def _check(item: Example) -> None:
    if not item.tensors:
        raise DataError("A batch holds no tensor.", "Give a batch as the model is called with.")
    for tensor in item.tensors:
        check_inputs(tensor, "The sample")
    for tensor in tensors_in(item.targets):
        check_inputs(tensor.reshape(1) if tensor.ndim == 0 else tensor, "The targets")


def samples_of(item: Example) -> int | None:
    """Number of samples, where all tensors agree on it."""
    tensors = [*item.tensors, *tensors_in(item.targets)]
    sizes = {t.shape[0] if t.ndim else 0 for t in tensors}
    return sizes.pop() if len(sizes) == 1 else None


def part(item: Example, rows: Tensor) -> Example:
    """Some samples of a batch."""

    def pick(t: Tensor) -> Tensor:
        return t[rows.to(t.device)]

    taken = item.map(pick)
    return Example(taken.args, taken.kwargs, map_tensors(pick, item.targets))
