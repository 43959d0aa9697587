"""Critical fixed points at K* > 0, where χ∥ = χ⊥: stable on one side, unstable on the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kadanoff.activations import Activation
from kadanoff.critical.susceptibility import slope_of_variance, square_mean, squared_slope
from kadanoff.errors import ConvergenceError
from kadanoff.gaussian import one
from kadanoff.gaussian.hermite import even_hermite

__all__ = ["HalfStable", "half_stable_points"]

# kernels among which fixed points are searched, in units of the scale of the activation
_LOWEST, _HIGHEST, _GRID = 1e-4, 1e4, 161
# a change of sign of (χ⊥ − χ∥)/χ⊥ within this is rounding
_EQUAL = 1e-10
# χ∥ and χ⊥ that agree to this wherever neither is tiny are one function
_ONE_FUNCTION = 1e-8


@dataclass(frozen=True)
class HalfStable:
    """A critical fixed point with K* > 0.

    Attributes
    ----------
    K_star, C_b, C_W : float
    a1, b1 : float
        χ∥ ≈ 1 + 2 a1 (K − K*), χ⊥ ≈ 1 + b1 (K − K*).
    a1_error, b1_error : float
        Of the quadrature.
    line : bool
        χ∥ = χ⊥ at every K: a line of critical points, of which this is one.
    """

    K_star: float
    C_b: float
    C_W: float
    a1: float
    b1: float
    a1_error: float
    b1_error: float
    line: bool = False


def half_stable_points(act: Activation, unit: float = 1.0) -> list[HalfStable]:
    """All of them with C_b ≥ 0, in the order of K*.

    Parameters
    ----------
    act : Activation
        Without jumps: then χ⊥ would not exist.
    unit : float
        The kernel at which the activation bends; the search goes from 1e-4 to 1e4 of it.
    """
    from scipy.optimize import brentq

    grid = np.linspace(math.log(_LOWEST), math.log(_HIGHEST), _GRID) + math.log(unit)
    excess = _relative_excess(act, grid)
    typical = excess[(grid > math.log(unit)) & np.isfinite(excess)]
    if len(typical) > 2 and np.abs(typical).max() < _ONE_FUNCTION:
        point = _point(act, unit, line=True)
        return [point] if point.C_b >= 0 else []
    found: list[HalfStable] = []
    for i in np.nonzero(np.sign(excess[:-1]) * np.sign(excess[1:]) < 0)[0]:
        # a change of sign within rounding is no root
        if max(abs(excess[i]), abs(excess[i + 1])) < _EQUAL:
            continue
        root: Any = brentq(
            lambda x: float(_relative_excess(act, np.array([x]))[0]),
            grid[i],
            grid[i + 1],
            xtol=1e-14,
        )
        point = _point(act, math.exp(root))
        if point.C_b >= 0:
            found.append(point)
    return found


def _relative_excess(act: Activation, log_K: np.ndarray) -> np.ndarray:
    """(χ⊥ − χ∥)/χ⊥ at each K, NaN where the averages do not converge (σ grows too fast)."""
    K = torch.from_numpy(np.exp(log_K))
    try:
        perp, parallel = squared_slope(act, K), slope_of_variance(act, K)
    except ConvergenceError:
        if len(log_K) == 1:
            return np.array([math.nan])
        half = len(log_K) // 2
        parts = (log_K[:half], log_K[half:])
        return np.concatenate([_relative_excess(act, part) for part in parts])
    ratio = (perp - parallel) / perp.clamp_min(1e-300)
    return torch.where(perp > 0, ratio, torch.nan).numpy()


def _point(act: Activation, K_star: float, *, line: bool = False) -> HalfStable:
    C_W = 1 / float(squared_slope(act, K_star))
    C_b = K_star - C_W * float(square_mean(act, K_star))
    d1 = act.derivative(1)

    def curvature(z: Tensor) -> Tensor:
        # a1 = ½ dχ∥/dK = ½ C_W d²⟨σ²⟩/dK²
        return 0.5 * C_W * act(z) ** 2 * even_hermite(z, K_star, 2)

    def slope(z: Tensor) -> Tensor:
        # b1 = dχ⊥/dK = C_W d⟨σ'²⟩/dK
        return C_W * d1(z) ** 2 * even_hermite(z, K_star, 1)

    a1, b1 = one(curvature, K_star, act.kinks), one(slope, K_star, act.kinks)
    return HalfStable(
        K_star=K_star,
        C_b=C_b,
        C_W=C_W,
        a1=float(a1.value),
        b1=float(b1.value),
        a1_error=float(a1.error),
        b1_error=float(b1.error),
        line=line,
    )
