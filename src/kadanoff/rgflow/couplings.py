"""Near-Gaussian expansion as sparsity: how few numbers describe the output of a network.

At order 1/n^P the ensemble of networks on N_D inputs is fixed by the cumulants of the metric up
to the (P+1)-th, whatever the number of parameters. For one input the numbers are enough to write
the density of the output down, order by order.
"""

from __future__ import annotations

import math

import numpy as np

from kadanoff.errors import UsageError
from kadanoff.rgflow.single import MomentSeries

__all__ = ["component_counts", "metric_couplings", "output_density"]


def component_counts(N_D: int) -> dict[str, int]:
    """Independent components of every observable on N_D inputs, from its symmetries.

    K, Θ and their 1/n corrections have M = N_D(N_D+1)/2; V and A are symmetric M × M; D is
    M × M; F, S, T, U are symmetric in their pairs (N_D² each); B has the Klein group of slot
    exchanges; P and R are N_D² × M; Q has no symmetry.
    """
    if int(N_D) != N_D or N_D < 1:
        raise UsageError(f"The number of inputs must be a whole number >= 1, got {N_D!r}.")
    N = int(N_D)
    M = N * (N + 1) // 2
    sym, pairs = M * (M + 1) // 2, N**2 * (N**2 + 1) // 2
    return {
        "K": M,
        "Theta": M,
        "G1": M,
        "H1": M,
        "V": sym,
        "A": sym,
        "D": M * M,
        "F": pairs,
        "S": pairs,
        "T": pairs,
        "U": pairs,
        "B": (N**4 + 3 * N**2) // 4,
        "P": N**2 * M,
        "R": N**2 * M,
        "Q": N**4,
    }


def metric_couplings(N_D: int, order: int) -> int:
    """Numbers that fix the output distribution on N_D inputs at order 1/n^``order``.

    The j-th cumulant of the metric starts at order j − 1 and is a symmetric tensor of j pairs of
    inputs, C(M + j − 1, j) components, each a series up to the order wanted.
    """
    if order < 0:
        raise UsageError(f"The order must be >= 0, got {order}.")
    M = component_counts(N_D)["K"]
    return sum((order - j + 2) * math.comb(M + j - 1, j) for j in range(1, order + 2))


def output_density(
    series: MomentSeries, z, order: int, *, n: int | None = None, layer: int = -1
) -> np.ndarray:
    """Density of one output neuron at one input, to order 1/n^``order``.

    Parameters
    ----------
    series : MomentSeries
        From :func:`kadanoff.rgflow.moment_series`.
    z : array
    order : int
        0 is the Gaussian of variance K; 1 the quartic correction; at most ``series.order``.
    n : int, optional
        Width; default that of the series.
    layer : int
        Index into the series; default the output.

    Returns
    -------
    ndarray, shape of ``z``

    Notes
    -----
    Given the metric the output is N(0, Ĝ), so p(z) = Σ_m E[Δ^m] ∂_K^m N(z; K)/m!, and
    ∂_K^m N = N He_{2m}(z/√K)/(2K)^m. It may turn negative where the expansion fails.
    """
    if not 0 <= order <= series.order:
        raise UsageError(f"The series is known to order {series.order}, not {order}.")
    z = np.asarray(z, dtype=float)
    K = series.K[layer]
    x = z / math.sqrt(K)
    powers = (1.0 / (n or series.n)) ** np.arange(order + 1)
    total = np.zeros_like(x)
    low, high = np.ones_like(x), x
    for m in range(2 * order + 1):
        moment = float(series.moments[layer, m, : order + 1] @ powers)
        total += moment * low / ((2 * K) ** m * math.factorial(m))
        for j in (2 * m + 1, 2 * m + 2):
            low, high = high, x * high - j * low
    return np.exp(-0.5 * x * x) / math.sqrt(2 * math.pi * K) * total
