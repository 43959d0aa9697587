"""The 1/n shift of the mode of correlations at a fixed point of two inputs, c* < 1 included.

The state is x = (Ĝ11, Ĝ12, Ĝ22) − its fixed point. One layer maps its mean by
F = J x + ½ H(x,x) + (1/6) G(x,x,x) and adds noise of covariance v(x)/n. Perturbation theory in
1/n for the eigenvalue of the transition operator that starts at J_{12,12} needs two linear
solves, for the quadratic and the cubic part of its left eigenfunction.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kadanoff.activations import Activation
from kadanoff.activations.base import autodiff
from kadanoff.errors import AnalysisError, ConvergenceError
from kadanoff.gaussian import one
from kadanoff.gaussian.hermite import hermite_polynomials
from kadanoff.gaussian.kinked import panels

__all__ = ["correlation_mode"]

# components 11, 12, 22: powers of σ₁ and σ₂ in s_A, and orders of ∂₁, ∂₂ in ∂/∂K_A
_POWERS = ((2, 0), (1, 1), (0, 2))
_HALF = (0.5, 1.0, 0.5)
# Gauss-Legendre orders of a panel: the first two that agree are taken
_ORDERS = (40, 56, 90, 120)
_AGREE = 1e-9
_TOP = 6

Average = Callable[[int, int, int, int], Tensor]


def correlation_mode(act: Activation, C_W: float, K: float, c: float) -> tuple[float, float]:
    """Eigenvalue λ(n) = λ₀ + λ₁/n + O(1/n²) of the correlation at the fixed point (K, cK, K).

    Parameters
    ----------
    act : Activation
        With kinks only at |c| < 1.
    C_W : float
    K, c : float
        Fixed point of the magnitude and of the correlation.

    Returns
    -------
    λ₀, λ₁ : float
        λ₀ = C_W ⟨σ'(z₁)σ'(z₂)⟩.

    Raises
    ------
    AnalysisError
        A kinked activation at |c| = 1, or χ∥ = λ₀ (the two modes mix).
    ConvergenceError
        The averages did not converge.
    """
    if abs(c) > 1 - 1e-9:
        return _solve(*_tables(_coincident(act, K, c), C_W))
    found: list[tuple[float, float]] = []
    for order in _ORDERS:
        found.append(_solve(*_tables(_hermite_average(act, K, c, order), C_W)))
        if len(found) > 1 and abs(found[-1][1] - found[-2][1]) < _AGREE * (1 + abs(found[-1][1])):
            return found[-1]
    if abs(found[-1][1] - found[-2][1]) > 1e-6 * (1 + abs(found[-1][1])):
        raise ConvergenceError(
            f"The averages over two inputs at K = {K:g}, c = {c:g} did not converge "
            f"({found[-1][1]:g} against {found[-2][1]:g}).",
            "Declare the kinks of the activation.",
        )
    return found[-1]


def _coincident(act: Activation, K: float, c: float) -> Average:
    """``f(p, q, i, j)`` = ⟨(σᵖ)⁽ⁱ⁾(z₁) (σ^q)⁽ʲ⁾(z₂)⟩ at z₂ = ±z₁, where K is singular."""
    if not act.smooth:
        raise AnalysisError(
            f"{act.name} has a kink: at correlation {c:g} its kernel has no derivatives.",
            "Use the closed form of the ordered phase, finite_width_scales.",
        )
    sign = 1.0 if c > 0 else -1.0

    def average(p: int, q: int, i: int, j: int) -> Tensor:
        f = autodiff(lambda z: act(z) ** p, i)
        g = autodiff(lambda z: act(z) ** q, j)
        return one(lambda z: f(z) * g(sign * z), K).value

    return average


def _hermite_average(act: Activation, K: float, c: float, order: int) -> Average:
    """``f(p, q, i, j)`` = ∂₁ⁱ ∂₂ʲ ⟨σ(z₁)ᵖ σ(z₂)^q⟩ by derivatives of the Gaussian."""
    covariance = torch.tensor([[K, c * K], [c * K, K]], dtype=torch.float64)
    P = torch.linalg.inv(covariance)
    # a polynomial never jumps, so the same rule serves every order of derivative
    total: dict[tuple[int, int, int, int], Tensor] = {}
    wanted = [
        (p, q, i, j)
        for p in range(5)
        for q in range(5 - p)
        for i in range(_TOP + 1)
        for j in range(_TOP + 1 - i)
        if (i + j) % 2 == 0 and (i + j <= 2 or p + q == 2)
    ]
    for z, w in panels(covariance, act.kinks, order):
        weights = hermite_polynomials(z @ P, P, _TOP)
        s = act(z)
        for p, q, i, j in wanted:
            value = (w * weights[i, j] * s[:, 0] ** p * s[:, 1] ** q).sum()
            total[p, q, i, j] = total.get((p, q, i, j), 0.0) + value
    return lambda p, q, i, j: total[p, q, i, j]


def _tables(average: Average, C_W: float) -> tuple[Tensor, ...]:
    """J (3,3), H (3,3,3), G (3,3,3,3), v (3,3) and ∂v/∂K12 (3,3)."""
    cache: dict[tuple[int, int, int, int], float] = {}

    def derivative(p: int, q: int, *by: int) -> float:
        i = sum(_POWERS[P][0] for P in by)
        j = sum(_POWERS[P][1] for P in by)
        if (p, q, i, j) not in cache:
            cache[p, q, i, j] = float(average(p, q, i, j))
        factor = 1.0
        for P in by:
            factor *= _HALF[P]
        return factor * cache[p, q, i, j]

    R = range(3)
    J = torch.tensor([[C_W * derivative(*_POWERS[A], P) for P in R] for A in R]).double()
    H = torch.zeros(3, 3, 3, dtype=torch.float64)
    G = torch.zeros(3, 3, 3, 3, dtype=torch.float64)
    v, dv = (torch.zeros(3, 3, dtype=torch.float64) for _ in range(2))
    for A in R:
        for P in R:
            J[A, P] = C_W * derivative(*_POWERS[A], P)
            for Q in R:
                H[A, P, Q] = C_W * derivative(*_POWERS[A], P, Q)
                for S in R:
                    G[A, P, Q, S] = C_W * derivative(*_POWERS[A], P, Q, S)
        for B in R:
            both = _POWERS[A][0] + _POWERS[B][0], _POWERS[A][1] + _POWERS[B][1]
            a, b = derivative(*_POWERS[A]), derivative(*_POWERS[B])
            slope = derivative(*_POWERS[A], 1) * b + a * derivative(*_POWERS[B], 1)
            v[A, B] = C_W**2 * (derivative(*both) - a * b)
            dv[A, B] = C_W**2 * (derivative(*both, 1) - slope)
    return J, H, G, v, dv


def _solve(J: Tensor, H: Tensor, G: Tensor, v: Tensor, dv: Tensor) -> tuple[float, float]:
    rate = J[1, 1]
    if min(abs(rate - J[0, 0]), abs(rate - J[2, 2])) < 1e-9:
        raise AnalysisError(
            f"Magnitude and correlation decay alike here ({float(rate):g}): their modes mix.",
            "Move C_W or C_b a little.",
        )
    left = torch.stack(
        [J[1, 0] / (rate - J[0, 0]), torch.ones_like(rate), J[1, 2] / (rate - J[2, 2])]
    )
    eye2, eye3 = (torch.eye(d, dtype=torch.float64) for d in (9, 27))
    pull2 = torch.kron(J, J).mT
    A = torch.linalg.solve(rate * eye2 - pull2, torch.einsum("a,aij->ij", left, H).reshape(9))
    A = A.reshape(3, 3)
    source = torch.einsum("a,aijk->ijk", left, G)
    mixed = torch.einsum("ab,ai,bjk->ijk", A, J, H)
    source = source + mixed + mixed.permute(1, 0, 2) + mixed.permute(2, 1, 0)
    pull3 = torch.kron(torch.kron(J, J), J).mT
    B = torch.linalg.solve(rate * eye3 - pull3, source.reshape(27)).reshape(3, 3, 3)
    shift = 0.5 * ((dv * A).sum() + torch.einsum("bc,bcd,d->", v, B, J[:, 1]))
    return float(rate), float(shift)
