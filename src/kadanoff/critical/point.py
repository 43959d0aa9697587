"""The critical point of an activation: C_b and C_W at which χ∥ = χ⊥ = 1 at a fixed point."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from kadanoff.activations import Activation, activation
from kadanoff.critical.susceptibility import (
    slope_of_variance,
    square_mean,
    squared_slope,
    susceptibilities,
)
from kadanoff.errors import UsageError
from kadanoff.gaussian import one

__all__ = ["Criticality", "criticality"]

# kernels among which a critical fixed point K* > 0 is searched
_SEARCH = (1e-4, 1e4, 161)
# kernels at which the approach to K* = 0 is read off; far enough down for the leading power,
# far enough up for 1 − K'/K to stand clear of rounding
_NEAR_ZERO = (1e-5, 1e-4)


@dataclass(frozen=True)
class Criticality:
    """The critical initialisation of an activation.

    Attributes
    ----------
    activation : str
    universality_class : {"scale-invariant", "K*=0", "half-stable", "none"}
    C_b, C_W : float
        E[b²] and fan-in · E[W²] at criticality; NaN for class "none".
    K_star : float
        The fixed point. For scale-invariant activations every K is one; NaN is given.
    chi_parallel, chi_perp : float
        At the fixed point (limits for K → 0): both 1 at criticality.
    p_K, p_parallel, p_perp : float
        Depth exponents at criticality: K − K* ~ ℓ^(−p_K), differences in magnitude
        ~ ℓ^(−p_parallel), squared differences in direction ~ ℓ^(−p_perp). 0 where nothing changes.
    nu : float
        V/K² → ν ℓ: growth of the four-point vertex per layer. NaN where not universal.
    a1, b1 : float
        χ∥ ≈ 1 + 2 a1 (K − K*), χ⊥ ≈ 1 + b1 (K − K*); NaN if the approach is not analytic.
    reason : str
        For class "none": why there is no critical point.
    """

    activation: str
    universality_class: str
    C_b: float
    C_W: float
    K_star: float
    chi_parallel: float
    chi_perp: float
    p_K: float
    p_parallel: float
    p_perp: float
    nu: float
    a1: float
    b1: float
    reason: str = ""

    @property
    def exists(self) -> bool:
        """Whether there is a critical point with C_b ≥ 0."""
        return self.universality_class != "none"


def criticality(spec: Any, *, gamma: float = 0.0) -> Criticality:
    """The critical C_b, C_W and fixed point of an activation, and its universality class.

    Parameters
    ----------
    spec : name, callable, torch module or Activation
    gamma : float
        Strength γ of a skip connection z' = b + W σ(z) + γ z, |γ| < 1: C_W (and C_b) shrink by
        1 − γ².

    Raises
    ------
    UsageError
        Unknown activation, or |γ| ≥ 1 (then every C_W > 0 makes the signal grow).

    Notes
    -----
    Scale-invariant activations: C_W = 1/A₂, A₂ = (a₊² + a₋²)/2. K* = 0: σ(0) = 0 and
    C_W = 1/σ'(0)², if the kernel decays there. Otherwise K* solves ⟨σ'²⟩ = ⟨z σ σ'⟩/K*, then
    C_W = 1/⟨σ'²⟩ and C_b = K* − C_W ⟨σ²⟩ must be ≥ 0. Roberts, Yaida & Hanin, chapter 5.

    Examples
    --------
    >>> criticality("relu").C_W
    2.0
    >>> round(criticality("gelu").C_W, 6)
    1.983058
    """
    if not isinstance(gamma, (int, float)) or not -1 < gamma < 1:
        raise UsageError(
            f"gamma must lie between -1 and 1 for a critical point to exist, got {gamma!r}.",
            "With gamma = 1 the signal grows in every layer: scale the branch instead.",
        )
    point = _at_origin_or_beyond(activation(spec))
    if not gamma or not point.exists:
        return point
    return _with_skip(point, activation(spec), gamma)


@lru_cache(maxsize=128)
def _at_origin_or_beyond(act: Activation) -> Criticality:
    if act.slopes is not None and act.slopes != (0.0, 0.0):
        return _scale_invariant(act)
    return _at_zero(act) or _half_stable(act) or _none(act)


def _scale_invariant(act: Activation) -> Criticality:
    minus, plus = act.slopes or (1.0, 1.0)
    A2, A4 = (minus**2 + plus**2) / 2, (minus**4 + plus**4) / 2
    return Criticality(
        act.name, "scale-invariant", 0.0, 1 / A2, math.nan, 1.0, 1.0, 0.0, 0.0, 0.0,
        3 * A4 / A2**2 - 1, 0.0, 0.0,
    )  # fmt: skip


def _limits_at_zero(act: Activation) -> tuple[float, float, float]:
    """σ(0), and the slopes just left and right of 0."""
    sides = torch.tensor([-1e-15, 1e-15], dtype=torch.float64)
    value = float(act(torch.zeros(1, dtype=torch.float64)))
    left, right = act.derivative(1)(sides).tolist()
    return value, left, right


def _at_zero(act: Activation) -> Criticality | None:
    """K* = 0: the signal decays as a power of depth; needs σ(0) = 0 and a marginally stable 0."""
    value, left, right = _limits_at_zero(act)
    A2 = (left**2 + right**2) / 2
    step = act.jump(0, 0.0) if 0.0 in act.kinks else 0.0
    if abs(value) > 1e-9 or step or A2 < 1e-12:
        return None
    C_W = 1 / A2
    K = torch.tensor(_NEAR_ZERO, dtype=torch.float64)
    loss = _decay(act, K, C_W)
    if not bool((loss >= -1e-14 * K).all()) or float(_decay(act, torch.tensor(0.05), C_W)) <= 0:
        return None
    perp = 1 - C_W * squared_slope(act, K)
    if float(loss[1]) < 1e-13:
        # linear near 0 but for exponentially small terms (hard tanh): no power law
        s, p_perp = math.inf, math.nan
        p_K = p_parallel = math.nan
    else:
        s = math.log(float(loss[1] / loss[0])) / math.log(_NEAR_ZERO[1] / _NEAR_ZERO[0])
        s = round(2 * s) / 2 if abs(2 * s - round(2 * s)) < 0.05 else s
        p_K, p_parallel = 1 / s, (1 + s) / s
        p_perp = _extrapolate(perp / (s * loss), K, s)
    a1, b1 = _taylor(act) if s == 1 else (math.nan, math.nan)
    if s == 1:
        p_perp = b1 / a1
    nu = 2 / 3 if s == 1 else math.nan
    return Criticality(
        act.name, "K*=0", 0.0, C_W, 0.0, 1.0, 1.0, p_K, p_parallel, p_perp, nu, a1, b1
    )


def _decay(act: Activation, K: torch.Tensor, C_W: float) -> torch.Tensor:
    """1 − K'/K, computed as ⟨z² − C_W σ²⟩/K so that small differences keep their digits."""
    K = K.double()
    return one(lambda z: z * z - C_W * act(z) ** 2, K, act.kinks).value / K


def _extrapolate(values: torch.Tensor, K: torch.Tensor, s: float) -> float:
    """Limit K → 0 of values that approach it like K^s."""
    low, high = (float(v) for v in values)
    ratio = (float(K[1]) / float(K[0])) ** s
    return (ratio * low - high) / (ratio - 1)


def _taylor(act: Activation) -> tuple[float, float]:
    """a1 = σ₃/σ₁ + ¾ (σ₂/σ₁)², b1 = σ₃/σ₁ + (σ₂/σ₁)² from the Taylor coefficients at 0."""
    zero = torch.zeros(1, dtype=torch.float64)
    s1, s2, s3 = (float(act.derivative(k)(zero)) for k in (1, 2, 3))
    return s3 / s1 + 0.75 * (s2 / s1) ** 2, s3 / s1 + (s2 / s1) ** 2


def _excess(act: Activation, log_K: float) -> float:
    """log of χ⊥/χ∥ as a difference: zero where both susceptibilities agree."""
    K = torch.tensor(math.exp(log_K), dtype=torch.float64)
    return float(squared_slope(act, K) - slope_of_variance(act, K))


def _half_stable(act: Activation) -> Criticality | None:
    from scipy.optimize import brentq

    grid = np.linspace(math.log(_SEARCH[0]), math.log(_SEARCH[1]), _SEARCH[2])
    K = torch.from_numpy(np.exp(grid))
    excess = (squared_slope(act, K) - slope_of_variance(act, K)).numpy()
    scale = squared_slope(act, K).numpy()
    for i in np.nonzero(np.sign(excess[:-1]) * np.sign(excess[1:]) < 0)[0]:
        # a change of sign within rounding is no root
        if max(abs(excess[i] / scale[i]), abs(excess[i + 1] / scale[i + 1])) < 1e-10:
            continue
        root: Any = brentq(lambda x: _excess(act, x), grid[i], grid[i + 1], xtol=1e-14)
        K_star = math.exp(root)
        C_W = 1 / float(squared_slope(act, K_star))
        C_b = K_star - C_W * float(square_mean(act, K_star))
        if C_b >= 0:
            return _describe_half_stable(act, K_star, C_b, C_W)
    return None


def _describe_half_stable(act: Activation, K_star: float, C_b: float, C_W: float) -> Criticality:
    parallel, perp = (float(v) for v in susceptibilities(act, K_star, C_W))
    step = 0.02 * K_star
    around = torch.tensor([K_star - step, K_star + step], dtype=torch.float64)
    par, per = susceptibilities(act, around, C_W)
    a1 = float(par[1] - par[0]) / (4 * step)
    b1 = float(per[1] - per[0]) / (2 * step)
    # on the stable side ΔK → −1/(a1 ℓ), so χ⊥ − 1 → −(b1/a1)/ℓ
    return Criticality(
        act.name, "half-stable", C_b, C_W, K_star, parallel, perp, 1.0, 2.0, b1 / a1, math.nan, a1,
        b1,
    )  # fmt: skip


def _none(act: Activation) -> Criticality:
    value, _, _ = _limits_at_zero(act)
    ratio = [
        float(squared_slope(act, K) / slope_of_variance(act, K).abs().clamp_min(1e-300))
        for K in (0.1, 1.0, 10.0)
    ]
    text = ", ".join(f"{r:.3g}" for r in ratio)
    reason = (
        f"chi_perp = chi_parallel = 1 has no solution with C_b >= 0 "
        f"(chi_perp/|chi_parallel| = {text} at K = 0.1, 1, 10"
        + (f"; sigma(0) = {value:.3g} rules out K* = 0)" if abs(value) > 1e-9 else ")")
    )
    nan = math.nan
    return Criticality(
        act.name, "none", nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, nan, reason
    )


def _with_skip(point: Criticality, act: Activation, gamma: float) -> Criticality:
    """The same fixed point with a skip: C_W and C_b shrink by 1 − γ²."""
    import dataclasses

    rest = 1 - gamma**2
    nu = point.nu
    if point.universality_class == "K*=0" and not math.isnan(nu):
        nu = (2 / 3) * (1 - gamma**4)
    elif point.universality_class == "scale-invariant":
        # holds for odd σ; a kink adds the odd three-point vertex, which flow() propagates
        nu = rest * (rest * point.nu + 4 * gamma**2) if act.odd else math.nan
    return dataclasses.replace(
        point,
        C_W=point.C_W * rest,
        C_b=point.C_b * rest,
        nu=nu,
        a1=point.a1 * rest,
        b1=point.b1 * rest,
    )
