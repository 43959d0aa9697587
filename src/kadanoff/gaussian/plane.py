"""Nodes of a plane Gaussian."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["hexagonal"]


def hexagonal(
    step: float, bell: float, reach: float, even: bool, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Nodes (Q, 2) and weights (Q,) of a unit Gaussian in the plane: a hexagonal lattice.

    Parameters
    ----------
    step : float
        As fine as a square lattice of this step.
    bell : float
        Step that the Gaussian itself allows, however smooth the integrand.
    reach : float
        Radius of the disc that is covered, in standard deviations.
    even : bool
        The integrand is even under z → −z: half the nodes, of twice the weight.
    """
    d = 2 / math.sqrt(3) / math.hypot(1 / step, 1 / bell)
    count = math.ceil(reach / d) + 1
    parts = []
    # two rectangular lattices, one in the middle of the other's cells
    for shift in (0.0, 0.5):
        at = (torch.arange(-count, count + 1, device=device) + shift).double()
        parts.append(torch.cartesian_prod(at * d, at * d * math.sqrt(3)))
    x = torch.cat(parts)
    square = (x**2).sum(1)
    cell = math.sqrt(3) / 2 * d * d
    weight = cell / (2 * math.pi) * torch.exp(-0.5 * square)
    keep = square < reach**2
    if even:
        half = (x[:, 0] > 0) | ((x[:, 0] == 0) & (x[:, 1] > 0))
        weight = torch.where(half, 2 * weight, weight)
        keep &= half | (square == 0)
    return x[keep].contiguous(), weight[keep]
