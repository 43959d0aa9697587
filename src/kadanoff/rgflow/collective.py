r"""Mean map plus noise: the one mechanism behind K, G1, V, Theta, H1, D and A.

Given layer l, the metric and the NTK of layer l+1 are averages over n_l neurons that are
independent at leading order. So the collective variables s = (metric, NTK) obey

.. math:: s' = f(s) + \xi/\sqrt{n}, \qquad \mathrm{cov}\,\xi = \Sigma(s),

and at order 1/n the law of total mean and covariance is all there is:

.. math:: \delta' = \rho\,(f'\delta + \tfrac12 f''{:}C), \qquad C' = \rho\, f' C f'^{T} + \Sigma .

The blocks of C are V, D, A; those of the mean shift are G1 and H1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["MeanMap", "propagate", "propagate_mean"]


@dataclass(frozen=True)
class MeanMap:
    """First derivative of the mean map and covariance of its noise, as matrices on s."""

    jacobian: Tensor
    noise: Tensor


def propagate(step: MeanMap, covariance: Tensor, rho: float) -> Tensor:
    """C' = Σ + ρ f' C f'ᵀ."""
    return step.noise + rho * step.jacobian @ covariance @ step.jacobian.T


def propagate_mean(step: MeanMap, mean: Tensor, curvature: Tensor, rho: float) -> Tensor:
    """δ' = ρ (f' δ + ½ f'':C), with the contraction ½ f'':C given."""
    return rho * (step.jacobian @ mean + curvature)


def matrix(T: Tensor) -> Tensor:
    """(N, N, N, N) as a matrix on pairs."""
    N = T.shape[0]
    return T.reshape(N * N, N * N)


def blocks(rows: list[list[Tensor]]) -> Tensor:
    """A block matrix from rows of blocks."""
    return torch.cat([torch.cat(row, 1) for row in rows], 0)
