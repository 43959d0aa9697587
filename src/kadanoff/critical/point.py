"""The critical point of an activation: C_b and C_W at which χ∥ = χ⊥ = 1 at a fixed point."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from kadanoff.activations import Activation, activation
from kadanoff.critical.half_stable import HalfStable, half_stable_points
from kadanoff.critical.origin import Approach, Expansion, approach, expansion
from kadanoff.critical.susceptibility import slope_of_variance, squared_slope, susceptibilities
from kadanoff.errors import ConvergenceError, UsageError
from kadanoff.results import Result, Table

__all__ = ["Criticality", "criticality"]


@dataclass(frozen=True)
class Criticality(Result):
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
        NaN where there is no power law.
    nu : float
        V/K² → ν ℓ: growth of the four-point vertex per layer. NaN where not universal.
    a1, b1 : float
        χ∥ ≈ 1 + 2 a1 (K − K*), χ⊥ ≈ 1 + b1 (K − K*); NaN if the approach is not analytic.
    reason : str
        For class "none": why there is no critical point. Otherwise what is special about it.
    a1_error, b1_error, p_perp_error : float
        Numerical errors; 0 where the value is a closed form in the derivatives of σ at zero.
    others : tuple of Criticality
        Further critical points of the same activation, in the order of K*.
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
    a1_error: float = 0.0
    b1_error: float = 0.0
    p_perp_error: float = 0.0
    others: tuple[Criticality, ...] = ()

    @property
    def exists(self) -> bool:
        """Whether there is a critical point with C_b ≥ 0."""
        return self.universality_class != "none"

    def headline(self) -> str:
        """Activation and class."""
        return f"{self.activation}: {self.universality_class}"

    def table(self) -> Table:
        """A row for each critical point."""
        columns = ("activation", "universality_class", "C_b", "C_W", "K_star", "chi_parallel")
        columns += ("chi_perp", "p_K", "p_parallel", "p_perp", "nu", "a1", "b1", "reason")
        points = (self, *self.others)
        rows = [tuple(getattr(point, name) for name in columns) for point in points]
        return Table(columns, rows, self.headline())


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
    C_W = 1/A₂ with the slopes beside zero, if the kernel decays there. Otherwise K* solves
    ⟨σ'²⟩ = ⟨z σ σ'⟩/K*, then C_W = 1/⟨σ'²⟩ and C_b = K* − C_W ⟨σ²⟩ must be ≥ 0. Roberts, Yaida &
    Hanin, chapter 5; kinks at zero as in :mod:`kadanoff.critical.origin`. Where there are several
    points, that at the smallest K* is given and the rest are ``others``.

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
    if steps := [kink for kink in act.kinks if act.jump(0, kink)]:
        return _none(
            act,
            f"sigma jumps at z = {steps[0]:.6g}: <sigma'^2> does not exist, so that chi_perp is "
            "infinite at every C_W > 0",
        )
    near = expansion(act)
    points = [*_at_zero(act, near)]
    unit = near.unit if near else 1.0
    points += [_describe(act, point) for point in half_stable_points(act, unit)]
    if not points:
        return _none(act, _why_none(act))
    return replace(points[0], others=tuple(points[1:]))


def _scale_invariant(act: Activation) -> Criticality:
    minus, plus = act.slopes or (1.0, 1.0)
    A2, A4 = (minus**2 + plus**2) / 2, (minus**4 + plus**4) / 2
    return Criticality(
        activation=act.name,
        universality_class="scale-invariant",
        C_b=0.0,
        C_W=1 / A2,
        K_star=math.nan,
        chi_parallel=1.0,
        chi_perp=1.0,
        p_K=0.0,
        p_parallel=0.0,
        p_perp=0.0,
        nu=3 * A4 / A2**2 - 1,
        a1=0.0,
        b1=0.0,
    )


def _at_zero(act: Activation, near: Expansion | None) -> list[Criticality]:
    """K* = 0, if the signal decays there: one point, or none."""
    how: Approach | None = approach(act, near) if near else None
    if near is None or how is None:
        return []
    straight = "sigma is straight around 0: K falls like 1/ln(depth), slower than any power"
    return [
        Criticality(
            activation=act.name,
            universality_class="K*=0",
            C_b=0.0,
            C_W=1 / near.A2,
            K_star=0.0,
            chi_parallel=1.0,
            chi_perp=1.0,
            p_K=how.p_K,
            p_parallel=how.p_parallel,
            p_perp=how.p_perp,
            # V' = χ∥² V + (3A₄/A₂² − 1) K² with K ~ ℓ^(−1/s), χ∥ = 1 − (1+s)/(sℓ): V = ν ℓ K²
            # gives 3ν = 3A₄/A₂² − 1 whatever s is
            nu=near.vertex_source / 3,
            a1=how.a1,
            b1=how.b1,
            reason=straight if math.isinf(how.s) else "",
        )
    ]


def _describe(act: Activation, point: HalfStable) -> Criticality:
    parallel, perp = (float(v) for v in susceptibilities(act, point.K_star, point.C_W))
    ratio = point.b1 / point.a1 if point.a1 else math.nan
    relative = point.b1_error / abs(point.b1) if point.b1 else 0.0
    relative += point.a1_error / abs(point.a1) if point.a1 else 0.0
    line = "chi_parallel = chi_perp at every K: a line of critical points, this is one"
    return Criticality(
        activation=act.name,
        universality_class="half-stable",
        C_b=point.C_b,
        C_W=point.C_W,
        K_star=point.K_star,
        chi_parallel=parallel,
        chi_perp=perp,
        p_K=1.0,
        p_parallel=2.0,
        # on the stable side ΔK → −1/(a1 ℓ), so χ⊥ − 1 → −(b1/a1)/ℓ
        p_perp=ratio,
        nu=math.nan,
        a1=point.a1,
        b1=point.b1,
        reason=line if point.line else "",
        a1_error=point.a1_error,
        b1_error=point.b1_error,
        p_perp_error=abs(ratio) * relative,
    )


def _why_none(act: Activation) -> str:
    ratios = ", ".join(_ratio(act, K) for K in (0.1, 1.0, 10.0))
    value = max(act.limits(0, 0.0), key=abs)
    return (
        f"chi_perp = chi_parallel = 1 has no solution with C_b >= 0 "
        f"(chi_perp/|chi_parallel| = {ratios} at K = 0.1, 1, 10"
        + (f"; sigma(0) = {value:.3g} rules out K* = 0)" if abs(value) > 1e-9 else ")")
    )


def _ratio(act: Activation, K: float) -> str:
    try:
        parallel = float(slope_of_variance(act, K).abs().clamp_min(1e-300))
        return f"{float(squared_slope(act, K)) / parallel:.3g}"
    except ConvergenceError:
        return "beyond range"


def _none(act: Activation, reason: str) -> Criticality:
    nan = math.nan
    return Criticality(
        activation=act.name,
        universality_class="none",
        C_b=nan,
        C_W=nan,
        K_star=nan,
        chi_parallel=nan,
        chi_perp=nan,
        p_K=nan,
        p_parallel=nan,
        p_perp=nan,
        nu=nan,
        a1=nan,
        b1=nan,
        reason=reason,
    )


def _with_skip(point: Criticality, act: Activation, gamma: float) -> Criticality:
    """The same fixed point with a skip: C_W and C_b shrink by 1 − γ²."""
    rest = 1 - gamma**2
    # a layer adds rest (rest ν₀ + 4γ²) K² to V, where ν₀ K² is what it adds without the skip
    nu = point.nu
    if point.universality_class == "K*=0":
        # without a kink at zero ν₀ = 2, or σ odd; a kink adds the odd three-point vertex, which
        # flow() propagates
        straight = act.odd or 0.0 not in act.kinks
        nu = rest * (3 * rest * point.nu + 4 * gamma**2) / 3 if straight else math.nan
    elif point.universality_class == "scale-invariant":
        nu = rest * (rest * point.nu + 4 * gamma**2) if act.odd else math.nan
    return replace(
        point,
        C_W=point.C_W * rest,
        C_b=point.C_b * rest,
        nu=nu,
        a1=point.a1 * rest,
        b1=point.b1 * rest,
        a1_error=point.a1_error * rest,
        b1_error=point.b1_error * rest,
        others=tuple(_with_skip(other, act, gamma) for other in point.others),
    )
