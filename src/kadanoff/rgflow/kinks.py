r"""⟨σ''_0 σ'_1 σ'_2 σ_3⟩ of a kinked activation: the part from the delta function in σ''.

At a kink c the slope jumps. If other σ' sit at the same sample, the product is the derivative of
a power, :math:`\sigma''\sigma'^{m} = d(\sigma'^{m+1})/(m+1)`, so the weight of the delta function
is :math:`(\sigma'^{\,m+1}_+ - \sigma'^{\,m+1}_-)/(m+1)`; the rest is averaged given z_0 = c.

Where σ' is continuous and σ'' jumps (ELU, softsign) it is σ''' that holds the delta function.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from kadanoff.activations import Activation
from kadanoff.gaussian.kinked import PANEL_ORDERS, panels
from kadanoff.gaussian.sobol import scrambled

__all__ = ["bend_average", "delta_average", "density", "is_bend"]


def is_bend(act: Activation) -> bool:
    """Whether at its kinks σ'' jumps and nothing below it does: all of order 1/n exists then."""
    return all(act.jump(0, kink) == 0 and act.jump(1, kink) == 0 for kink in act.kinks)


def density(kink: float, variance: float) -> float:
    """Of a Gaussian z at a kink."""
    return math.exp(-0.5 * kink**2 / variance) / math.sqrt(2 * math.pi * variance)


def delta_average(act: Activation, K: Tensor, replica: int) -> Tensor:
    """Contribution of the kinks, [0, 1, 2, 3], for one replica of the quadrature rule.

    Parameters
    ----------
    act : Activation
    K : Tensor, shape (N, N)
    replica : int
    """
    N = K.shape[0]
    out = K.new_zeros(N, N, N, N)
    for a in range(N):
        for kink in act.kinks:
            if act.jump(1, kink) == 0:
                continue
            below, above = act.limits(1, kink)
            weight = [(above ** (m + 1) - below ** (m + 1)) / (m + 1) for m in range(3)]
            out[a] += density(kink, float(K[a, a])) * _given(act, K, a, kink, weight, replica)
    return out


def bend_average(act: Activation, K: Tensor, replica: int) -> Tensor:
    """⟨σ'''_0 σ'_1 σ'_2 σ'_3⟩: the part from the delta functions where σ'' jumps, [0, 1, 2, 3].

    Parameters
    ----------
    act : Activation
        σ' is continuous.
    K : Tensor, shape (N, N)
    replica : int
    """
    N = K.shape[0]
    out = K.new_zeros(N, N, N, N)
    slope = act.derivative(1)
    for a in range(N):
        for kink in act.kinks:
            weight = act.jump(2, kink) * density(kink, float(K[a, a]))
            if not weight:
                continue
            for z, w in _nodes_given(act, K, a, kink, replica):
                d = slope(z)
                d[:, a] = sum(act.limits(1, kink)) / 2
                out[a] += weight * torch.einsum("m,mi,mj,mk->ijk", w, d, d, d)
    return out


def _nodes_given(
    act: Activation, K: Tensor, a: int, kink: float, replica: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Nodes and weights of all samples given z_a at the kink."""
    column = K[:, a] / K[a, a]
    rest = K - column[:, None] * K[a]
    rest[a], rest[:, a] = 0.0, 0.0
    mean = column * kink
    mean[a] = kink
    if len(K) <= 4:
        return panels(rest, act.kinks, PANEL_ORDERS[min(replica, 1)], mean)
    return scrambled(rest, replica, mean)


def _given(
    act: Activation, K: Tensor, a: int, kink: float, weight: list[float], replica: int
) -> Tensor:
    slope, triple, pair, lone = act.derivative(1), 0.0, 0.0, 0.0
    for z, w in _nodes_given(act, K, a, kink, replica):
        s, d = act(z), slope(z)
        d[:, a] = 0.0  # a slope at the kink itself is in the weight
        triple = triple + torch.einsum("m,mi,mj,mk->ijk", w, d, d, s)
        pair = pair + torch.einsum("m,mi,mk->ik", w, d, s)
        lone = lone + w @ s
    total = weight[0] * torch.as_tensor(triple)
    total[a] += weight[1] * torch.as_tensor(pair)
    total[:, a] += weight[1] * torch.as_tensor(pair)
    total[a, a] += weight[2] * torch.as_tensor(lone)
    return total
