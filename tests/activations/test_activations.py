"""Each activation: derivatives against differences, kinks, and lookup from what users write."""

from __future__ import annotations

import mpmath
import pytest
import torch
from mpmath import mpf
from torch import nn

from kadanoff.activations import activation, names
from kadanoff.errors import UsageError


@pytest.mark.parametrize("name", names())
def test_derivatives_match_differences(name: str) -> None:
    act = activation(name)
    z = torch.linspace(-4.03, 4.11, 57, dtype=torch.float64)
    h = 1e-4
    for k in range(1, 5):
        lower = act.derivative(k - 1)
        # fourth-order differences: error h⁴
        slope = (8 * (lower(z + h) - lower(z - h)) - (lower(z + 2 * h) - lower(z - 2 * h))) / 12 / h
        far = torch.ones_like(z, dtype=torch.bool)
        for kink in act.kinks:
            far &= (z - kink).abs() > 3 * h
        assert torch.allclose(act.derivative(k)(z)[far], slope[far], atol=1e-7, rtol=1e-7)


def logistic(z: mpf) -> mpf:
    return 1 / (1 + mpmath.exp(-z))


def softplus(z: mpf) -> mpf:
    return max(z, mpf(0)) + mpmath.log1p(mpmath.exp(-abs(z)))


def expm1_below(z: mpf) -> mpf:
    return z if z > 0 else mpmath.expm1(z)


# every activation once more, as its paper writes it, in as many digits as one likes
EXACT = {
    "linear": lambda z: z,
    "relu": lambda z: max(z, mpf(0)),
    "leaky_relu": lambda z: z if z > 0 else z / 100,
    "abs": abs,
    "tanh": mpmath.tanh,
    "erf": mpmath.erf,
    "sin": mpmath.sin,
    "cos": mpmath.cos,
    "gelu": lambda z: z * mpmath.erfc(-z / mpmath.sqrt(2)) / 2,
    "gelu_tanh": lambda z: (
        z / 2 * (1 + mpmath.tanh(mpmath.sqrt(2 / mpmath.pi) * (z + mpf("0.044715") * z**3)))
    ),
    "swish": lambda z: z * logistic(z),
    "sigmoid": logistic,
    "softplus": softplus,
    "elu": expm1_below,
    "selu": lambda z: (
        mpf("1.0507009873554805") * (z if z > 0 else mpf("1.6732632423543772") * mpmath.expm1(z))
    ),
    "mish": lambda z: z * mpmath.tanh(softplus(z)),
    "relu_squared": lambda z: max(z, mpf(0)) ** 2,
    "monomial": lambda z: z**2,
    "hard_tanh": lambda z: min(max(z, mpf(-1)), mpf(1)),
    "celu": expm1_below,
    "sign": lambda z: mpf(1) if z > 0 else mpf(-1),
    "threshold": lambda z: max(z, mpf(0)),
    "softsign": lambda z: z / (1 + abs(z)),
    "hard_sigmoid": lambda z: min(max(z / 6 + mpf(1) / 2, mpf(0)), mpf(1)),
    "hard_swish": lambda z: z * min(max(z / 6 + mpf(1) / 2, mpf(0)), mpf(1)),
    "hard_shrink": lambda z: z if abs(z) > mpf(1) / 2 else mpf(0),
    "soft_shrink": lambda z: z - max(min(z, mpf(1) / 2), -mpf(1) / 2),
    "tanh_shrink": lambda z: z - mpmath.tanh(z),
    "log_sigmoid": lambda z: -softplus(-z),
}


def test_each_activation_has_an_exact_form() -> None:
    assert set(EXACT) == set(names())


@pytest.mark.parametrize("name", EXACT)
def test_values_and_derivatives_far_out_are_exact(name: str) -> None:
    """Where exponentials overflow or vanish in float64: against 60 digits."""
    points = [-1200.0, -300.0, -41.7, -12.3, -6.1, 5.9, 13.4, 40.9, 300.0, 1200.0]
    act = activation(name)
    z = torch.tensor(points, dtype=torch.float64)
    with mpmath.workdps(60):
        for k in range(5):
            exact = [mpmath.diff(EXACT[name], mpf(p), k, h=mpf(10) ** -12) for p in points]
            expected = torch.tensor([float(value) for value in exact], dtype=torch.float64)
            found = act.derivative(k)(z)
            # small differences of numbers of order one keep the digits that float64 has
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (nn.Tanh(), "tanh"),
        (nn.ReLU(inplace=True), "relu"),
        (nn.LeakyReLU(0.2), "leaky_relu(0.2)"),
        (nn.GELU(), "gelu"),
        (nn.GELU(approximate="tanh"), "gelu_tanh"),
        (nn.SiLU(), "swish"),
        (nn.Softplus(), "softplus"),
        (nn.ELU(0.7), "elu(0.7)"),
        (nn.SELU(), "selu"),
        (nn.Mish(), "mish"),
        (nn.Hardtanh(), "hard_tanh"),
        (nn.ReLU6(), "hard_tanh(0, 6)"),
        (nn.Identity(), "linear"),
        (nn.PReLU(), "leaky_relu(0.25)"),
        (torch.sin, "sin"),
        (nn.functional.silu, "swish"),
        (lambda z: torch.maximum(z, 0.1 * z), "leaky_relu(0.1)"),
        (lambda z: torch.relu(z) ** 2, "relu_squared"),
        (lambda z: z**3, "monomial(3)"),
    ],
)
def test_found_from_what_users_write(module, name: str) -> None:
    assert activation(module).name == name


def test_kinks_of_a_callable_are_found() -> None:
    assert activation(lambda z: torch.where(z > 1.3, z, 0.2 * z)).kinks == (1.3,)
    assert activation(nn.Hardswish()).kinks == (-3.0, 3.0)
    assert activation(nn.Softshrink()).kinks == (-0.5, 0.5)
    assert activation(torch.arctan).kinks == ()
    assert activation(lambda z: torch.tanh(20 * z)).kinks == ()


def test_in_place_modules_leave_their_input() -> None:
    z = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    activation(nn.Hardswish(inplace=True))(z)
    assert z.tolist() == [-1.0, 1.0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tahn", "Did you mean 'tanh'"),
        (3, "must be a name or a callable"),
        (nn.Softmax(-1), "not elementwise"),
        (nn.Linear(3, 3), "cannot be applied|not elementwise"),
        ("leaky_relu(a)", "Wrong parameters"),
    ],
)
def test_bad_activations_are_explained(spec, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        activation(spec)
