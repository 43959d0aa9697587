"""Parameters as kernels see them: a law, and a learning rate."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Law", "Parameter"]


class Law(Protocol):
    """What kernels ask of :class:`kadanoff.program.Law`."""

    @property
    def mean(self) -> float: ...
    @property
    def std(self) -> float: ...
    @property
    def kind(self) -> Any: ...
    @property
    def value(self) -> Tensor | None: ...
    @property
    def zero_rows(self) -> tuple[int, ...]: ...
    @property
    def random(self) -> bool: ...
    def sample(
        self,
        shape: Any,
        generator: torch.Generator,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """One parameter of this law.

        Parameters
        ----------
        shape : tuple of int
        generator : torch.Generator
        device, dtype
            Of the numbers.
        """
        ...


@dataclass(frozen=True, eq=False)
class Parameter:
    """One parameter.

    Attributes
    ----------
    name : str
    shape : torch.Size
    law : Law
    rate : float
        λ of an entry: its learning rate over the common one.
    """

    name: str
    shape: torch.Size
    law: Law
    rate: float

    @property
    def variance(self) -> float:
        """Of an entry around its mean."""
        return float(self.law.std) ** 2 if self.law.random else 0.0

    @property
    def mean(self) -> float:
        """Of an entry, where it is not the same number everywhere only the mean of these."""
        if self.law.kind == "constant" and self.law.value is not None:
            return float(self.law.value.double().mean())
        return float(self.law.mean)

    def values(self) -> Tensor | None:
        """The numbers of a parameter that does not differ from network to network."""
        if self.law.random:
            return None
        if self.law.value is not None:
            return self.law.value.detach().double().cpu().reshape(self.shape)
        return torch.full(self.shape, float(self.law.mean), dtype=torch.float64)

    def uniform(self) -> float | None:
        """The one number of all entries, None where they differ."""
        values = self.values()
        if values is None:
            return None
        first = float(values.reshape(-1)[0]) if values.numel() else 0.0
        return first if bool((values == first).all()) else None
