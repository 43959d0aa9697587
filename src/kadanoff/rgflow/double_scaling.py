"""The laws of the metric at one input when depth and width grow together, r = ℓ/n fixed.

These are not expansions: they hold for any r, and show where the series in 1/n stops being good.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from kadanoff.errors import DomainError

__all__ = ["ScalingLaw", "exponential_functional", "log_normal"]


@dataclass(frozen=True)
class ScalingLaw:
    """Mean, second and third cumulant of Ĝ/K at depth-to-width ratio r.

    ``stderr`` is zero for closed forms; ``leading`` is the order-1/n answer (first power of r in
    the mean and in the second cumulant, second power in the third).
    """

    r: float
    cumulants: np.ndarray
    stderr: np.ndarray
    leading: np.ndarray


def _check(r: float) -> float:
    if not (math.isfinite(r) and r >= 0):
        raise DomainError(f"The ratio r = L/n must be finite and >= 0, got {r}.")
    return float(r)


def log_normal(r: float, nu: float) -> ScalingLaw:
    """Scale-invariant activations at criticality: ln(Ĝ/K) ~ N(−ν r/2, ν r).

    Parameters
    ----------
    r : float
        Depth over width, ℓ/n.
    nu : float
        Growth of V/K² per layer: 5 for ReLU, 2 for linear nets.
    """
    v = nu * _check(r)
    second = math.expm1(v)
    third = math.exp(3 * v) - 3 * math.exp(v) + 2
    return ScalingLaw(r, np.array([1.0, second, third]), np.zeros(3), np.array([1.0, v, 3 * v * v]))


def exponential_functional(
    r: float, *, n_samples: int = 200_000, steps: int = 200, seed: int = 0
) -> ScalingLaw:
    """Smooth activations with K* = 0 at criticality: K/Ĝ → A_r = ∫₀¹ exp(r u + √(2r) B_u) du.

    B is Brownian motion, A_r Yor's exponential functional. Cumulants of 1/A_r by Monte Carlo on
    ``steps`` intervals (trapezoid rule), with standard errors; universal, whatever the activation.

    Parameters
    ----------
    r : float
        Depth over width.
    n_samples : int
    steps : int
    seed : int
    """
    r = _check(r)
    if r == 0:
        return ScalingLaw(0.0, np.array([1.0, 0, 0]), np.zeros(3), np.array([1.0, 0, 0]))
    rng = np.random.default_rng(seed)
    blocks, size = 20, max(1, n_samples // 20)
    table = np.empty((blocks, 3))
    u = np.arange(steps + 1) / steps
    for block in range(blocks):
        increments = rng.standard_normal((size // 2 + 1, steps)) / math.sqrt(steps)
        path = np.cumsum(increments, axis=1)
        # a path and its mirror image: the odd part of the noise cancels
        path = np.concatenate([path, -path])
        path = np.concatenate([np.zeros((len(path), 1)), path], axis=1)
        values = np.exp(r * u + math.sqrt(2 * r) * path)
        inverse = 1 / (values.sum(1) - 0.5 * (values[:, 0] + values[:, -1])) * steps
        centred = inverse - inverse.mean()
        table[block] = inverse.mean(), (centred**2).mean(), (centred**3).mean()
    stderr = table.std(0, ddof=1) / math.sqrt(blocks)
    leading = np.array([1 - r / 3, 2 * r / 3, 16 * r * r / 15])
    return ScalingLaw(r, table.mean(0), stderr, leading)
