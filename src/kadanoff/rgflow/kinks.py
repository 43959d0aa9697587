r"""⟨σ''_0 σ'_1 σ'_2 σ_3⟩ of a kinked activation: the part from the delta function in σ''.

At a kink c the slope jumps. If other σ' sit at the same sample, the product is the derivative of
a power, :math:`\sigma''\sigma'^{m} = d(\sigma'^{m+1})/(m+1)`, so the weight of the delta function
is :math:`(\sigma'^{\,m+1}_+ - \sigma'^{\,m+1}_-)/(m+1)`; the rest is averaged given z_0 = c.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kadanoff.activations import Activation
from kadanoff.gaussian.kinked import PANEL_ORDERS, panels
from kadanoff.gaussian.sobol import scrambled

__all__ = ["delta_average"]

_BESIDE = 1e-11


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
            sides = torch.tensor([kink - _BESIDE, kink + _BESIDE], dtype=torch.float64)
            below, above = act.derivative(1)(sides).tolist()
            if abs(above - below) < 1e-8:
                continue
            variance = float(K[a, a])
            density = math.exp(-0.5 * kink**2 / variance) / math.sqrt(2 * math.pi * variance)
            weight = [(above ** (m + 1) - below ** (m + 1)) / (m + 1) for m in range(3)]
            out[a] += density * _given(act, K, a, kink, weight, replica)
    return out


def _given(
    act: Activation, K: Tensor, a: int, kink: float, weight: list[float], replica: int
) -> Tensor:
    N = K.shape[0]
    column = K[:, a] / K[a, a]
    rest = K - column[:, None] * K[a]
    rest[a], rest[:, a] = 0.0, 0.0
    mean = column * kink
    mean[a] = kink
    if N <= 4:
        nodes = panels(rest, act.kinks, PANEL_ORDERS[min(replica, 1)], mean)
    else:
        nodes = scrambled(rest, replica, mean)
    slope, triple, pair, lone = act.derivative(1), 0.0, 0.0, 0.0
    for z, w in nodes:
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
