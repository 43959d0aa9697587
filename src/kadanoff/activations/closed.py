"""Closed-form averages ⟨σ⁽ᵏ⁾(z₁) σ⁽ᵐ⁾(z₂)⟩ over N(0, [[a, b], [b, c]]).

Sources: arc-cosine kernels, Cho & Saul 2009; erf, Williams 1998; the rest by direct integration
(Hermite expansions and Gaussian integrals). Each is held against quadrature in the tests.
Derivatives with respect to the kernel give the higher orders: ∂/∂b⟨f g⟩ = ⟨f' g'⟩.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["cosine", "erf", "gelu", "homogeneous", "monomial", "relu_squared", "sign", "sine"]


def _angle(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """√(ac), the angle ψ between the inputs, and sin ψ √(ac), exact near ψ = 0 and π."""
    norm = (a * c).sqrt()
    det = (norm - b).clamp_min(0) * (norm + b).clamp_min(0)
    area = det.sqrt()
    return norm, torch.atan2(area, b), area


def homogeneous(minus: float, plus: float):
    """σ = a₋ z (z < 0), a₊ z (z > 0), through the first two arc-cosine kernels."""
    # σ = odd z + even |z|
    odd, even = (plus + minus) / 2, (plus - minus) / 2

    def closed(k1: int, k2: int, a: Tensor, b: Tensor, c: Tensor) -> Tensor | None:
        norm, psi, area = _angle(a, b, c)
        if (k1, k2) == (0, 0):
            # ⟨|z₁||z₂|⟩ = (2/π)(area + b (π/2 − ψ))
            return odd**2 * b + even**2 * (2 / math.pi) * (area + b * (math.pi / 2 - psi))
        if (k1, k2) == (1, 1):
            # a zero vector has no direction: its sign averages to zero
            agree = torch.where(norm > 0, 1 - 2 * psi / math.pi, torch.zeros_like(b))
            return odd**2 + even**2 * agree
        if even == 0 and (k1 > 1 or k2 > 1):
            return torch.zeros_like(b)
        return None

    return closed


def sign(k1: int, k2: int, a: Tensor, b: Tensor, c: Tensor) -> Tensor | None:
    """σ = sgn(z): the arcsine law (2/π) asin(K12/√(K11 K22)); a zero vector has no sign.

    Parameters
    ----------
    k1, k2 : int
        Orders of the derivatives of the two factors.
    a, b, c : Tensor, one shape
        K11, K12 and K22 of (z₁, z₂).
    """
    if (k1, k2) != (0, 0):
        return None
    norm, psi, _ = _angle(a, b, c)
    return torch.where(norm > 0, 1 - 2 * psi / math.pi, torch.zeros_like(b))


def erf(k1: int, k2: int, a: Tensor, b: Tensor, c: Tensor) -> Tensor | None:
    """σ = erf(z): (2/π) asin(2b/√((1+2a)(1+2c))), and its derivative with respect to b.

    Parameters
    ----------
    k1, k2 : int
        Orders of the derivatives of the two factors.
    a, b, c : Tensor, one shape
        K11, K12 and K22 of (z₁, z₂).
    """
    norm = (a * c).sqrt()
    # (1 + 2a)(1 + 2c) − 4b² as a sum of positive terms: nothing cancels at large norms
    rest = 1 + 2 * (a + c) + 4 * (norm - b).clamp_min(0) * (norm + b).clamp_min(0)
    if (k1, k2) == (0, 0):
        # asin(x/r) = atan2(x, √(r² − x²)) keeps its digits where the angle is near π/2
        return (2 / math.pi) * torch.atan2(2 * b, rest.sqrt())
    if (k1, k2) == (1, 1):
        return (4 / math.pi) / rest.sqrt()
    return None


def _trigonometric(k1: int, k2: int, a: Tensor, b: Tensor, c: Tensor, phase: int) -> Tensor:
    # d/dz shifts the phase by π/2: σ⁽ᵏ⁾ = sin(z + (k + phase) π/2)
    m, n = (k1 + phase) % 4, (k2 + phase) % 4
    if (m + n) % 2:
        return torch.zeros_like(b)
    sign = (-1.0) ** (m // 2 + n // 2)
    # written with exponents <= 0, since |b| <= (a + c)/2: no overflow at large kernels; expm1
    # keeps the digits of sinh at small ones
    size = b.abs()
    front = torch.exp(size - (a + c) / 2)
    if m % 2 == 0:
        return -sign * 0.5 * front * torch.expm1(-2 * size) * b.sign()
    return sign * 0.5 * front * (1 + torch.exp(-2 * size))


def sine(k1: int, k2: int, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """σ = sin(z).

    Parameters
    ----------
    k1, k2 : int
        Orders of the derivatives of the two factors.
    a, b, c : Tensor, one shape
        K11, K12 and K22 of (z₁, z₂).
    """
    return _trigonometric(k1, k2, a, b, c, 0)


def cosine(k1: int, k2: int, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
    """σ = cos(z).

    Parameters
    ----------
    k1, k2 : int
        Orders of the derivatives of the two factors.
    a, b, c : Tensor, one shape
        K11, K12 and K22 of (z₁, z₂).
    """
    return _trigonometric(k1, k2, a, b, c, 1)


def gelu(k1: int, k2: int, a: Tensor, b: Tensor, c: Tensor) -> Tensor | None:
    """σ = z Φ(z), the exact GELU.

    Parameters
    ----------
    k1, k2 : int
        Orders of the derivatives of the two factors.
    a, b, c : Tensor, one shape
        K11, K12 and K22 of (z₁, z₂).
    """
    if k1 != k2 or k1 > 1:
        return None
    p, q = 1 + a, 1 + c
    det = p * q - b**2
    root = det.sqrt()
    angle = torch.asin((b / (p * q).sqrt()).clamp(-1, 1))
    if k1 == 0:
        shape = a * c + b**2 * (1 / p + 1 / q - 1)
        return b / 4 + b / (2 * math.pi) * angle + shape / (2 * math.pi * root)
    # ∂/∂b of the line above
    shape = a * c + b**2 * (1 / p + 1 / q - 1)
    bent = 2 * b * (1 / p + 1 / q - 1) / root + shape * b / root**3 + b / root
    return 0.25 + angle / (2 * math.pi) + bent / (2 * math.pi)


def monomial(power: int):
    """σ = z^p, by Wick's theorem."""

    def closed(k1: int, k2: int, a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        m, n = power - k1, power - k2
        if m < 0 or n < 0:
            return torch.zeros_like(b)
        total = torch.zeros_like(b)
        front = math.perm(power, k1) * math.perm(power, k2)
        for cross in range(m % 2, min(m, n) + 1, 2):
            if (n - cross) % 2:
                continue
            i, j = (m - cross) // 2, (n - cross) // 2
            ways = math.factorial(m) * math.factorial(n)
            ways /= math.factorial(cross) * math.factorial(i) * math.factorial(j) * 2 ** (i + j)
            total = total + ways * b**cross * a**i * c**j
        return front * total

    return closed


_RELU = homogeneous(0.0, 1.0)


def relu_squared(k1: int, k2: int, a: Tensor, b: Tensor, c: Tensor) -> Tensor | None:
    """σ = max(z, 0)²: the second arc-cosine kernel, and 4 times the first one.

    Parameters
    ----------
    k1, k2 : int
        Orders of the derivatives of the two factors.
    a, b, c : Tensor, one shape
        K11, K12 and K22 of (z₁, z₂).
    """
    if (k1, k2) == (0, 0):
        _, psi, area = _angle(a, b, c)
        return (3 * area * b + (math.pi - psi) * (a * c + 2 * b**2)) / (2 * math.pi)
    if (k1, k2) == (1, 1):
        # σ' = 2 relu(z)
        return _four_times(_RELU(0, 0, a, b, c))
    if (k1, k2) == (2, 2):
        return _four_times(_RELU(1, 1, a, b, c))
    return None


def _four_times(value: Tensor | None) -> Tensor | None:
    return None if value is None else 4 * value
