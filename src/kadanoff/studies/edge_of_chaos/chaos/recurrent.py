r"""Dynamical mean field of random recurrent networks, and their largest Lyapunov exponent.

.. math:: \dot h_i = -\gamma h_i + \sum_j W_{ij}\sigma(h_j) + b_i + \eta_i,

W_ij ~ N(0, C_W/N) and b_i ~ N(0, C_b) fixed in time, ⟨ηη⟩ = D δ(t−t'). As N → ∞ every h_i is a
Gaussian process whose covariance C(τ) moves like a particle in a potential,

.. math:: C'' = -U'(C), \qquad U'(C) = -\gamma^2 C + C_W \langle\sigma\sigma\rangle(C; C_0) + C_b,

with C'(0+) = −D/2. The energy fixes C_0 = C(0); two replicas of the network then separate at the
rate set by the ground state of a Schrödinger equation in the potential of the motion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.polynomial import chebyshev

from kadanoff.activations import Activation, activation
from kadanoff.critical.susceptibility import squared_slope
from kadanoff.errors import AnalysisError, ConvergenceError, UsageError
from kadanoff.gaussian import averages

__all__ = ["MeanField", "dual", "mean_field", "static_state"]

_NODES = 48  # Chebyshev nodes in C


@dataclass(frozen=True)
class MeanField:
    """Stationary state of the infinite random recurrent network.

    Attributes
    ----------
    C_0, C_inf : float
        Variance of h_i over neurons, and the part that never decorrelates in time (frozen).
    static : bool
        Whether activity is constant in time (C_0 = C_inf): only without noise.
    E_0 : float
        Ground state of the two-replica problem; negative in the chaotic phase.
    lyapunov : float
        Largest Lyapunov exponent λ = −γ + √(γ² − E_0).
    edge : float
        √C_W ⟨σ'²⟩^½ − γ at the static solution: its sign is the mean-field phase.
    tau, C : ndarray
        Autocorrelation C(τ) on a grid of times.
    """

    C_0: float
    C_inf: float
    static: bool
    E_0: float
    lyapunov: float
    edge: float
    tau: np.ndarray
    C: np.ndarray


def dual(act: Activation, C_0: float, C: np.ndarray, k: int = 0) -> np.ndarray:
    """⟨σ⁽ᵏ⁾(x)σ⁽ᵏ⁾(y)⟩, k = 0 or 1, for variance C_0 and covariances C ≥ 0, shape of ``C``."""
    C = np.asarray(C, dtype=float)
    flat = torch.from_numpy(np.clip(C.ravel(), 0.0, C_0))
    variance = torch.full_like(flat, C_0)
    return averages(act, variance, flat, variance)[k].numpy().reshape(C.shape)


@dataclass(frozen=True)
class _Potential:
    """−U'(C) = (C − C_inf) h(C) and U(C_inf) − U(C) = (C − C_inf)² k(C) for one C_0."""

    C_0: float
    C_inf: float
    force: np.ndarray  # Chebyshev coefficients of ⟨σσ⟩(C) on [0, C_0]
    k: np.ndarray  # of k(C) on [C_inf, C_0]

    @property
    def excess(self) -> float:
        """U(C_inf) − U(C_0): the kinetic energy a particle has at C_0."""
        return float(chebyshev.chebval(1.0, self.k)) * (self.C_0 - self.C_inf) ** 2


def _unit(order: int) -> np.ndarray:
    return np.cos(np.pi * (np.arange(order) + 0.5) / order)


def _fit(function, low: float, high: float) -> np.ndarray:
    x = _unit(_NODES)
    return chebyshev.chebfit(x, function(low + (high - low) * (x + 1) / 2), _NODES - 1)


def _evaluate(coefficients: np.ndarray, C, low: float, high: float):
    return chebyshev.chebval((2 * np.asarray(C) - low - high) / (high - low), coefficients)


def _potential(act: Activation, C_b: float, C_W: float, gamma: float, C_0: float):
    """The potential for a trial C_0, or None if the motion has no resting place below C_0."""
    force = _fit(lambda C: dual(act, C_0, C), 0.0, C_0)

    def slope(C):
        return -(gamma**2) * C + C_W * _evaluate(force, C, 0.0, C_0) + C_b

    C_inf = _resting_place(slope, C_0)
    if C_inf is None:
        return None
    weight = _fit(
        lambda C: (slope(C) - slope(C_inf)) / (C - C_inf), C_inf, C_0
    )  # negative where the resting place attracts in time
    s, w = np.polynomial.legendre.leggauss(_NODES)
    s, w = (s + 1) / 2, w / 2

    def k(C):
        points = C_inf + s[:, None] * (C - C_inf)
        return -((w * s)[:, None] * _evaluate(weight, points, C_inf, C_0)).sum(0)

    return _Potential(C_0, C_inf, force, _fit(k, C_inf, C_0))


def _resting_place(slope, C_0: float) -> float | None:
    """The lowest covariance in [0, C_0) at which U' vanishes; U' is convex there."""
    from scipy.optimize import brentq

    if slope(0.0) <= 1e-13 * C_0:
        return 0.0
    grid = np.linspace(0.0, C_0, 401)
    below = np.nonzero(slope(grid) < 0)[0]
    if not len(below):
        return None
    root: Any = brentq(slope, grid[below[0] - 1], grid[below[0]], xtol=1e-15)
    return root


def mean_field(
    spec: Any, C_W: float, C_b: float = 0.0, *, gamma: float = 1.0, D: float = 0.0
) -> MeanField:
    """Stationary autocorrelation and largest Lyapunov exponent at infinite N.

    Parameters
    ----------
    spec : name, callable, torch module or Activation
    C_W, C_b : float
        Var W = C_W/N, Var b = C_b, both fixed in time.
    gamma : float
        Leak, > 0.
    D : float
        Strength of white noise on every neuron.

    Returns
    -------
    MeanField

    Raises
    ------
    UsageError
    AnalysisError
        Activity grows without bound.
    ConvergenceError

    Notes
    -----
    Without noise the network rests (C constant) while C_W ⟨σ'²⟩ < γ², which is the line of
    criticality of the MLP for γ = 1, and is chaotic beyond. Sompolinsky, Crisanti & Sommers
    (1988); Grosvenor & Jefferson (2021) for the link with MLPs.

    Examples
    --------
    >>> state = mean_field("tanh", 4.0)
    >>> round(state.C_0, 4), round(state.lyapunov, 4)
    (1.9248, 0.1125)
    """
    from scipy.optimize import brentq

    act = activation(spec)
    for name, value in (("C_W", C_W), ("C_b", C_b), ("D", D)):
        if not (math.isfinite(value) and value >= 0):
            raise UsageError(f"{name} must be finite and >= 0, got {value}.")
    if not (math.isfinite(gamma) and gamma > 0):
        raise UsageError(f"gamma must be finite and > 0, got {gamma}.")
    q, edge = static_state(act, C_W, C_b, gamma=gamma)
    if D == 0 and edge <= 1e-9:
        tau = np.linspace(0.0, 10 / gamma, 11)
        E_0 = gamma**2 - (edge + gamma) ** 2
        return MeanField(q, q, True, E_0, edge, edge, tau, np.full(11, q))

    def energy(C_0: float) -> float:
        found = _potential(act, C_b, C_W, gamma, C_0)
        if found is None:
            return -1.0
        # divided by the squared distance: C_0 = C_inf solves the undivided equation trivially
        return found.excess / (C_0 - found.C_inf) ** 2 - D**2 / 8 / (C_0 - found.C_inf) ** 2

    if D == 0:
        low, high = 1e-6 * q, q * (1 - 1e-7)
        if energy(high) <= 0:
            raise ConvergenceError(
                f"Activity is chaotic but too near the edge to resolve ({edge:.1g} beyond it).",
                "Raise C_W a little; static_state tells on which side of the edge you are.",
            )
    else:
        low = max(q * (1 - 1e-7), 1e-9)
        high = 2 * low + D / gamma
        for _ in range(60):
            if energy(high) > 0:
                break
            high *= 2
        else:
            raise AnalysisError(
                f"Activity of {act.name} grows without bound at C_W = {C_W:g}.", "Lower C_W."
            )
        low = low if energy(low) < 0 else 1e-6 * low
    root: Any = brentq(energy, low, high, xtol=1e-13 * high)
    potential = _potential(act, C_b, C_W, gamma, root)
    if potential is None:
        raise ConvergenceError(
            f"No stationary activity was found at C_W = {C_W:g}, C_b = {C_b:g}.",
            "Move away from the edge of chaos.",
        )
    tau, C = _motion(potential, D)
    E_0 = _ground_state(act, potential.C_0, tau, C, C_W, gamma)
    lyapunov = -gamma + math.sqrt(gamma**2 - E_0)
    return MeanField(potential.C_0, potential.C_inf, False, E_0, lyapunov, edge, tau, C)


def static_state(
    spec: Any, C_W: float, C_b: float = 0.0, *, gamma: float = 1.0
) -> tuple[float, float]:
    """Variance of a network at rest, γ² q = C_W ⟨σ²⟩_q + C_b, and how unstable rest is.

    Returns
    -------
    q, edge : float
        ``edge`` = √(C_W ⟨σ'²⟩_q) − γ is the Lyapunov exponent of the state of rest: positive
        beyond the edge of chaos, where it is left.

    Raises
    ------
    AnalysisError
        There is no such state: activity grows without bound.
    """
    from kadanoff.critical import fixed_point

    act = activation(spec)
    q = fixed_point(act, C_b / gamma**2, C_W / gamma**2, K=4.0)
    if math.isinf(q):
        raise AnalysisError(
            f"Activity of {act.name} grows without bound at C_W = {C_W:g}, gamma = {gamma:g}.",
            "Lower C_W or raise gamma.",
        )
    return q, math.sqrt(C_W * float(squared_slope(act, q))) - gamma


def _motion(potential: _Potential, D: float) -> tuple[np.ndarray, np.ndarray]:
    """C(τ) until it has come to rest."""
    from scipy.integrate import solve_ivp

    C_0, C_inf, k = potential.C_0, potential.C_inf, potential.k
    span = C_0 - C_inf
    rest = math.sqrt(2 * float(chebyshev.chebval(-1.0, k)))  # decay rate at the resting place
    end = 36 / rest
    tau = np.linspace(0.0, end, 24_001)
    if D > 0:
        start = [C_0]

        def fall(_: float, C):
            return -(C - C_inf) * np.sqrt(np.maximum(2 * _evaluate(k, C, C_inf, C_0), 0))
    else:
        # with C_0 − C = y² the turning point at C_0 is an ordinary point of dy/dτ
        g = _fit(
            lambda C: 2 * _evaluate(k, C, C_inf, C_0) / np.maximum(C_0 - C, 1e-300), C_inf, C_0
        )
        start = [0.0]

        def fall(_: float, C):
            left = C_0 - C * C
            return 0.5 * (left - C_inf) * np.sqrt(np.maximum(_evaluate(g, left, C_inf, C_0), 0))

    found = solve_ivp(fall, (0.0, end), start, "DOP853", tau, rtol=1e-11, atol=1e-13 * span)
    if not found.success:
        raise ConvergenceError(f"The autocorrelation could not be integrated: {found.message}")
    C = found.y[0] if D > 0 else C_0 - found.y[0] ** 2
    return tau, np.clip(C, C_inf, C_0)


def _ground_state(
    act: Activation, C_0: float, tau: np.ndarray, C: np.ndarray, C_W: float, gamma: float
) -> float:
    """Lowest eigenvalue of −∂² + γ² − C_W ⟨σ'σ'⟩(C(τ)) on the line: an even function of τ."""
    from scipy.linalg import eigh_tridiagonal

    slopes = _fit(lambda c: dual(act, C_0, c, 1), 0.0, C_0)
    potential = gamma**2 - C_W * _evaluate(slopes, C, 0.0, C_0)

    def lowest(step: int) -> float:
        h = tau[step] - tau[0]
        V = potential[::step]
        # even states: ψ(−h) = ψ(h), made symmetric by halving the first weight
        off = np.full(len(V) - 1, -1 / h**2)
        off[0] *= math.sqrt(2)
        return float(
            eigh_tridiagonal(V + 2 / h**2, off, select="i", select_range=(0, 0), eigvals_only=True)[
                0
            ]
        )

    fine, coarse = lowest(1), lowest(2)
    # without a bound state the spectrum starts where the potential ends, up to the finite box
    return min((4 * fine - coarse) / 3, float(potential[-1]))
