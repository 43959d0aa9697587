"""The infinite-width recursion on triples (K11, K12, K22), layer after layer.

This is what the compiled maps are made from and held against. All tensors are float64; a triple
starts from the metric of the inputs, x·x'/n_0.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import DomainError
from kadanoff.kernels.averages import averages
from kadanoff.rgflow.kernel import Step, steps

__all__ = ["diagonal", "propagate", "start", "walk"]


def start(arch: Any, metric: Tensor) -> tuple[Tensor, Tensor]:
    """K and Theta of the first layer from x·x'/n_0."""
    K = arch.C_b[0] + arch.C_W[0] * metric
    return K, arch.lambda_b[0] + arch.lambda_W[0] * metric


def advance(
    step: Step, K11: Tensor, K12: Tensor, K22: Tensor, Theta: Tensor, average: Callable = averages
) -> tuple[Tensor, Tensor]:
    """One layer: (K12, Theta12) of the next from the triple of this one."""
    keep = step.gamma**2
    a, b, c, inner = K11, K12, K22, Theta
    if step.inner_ratio:
        a, b, c = (step.C_b + step.C_W * v for v in (K11, K12, K22))
        inner = step.lambda_b + step.lambda_W * K12 + step.C_W * Theta
    ss, dd = average(step.activation, a, b, c)
    K_next = step.C_b + step.C_W * ss + keep * K12
    Theta_next = step.lambda_b + step.lambda_W * ss + step.C_W * dd * inner + keep * Theta
    return K_next, Theta_next


def walk(arch: Any, metric: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(K, Theta) of single inputs at every layer 1 … L, from |x|²/n_0."""
    K, Theta = start(arch, metric)
    out = [(K, Theta)]
    for step in steps(arch):
        K, Theta = advance(step, K, K, K, Theta)
        _check(step.layer + 1, K, Theta)
        out.append((K, Theta))
    return out


def diagonal(arch: Any, metric: Tensor) -> tuple[Tensor, Tensor]:
    """K and Theta of the last layer at coincident inputs, from |x|²/n_0, shape (N,).

    Repeated norms are computed once.
    """
    unique, inverse = torch.unique(metric, return_inverse=True)
    K, Theta = walk(arch, unique)[-1]
    return K[inverse], Theta[inverse]


def propagate(arch: Any, m11: Tensor, m12: Tensor, m22: Tensor) -> tuple[Tensor, Tensor]:
    """K12 and Theta12 of the last layer from the metric of pairs of inputs.

    Raises
    ------
    DomainError
        The kernel overflows.
    """
    m11, m12, m22 = torch.broadcast_tensors(m11, m12, m22)
    one, two = walk(arch, m11.unique()), None
    inverse = m11.unique(return_inverse=True)[1]
    if not torch.equal(m11, m22):
        values, inverse2 = m22.unique(return_inverse=True)
        two = walk(arch, values)
    else:
        inverse2 = inverse
    K, Theta = start(arch, m12)
    for l, step in enumerate(steps(arch)):
        K11 = one[l][0][inverse]
        K22 = K11 if two is None else two[l][0][inverse2]
        K, Theta = advance(step, K11, K, K22, Theta)
        _check(step.layer + 1, K, Theta)
    return K, Theta


def _check(layer: int, K: Tensor, Theta: Tensor) -> None:
    if not (bool(torch.isfinite(K).all()) and bool(torch.isfinite(Theta).all())):
        raise DomainError(
            f"The kernel of layer {layer} overflows.",
            "Choose C_W nearer to criticality (kadanoff critical), or a smaller depth.",
        )
