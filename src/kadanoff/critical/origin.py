r"""The approach to K* = 0: what one step of the kernel does to small signals.

An activation with σ(0) = 0 has, on either side of zero, the expansion

.. math:: \sigma(z) = s_\pm z + \tfrac12 q_\pm z^2 + \tfrac16 c_\pm z^3 + \dots, \qquad \pm z > 0,

with different coefficients left and right if it has a kink there. Half-line moments of a Gaussian
then give the averages in powers of √K:

.. math::
    \langle\sigma^2\rangle = A_2 K + A_3 K^{3/2} + A_4' K^2, \qquad
    \langle\sigma'^2\rangle = A_2 + B_3 K^{1/2} + B_4 K ,

.. math::
    A_2 = \tfrac12\sum_\pm s_\pm^2, \quad
    A_3 = \sqrt{2/\pi}\,(s_+q_+ - s_-q_-), \quad
    A_4' = \tfrac32\sum_\pm\bigl(\tfrac14 q_\pm^2 + \tfrac13 s_\pm c_\pm\bigr), \quad
    B_3 = A_3, \quad B_4 = \tfrac12\sum_\pm(q_\pm^2 + s_\pm c_\pm) .

For equal sides these are the Taylor coefficients of Roberts, Yaida & Hanin, chapter 5; with a kink
they were derived for this library and are held against the iterated recursion in the tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from kadanoff.activations import Activation
from kadanoff.gaussian import one

__all__ = ["Approach", "Expansion", "approach", "expansion"]

# a coefficient below this, in units of what it is made of, is zero
_ZERO = 1e-8
# where the sign of the decay is looked up, in units of the kernel at which σ bends
_STABLE_UP_TO = (1e-3, 1e-2, 0.05)


@dataclass(frozen=True)
class Expansion:
    """Coefficients of ⟨σ²⟩ and ⟨σ'²⟩ for K → 0, and ⟨σ⁴⟩ = 3 A4 K² at leading order.

    Attributes
    ----------
    A2, A3, A4_next : float
        ⟨σ²⟩ = A2 K + A3 K^(3/2) + A4_next K².
    B3, B4 : float
        ⟨σ'²⟩ = A2 + B3 K^(1/2) + B4 K.
    A4 : float
        (s₊⁴ + s₋⁴)/2.
    unit : float
        The kernel at which the activation starts to bend.
    """

    A2: float
    A3: float
    A4_next: float
    B3: float
    B4: float
    A4: float
    unit: float

    @property
    def vertex_source(self) -> float:
        """3 A4/A2² − 1: what a layer adds to V/K² at C_W = 1/A2."""
        return 3 * self.A4 / self.A2**2 - 1


@dataclass(frozen=True)
class Approach:
    """Depth exponents of the decay to K* = 0.

    With 1 − K'/K ∝ K^s: K ~ ℓ^(−1/s), differences in magnitude ~ ℓ^(−(1+s)/s), squared
    differences in direction ~ ℓ^(−p_perp).

    Attributes
    ----------
    s : float
        1 for a smooth bend, ½ where σ'' jumps at zero, inf where σ is straight around zero.
    p_K, p_parallel, p_perp : float
    a1, b1 : float
        χ∥ ≈ 1 + 2 a1 K, χ⊥ ≈ 1 + b1 K; NaN unless s = 1.
    """

    s: float
    p_K: float
    p_parallel: float
    p_perp: float
    a1: float
    b1: float


def expansion(act: Activation) -> Expansion | None:
    """The expansion at zero, or None if σ(0) ≠ 0, σ jumps at 0, or has no slope there."""
    low, high = act.limits(0, 0.0)
    if max(abs(low), abs(high)) > 1e-9:
        return None
    s, q, c = (_sides(act, k) for k in (1, 2, 3))
    if not all(math.isfinite(x) for x in (*s, *q, *c)):
        return None
    A2 = (s[0] ** 2 + s[1] ** 2) / 2
    if A2 < 1e-24:
        return None
    A3 = math.sqrt(2 / math.pi) * (s[1] * q[1] - s[0] * q[0])
    size3 = math.sqrt(2 / math.pi) * (abs(s[1] * q[1]) + abs(s[0] * q[0]))
    A4_next = 1.5 * sum(q[i] ** 2 / 4 + s[i] * c[i] / 3 for i in (0, 1))
    size4 = 1.5 * sum(q[i] ** 2 / 4 + abs(s[i] * c[i]) / 3 for i in (0, 1))
    B4 = 0.5 * sum(q[i] ** 2 + s[i] * c[i] for i in (0, 1))
    return Expansion(
        A2=A2,
        A3=A3 if abs(A3) > _ZERO * size3 else 0.0,
        A4_next=A4_next if abs(A4_next) > _ZERO * size4 else 0.0,
        B3=A3 if abs(A3) > _ZERO * size3 else 0.0,
        B4=B4,
        A4=(s[0] ** 4 + s[1] ** 4) / 2,
        unit=_unit(act, A2, size3, size4),
    )


def _sides(act: Activation, k: int) -> tuple[float, float]:
    """σ⁽ᵏ⁾ just left and right of zero; 0 where it is the rounding of the limit."""
    reach = min([abs(kink) for kink in act.kinks if kink] + [1.0])
    near = reach * torch.tensor([-0.9, -0.1, -0.01, 0.01, 0.1, 0.9], dtype=torch.float64)
    size = float(act.derivative(k)(near).abs().max())
    low, high = (limit if abs(limit) > 1e-10 * size else 0.0 for limit in act.limits(k, 0.0))
    return low, high


def _unit(act: Activation, A2: float, size3: float, size4: float) -> float:
    """The kernel at which the next terms count, or at which a typical z reaches a kink."""
    candidates = [kink**2 for kink in act.kinks if kink]
    if size3 > 0:
        candidates.append((A2 / size3) ** 2)
    if size4 > 0:
        candidates.append(A2 / size4)
    return min(candidates, default=1.0)


def decay(act: Activation, K: torch.Tensor, C_W: float) -> torch.Tensor:
    """1 − K'/K = ⟨z² − C_W σ²⟩/K, averaged as a difference so that small ones keep digits."""
    return one(lambda z: z * z - C_W * act(z) ** 2, K, act.kinks).value / K


def approach(act: Activation, near: Expansion) -> Approach | None:
    """How the kernel decays to zero at C_W = 1/A2, or None if it grows instead."""
    places = near.unit * torch.tensor(_STABLE_UP_TO, dtype=torch.float64)
    loss = decay(act, places, 1 / near.A2)
    # ⟨z² − C_W σ²⟩ is a difference of numbers of size K
    if bool((loss < -1e-12).any()) or float(loss[-1]) <= 0:
        return None
    if near.A3:
        return _half_power(near)
    if near.A4_next:
        return _whole_power(near)
    return _beyond(act, near)


def _half_power(near: Expansion) -> Approach | None:
    """1 − K'/K = κ √K with κ = −A3/A2, and 1 − χ⊥ = κ √K too: K ≈ 4/(κℓ)²."""
    if near.A3 > 0:
        return None
    return Approach(0.5, 2.0, 3.0, 2.0, math.nan, math.nan)


def _whole_power(near: Expansion) -> Approach | None:
    """K' = K + a1 K², χ⊥ = 1 + b1 K with a1 = A4'/A2, b1 = B4/A2: K ≈ 1/(−a1 ℓ)."""
    a1, b1 = near.A4_next / near.A2, near.B4 / near.A2
    if a1 > 0:
        return None
    return Approach(1.0, 1.0, 2.0, b1 / a1, a1, b1)


def _beyond(act: Activation, near: Expansion) -> Approach:
    """Straight to third order: the power is read off, or there is none."""
    K = near.unit * torch.tensor([1e-3, 1e-2], dtype=torch.float64)
    loss = decay(act, K, 1 / near.A2)
    if float(loss[0]) < 1e-13:
        # exponentially small losses: K ≈ a²/(2 ln ℓ), slower than any power, and χ∥ ≈ 1 − 1/ℓ
        return Approach(math.inf, 0.0, 1.0, 0.0, math.nan, math.nan)
    s = math.log(float(loss[1] / loss[0])) / math.log(10)
    s = round(2 * s) / 2 if abs(2 * s - round(2 * s)) < 0.1 else s
    d1 = act.derivative(1)
    lost_slope = one(lambda z: near.A2 - d1(z) ** 2, K, act.kinks).value / near.A2
    ratio = lost_slope / (s * loss)
    # the ratio nears its limit like K^s or faster: one step of Richardson
    low, high = (float(r) for r in ratio)
    p_perp = (10**s * low - high) / (10**s - 1)
    return Approach(s, 1 / s, (1 + s) / s, p_perp, math.nan, math.nan)
