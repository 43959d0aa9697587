"""The one type every loader returns, and the checks every dataset goes through."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from kadanoff.errors import DataError

__all__ = ["Batch", "check_inputs", "check_targets"]


@dataclass(frozen=True)
class Batch:
    """Inputs, and targets where there are some.

    Attributes
    ----------
    inputs : Tensor, shape (N, ...), or mapping, or tuple
        A floating tensor of features, an integer tensor of tokens, or, from a callable, whatever
        the model is to be called with: a mapping becomes keyword arguments, a tuple positional
        ones.
    targets : Tensor or None
        Integer classes (N,) or next tokens (N, T), or real values (N, n_out).
    name : str
        What the user asked for.
    task : str
        ``"classification"``, ``"regression"`` or ``"none"``.
    n_classes : int or None
        Number of classes or tokens.
    image : tuple of int or None
        Shape (channels, height, width) that the features stand for.
    notes : tuple of str
        What was done to the data: standardised, reshaped, converted.
    """

    inputs: Any
    targets: torch.Tensor | None
    name: str
    task: str = "none"
    n_classes: int | None = None
    image: tuple[int, ...] | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return _count(self.inputs)

    @property
    def tokens(self) -> bool:
        """True if the inputs are integers."""
        x = self.inputs
        return isinstance(x, torch.Tensor) and not x.is_floating_point()

    def to(self, device: str | torch.device) -> Batch:
        """The same batch on another device."""
        targets = None if self.targets is None else self.targets.to(device)
        return replace(self, inputs=_map(self.inputs, lambda t: t.to(device)), targets=targets)

    def take(self, index: torch.Tensor) -> Batch:
        """The samples at ``index`` (a tensor of integers)."""
        n = len(self)

        def pick(t: torch.Tensor) -> torch.Tensor:
            return t[index.to(t.device)] if t.ndim and len(t) == n else t

        targets = None if self.targets is None else pick(self.targets)
        return replace(self, inputs=_map(self.inputs, pick), targets=targets)

    def sample(self, size: int | None, seed: int = 0) -> Batch:
        """``size`` samples drawn without replacement (all, if there are no more of them).

        Raises
        ------
        DataError
            ``size`` is not positive.
        """
        if size is None:
            return self
        if size < 1:
            raise DataError(
                f"A batch of {size} samples is empty.", "Ask for at least one (--batch 128)."
            )
        if size >= len(self):
            return self
        generator = torch.Generator().manual_seed(seed)
        return self.take(torch.randperm(len(self), generator=generator)[:size])


def _map(value: Any, function: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: _map(item, function) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return type(value)(_map(item, function) for item in value)
    return value


def _count(value: Any) -> int:
    if isinstance(value, torch.Tensor):
        return len(value) if value.ndim else 1
    items = value.values() if isinstance(value, Mapping) else value
    if isinstance(items, (str, bytes)) or not hasattr(items, "__iter__"):
        return 0
    return max((_count(item) for item in items), default=0)


def check_inputs(x: torch.Tensor, name: str) -> None:
    """Raise a :class:`DataError` for what no model can be fed: empty, complex, non-finite."""
    if x.ndim == 0:
        raise DataError(
            f"{name} holds a single number, not samples.",
            "Give an array of shape (samples, features).",
        )
    if x.numel() == 0:
        raise DataError(f"{name} is empty: its shape is {tuple(x.shape)}.", "Give some samples.")
    if x.is_complex():
        raise DataError(
            f"{name} is complex ({_dtype(x)}).",
            "Give real numbers, e.g. real and imaginary parts as separate features.",
        )
    if x.is_floating_point() and not bool(torch.isfinite(x).all()):
        bad = (~torch.isfinite(x)).nonzero()
        first = tuple(int(i) for i in bad[0])
        raise DataError(
            f"{name} has {len(bad)} value(s) that are NaN or infinite, the first at index "
            f"{first} ({float(x[first])}).",
            "Remove or impute them.",
        )


def check_targets(y: torch.Tensor, n: int, name: str) -> None:
    """Raise a :class:`DataError` if targets do not belong to ``n`` samples.

    Parameters
    ----------
    y : Tensor
    n : int
        How many samples there are.
    name : str
        What the data is called in messages.
    """
    check_inputs(y, f"The targets of {name}")
    if len(y) != n:
        raise DataError(
            f"{name} has {n} samples but {len(y)} targets.", "Give one target for each sample."
        )


def _dtype(x: torch.Tensor) -> str:
    return str(x.dtype).removeprefix("torch.")
