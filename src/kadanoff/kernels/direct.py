"""A few layers of scale-invariant activations: strips of the matrix straight through all of them.

A map of the whole network (:mod:`kadanoff.kernels.composite`, :mod:`kadanoff.kernels.surface`)
pays from some depth on. Below it, one angle a layer is cheaper, and nothing has to be compiled.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kadanoff.activations import Activation
from kadanoff.architecture import Network
from kadanoff.kernels.layers import advance, walk
from kadanoff.rgflow.kernel import first_layer, inner_kernel, next_layer, steps

__all__ = ["direct_kernels", "is_direct"]

# hidden layers and inputs up to which this is the faster way
_DEPTH, _MOST = 4, 4096
_STRIP = 128
# 1 − ρ below which an inner product has lost the distance between two inputs to rounding
_NEAR = 1e-9


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
    roots = [inner_kernel(step, own[l][0]).sqrt() for l, step in enumerate(steps(arch))]
    zero = [bool((root == 0).any()) for root in roots]
    K, Theta = X.new_empty(N, N), X.new_empty(N, N)
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
            if zero[l]:
                K11, K22 = own[l][0][rows, None], own[l][0][None, columns]
                k, theta = advance(step, K11, k, K22, theta)
                continue
            inner = inner_kernel(step, k)
            ss, dd = _angles(step.activation, roots[l][rows], inner, roots[l][columns])
            k, theta = next_layer(step, k, theta, ss, dd)
        K[rows, columns], Theta[rows, columns] = k, theta
        K[columns, rows], Theta[columns, rows] = k.T, theta.T
    K.diagonal().copy_(own[-1][0])
    Theta.diagonal().copy_(own[-1][1])
    return K, Theta


def _angles(act: Activation, root1: Tensor, k: Tensor, root2: Tensor) -> tuple[Tensor, Tensor]:
    """⟨σσ⟩ and ⟨σ'σ'⟩ of a₋ z (z < 0), a₊ z (z > 0): the first two arc-cosine kernels.

    σ = odd z + even |z|; ⟨|z₁||z₂|⟩ = (2/π)(√(ac) sin ψ + b (π/2 − ψ)), ⟨sgn sgn⟩ = 1 − 2ψ/π.
    """
    assert act.slopes is not None
    minus, plus = act.slopes
    odd, even = (plus + minus) / 2, (plus - minus) / 2
    rho = (k * (1 / root1)[:, None]).mul_(1 / root2).clamp_(-1, 1)
    # coincident inputs: the last digits would cost half of all digits in the angle
    rho.masked_fill_(rho > 1 - 4e-15, 1.0)
    agree = torch.acos(rho).mul_(-2 / math.pi).add_(1)
    area = rho.square_().neg_().add_(1).sqrt_().mul_(root1[:, None]).mul_(root2)
    ss = area.mul_(2 / math.pi * even**2).addcmul_(agree, k, value=even**2)
    if odd:
        ss.add_(k, alpha=odd**2)
    return ss, agree.mul_(even**2).add_(odd**2)
