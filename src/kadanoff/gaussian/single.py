"""⟨f(z)⟩ over one Gaussian variable: Gauss–Legendre panels that know where structure lies.

An activation bends at |z| of order one and at its kinks, however wide the Gaussian is; the
Gaussian bends at the scale √K. Panels are cut at both scales, so that the integrand is smooth
on each, from K = 1e-6 to K = 1e4, and the number of nodes grows only like log K.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from kadanoff.errors import ConvergenceError, DomainError

__all__ = ["Estimate", "one"]

Function = Callable[[Tensor], Tensor]

# beyond 12 standard deviations a Gaussian weighs 1e-32: below rounding for all we integrate
REACH = 12.0
_CUTS_X = (0.0, 1.25, 2.5, 4.0, 6.0, 8.5, REACH)
# the two Gauss-Legendre orders whose difference is the error estimate
_ORDER, _CHECK = 20, 14
_REFINEMENTS = 7
# largest share of an average that the integrand may have left at the last node
_TAIL = 1e-9
_ENDS = (-REACH, -0.95 * REACH, 0.95 * REACH, REACH)


@dataclass(frozen=True)
class Estimate:
    """A number and its estimated absolute error, as tensors of one shape."""

    value: Tensor
    error: Tensor


@lru_cache(maxsize=16)
def legendre(order: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights of Gauss–Legendre quadrature on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(order)
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)


def structure_cuts(reach: float, kinks: Sequence[float] = ()) -> Tensor:
    """Values of z at which panels are cut: 0, ±½, ±1, ±2, ±4 … up to ``reach``, and the kinks."""
    cuts = {0.0, *(float(kink) for kink in kinks)}
    edge = 0.5
    while edge < reach:
        cuts |= {edge, -edge}
        edge *= 2
    return torch.tensor(sorted(cuts), dtype=torch.float64)


def gaussian_cuts() -> Tensor:
    """Cuts in units of the standard deviation, symmetric about zero."""
    return torch.tensor(sorted({s * x for x in _CUTS_X for s in (-1.0, 1.0)}), dtype=torch.float64)


def panel_nodes(edges: Tensor, order: int, halvings: int) -> tuple[Tensor, Tensor]:
    """Nodes x and weights (with the standard normal density) on panels between sorted edges.

    Parameters
    ----------
    edges : Tensor, shape (..., P+1)
        Sorted along the last axis; panels of zero width are harmless.
    order : int
        Gauss–Legendre nodes a panel.
    halvings : int
        Each panel is first cut into 2**halvings equal ones.

    Returns
    -------
    x, w : Tensor, shape (..., P * 2**halvings * order)
    """
    width = edges.diff(dim=-1)
    # a panel that is empty in every row of the batch costs nodes and gives nothing
    used = (width > 0).reshape(-1, width.shape[-1]).any(0)
    left, width = edges[..., :-1][..., used], width[..., used]
    parts = 2**halvings
    fractions, weights = legendre(order)
    offsets = ((torch.arange(parts, dtype=edges.dtype)[:, None] + fractions) / parts).reshape(-1)
    x = left[..., None] + width[..., None] * offsets
    w = width[..., None] * (weights.repeat(parts) / parts)
    w = w * torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
    return x.flatten(-2), w.flatten(-2)


def check_variance(K: Tensor, name: str = "K") -> Tensor:
    """``K`` as a float64 tensor.

    Raises
    ------
    DomainError
        An entry is negative, NaN or infinite.
    """
    K = torch.as_tensor(K, dtype=torch.float64)
    bad = ~torch.isfinite(K) | (K < 0)
    if bad.any():
        worst = K[bad].flatten()[0].item()
        raise DomainError(
            f"The Gaussian variance {name} must be finite and >= 0, got {worst:g}.",
            "Check the inputs and C_b, C_W: the kernel may have overflowed off criticality.",
        )
    return K


def refine(
    attempt: Callable[[int, int], tuple[Tensor, Tensor]],
    tolerance: float,
    refinements: int = _REFINEMENTS,
) -> Estimate:
    """Halve panels until two Gauss–Legendre orders agree.

    ``attempt(order, halvings)`` returns the integral and the integral of the absolute value,
    which sets the scale of what rounding allows.

    Raises
    ------
    ConvergenceError
        The integrand is not resolved at the finest level.
    """
    error = scale = value = torch.zeros(())
    for halvings in range(refinements):
        value, scale = attempt(_ORDER, halvings)
        error = (value - attempt(_CHECK, halvings)[0]).abs() + 1e-16 * scale
        if not torch.isfinite(value).all():
            raise ConvergenceError(
                "A Gaussian average is not finite.",
                "The activation grows too fast, or returns NaN, for this kernel.",
            )
        if bool((error <= tolerance * scale + 1e-300).all()):
            break
    else:
        if bool((error > 1e-6 * scale).any()):
            ratio = (error / scale.clamp_min(1e-300)).max()
            raise ConvergenceError(
                f"A Gaussian average did not converge: relative error {ratio:.1g}.",
                "Declare the kinks of the activation, or rescale it to vary at |z| of order one.",
            )
    return Estimate(value, error)


def one(f: Function, K, kinks: Sequence[float] = (), *, tolerance: float = 1e-12) -> Estimate:
    """⟨f(z)⟩ for z ~ N(0, K).

    Parameters
    ----------
    f : callable
        Elementwise function of a float64 tensor.
    K : float or Tensor, shape (...)
        Variances, >= 0. K = 0 gives f(0), or the mean of both sides of a kink at 0.
    kinks : sequence of float
        Where f or a derivative of it jumps.
    tolerance : float
        Aim of the relative error, in units of ⟨|f|⟩.

    Returns
    -------
    Estimate
        Same shape as ``K``.

    Raises
    ------
    DomainError, ConvergenceError
    """
    K = check_variance(K)
    flat = K.reshape(-1, 1)
    root = flat.sqrt()
    cuts = structure_cuts(REACH * float(root.max()) if flat.numel() else 1.0, kinks)
    in_x = torch.where(root > 0, cuts / root.clamp_min(1e-300), torch.zeros(()).double())
    bell = gaussian_cuts().expand(len(flat), -1)
    edges = torch.cat([in_x.clamp(-REACH, REACH), bell], 1).sort(1).values

    ends = root * torch.tensor(_ENDS, dtype=root.dtype)

    def attempt(order: int, halvings: int) -> tuple[Tensor, Tensor]:
        x, w = panel_nodes(edges, order, halvings)
        values = f(root * x)
        size = (w * values.abs()).sum(1)
        if halvings == 0 and order == _ORDER:
            _check_tails(f(ends), size, K.reshape(-1))
        return (w * values).sum(1).reshape(K.shape), size.reshape(K.shape)

    return refine(attempt, tolerance)


def _check_tails(ends: Tensor, size: Tensor, K: Tensor) -> None:
    """Refuse a function that grows so fast that much of its average lies beyond REACH.

    What is left at the end must be a small share of the average, or fall steeply there as the
    Gaussian does (a function that is zero but in its far tails may be tiny everywhere).

    Parameters
    ----------
    ends : Tensor, shape (M, 4)
        The function at the places _ENDS.
    size : Tensor, shape (M,)
        ⟨|f|⟩ as far as REACH.
    K : Tensor, shape (M,)

    Raises
    ------
    ConvergenceError
    """
    places = torch.tensor(_ENDS, dtype=ends.dtype)
    integrand = ends.abs() * torch.exp(-0.5 * places**2) / math.sqrt(2 * math.pi)
    last, before = integrand[:, [0, 3]], integrand[:, [1, 2]]
    heavy = ((last > _TAIL * size[:, None]) & (last > 0.02 * before)).any(1)
    if bool(heavy.any()):
        worst = float(K[heavy].max())
        raise ConvergenceError(
            f"A Gaussian average at variance {worst:.3g} is not resolved: the function grows so "
            f"fast that most of it lies beyond {REACH:g} standard deviations.",
            "Use smaller kernels (C_W, inputs), or an activation that grows more slowly.",
        )
