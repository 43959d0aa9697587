"""Kernels and susceptibilities against real networks of width 1024, weights drawn one by one."""

from __future__ import annotations

import math

import pytest
import torch

import kadanoff as kd
from kadanoff.activations import activation, names
from kadanoff.critical import susceptibilities
from tests.known import assert_consistent

WIDTH, NETWORKS, LAYERS = 1024, 24, 3
SETTINGS = {
    name: ((kd.criticality(name).C_b, kd.criticality(name).C_W) if kd.criticality(name).exists
           else (0.1, 0.8))
    for name in names()
    # powers above one square their own fluctuations: their error bars stay wide at any width
    # and of functions that jump the NTK does not exist, which flow gives along with K
    if name not in ("monomial", "relu_squared", "sign", "hard_shrink", "threshold")
}  # fmt: skip


def measured_metrics(name: str, X: torch.Tensor) -> torch.Tensor:
    """zᵀz/n after LAYERS layers of drawn networks, shape (NETWORKS, N, N)."""
    C_b, C_W = SETTINGS[name]
    act = activation(name)
    generator = torch.Generator().manual_seed(7)
    out = []
    for _ in range(NETWORKS):
        h, z = X, X
        for _ in range(LAYERS):
            W = torch.randn(WIDTH, h.shape[1], generator=generator) * math.sqrt(C_W / h.shape[1])
            b = torch.randn(WIDTH, generator=generator) * math.sqrt(C_b)
            z = h @ W.T + b
            h = act(z)
        out.append(z.double() @ z.double().T / WIDTH)
    return torch.stack(out)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_kernel_of_wide_networks(name: str) -> None:
    X = torch.randn(3, 40, generator=torch.Generator().manual_seed(1))
    C_b, C_W = SETTINGS[name]
    flow = kd.flow(kd.MLP(40, [WIDTH] * LAYERS, 1, name, C_b=C_b, C_W=C_W), X)
    samples = measured_metrics(name, X)
    stderr = samples.std(0) / math.sqrt(NETWORKS)
    assert_consistent(flow.K[LAYERS - 1], samples.mean(0), stderr, relative_error=0.04)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tanh", "erf", "sin", "relu", "gelu", "swish", "sigmoid", "elu"])
def test_susceptibilities_of_wide_networks(name: str) -> None:
    """χ⊥ from two close directions, χ∥ from two close magnitudes, through one drawn layer."""
    _, C_W = SETTINGS[name]
    act, K, eps = activation(name), 0.9, 1e-4
    generator = torch.Generator().manual_seed(3)
    perp, parallel = [], []
    for _ in range(400):
        z = torch.randn(WIDTH, generator=generator, dtype=torch.float64)
        z *= math.sqrt(K * WIDTH) / z.norm()
        other = torch.randn(WIDTH, generator=generator, dtype=torch.float64)
        other -= z * (other @ z) / (z @ z)
        other *= z.norm() / other.norm()
        # the next layer's metric is C_W |·|²/n whatever the weights: average over inputs instead
        turned = act(z + eps * other) - act(z)
        perp.append(C_W * float(turned @ turned) / WIDTH / (eps**2 * K))
        longer = act(z * math.sqrt(1 + eps)).square().mean() - act(z).square().mean()
        parallel.append(C_W * float(longer) / (eps * K))
    for found, exact in zip((parallel, perp), susceptibilities(act, K, C_W), strict=True):
        values = torch.tensor(found, dtype=torch.float64)
        # sampling z on the sphere instead of the Gaussian shifts averages by O(1/n)
        assert_consistent(
            float(exact), float(values.mean()), float(values.std()) / 20, relative_error=0.01,
            bias=3 / WIDTH * float(exact),
        )  # fmt: skip
