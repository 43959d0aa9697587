"""One condition for all correlators, where they go off criticality, and their universal ratios."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from kadanoff.activations import activation
from kadanoff.critical.depth import fixed_point as kernel_fixed_point
from kadanoff.diagrams.couplings import Couplings
from kadanoff.diagrams.evaluation import evaluate
from kadanoff.diagrams.rules import Diagram, generate
from kadanoff.errors import DomainError, UsageError

__all__ = ["Condition", "condition", "saturation", "universal_ratio"]


@dataclass(frozen=True)
class Condition:
    """The linear response J of the kernel to itself: what multiplies every correlator a layer.

    Attributes
    ----------
    J : ndarray, shape (P, P)
        ∂K'_A/∂K_B over unordered pairs of inputs.
    eigenvalues : ndarray, shape (P,)
        χ∥ of every input and C_W ⟨σ'σ'⟩ of every pair, largest modulus first.
    """

    J: np.ndarray
    eigenvalues: np.ndarray

    @property
    def largest(self) -> float:
        """The largest modulus; criticality is that it be 1."""
        return float(np.abs(self.eigenvalues[0]))

    def growth(self, k: int) -> float:
        """Largest factor a layer of the homogeneous part of κ_k: J acts on each of k legs."""
        return self.largest**k


def condition(spec: Any, K: Any, C_W: float) -> Condition:
    """The one condition of criticality at kernel K.

    Parameters
    ----------
    spec : name, callable or Activation
    K : float or array, shape (N, N)
        Kernel of N inputs, not singular.
    C_W : float

    Raises
    ------
    DomainError
        K is singular.

    Notes
    -----
    The homogeneous part of the recursion of every κ_k is the one tree diagram with k vertices of
    one leg and one line each, J ⊗ … ⊗ J: if the spectrum of J is on the unit circle, all
    correlators are marginal at once.

    Examples
    --------
    >>> condition("relu", [[1.0, 0.3], [0.3, 1.0]], 2.0).eigenvalues.round(6)
    array([1.      , 1.      , 0.596987])
    """
    matrix = torch.as_tensor(np.atleast_2d(np.asarray(K, dtype=np.float64)))
    J = Couplings(activation(spec), matrix, C_W).tensor(1, 1)
    found = np.linalg.eigvals(J)
    found = np.real_if_close(found[np.argsort(-np.abs(found), kind="stable")], tol=1e6)
    return Condition(J, found)


def saturation(spec: Any, C_b: float, C_W: float, order: int = 3) -> dict[tuple[int, int], float]:
    """Where the correlators of one input settle at a stable fixed point of the kernel.

    Parameters
    ----------
    spec : name, callable or Activation
    C_b, C_W : float
    order : int
        Highest power of 1/n, as in :func:`correlators`.

    Returns
    -------
    dict
        (k, loops) -> coefficient of n^(1 − k − loops) in κ_k; (1, 0) is K*. Equal widths.

    Raises
    ------
    DomainError
        χ∥ ≥ 1 at the fixed point: correlators grow without bound.
    """
    act = activation(spec)
    K = kernel_fixed_point(act, C_b, C_W)
    if not (K > 0 and math.isfinite(K)):
        raise DomainError(f"The kernel has no positive fixed point, it goes to {K:g}.")
    couplings = Couplings(act, torch.tensor([[K]], dtype=torch.float64), C_W)
    chi = float(couplings.tensor(1, 1).reshape(()))
    if not chi < 1 - 1e-9:
        raise DomainError(
            f"chi_parallel = {chi:.6g} at the fixed point K* = {K:.6g}: nothing saturates.",
            "At criticality ask correlators() for the depth you need.",
        )
    names = [(k, p + 1 - k) for p in range(1, order + 1) for k in range(p + 1, 0, -1)]
    terms = {name: np.zeros((1,) * name[0]) for name in names}
    for k, loops in names:
        source = evaluate(generate(k, loops), couplings, terms)
        terms[k, loops] = source / (1 - chi**k)
    return {(1, 0): K} | {name: float(t.reshape(())) for name, t in terms.items()}


@lru_cache(maxsize=256)
def universal_ratio(k: int, loops: int = 0) -> Fraction:
    """R in κ_k/K^k → R (ℓ/n)^(k − 1 + loops), exactly, for critical activations with K* = 0.

    The kernel falls as K → 1/(|a₁| ℓ), so f' = 1 − 2/ℓ, f'' = −2|a₁| and the cumulants of
    s ≈ K z² are c_m = 2^(m−1) (m−1)! K^m, whatever the activation. Each diagram then is a power
    of ℓ, and the recursion an equation for R.

    Parameters
    ----------
    k, loops : int
        As in :func:`generate`, k − 1 + loops ≥ 1.

    Returns
    -------
    Fraction

    Examples
    --------
    >>> [str(universal_ratio(*name)) for name in ((2, 0), (3, 0), (4, 0), (1, 1))]
    ['2/3', '16/15', '96/35', '-1/3']
    """
    if k - 1 + loops < 1:
        raise UsageError("K itself is no ratio: ask for k >= 2, or for loops >= 1.")
    source = Fraction(0)
    for diagram in generate(k, loops):
        if diagram.legs == (1,) * k and len(diagram.blobs) == 1 and set(diagram.lines) == {1}:
            continue  # the homogeneous term, on the left-hand side
        source += _leading_power(diagram, loops - 2)
    # κ = R ℓ^(loops − 1): its slope, and the decay of k legs at 2/ℓ each
    return source / (loops - 1 + 2 * k)


def _leading_power(diagram: Diagram, wanted: int) -> Fraction:
    """Coefficient of ℓ^wanted in a diagram, in units |a₁| = n = 1; smaller powers give 0."""
    value, power, universal = diagram.coefficient, 0, True
    for m, r in zip(diagram.legs, diagram.lines):
        if (m, r) == (1, 2):
            value *= -2
        elif 1 < m >= r:
            falling = math.factorial(m) // math.factorial(m - r)
            value *= 2 ** (m - 1) * math.factorial(m - 1) * falling
            power -= m - r
        elif (m, r) != (1, 1):
            universal = False  # a constant of the activation, times ℓ⁰
    for column, inside in diagram.blobs:
        value *= universal_ratio(sum(column), inside)
        power += inside - 1
    assert power < wanted or (universal and power == wanted)
    return value if power == wanted else Fraction(0)
