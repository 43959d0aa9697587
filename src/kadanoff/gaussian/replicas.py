"""Results of one rule computed more than once: how to read a value and an error off them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

__all__ = ["Lazily", "Replicas", "least_accurate"]

_T = TypeVar("_T")
# kinds of rules, the most accurate first
_KINDS = ("lattice", "panels", "expansion", "sobol")


@dataclass(frozen=True)
class Replicas:
    """A rule whose results come ``count`` times; two are a finer and a coarser rule.

    Attributes
    ----------
    kind : {"lattice", "panels", "expansion", "sobol"}
    count : int
        2 for deterministic rules; so many scrambles of a sequence of points otherwise.
    shared : float
        Relative error that all results have in common.
    """

    kind: str
    count: int
    shared: float = 2e-13

    def value(self, results: Sequence[Tensor]) -> Tensor:
        """The best value: the finer of two rules, or the mean of several."""
        if self.count == 2:
            return results[0]
        return torch.stack(list(results)).mean(0)

    def spread(self, results: Sequence[Tensor]) -> Tensor:
        """The difference of two rules, or a standard error."""
        if self.count == 2:
            return (results[0] - results[1]).abs()
        return torch.stack(list(results)).std(0) / math.sqrt(len(results))

    def error(self, results: Sequence[Tensor]) -> Tensor:
        """The spread, and what the results share: rounding, reach, the table of the lattice."""
        return self.spread(results) + self.shared * float(results[0].abs().max())


def least_accurate(rules: Sequence[Replicas]) -> Replicas:
    """The rule that speaks for a computation that used all of them."""
    return max(rules, key=lambda rule: (_KINDS.index(rule.kind), rule.shared))


class Lazily(Sequence[_T]):
    """A sequence whose entries are made when they are asked for, and not kept."""

    def __init__(self, count: int, make: Callable[[int], _T]) -> None:
        self.length, self.make = count, make

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, at: Any) -> Any:
        if not 0 <= at < self.length:
            raise IndexError(at)
        return self.make(at)
