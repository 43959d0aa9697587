"""ln E[rᵃ] of the output's norm for complex a: the one function the exact prior is made of.

In law h = κ z Π_ℓ χ_ℓ: z standard normal in Rᵐ, χ_ℓ independent chi variables with n_ℓ degrees
of freedom (linear), or with a binomial number of them (ReLU). Hence E[rᵃ] is a product over
layers, and for ReLU a product of sums instead of a sum over all combinations.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
from scipy.special import betaln, gammaln, loggamma

__all__ = ["LogMoment", "cumulants_of", "moments_of"]


class LogMoment:
    """ln E[rᵃ], r = ‖h‖/κ, for the part of the law away from the atom at zero.

    Parameters
    ----------
    widths : tuple of int
        Hidden widths n_1 … n_{d−1}.
    m : int
        Output dimension.
    slope : float
        Slope for negative preactivations: 1 linear, 0 ReLU, between them leaky ReLU.
    """

    def __init__(self, widths: tuple[int, ...], m: int, slope: float) -> None:
        self.widths, self.m, self.slope = widths, m, slope
        # the nearest pole: the fewest degrees of freedom among the factors. A ReLU layer may have
        # a single unit on; a leaky one always has all n
        self.lowest = -min([m, *(widths if slope else (1,) * len(widths))])
        self._layers = {n: self._layer(n) for n in set(widths)}

    def __call__(self, a: Any) -> Any:
        a = np.asarray(a, dtype=complex)
        m = self.m
        total = 0.5 * a * math.log(2) + loggamma((m + a) / 2) - gammaln(m / 2)
        for n in self.widths:
            total = total + self._layers[n](a)
        return total

    def _layer(self, n: int):
        if self.slope == 1:
            return lambda a: 0.5 * a * math.log(2) + loggamma((n + a) / 2) - gammaln(n / 2)
        k = np.arange(0, n + 1)
        weight = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) - n * math.log(2)
        if self.slope == 0:
            front = weight[1:] - gammaln(k[1:] / 2)

            def relu(a: np.ndarray) -> np.ndarray:
                return 0.5 * a * math.log(2) + _log_sum(front + _log_gammas(a, n))

            return relu
        return self._leaky(n, weight)

    def _leaky(self, n: int, weight: np.ndarray):
        """‖σ(z)‖² = χ²_n (1 − (1 − α²) B), B ~ Beta((n−k)/2, k/2) the share of negative units."""
        ln_share, ln_weight = [np.zeros(1)], [weight[n:]]
        ln_share.append(np.full(1, math.log(self.slope)))
        ln_weight.append(weight[:1])
        if n > 1:
            share, mixed = _shares(n, weight, self.slope)
            ln_share.append(share)
            ln_weight.append(mixed)
        y, w = np.concatenate(ln_share), np.concatenate(ln_weight)
        norm = gammaln(n / 2)

        def leaky(a: np.ndarray) -> np.ndarray:
            mixture = _log_sum(w + a[..., None] * y)
            return 0.5 * a * math.log(2) + loggamma((n + a) / 2) - norm + mixture

        return leaky

    def layer(self, n: int, a: Any) -> Any:
        """The share of one layer of width ``n``."""
        return self._layers[n](a)

    def slopes(self, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """L'(a) and L''(a) at real a, by complex steps."""
        first, wide = self.slope_at(a), 1e-3 * (a - self.lowest)
        return first, (self.slope_at(a + wide) - self.slope_at(a - wide)) / (2 * wide)

    def slope_at(self, a: np.ndarray) -> np.ndarray:
        """L'(a) at real a, by a complex step."""
        # small enough that the phase, known only modulo 2π, stays far below π
        h = np.minimum(1e-6 * (a - self.lowest), 1e-2) / np.log(2 + np.abs(a))
        return self(a + 1j * h).imag / h

    def layer_cumulants(self, n: int, order: int) -> list[Fraction]:
        """Cumulants 1 … order of ‖σ(z)‖² over one layer, exactly: n times those of σ(z_1)²."""
        slope = Fraction(self.slope)
        raw = [Fraction(1)]
        for j in range(1, order + 1):
            raw.append(raw[-1] * (2 * j - 1) * (1 + slope ** (2 * j)) / (1 + slope ** (2 * j - 2)))
        return [n * c for c in cumulants_of(raw)]

    def even_moments(self, order: int) -> list[Fraction]:
        """E[Πχ²ʲ], j = 0 … order: exact rational numbers (the atom counts as zero)."""
        product = [Fraction(1)] * (order + 1)
        for n in self.widths:
            own = moments_of(self.layer_cumulants(n, order))
            product = [a * b for a, b in zip(product, own, strict=True)]
        return product


def cumulants_of(raw: list[Fraction]) -> list[Fraction]:
    """Cumulants 1, 2, … of raw moments 0, 1, 2, …."""
    found: list[Fraction] = []
    for j in range(1, len(raw)):
        rest = sum(math.comb(j - 1, i - 1) * found[i - 1] * raw[j - i] for i in range(1, j))
        found.append(raw[j] - rest)
    return found


def moments_of(cumulants: list[Fraction]) -> list[Fraction]:
    """Raw moments 0, 1, 2, … of cumulants 1, 2, …."""
    raw = [Fraction(1)]
    for j in range(1, len(cumulants) + 1):
        terms = (math.comb(j - 1, i - 1) * cumulants[i - 1] * raw[j - i] for i in range(1, j + 1))
        raw.append(sum(terms, Fraction(0)))
    return raw


def _shares(n: int, weight: np.ndarray, slope: float) -> tuple[np.ndarray, np.ndarray]:
    """½ ln(1 − (1 − α²) B) at nodes of the law of B, both signs occurring, and ln of the weights.

    Double exponential rule B = 1/(1 + exp(−π sinh τ)): square roots at the ends do no harm, a
    moment of any order finds nodes where it lives, and the step resolves both oscillations up to
    heights where Γ has decayed and the law of a wide layer.
    """
    step = min(0.012, 0.4 / math.sqrt(n))
    tau = step * np.arange(-math.ceil(4.6 / step), math.ceil(4.6 / step) + 1)
    exponent = np.pi * np.sinh(tau)
    ln_B, ln_rest = -np.logaddexp(0, -exponent), -np.logaddexp(0, exponent)
    k = np.arange(1, n)
    front = weight[1:n] - betaln((n - k) / 2, k / 2)
    parts = [
        _log_sum(front + 0.5 * ((n - k) * B[:, None] + k * rest[:, None]))
        for B, rest in zip(
            np.array_split(ln_B, 1 + len(tau) * n // 10**7),
            np.array_split(ln_rest, 1 + len(tau) * n // 10**7),
        )
    ]
    ln_weight = np.concatenate(parts) + np.log(np.pi * np.cosh(tau) * step)
    lost = 1 - slope**2
    near_one = np.log(np.exp(ln_rest) + slope**2 * np.exp(ln_B))
    share = 0.5 * np.where(exponent < 0, np.log1p(-lost * np.exp(ln_B)), near_one)
    return share, ln_weight


def _log_gammas(a: np.ndarray, n: int) -> np.ndarray:
    """ln Γ((k + a)/2) for k = 1 … n along a new last axis, by the recurrence in steps of two."""
    logs = np.log((np.arange(1, max(n, 3) - 1) + a[..., None]) / 2)
    out = np.empty((*a.shape, n), dtype=complex)
    for start in (0, 1):
        column = out[..., start::2]
        if column.shape[-1]:
            column[..., 0] = loggamma((start + 1 + a) / 2)
            column[..., 1:] = logs[..., start::2][..., : column.shape[-1] - 1]
            np.cumsum(column, axis=-1, out=column)
    return out


def _log_sum(terms: Any) -> Any:
    """Complex log-sum-exp along the last axis."""
    top = terms.real.max(-1, keepdims=True)
    return np.log(np.exp(terms - top).sum(-1)) + top[..., 0]
