"""Convolutional kernels against wide real networks and dense ones."""

import math

import pytest
import torch
from torch import nn

import kadanoff as kd
from kadanoff.errors import DataError, UsageError
from kadanoff.kernels import (
    Act,
    AvgPool,
    Conv,
    ConvNet,
    Dense,
    Flatten,
    GlobalAvgPool,
    empirical_ntk,
    kernel,
)


def images(N=3, c=2, side=6):
    g = torch.Generator().manual_seed(0)
    return torch.randn(N, c, side, side, dtype=torch.float64, generator=g)


C = {"C_b": 0.1, "C_W": 1.6}


def test_one_pixel_images_are_dense_networks():
    X = images(side=1)
    arch = kd.MLP(2, [1, 1], 1, "relu", **C)
    for end in (Flatten(), GlobalAvgPool()):
        net = ConvNet([Conv(1, **C), Act("relu"), end, Dense(**C), Act("relu"), Dense(**C)])
        found, expected = kernel(net)(X), kernel(arch)(X.flatten(1))
        assert torch.allclose(found.nngp, expected.nngp, rtol=1e-11)
        assert torch.allclose(found.ntk, expected.ntk, rtol=1e-11)


NETS = {
    "same, global": (
        [Conv(3, **C), Act("relu"), Conv(3, 2, "valid", **C), Act("relu"), GlobalAvgPool()],
        lambda n: [nn.Conv2d(2, n, 3, padding=1), nn.ReLU(), nn.Conv2d(n, n, 3, 2), nn.ReLU(),
                   nn.AvgPool2d(2), nn.Flatten()],
        1,
    ),
    "pool, flatten": (
        [Conv(3, **C), Act("tanh"), AvgPool(2), Conv(3, 1, 1, **C), Act("tanh"), Flatten()],
        lambda n: [nn.Conv2d(2, n, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2),
                   nn.Conv2d(n, n, 3, padding=1), nn.Tanh(), nn.Flatten()],
        9,
    ),
    "flatten": (
        [Conv(3, 1, "valid", **C), Act("erf"), Flatten()],
        lambda n: [nn.Conv2d(2, n, 3), Erf(), nn.Flatten()],
        16,
    ),
}  # fmt: skip


class Erf(nn.Module):
    def forward(self, x):
        return torch.erf(x)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_agrees_with_wide_networks(name):
    layers, make, positions = NETS[name]
    X, n, draws = images(), 96, 40
    # torch's own parametrisation: every weight has learning rate 1, so λ_W = fan-in each
    gram = kernel(ConvNet([*layers, Dense(**C, lambda_b=C["C_b"], lambda_W=C["C_W"])]))(X)
    g = torch.Generator().manual_seed(5)
    K, T = [], []
    for _ in range(draws):
        model = nn.Sequential(*make(n), Scaled(nn.Linear(n * positions, 1))).double()
        for i, module in enumerate(model):
            if isinstance(module, nn.Conv2d):
                model[i] = Scaled(module)
        for p in model.parameters():
            p.data.normal_(generator=g)
        T.append(empirical_ntk(model, X))
        with torch.no_grad():
            h = model[:-1](X)
            # the readout integrated out
            K.append(C["C_b"] + C["C_W"] * h @ h.T / h.shape[1])
    for found, sample in ((gram.nngp, K), (gram.ntk * 1.0, T)):
        sample = torch.stack(sample)
        stderr = sample.std(0) / math.sqrt(draws)
        assert float(stderr.max()) < 0.08 * float(found.max())
        # corrections of order 1/n are below a tenth of these error bars for K
        bias = 1.5 / n * float(found.max())
        assert float((((found - sample.mean(0)).abs() - bias) / stderr).max()) < 4


class Scaled(nn.Module):
    """Unit normal parameters behind √(C_W/fan-in) and √C_b: their NTK has λ_W = C_W, λ_b = C_b."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner
        self.weight, self.bias = nn.Parameter(inner.weight), nn.Parameter(inner.bias)
        for p in inner.parameters():
            p.requires_grad_(False)

    def forward(self, x):
        fan = self.weight[0].numel()
        W, b = self.weight * math.sqrt(C["C_W"] / fan), self.bias * math.sqrt(C["C_b"])
        if isinstance(self.inner, nn.Conv2d):
            return nn.functional.conv2d(x, W, b, self.inner.stride, self.inner.padding)
        return nn.functional.linear(x, W, b)


for _layers, _, _ in NETS.values():
    for _i, _layer in enumerate(_layers):
        if isinstance(_layer, Conv):
            _layers[_i] = Conv(_layer.size, _layer.stride, _layer.padding, **C,
                               lambda_b=C["C_b"], lambda_W=C["C_W"])  # fmt: skip


def test_symmetric_equals_rectangular_and_types():
    X = images(N=5)
    net = ConvNet([Conv(3, **C), Act(), AvgPool(2), Conv(3, **C), Act(), Flatten(), Dense()])
    k = kernel(net)
    whole, parts = k(X), k(X[3:], X[:3])
    assert torch.allclose(whole.ntk[3:, :3], parts.ntk, rtol=1e-9)
    assert torch.equal(k(X, get="nngp"), whole.nngp)
    assert k(X.float()).ntk.dtype == torch.float32


def test_refusals():
    net = ConvNet([Conv(7, padding="valid"), Act(), GlobalAvgPool(), Dense()])
    with pytest.raises(DataError, match="does not fit"):
        kernel(net)(images())
    with pytest.raises(DataError, match="channels"):
        kernel(net)(torch.ones(3, 4))
    with pytest.raises(UsageError, match="Dense"):
        ConvNet([Conv(3), Act(), Flatten()])
    with pytest.raises(UsageError, match="odd"):
        ConvNet([Conv(2), Act(), Flatten(), Dense()])
    with pytest.raises(UsageError, match="out of place"):
        ConvNet([Conv(3), Dense()])
