"""Near-Gaussian approximation of the prior: what order 1/n and 1/n² make of the exact law."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from kadanoff.errors import UsageError
from kadanoff.priors.distribution import ExactPrior

__all__ = ["edgeworth"]


def edgeworth(prior: ExactPrior, h: Any, order: int = 1) -> np.ndarray:
    """Edgeworth density of one output component at ``h``.

    Order 0: Gaussian of the exact variance. Order 1: + κ₄ He₄/24 with κ₄ to order 1/n, from the
    four-point vertex (3 V/n for unit variance). Order 2: + κ₆ He₆/720 + κ₄² He₈/1152 with the
    exact cumulants.

    Raises
    ------
    UsageError
        Several outputs, or an order other than 0, 1, 2.
    """
    if prior.m != 1 or order not in (0, 1, 2):
        raise UsageError("edgeworth covers one output and orders 0, 1 and 2.")
    std = math.sqrt(prior.cumulant(2))
    x = np.asarray(h, dtype=float) / std
    he = [np.ones_like(x), x]
    for k in range(1, 8):
        he.append(x * he[-1] - k * he[-2])
    A2, A4 = (1 + prior.slope**2) / 2, (1 + prior.slope**4) / 2
    nu = 3 * A4 / A2**2 - 1
    series = np.ones_like(x)
    if order == 1:
        # κ₄ = 3 (Π(1 + ν/n) − 1) ≈ 3 ν Σ 1/n: the leading vertex V/n of the flow
        series = series + 3 * nu * sum(1 / n for n in prior.widths) * he[4] / 24
    if order == 2:
        k4, k6 = prior.cumulant(4) / std**4, prior.cumulant(6) / std**6
        series = series + k4 * he[4] / 24 + k6 * he[6] / 720 + k4**2 * he[8] / 1152
    return series * np.exp(-0.5 * x * x) / (math.sqrt(2 * math.pi) * std)
