"""Quadrature against closed forms, mpmath and itself, over the whole range that is promised."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from kadanoff.activations import activation
from kadanoff.errors import DomainError
from kadanoff.gaussian import one, pair, two

KERNELS = (1e-6, 1e-2, 1.0, 30.0, 1e4)
CLOSED = ("linear", "relu", "leaky_relu(0.3)", "abs", "erf", "sin", "cos", "gelu", "relu_squared")
NUMERIC = ("tanh", "swish", "softplus", "sigmoid", "mish", "elu", "selu", "hard_tanh", "gelu_tanh")


def f64(x: float) -> torch.Tensor:
    return torch.tensor(x, dtype=torch.float64)


def norm(act, K: torch.Tensor, k: int) -> float:
    """√⟨(σ⁽ᵏ⁾)²⟩: the scale against which an error counts."""
    return math.sqrt(float(one(lambda z: act.derivative(k)(z) ** 2, K, act.kinks).value))


@pytest.mark.parametrize("name", CLOSED)
@pytest.mark.parametrize("k", [0, 1])
def test_closed_forms_equal_quadrature(name: str, k: int) -> None:
    act = activation(name)
    tolerance = 1e-10 if act.smooth else 1e-8
    for K in KERNELS:
        if name in ("sin", "cos") and K > 100:
            continue  # 1e4 oscillations of a sine: only its closed form is sensible there
        for rho in (-1.0, -0.5, 0.0, 0.99, 0.999999, 1.0):
            a, b, c = f64(K), f64(rho * K), f64(K)
            exact = act.closed(k, k, a, b, c)
            assert exact is not None
            found = two(act.derivative(k), act.derivative(k), a, b, c, act.kinks, act.kinks)
            assert abs(float(found.value - exact)) <= tolerance * norm(act, a, k) ** 2


@pytest.mark.parametrize("name", NUMERIC)
def test_two_orders_of_integration_agree(name: str) -> None:
    """⟨f(z₁) g(z₂)⟩ integrated over z₂ first or over z₁ first."""
    act = activation(name)
    for K in KERNELS:
        for rho in (-0.999, 0.3, 0.999999):
            a, b, c = f64(K), f64(rho * K * math.sqrt(0.4)), f64(0.4 * K)
            d1 = act.derivative(1)
            forth = two(act, d1, a, b, c, act.kinks, act.kinks).value
            back = two(d1, act, c, b, a, act.kinks, act.kinks).value
            assert abs(float(forth - back)) <= 1e-9 * norm(act, a, 0) * norm(act, c, 1)


@pytest.mark.parametrize(("name", "K"), [("tanh", 1.7), ("swish", 40.0), ("tanh", 1e4)])
def test_against_mpmath(name: str, K: float) -> None:
    functions = {"tanh": mpmath.tanh, "swish": lambda z: z / (1 + mpmath.exp(-z))}
    f = functions[name]
    root = mpmath.sqrt(K)
    cuts = sorted({s * c for c in (0, 1e-3, 1e-2, 0.1, 1, 3, 6, 12) for s in (-1, 1)})
    exact = mpmath.quad(
        lambda x: f(root * x) ** 2 * mpmath.exp(-x * x / 2) / mpmath.sqrt(2 * mpmath.pi), cuts
    )
    act = activation(name)
    found = one(lambda z: act(z) ** 2, K)
    assert abs(float(found.value) - float(exact)) <= 1e-11 * float(exact)
    assert float(found.error) <= 1e-10 * float(exact)


@given(st.floats(1e-6, 1e4), st.floats(1e-6, 1e4), st.floats(-1, 1), st.sampled_from(CLOSED[:5]))
@settings(max_examples=60, deadline=None)
def test_closed_forms_are_finite_and_bounded(K11: float, K22: float, rho: float, name: str) -> None:
    act = activation(name)
    cross = rho * math.sqrt(K11 * K22)
    value = float(act.closed(0, 0, f64(K11), f64(cross), f64(K22)))
    bound = math.sqrt(
        float(act.closed(0, 0, f64(K11), f64(K11), f64(K11)))
        * float(act.closed(0, 0, f64(K22), f64(K22), f64(K22)))
    )
    assert math.isfinite(value)
    assert abs(value) <= bound * (1 + 1e-12)


@pytest.mark.parametrize("name", [*CLOSED, *NUMERIC])
def test_zero_kernel_gives_the_value_at_zero(name: str) -> None:
    act = activation(name)
    zero = f64(0.0)
    value = float(pair(act, zero, zero, zero).value)
    assert value == pytest.approx(float(act(zero)) ** 2, abs=1e-15)
    assert math.isfinite(float(pair(act, zero, zero, f64(1.0)).value))


def test_delta_functions_of_kinks() -> None:
    """⟨σ''(z₁) σ(z₂)⟩ of ReLU against 2 ∂/∂K11 ⟨σσ⟩ of its closed form."""
    act = activation("relu")
    a, b, c, h = f64(0.8), f64(0.3), f64(1.3), 1e-5
    up, down = act.closed(0, 0, a + h, b, c), act.closed(0, 0, a - h, b, c)
    assert float(pair(act, a, b, c, 2, 0).value) == pytest.approx(float(up - down) / h, rel=1e-8)
    up, down = act.closed(1, 1, a, b + h, c), act.closed(1, 1, a, b - h, c)
    slope = float(up - down) / (2 * h)
    assert float(pair(act, a, b, c, 2, 2).value) == pytest.approx(slope, rel=1e-8)
    with pytest.raises(DomainError, match="coincident"):
        pair(act, a, a, a, 2, 2)


def test_bad_kernels_are_refused() -> None:
    act = activation("tanh")
    with pytest.raises(DomainError, match="must be finite and >= 0, got -1"):
        one(act, -1.0)
    with pytest.raises(DomainError, match="not positive semi-definite"):
        two(act, act, 1.0, 1.5, 1.0)
