"""Control variates: mean zero to second order, and worth having."""

import pytest
import torch

import kadanoff as kd
from kadanoff.ensembles.control import Control
from kadanoff.ensembles.limit import reference
from kadanoff.ensembles.normals import Normals
from kadanoff.ensembles.trunk import forward

X = torch.tensor([[1.0, 0.2, 0.5], [-0.3, 1.1, 0.4]], dtype=torch.float64)


def deviations(activation, inputs, implicit=True, S=4000, n=24, X=X):
    """Deviations of metric and conditional NTK at layer 4, and the control's three sums."""
    from kadanoff.ensembles.tangent import Conditional, conditional

    arch = kd.MLP(3, [n, n + 8, n], 2, activation, C_b=0.1, C_W=1.5, lambda_b=0.3, lambda_W=0.8)
    X = X[:inputs]
    ref = reference(arch, X)
    trunk = forward(arch, X, S, Normals(8, 0), implicit, arch.L - 1)
    control, state = Control(trunk, ref, True), Conditional(trunk.direct[0], None)
    omega = trunk.direct[0]
    for l in range(arch.L - 1):
        control.step(l)
        state, omega, _ = conditional(trunk, l, state)
    gap = torch.cat([trunk.metric[-1] - ref.K[-1], omega - ref.Theta[-1]], 1).view(S, -1)
    return gap, control


@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("implicit", [True, False])
def test_mean_is_zero(activation, implicit):
    _, control = deviations(activation, 2, implicit)
    for noise in (control.linear, control.bent, control.square.flatten(1)):
        mean, error = noise.mean(0), noise.std(0) / len(noise) ** 0.5
        live = error > 1e-12 * error.max()
        assert (mean[live].abs() < 4 * error[live]).all()
        assert live.any()


# at one input of tanh the third order is small, and no coefficient may be off
@pytest.mark.parametrize(
    "activation,inputs,left,product", [("tanh", 1, 0.25, 0.25), ("gelu", 2, 1.0, 0.6),
                                       ("relu", 2, 1.0, 0.6)],
)  # fmt: skip
def test_noise_is_followed(activation, inputs, left, product):
    gap, control = deviations(activation, inputs, n=100)
    raw, first = gap.std(0), (gap - control.linear).std(0)
    second = (gap - control.mean).std(0)
    # each order is smaller by about a root of the width
    assert (first < 0.25 * raw).all()
    assert (second < left * first + 1e-12).all()
    products = gap[:, :, None] * gap[:, None]
    assert ((products - control.square).std(0) < product * products.std(0)).all()


def test_repeated_inputs_and_zeros():
    rows = torch.stack([X[0], X[0], torch.zeros(3)])
    _, control = deviations("tanh", 3, X=rows)
    same = control.mean.view(-1, 2, 3, 3)
    assert torch.isfinite(control.square).all()
    # the coefficients are good to 1e-5, and that is enough
    torch.testing.assert_close(same[:, :, 0, 0], same[:, :, 0, 1], atol=1e-5, rtol=0)
    mean, error = control.linear.mean(0), control.linear.std(0) / 4000**0.5
    assert (mean.abs() <= 4 * error + 1e-12).all()
