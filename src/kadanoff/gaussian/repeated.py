"""Averages of four factors at one or two distinct samples, on a dense lattice of the plane."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kadanoff.gaussian.plane import hexagonal

__all__ = ["coincident", "conditional_slopes"]

Function = Callable[[Tensor], Tensor]
Pattern = tuple[int, ...]
Key = tuple[int, ...]
Entries = list[tuple[tuple[Tensor, ...], Tensor]]

# step in z, and the step of a unit Gaussian whose error is less than rounding
_STEP, _BELL, _REACH = 0.3, 0.5, 8.0
_ELEMENTS = 2_000_000
# so many products of functions are kept for each sample, about
_KEPT = 8


def conditional_slopes(K: Tensor, pairs: Tensor) -> Tensor:
    """Slopes of every sample's mean in two coordinates of a pair of samples.

    Parameters
    ----------
    K : Tensor, shape (N, N)
    pairs : Tensor, shape (B, 2)

    Returns
    -------
    Tensor, shape (B, N, 2)
        Given z_a and z_b, the mean of z_c is the sum of the slopes of c times two independent unit
        Gaussians, of which z_a depends on the first alone.
    """
    a, b = pairs.T
    row = torch.arange(len(pairs), device=pairs.device)
    size = K.diagonal()
    first = torch.where(size[a] > 0, size[a].clamp_min(1e-300).rsqrt(), 0.0)
    one = K[a] * first[:, None]
    shared = one[row, b]
    pivot = size[b] - shared**2
    second = torch.where(pivot > 1e-12 * size[b], pivot.clamp_min(1e-300).rsqrt(), 0.0)
    two = (K[b] - shared[:, None] * one) * second[:, None]
    two[row, a] = 0.0
    return torch.stack([one, two], 2)


def coincident(
    functions: Sequence[Function], K: Tensor, patterns: Sequence[Pattern], even: bool
) -> dict[Pattern, Entries]:
    """Entries of every pattern with one or two distinct samples.

    Parameters and conventions are those of :class:`kadanoff.gaussian.conditioned.Conditioned`.

    Parameters
    ----------
    functions : sequence of callables
        Elementwise, analytic near the real axis.
    K : Tensor, shape (N, N)
    patterns : sequence of tuples of 2 or 4 ints
        Which functions are multiplied; see
        :class:`kadanoff.gaussian.conditioned.Conditioned`.
    even : bool
        Every integrand is even under z → −z.

    Returns
    -------
    dict of pattern to list of (index, values)
        ``index`` is one tensor of samples a slot.
    """
    scale = math.sqrt(max(float(K.diagonal().max()), 1e-300))
    x, w = hexagonal(_STEP / scale, _BELL, _REACH, even, K.device)
    used = sorted(set().union(*patterns))
    out: dict[Pattern, Entries] = {p: [] for p in patterns}
    every = torch.arange(len(K), device=K.device)
    alone = _Products(functions, used, K.diagonal().sqrt()[:, None] * x[:, 0])
    for p in patterns:
        out[p].append(((every,) * len(p), alone[p] @ w))
    pairs = torch.triu_indices(len(K), len(K), 1, device=K.device).T
    for part in pairs.split(max(1, _ELEMENTS // (_KEPT * len(x)))):
        slopes = conditional_slopes(K, part)
        row = torch.arange(len(part), device=K.device)
        z = [slopes[row, part[:, side]] @ x.T for side in (0, 1)]
        first, second = (_Products(functions, used, one) for one in z)
        for p in patterns:
            for sides in _both_sides(len(p)):
                at_first = tuple(k for k, side in zip(p, sides, strict=True) if side == 0)
                at_second = tuple(k for k, side in zip(p, sides, strict=True) if side == 1)
                index = tuple(part[:, side] for side in sides)
                out[p].append((index, (first[at_first] * second[at_second]) @ w))
    return out


class _Products:
    """Products of functions at the nodes, (rows, nodes), each made once."""

    def __init__(self, functions: Sequence[Function], used: Sequence[int], z: Tensor) -> None:
        self._values = {k: functions[k](z) for k in used}
        self._kept: dict[Key, Tensor] = {}

    def __getitem__(self, factors: Key) -> Tensor:
        key = tuple(sorted(factors))
        if key not in self._kept:
            rest = (self._values[k] for k in key[1:])
            self._kept[key] = math.prod(rest, start=self._values[key[0]])
        return self._kept[key]


def _both_sides(slots: int) -> list[tuple[int, ...]]:
    """Ways to give slots to the two samples of a pair, neither of them empty."""
    return [tuple(mask >> s & 1 for s in range(slots)) for mask in range(1, 2**slots - 1)]
