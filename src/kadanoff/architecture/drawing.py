"""Weight matrices drawn from the three laws of a network, from any source of random numbers."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

__all__ = ["GeneratorNumbers", "Numbers", "draw_weights"]


class Numbers(Protocol):
    """A source of independent numbers of variance 1."""

    def normal(self, *shape: int) -> Tensor:
        """Independent N(0, 1)."""
        ...

    def uniform(self, *shape: int) -> Tensor:
        """Independent and uniform on (-√3, √3)."""
        ...


class GeneratorNumbers:
    """Numbers of torch's own generator: a given one, or (None) the global one."""

    def __init__(self, generator: torch.Generator | None, dtype: torch.dtype) -> None:
        self.generator, self.dtype = generator, dtype

    def normal(self, *shape: int) -> Tensor:
        """Independent N(0, 1)."""
        return torch.randn(shape, generator=self.generator, dtype=self.dtype)

    def uniform(self, *shape: int) -> Tensor:
        """Independent and uniform on (-√3, √3)."""
        unit = torch.rand(shape, generator=self.generator, dtype=self.dtype)
        return math.sqrt(3) * (2 * unit - 1)


def draw_weights(shape: tuple[int, ...], C_W: float, init: str, numbers: Numbers) -> Tensor:
    """W (..., n_out, n_in) with entries of variance C_W / n_in.

    Parameters
    ----------
    shape : tuple of int
        (..., n_out, n_in); axes before the last two count networks.
    C_W : float
    init : {"gaussian", "uniform", "orthogonal"}
        Orthogonal matrices are corners of Haar-distributed ones: their columns, or their rows,
        whichever are fewer, are orthogonal to each other.
    numbers : Numbers
    """
    *networks, n_out, n_in = shape
    if init == "orthogonal":
        large, small = max(n_out, n_in), min(n_out, n_in)
        Q, R = torch.linalg.qr(numbers.normal(*networks, large, small))
        # signs of R's diagonal taken out: Haar measure
        Q = Q * R.diagonal(dim1=-2, dim2=-1).sign()[..., None, :]
        Q = Q if n_out >= n_in else Q.mT
        return math.sqrt(C_W * large / n_in) * Q
    W = numbers.uniform(*shape) if init == "uniform" else numbers.normal(*shape)
    return W.mul_(math.sqrt(C_W / n_in))
