"""PyTorch's piecewise activations, each piece with its explicit derivatives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kadanoff.activations import closed
from kadanoff.activations.base import Activation, Function
from kadanoff.errors import UsageError

__all__ = ["PIECEWISE"]

_ORDERS = 4


def _polynomial(coefficients: Sequence[float], k: int) -> Function:
    """The k-th derivative of Σ_p c_p zᵖ."""
    kept = [(math.perm(p, k) * c, p - k) for p, c in enumerate(coefficients) if p >= k and c]

    def value(z: Tensor) -> Tensor:
        total = torch.zeros_like(z)
        for factor, power in kept:
            total = total + factor * z**power
        return total

    return value


def _pieces(kinks: Sequence[float], parts: Sequence[Sequence[float]]) -> tuple[Function, ...]:
    """A piecewise polynomial and its derivatives; at a kink, the mean of both sides.

    Parameters
    ----------
    kinks : sequence of float, sorted
    parts : sequence of (c_0, c_1, …)
        One polynomial more than there are kinks, from left to right.
    """

    def order(k: int) -> Function:
        polynomials = [_polynomial(part, k) for part in parts]

        def value(z: Tensor) -> Tensor:
            total = polynomials[0](z)
            for kink, polynomial in zip(kinks, polynomials[1:], strict=True):
                here = polynomial(z)
                total = torch.where(
                    z > kink, here, torch.where(z == kink, (total + here) / 2, total)
                )
            return total

        return value

    return tuple(order(k) for k in range(_ORDERS + 1))


def _hard_sigmoid() -> Activation:
    f, *ds = _pieces((-3.0, 3.0), ((0.0,), (0.5, 1 / 6), (1.0,)))
    return Activation("hard_sigmoid", f, tuple(ds), (-3.0, 3.0))


def _hard_swish() -> Activation:
    f, *ds = _pieces((-3.0, 3.0), ((0.0,), (0.0, 0.5, 1 / 6), (0.0, 1.0)))
    return Activation("hard_swish", f, tuple(ds), (-3.0, 3.0))


def _soft_shrink(width: float = 0.5) -> Activation:
    if width < 0:
        raise UsageError(f"soft_shrink needs a width >= 0, got {width:g}.")
    kinks = (-width, width)
    f, *ds = _pieces(kinks, ((width, 1.0), (0.0,), (-width, 1.0)))
    return Activation(_named("soft_shrink", width, 0.5), f, tuple(ds), kinks, odd=True)


def _hard_shrink(width: float = 0.5) -> Activation:
    if width < 0:
        raise UsageError(f"hard_shrink needs a width >= 0, got {width:g}.")
    kinks = (-width, width)
    f, *ds = _pieces(kinks, ((0.0, 1.0), (0.0,), (0.0, 1.0)))
    return Activation(_named("hard_shrink", width, 0.5), f, tuple(ds), kinks, odd=True)


def _threshold(threshold: float = 0.0, value: float = 0.0) -> Activation:
    f, *ds = _pieces((threshold,), ((value,), (0.0, 1.0)))
    return Activation(f"threshold({threshold:g}, {value:g})", f, tuple(ds), (threshold,))


def _sign() -> Activation:
    f, *ds = _pieces((0.0,), ((-1.0,), (1.0,)))
    return Activation("sign", f, tuple(ds), (0.0,), odd=True, closed_form=closed.sign)


def _celu(alpha: float = 1.0) -> Activation:
    """z for z > 0, α (e^(z/α) − 1) for z < 0."""

    def order(k: int) -> Function:
        above = 1.0 if k == 1 else 0.0

        def value(z: Tensor) -> Tensor:
            below = alpha ** (1 - k) * torch.exp(z.clamp(max=0) / alpha)
            at_zero = torch.full_like(z, (above + alpha ** (1 - k)) / 2)
            outside = torch.full_like(z, above)
            return torch.where(z > 0, outside, torch.where(z < 0, below, at_zero))

        return value

    def f(z: Tensor) -> Tensor:
        return torch.where(z > 0, z, alpha * torch.expm1(z.clamp(max=0) / alpha))

    ds = tuple(order(k) for k in range(1, _ORDERS + 1))
    return Activation(_named("celu", alpha, 1.0), f, ds, (0.0,))


def _softsign() -> Activation:
    """z/(1 + |z|); σ⁽ᵏ⁾ = (−1)ᵏ⁻¹ k! sgn(z)ᵏ⁻¹/(1 + |z|)ᵏ⁺¹."""

    def order(k: int) -> Function:
        front = (-1) ** (k - 1) * math.factorial(k)
        return lambda z: front * torch.sign(z) ** (k - 1) / (1 + z.abs()) ** (k + 1)

    ds = tuple(order(k) for k in range(1, _ORDERS + 1))
    return Activation("softsign", lambda z: z / (1 + z.abs()), ds, (0.0,), odd=True)


def _named(name: str, parameter: float, default: float) -> str:
    return name if parameter == default else f"{name}({parameter:g})"


PIECEWISE: dict[str, Callable[..., Activation]] = {
    "softsign": _softsign,
    "celu": _celu,
    "hard_sigmoid": _hard_sigmoid,
    "hard_swish": _hard_swish,
    "hard_shrink": _hard_shrink,
    "soft_shrink": _soft_shrink,
    "threshold": _threshold,
    "sign": _sign,
}
