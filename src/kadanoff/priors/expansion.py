"""Near-Gaussian densities: what orders 1/n, 1/n², … make of the law of the outputs.

Given the random metric Ĝ the outputs are N(0, Ĝ 1). Expanding around its infinite-width value K,

.. math:: p(h) = N(h; 0, K)\\sum_j \\frac{E(\\hat G - K)^j}{K^j}\\,(-1)^j
          L_j^{(m/2-1)}\\!\\left(\\frac{|h|^2}{2K}\\right),

with the moments of Ĝ − K from the library's recursion in 1/n: the Edgeworth series. For one output
and order 1 the term is V/(8 n K²) He₄, the quartic coupling of the effective theory.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.special import eval_genlaguerre

from kadanoff.architecture import MLP, Network
from kadanoff.errors import UsageError
from kadanoff.priors.distribution import ExactPrior
from kadanoff.rgflow.single import moment_series

__all__ = ["edgeworth", "near_gaussian"]


def near_gaussian(
    arch: Network, x: Any, h: Any, order: int = 1, *, n_out: int | None = None, radial: bool = False
) -> np.ndarray:
    """Density of the outputs of a described network at one input, to ``order`` in 1/n.

    Parameters
    ----------
    arch : MLP
        Any activation, biases and widths; Gaussian weights, no skips.
    x : array, shape (1, n_0) or (n_0,)
    h : array, shape (...) for one output, (..., n_out) for several
    order : int
        0: Gaussian. 1: adds V and the shift of the mean metric. 2: adds the six-point vertex,
        and so on.
    n_out : int, optional
        How many of the outputs; default all.
    radial : bool
        ``h`` holds norms, shape (...).

    Returns
    -------
    ndarray
        Not positive everywhere: an expansion, good near the centre, useless in the tails.

    Raises
    ------
    UsageError
        ``order`` negative; an architecture without a moment series.
    """
    m = arch.n_out if n_out is None else n_out
    if isinstance(order, bool) or int(order) != order or order < 0:
        raise UsageError(f"order must be a whole number >= 0, got {order!r}.")
    if not 1 <= m <= arch.n_out:
        raise UsageError(f"n_out must lie between 1 and {arch.n_out}, got {m!r}.")
    series = moment_series(arch, x, max(int(order), 1))
    K, table = float(series.K[-1]), series.moments[-1]
    h = np.asarray(h, dtype=float)
    if m > 1 and not radial and (h.ndim == 0 or h.shape[-1] != m):
        raise UsageError(
            f"Points of {m} outputs have shape (..., {m}), got {h.shape}.",
            "Pass radial=True if these are norms.",
        )
    square = h * h if m == 1 or radial else (h * h).sum(-1)
    total = np.zeros_like(square)
    for j in range(2 * order + 1):
        moment = sum(table[j, a] * series.n**-a for a in range(order + 1))
        total = total + moment * (-1 / K) ** j * eval_genlaguerre(j, m / 2 - 1, square / (2 * K))
    return total * np.exp(-square / (2 * K)) / (2 * math.pi * K) ** (m / 2)


def edgeworth(prior: ExactPrior, h: Any, order: int = 1, *, radial: bool = False) -> np.ndarray:
    """The near-Gaussian density beside an exact one: :func:`near_gaussian` of its network.

    Parameters
    ----------
    prior : ExactPrior
    h, radial
        As for ``prior.pdf``.
    order : int
        Highest power of 1/n; for unit variance and one output, order 1 adds
        κ₄ He₄(h)/24 with κ₄ = 3 V/n, order 2 κ₆ He₆/720 + κ₄² He₈/1152.

    Raises
    ------
    UsageError
        ``order`` negative.
    """
    gain = (1 + prior.slope**2) / 2
    widths = list(prior.widths)
    # C_W at criticality keeps K at the variance of the output in every layer
    arch = MLP(1, widths, prior.m, f"leaky_relu({prior.slope!r})", C_W=1 / gain)
    return near_gaussian(arch, [[prior.std() * math.sqrt(gain)]], h, order, radial=radial)
