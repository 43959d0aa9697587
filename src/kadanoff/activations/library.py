"""The registry: each activation with explicit derivatives where they are simple and stable.

Derivatives are written in terms that stay finite for any z: nested automatic differentiation of
torch's own kernels overflows at |z| of a few hundred, or lacks third derivatives.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from kadanoff.activations import closed
from kadanoff.activations.base import Activation, Function
from kadanoff.activations.piecewise import PIECEWISE

__all__ = [
    "FACTORIES",
    "homogeneous",
]

_ORDERS = 4
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


def _sides(z: Tensor, minus: float, plus: float) -> Tensor:
    """a₋ for z < 0, a₊ for z > 0 and their mean at 0."""
    high = torch.full_like(z, plus)
    low = torch.full_like(z, minus)
    middle = torch.full_like(z, (plus + minus) / 2)
    return torch.where(z > 0, high, torch.where(z < 0, low, middle))


def _zero(z: Tensor) -> Tensor:
    return torch.zeros_like(z)


def homogeneous(name: str, minus: float, plus: float) -> Activation:
    """σ(z) = a₋ z for z < 0, a₊ z for z > 0.

    Parameters
    ----------
    name : str
    minus, plus : float
        Slopes a₋ and a₊.
    """
    if minus == plus:
        fs: list[Function] = [lambda z: plus * z, lambda z: torch.full_like(z, plus)]
    else:
        fs = [
            lambda z: torch.where(z > 0, plus * z, minus * z),
            lambda z: _sides(z, minus, plus),
        ]
    return Activation(
        name,
        fs[0],
        (fs[1], _zero, _zero, _zero),
        () if minus == plus else (0.0,),
        (float(minus), float(plus)),
        minus == plus,
        closed.homogeneous(minus, plus),
    )


class _Polynomial:
    """A polynomial in u and s whose derivatives stay polynomials: d(uⁱ sʲ)/dz by ``rule``."""

    def __init__(self, terms: dict[tuple[int, int], float]) -> None:
        self.terms = terms

    def derivative(self, rule: Callable[[int, int], dict[tuple[int, int], float]]) -> _Polynomial:
        out: dict[tuple[int, int], float] = {}
        for (i, j), factor in self.terms.items():
            for power, value in rule(i, j).items():
                out[power] = out.get(power, 0.0) + factor * value
        return _Polynomial({p: v for p, v in out.items() if v})

    def __call__(self, u: Tensor, s: Tensor) -> Tensor:
        total = torch.zeros_like(u)
        for (i, j), factor in self.terms.items():
            total = total + factor * u**i * s**j
        return total


def _ladder(start, rule, count: int) -> list[_Polynomial]:
    steps = [_Polynomial(start)]
    for _ in range(count):
        steps.append(steps[-1].derivative(rule))
    return steps


# d tanh = 1 − t²
_TANH = _ladder({(1, 0): 1.0}, lambda i, j: {(i - 1, 0): i, (i + 1, 0): -i}, _ORDERS)
# d sigmoid = s (1 − s)
_SIGMOID = _ladder({(0, 1): 1.0}, lambda i, j: {(0, j): j, (0, j + 1): -j}, _ORDERS)
# u = tanh(softplus z): du = (1 − u²) s, ds = s (1 − s)
_MISH = _ladder(
    {(1, 0): 1.0},
    lambda i, j: {
        k: v
        for k, v in (
            ((i - 1, j + 1), float(i)),
            ((i + 1, j + 1), float(-i)),
            ((i, j), float(j)),
            ((i, j + 1), float(-j)),
        )
        if v
    },
    _ORDERS,
)


def _tanh_k(k: int) -> Function:
    if k == 0:
        return torch.tanh

    def derivative(z: Tensor) -> Tensor:
        t = torch.tanh(z)
        return _TANH[k](t, t)

    return derivative


def _sigmoid_k(k: int) -> Function:
    if k == 0:
        return torch.sigmoid

    def derivative(z: Tensor) -> Tensor:
        s = torch.sigmoid(z)
        return _SIGMOID[k](s, s)

    return derivative


def _mish_factor_k(k: int) -> Function:
    def derivative(z: Tensor) -> Tensor:
        u = torch.tanh(torch.logaddexp(z, torch.zeros_like(z)))
        return _MISH[k](u, torch.sigmoid(z))

    return derivative


def _normal_cdf_k(k: int) -> Function:
    """Derivatives of the normal distribution function Φ."""
    if k == 0:
        return lambda z: 0.5 * torch.erfc(-z / math.sqrt(2))

    def derivative(z: Tensor) -> Tensor:
        # Φ⁽ᵏ⁾ = (−1)ᵏ⁻¹ He_{k−1} φ
        low, high = torch.ones_like(z), z
        for m in range(1, k):
            low, high = high, z * high - m * low
        return (-1) ** (k - 1) * low * torch.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)

    return derivative


def _erf_k(k: int) -> Function:
    if k == 0:
        return torch.erf
    cdf = _normal_cdf_k(k)
    # erf(z) = 2Φ(√2 z) − 1
    return lambda z: 2 * math.sqrt(2) ** k * cdf(math.sqrt(2) * z)


def _times_z(factor: Callable[[int], Function]) -> tuple[Function, tuple[Function, ...]]:
    """z·h(z) and its derivatives z h⁽ᵏ⁾ + k h⁽ᵏ⁻¹⁾."""

    def order(k: int) -> Function:
        h, lower = factor(k), factor(max(k - 1, 0))
        return lambda z: z * h(z) + (k * lower(z) if k else 0.0)

    return order(0), tuple(order(k) for k in range(1, _ORDERS + 1))


def _exponential_unit(name: str, alpha: float, scale: float) -> Activation:
    """λ z for z > 0, λ α (eᶻ − 1) for z < 0."""

    def order(k: int) -> Function:
        above = scale if k == 1 else 0.0
        return lambda z: torch.where(
            z > 0,
            torch.full_like(z, above),
            torch.where(
                z < 0,
                scale * alpha * torch.exp(z.clamp(max=0)),
                torch.full_like(z, (above + scale * alpha) / 2),
            ),
        )

    def f(z: Tensor) -> Tensor:
        return torch.where(z > 0, scale * z, scale * alpha * torch.expm1(z.clamp(max=0)))

    return Activation(name, f, tuple(order(k) for k in range(1, 5)), (0.0,))


def _smooth(name: str, order: Callable[[int], Function], *, odd=False, form=None):
    ds = tuple(order(k) for k in range(1, _ORDERS + 1))
    return Activation(name, order(0), ds, odd=odd, closed_form=form)


def _sin_k(k: int) -> Function:
    return [torch.sin, torch.cos, lambda z: -torch.sin(z), lambda z: -torch.cos(z)][k % 4]


def _gelu() -> Activation:
    f, ds = _times_z(_normal_cdf_k)
    return Activation("gelu", f, ds, closed_form=closed.gelu)


def _gelu_tanh() -> Activation:
    c = math.sqrt(2 / math.pi)

    def f(z: Tensor) -> Tensor:
        return 0.5 * z * (1 + torch.tanh(c * (z + 0.044715 * z**3)))

    return Activation("gelu_tanh", f)


def _swish(beta: float = 1.0) -> Activation:
    f, ds = _times_z(_sigmoid_k)
    if beta == 1.0:
        return Activation("swish", f, ds)
    scaled = tuple(lambda z, k=k, d=d: beta ** (k - 1) * d(beta * z) for k, d in enumerate(ds, 1))
    return Activation(f"swish({beta:g})", lambda z: f(beta * z) / beta, scaled)


def _mish() -> Activation:
    f, ds = _times_z(_mish_factor_k)
    return Activation("mish", f, ds)


def _softplus(beta: float = 1.0) -> Activation:
    def order(k: int) -> Function:
        if k == 0:
            return lambda z: torch.logaddexp(beta * z, torch.zeros_like(z)) / beta
        return lambda z: beta ** (k - 1) * _sigmoid_k(k - 1)(beta * z)

    name = "softplus" if beta == 1 else f"softplus({beta:g})"
    return _smooth(name, order)


def _tanh_shrink() -> Activation:
    def order(k: int) -> Function:
        tanh = _tanh_k(k)
        if k == 0:
            return lambda z: z - tanh(z)
        return lambda z: (1.0 if k == 1 else 0.0) - tanh(z)

    return _smooth("tanh_shrink", order, odd=True)


def _log_sigmoid() -> Activation:
    """log s(z) = −softplus(−z)."""

    def order(k: int) -> Function:
        if k == 0:
            return lambda z: -torch.logaddexp(-z, torch.zeros_like(z))
        return lambda z: (-1) ** (k - 1) * _sigmoid_k(k - 1)(-z)

    return _smooth("log_sigmoid", order)


def _relu_squared() -> Activation:
    ds = (lambda z: 2 * z.clamp(min=0), lambda z: _sides(z, 0.0, 2.0), _zero, _zero)
    return Activation(
        "relu_squared", lambda z: z.clamp(min=0) ** 2, ds, (0.0,), closed_form=closed.relu_squared
    )


def _hard_tanh(low: float = -1.0, high: float = 1.0) -> Activation:
    def slope(z: Tensor) -> Tensor:
        return 0.5 * (_sides(z - low, 0.0, 2.0) - _sides(z - high, 0.0, 2.0))

    name = "hard_tanh" if (low, high) == (-1, 1) else f"hard_tanh({low:g}, {high:g})"
    return Activation(
        name,
        lambda z: z.clamp(low, high),
        (slope, _zero, _zero, _zero),
        (float(low), float(high)),
        odd=low == -high,
    )


def _monomial(power: int = 2) -> Activation:
    def order(k: int) -> Function:
        front = math.perm(power, k)
        return lambda z: front * z ** max(power - k, 0) if front else torch.zeros_like(z)

    return _smooth(f"monomial({power})", order, odd=power % 2 == 1, form=closed.monomial(power))


def _leaky_relu(slope: float = 0.01) -> Activation:
    name = f"leaky_relu({slope:g})"
    return homogeneous(name, slope, 1.0)


_FACTORIES: dict[str, Callable[..., Activation]] = {
    "linear": lambda: homogeneous("linear", 1.0, 1.0),
    "relu": lambda: homogeneous("relu", 0.0, 1.0),
    "leaky_relu": _leaky_relu,
    "abs": lambda: homogeneous("abs", -1.0, 1.0),
    "tanh": lambda: _smooth("tanh", _tanh_k, odd=True),
    "erf": lambda: _smooth("erf", _erf_k, odd=True, form=closed.erf),
    "sin": lambda: _smooth("sin", _sin_k, odd=True, form=closed.sine),
    "cos": lambda: _smooth("cos", lambda k: _sin_k(k + 1), form=closed.cosine),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "swish": _swish,
    "sigmoid": lambda: _smooth("sigmoid", _sigmoid_k),
    "softplus": _softplus,
    "elu": lambda alpha=1.0: _exponential_unit(
        "elu" if alpha == 1 else f"elu({alpha:g})", alpha, 1.0
    ),
    "selu": lambda: _exponential_unit("selu", _SELU_ALPHA, _SELU_SCALE),
    "mish": _mish,
    "relu_squared": _relu_squared,
    "monomial": _monomial,
    "hard_tanh": _hard_tanh,
    "tanh_shrink": _tanh_shrink,
    "log_sigmoid": _log_sigmoid,
    **PIECEWISE,
}


def _remembering(name: str, factory: Callable[..., Activation]) -> Callable[..., Activation]:
    """``factory``, whose activations know how they are made again, to the last digit."""

    @functools.wraps(factory)
    def make(*args: float, **options: float) -> Activation:
        recipe = (name, args, tuple(options.items()))
        return dataclasses.replace(factory(*args, **options), recipe=recipe)

    return make


# name -> factory; the factory's keyword arguments are what a user may pass along
FACTORIES: dict[str, Callable[..., Activation]] = {
    name: _remembering(name, factory) for name, factory in _FACTORIES.items()
}
