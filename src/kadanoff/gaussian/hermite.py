"""Hermite polynomials that move derivatives off a function and onto the Gaussian."""

from __future__ import annotations

from torch import Tensor

__all__ = ["even_hermite", "hermite_polynomials"]


def hermite_polynomials(y: Tensor, P: Tensor, top: int) -> dict[tuple[int, int], Tensor]:
    """He_{mn}: ⟨∂_1^m ∂_2^n f⟩ = ⟨He_{mn} f⟩, by three-term recursion.

    Parameters
    ----------
    y : Tensor, shape (M, 2)
        P z at the nodes z.
    P : Tensor, shape (2, 2)
        Inverse covariance.
    top : int
        Largest m + n.

    Returns
    -------
    dict of (m, n) to Tensor, shape (M,)
    """
    h = {(0, 0): y.new_ones(len(y))}
    zero = y.new_zeros(len(y))
    for m in range(top + 1):
        for n in range(top + 1 - m):
            if (m, n) == (0, 0):
                continue
            if m > 0:
                lower = h.get((m - 2, n), zero), h.get((m - 1, n - 1), zero)
                h[m, n] = (
                    y[:, 0] * h[m - 1, n] - (m - 1) * P[0, 0] * lower[0] - n * P[0, 1] * lower[1]
                )
            else:
                h[m, n] = y[:, 1] * h[m, n - 1] - (n - 1) * P[1, 1] * h.get((m, n - 2), zero)
    return h


def even_hermite(z: Tensor, K: Tensor | float, r: int) -> Tensor:
    """He_{2r}(z/√K)/(2K)^r: ∂ʳ⟨f⟩_K/∂Kʳ = ⟨f(z) even_hermite(z, K, r)⟩, shaped like ``z``.

    Parameters
    ----------
    z : Tensor
    K : Tensor or float
        Variance, > 0; broadcast against ``z``.
    r : int
        Derivatives by K.
    """
    x = z / K**0.5
    low, high = x * 0 + 1, x
    for m in range(1, 2 * r):
        low, high = high, x * high - m * low
    return (high if r else low) / (2 * K) ** r
