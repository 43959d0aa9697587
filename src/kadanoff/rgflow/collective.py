r"""Mean map plus noise: the one mechanism behind K, G1, V, Theta, H1, D and A.

Given layer l, the metric and the NTK of layer l+1 are averages over n_l neurons that are
independent at leading order. So the collective variables s = (metric, NTK) obey

.. math:: s' = f(s) + \xi/\sqrt{n}, \qquad \mathrm{cov}\,\xi = \Sigma(s),

and at order 1/n the law of total mean and covariance is all there is:

.. math:: \delta' = \rho\,(f'\delta + \tfrac12 f''{:}C), \qquad C' = \rho\, f' C f'^{T} + \Sigma .

The blocks of C are V, D, A; those of the mean shift are G1 and H1. The derivative f' is never a
matrix: at a pair of inputs it reads three entries of the metric and one of the NTK.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

__all__ = ["Covariance", "Field", "MeanMap", "add", "propagate", "propagate_mean", "transpose"]

Field = tuple[Tensor, ...]
"""One tensor (N, N, ...) for each collective variable; the first two axes are its pair."""

Covariance = tuple[tuple[Tensor, ...], ...]
"""Blocks (N, N, N, N) of a covariance between collective variables, [variable][variable]."""


@dataclass(frozen=True)
class MeanMap:
    """First derivative of the mean map, acting on the leading pair, and covariance of the noise."""

    push: Callable[[Field], Field]
    noise: Covariance


def propagate(step: MeanMap, covariance: Covariance, rho: float) -> Covariance:
    """C' = Σ + ρ f' C f'ᵀ.

    Parameters
    ----------
    step : MeanMap
    covariance : Covariance
        Blocks (N, N, N, N) of C at this layer.
    rho : float
        n_l / n_{l-1}.
    """
    half = transpose(_push_columns(step, covariance))
    return add(step.noise, transpose(_push_columns(step, half)), rho)


def propagate_mean(step: MeanMap, mean: Field, curvature: Field, rho: float) -> Field:
    """δ' = ρ (f' δ + ½ f'':C), with the contraction ½ f'':C given.

    Parameters
    ----------
    step : MeanMap
    mean, curvature : Field
        δ and the contraction ½ f'':C, a tensor (N, N) a variable.
    rho : float
        n_l / n_{l-1}.
    """
    pushed = step.push(mean)
    return tuple(rho * (p + c) for p, c in zip(pushed, curvature, strict=True))


def transpose(covariance: Covariance) -> Covariance:
    """Rows and columns exchanged, pairs of inputs included."""
    size = range(len(covariance[0]))
    return tuple(tuple(row[j].permute(2, 3, 0, 1) for row in covariance) for j in size)


def add(a: Covariance, b: Covariance, factor: float = 1.0) -> Covariance:
    """a + factor · b, block by block.

    Parameters
    ----------
    a, b : Covariance
    factor : float
    """
    return tuple(
        tuple(x + factor * y for x, y in zip(p, q, strict=True)) for p, q in zip(a, b, strict=True)
    )


def _push_columns(step: MeanMap, covariance: Covariance) -> Covariance:
    columns: Sequence[Sequence[Tensor]] = [step.push(c) for c in zip(*covariance, strict=True)]
    return tuple(zip(*columns, strict=True))
