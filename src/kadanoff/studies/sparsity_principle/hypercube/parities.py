"""Functions of n bits in the basis of parities: f(x) = Σ_S f̂_S χ_S(x), χ_S(x) = Π_{j∈S} x_j.

Points and parities are numbered alike: bit j of the number of a point says whether x_j = −1, bit
j of the number of a parity whether j belongs to S. Functions are arrays of 2^n values along the
last axis.
"""

from __future__ import annotations

import numpy as np

from kadanoff.errors import UsageError

__all__ = [
    "degrees",
    "effective_couplings",
    "inverse_walsh",
    "kernel_spectrum",
    "points",
    "walsh",
    "weight_by_degree",
]


def _bits(size: int) -> int:
    n = size.bit_length() - 1
    if size < 1 or 1 << n != size:
        raise UsageError(
            f"A function of n bits has 2^n values, got {size}.", "Give all points of the hypercube."
        )
    return n


def points(n: int) -> np.ndarray:
    """The corners of the hypercube, shape (2^n, n), entries ±1.

    Raises
    ------
    UsageError
        n outside 1 … 20.
    """
    if not 1 <= n <= 20:
        raise UsageError(f"n must lie between 1 and 20 to list 2^n points, got {n}.")
    number = np.arange(1 << n)
    return 1.0 - 2.0 * ((number[:, None] >> np.arange(n)) & 1)


def degrees(n: int) -> np.ndarray:
    """|S| of every parity, shape (2^n,)."""
    return np.array([bin(s).count("1") for s in range(1 << n)])


def inverse_walsh(coefficients: np.ndarray) -> np.ndarray:
    """Values Σ_S f̂_S χ_S(x) from coefficients, by the fast transform along the last axis."""
    f = np.array(coefficients, dtype=float)
    n = _bits(f.shape[-1])
    for j in range(n):
        pairs = f.reshape(*f.shape[:-1], -1, 2, 1 << j)
        low, high = pairs[..., 0, :].copy(), pairs[..., 1, :].copy()
        pairs[..., 0, :], pairs[..., 1, :] = low + high, low - high
    return f


def walsh(values: np.ndarray) -> np.ndarray:
    """Coefficients f̂_S = 2^−n Σ_x f(x) χ_S(x), along the last axis; Σ f̂² = mean of f²."""
    values = np.asarray(values, dtype=float)
    return inverse_walsh(values) / values.shape[-1]


def weight_by_degree(coefficients: np.ndarray) -> np.ndarray:
    """Share of Σ f̂_S² at each degree |S| = 0 … n, shape (..., n + 1)."""
    square = np.asarray(coefficients, dtype=float) ** 2
    n = _bits(square.shape[-1])
    table = degrees(n)[:, None] == np.arange(n + 1)
    return square @ table / square.sum(-1, keepdims=True)


def effective_couplings(coefficients: np.ndarray) -> np.ndarray:
    """exp(entropy of f̂_S²/Σf̂²): how many parities a function is made of, along the last axis."""
    share = np.asarray(coefficients, dtype=float) ** 2
    share = share / share.sum(-1, keepdims=True)
    safe = np.where(share > 0, share, 1.0)
    return np.exp(-(share * np.log(safe)).sum(-1))


def kernel_spectrum(gram: np.ndarray) -> tuple[np.ndarray, float]:
    """Eigenvalues, one per degree, of a kernel that depends on x·x' only.

    Parameters
    ----------
    gram : array, shape (2^n, 2^n)
        On :func:`points`.

    Returns
    -------
    eigenvalues : ndarray, shape (n + 1,)
        Of k(x, x') with the uniform average over x': Σ over S of eigenvalue χ_S(x)χ_S(x').
    residue : float
        Largest entry of the Gram matrix in the parity basis that is not on the diagonal, or
        differs from its degree's eigenvalue, relative to the largest eigenvalue: 0 for such a
        kernel.
    """
    matrix = np.asarray(gram, dtype=float)
    n = _bits(matrix.shape[-1])
    if matrix.shape != (1 << n, 1 << n):
        raise UsageError(f"A Gram matrix on the hypercube is (2^n, 2^n), got {matrix.shape}.")
    both = walsh(walsh(matrix).T)
    degree = degrees(n)
    values = np.array([np.diag(both)[degree == d].mean() for d in range(n + 1)])
    residue = np.abs(both - np.diag(values[degree])).max() / np.abs(values).max()
    return values, float(residue)
