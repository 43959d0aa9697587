"""Depth scales away from criticality: over how many layers magnitude and angle are forgotten."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from kadanoff.activations import Activation, activation
from kadanoff.critical.susceptibility import square_mean, susceptibilities
from kadanoff.errors import UsageError
from kadanoff.gaussian import pair

__all__ = ["DepthScales", "depth_scales", "fixed_point"]

# beyond this kernel a run-away is called infinite; below it, a decay is called zero
_INFINITE, _ZERO = 1e8, 1e-12
_LAYERS = 20_000


@dataclass(frozen=True)
class DepthScales:
    """Where signals settle for given (C_b, C_W), and how fast.

    Attributes
    ----------
    K_star : float
        Stable fixed point of the magnitude (0 or inf if the signal dies or explodes).
    chi_parallel, chi_perp : float
        At K_star.
    c_star : float
        Correlation to which two different inputs flow.
    xi_magnitude, xi_angle : float
        Layers over which a deviation of K, of the correlation, falls (or grows) by e. At K* = 0
        or infinity xi_magnitude is that of the exponential decay or growth of K.
    xi_gradient : float
        1/|ln χ⊥|: layers over which squared gradients change by e.
    phase : {"ordered", "critical", "chaotic"}
        χ⊥ < 1, = 1 (within 1e-6), > 1.
    """

    K_star: float
    chi_parallel: float
    chi_perp: float
    c_star: float
    xi_magnitude: float
    xi_angle: float
    xi_gradient: float
    phase: str


def _check(C_b: float, C_W: float) -> None:
    for name, value in (("C_b", C_b), ("C_W", C_W)):
        if not math.isfinite(value) or value < 0:
            raise UsageError(f"{name} must be finite and >= 0, got {value}.")


def fixed_point(spec: Any, C_b: float, C_W: float, K: float = 1.0, gamma: float = 0.0) -> float:
    """The fixed point that K' = C_b + C_W ⟨σ²⟩_K + γ² K reaches from ``K``; 0 or inf if it dies
    or explodes.

    Parameters
    ----------
    spec : str, callable or Activation
    C_b, C_W : float
        Variances of bias and (rescaled) weights, dimensionless.
    K : float
        Where the iteration starts: K of the first layer.
    gamma : float
        Strength of a skip.

    Raises
    ------
    UsageError
        C_b or C_W negative or not finite.
    """
    _check(C_b, C_W)
    act = activation(spec)
    if act.slopes is not None:
        slope = gamma**2 + C_W * (act.slopes[0] ** 2 + act.slopes[1] ** 2) / 2
        if abs(slope - 1) < 1e-12:
            return math.inf if C_b else K
        return C_b / (1 - slope) if slope < 1 else math.inf

    def step(value: float) -> float:
        return C_b + C_W * float(square_mean(act, value)) + gamma**2 * value

    for _ in range(_LAYERS):
        new = step(K)
        if not new < _INFINITE:
            return math.inf
        if C_b == 0 and new < _ZERO:
            return 0.0
        # Aitken's extrapolation, kept only while it stays on the way to the fixed point
        newer = step(new)
        bend = newer - 2 * new + K
        jump = K - (new - K) ** 2 / bend if abs(bend) > 1e-300 else newer
        if abs(newer - new) <= 1e-15 * newer:
            return newer
        closer = 0 < jump < _INFINITE and abs(step(jump) - jump) < abs(newer - new)
        K = jump if closer else newer
    return K


def _angle_fixed_point(act: Activation, K: float, C_b: float, C_W: float, gamma: float) -> float:
    """The correlation below 1 that the chaotic phase flows to."""
    from scipy.optimize import brentq

    Kt = torch.tensor(K, dtype=torch.float64)

    def drift(c: float) -> float:
        mean = float(pair(act, Kt, c * Kt, Kt).value)
        return (C_b + C_W * mean) / K + gamma**2 * c - c

    # c = 1 is a fixed point as well, unstable here: the drift is negative just below it
    low, high = 0.0, 1 - 1e-7
    if drift(high) >= 0:
        return 1.0
    if drift(low) < 0:
        low = -1.0
    if drift(low) <= 0:
        return low
    root: Any = brentq(drift, low, high, xtol=1e-15)
    return root


def depth_scales(spec: Any, C_b: float, C_W: float, gamma: float = 0.0) -> DepthScales:
    """Fixed points and depth scales of magnitude and angle at (C_b, C_W).

    Parameters
    ----------
    spec : name, callable, torch module or Activation
    C_b, C_W : float
    gamma : float
        Strength of a skip connection.

    Raises
    ------
    UsageError

    Notes
    -----
    ξ_magnitude = −1/ln χ∥ and ξ_angle = −1/ln χ_c with χ_c = γ² + C_W ⟨σ'(z₁)σ'(z₂)⟩ at the
    stable correlation c* (Schoenholz et al. 2017).

    Examples
    --------
    >>> round(depth_scales("tanh", 0.05, 1.5).xi_angle, 3)
    15.791
    """
    act = activation(spec)
    K_star = fixed_point(act, C_b, C_W, gamma=gamma)
    if K_star == 0 or math.isinf(K_star):
        at = 1e-10 if K_star == 0 else _INFINITE
        parallel, perp = (float(v) for v in susceptibilities(act, at, C_W, gamma))
        return _scales(K_star, parallel, perp, 1.0, perp)
    parallel, perp = (float(v) for v in susceptibilities(act, K_star, C_W, gamma))
    if perp <= 1 + 1e-9 or act.slopes is not None:
        return _scales(K_star, parallel, perp, 1.0, perp)
    c = _angle_fixed_point(act, K_star, C_b, C_W, gamma)
    K = torch.tensor(K_star, dtype=torch.float64)
    slope = gamma**2 + C_W * float(pair(act, K, c * K, K, 1, 1).value)
    return _scales(K_star, parallel, perp, c, slope)


def _scales(K: float, parallel: float, perp: float, c: float, slope: float) -> DepthScales:
    phase = "critical" if abs(perp - 1) < 1e-6 else "ordered" if perp < 1 else "chaotic"
    return DepthScales(K, parallel, perp, c, _scale(parallel), _scale(slope), _scale(perp), phase)


def _scale(chi: float) -> float:
    """1/|ln χ|; infinite at χ = 1, zero at χ = 0."""
    chi = abs(chi)
    if chi == 0:
        return 0.0
    rate = abs(math.log(chi))
    return math.inf if rate < 1e-9 else 1 / rate
