"""A few layers of scale-invariant activations: strips of the matrix straight through all of them.

A map of the whole network (:mod:`kadanoff.kernels.composite`, :mod:`kadanoff.kernels.surface`)
pays from some depth on. Below it, one polynomial of ρ a layer is cheaper, and it is the same for
all networks: nothing is compiled from the second call on.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.kernels.layers import advance, walk
from kadanoff.kernels.traced.averages import Averages
from kadanoff.rgflow.kernel import first_layer, steps

__all__ = ["direct_kernels", "is_direct"]

# hidden layers and inputs up to which this is the faster way
_DEPTH, _MOST = 4, 4096
_STRIP = 128
# 1 − ρ below which an inner product has lost the distance between two inputs to rounding
_NEAR = 1e-9


@cache
def _averages() -> Averages:
    return Averages()


def is_direct(arch: Network, count: int) -> bool:
    """Whether this is the faster way for so many inputs."""
    return (
        arch.L <= _DEPTH + 1
        and count <= _MOST
        and all(act.slopes is not None for act in arch.activations)
    )


def direct_kernels(arch: Network, X: Tensor) -> tuple[Tensor, Tensor]:
    """K and Theta of the last layer, (N, N), float64.

    Parameters
    ----------
    arch : Network
        Of scale-invariant activations.
    X : Tensor, shape (N, n_0), float64
    """
    N, n_0 = X.shape
    square = torch.linalg.vecdot(X, X) / n_0
    own = walk(arch, square)
    K, Theta = X.new_empty(N, N), X.new_empty(N, N)
    # the angle between two inputs knows no scale: a kernel of unit variances each layer
    for i in range(0, N, _STRIP):
        rows, columns = slice(i, min(i + _STRIP, N)), slice(0, min(i + _STRIP, N))
        m12 = X[rows] @ X[columns].T / n_0
        m1, m2 = square[rows, None], square[None, columns]
        near = (m1 + m2 - 2 * m12 < 2 * _NEAR * (m1 + m2)).nonzero()
        if len(near):
            a, b = near.unbind(1)
            gap = ((X[rows][a] - X[columns][b]) ** 2).sum(1) / n_0
            m12[a, b] = (square[rows][a] + square[columns][b] - gap) / 2
        k, theta = first_layer(arch, m12)
        for l, step in enumerate(steps(arch)):
            K11, K22 = own[l][0][rows, None], own[l][0][None, columns]
            k, theta = advance(step, K11, k, K22, theta, _pairs)
        K[rows, columns], Theta[rows, columns] = k, theta
        K[columns, rows], Theta[columns, rows] = k.T, theta.T
    K.diagonal().copy_(own[-1][0])
    Theta.diagonal().copy_(own[-1][1])
    return K, Theta


def _pairs(act, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    return _averages()(act, a, b, c, True)
