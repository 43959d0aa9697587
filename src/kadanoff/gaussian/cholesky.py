"""Cholesky factors of covariances of any rank."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["batch_factors", "pivoted"]

# entries below this share of the largest standard deviation are rounding
_ROUNDING = 1e-15


def pivoted(K: Tensor, floor: float = 1e-14) -> tuple[list[int], Tensor]:
    """A factor of K, the sample with the most variance left taken next.

    Parameters
    ----------
    K : Tensor, shape (N, N)
    floor : float
        A variance left is zero below this share of the largest variance.

    Returns
    -------
    order : list of N int
        Samples in the order taken; those after the rank follow as they come.
    L : Tensor, shape (N, rank)
        L Lᵀ = K. Rows are in the order of K: sample ``order[s]`` depends on the first s + 1
        coordinates alone.
    """
    rest = K.clone()
    scale = float(K.diagonal().max())
    order: list[int] = []
    columns: list[Tensor] = []
    free = list(range(len(K)))
    while free:
        at = max(free, key=lambda s: float(rest[s, s]))
        pivot = float(rest[at, at])
        if pivot <= floor * scale or pivot <= 0:
            break
        column = rest[:, at] / math.sqrt(pivot)
        rest = rest - column[:, None] * column
        columns.append(column)
        order.append(at)
        free.remove(at)
    if not columns:
        return free, K.new_zeros(len(K), 0)
    L = torch.stack(columns, 1)
    small = L.abs() < _ROUNDING * math.sqrt(scale)
    return order + free, torch.where(small, torch.zeros_like(L), L)


def batch_factors(K: Tensor) -> Tensor:
    """Lower Cholesky factors of many blocks, singular or regular, in the order of the samples.

    Parameters
    ----------
    K : Tensor, shape (B, m, m)

    Returns
    -------
    Tensor, shape (B, m, m)
        Columns of coordinates that a singular block does not need are zero.
    """
    L = torch.zeros_like(K)
    rest = K.clone()
    floor = _ROUNDING * K.diagonal(dim1=-2, dim2=-1).amax(-1)
    for k in range(K.shape[-1]):
        pivot = rest[:, k, k]
        good = pivot > floor
        root = torch.where(good, pivot, torch.ones_like(pivot)).rsqrt() * good
        column = rest[:, :, k] * root[:, None]
        column[:, :k] = 0.0
        L[:, :, k] = column
        rest = rest - column[:, :, None] * column[:, None]
    return L
