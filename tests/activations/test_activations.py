"""Each activation: derivatives against differences, kinks, and lookup from what users write."""

from __future__ import annotations

import pytest
import torch
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


@pytest.mark.parametrize("name", names())
def test_large_arguments_stay_finite(name: str) -> None:
    z = torch.tensor([-1200.0, -300.0, 300.0, 1200.0], dtype=torch.float64)
    act = activation(name)
    for k in range(4):
        assert torch.isfinite(act.derivative(k)(z)).all()


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
