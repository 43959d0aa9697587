"""Activations whose σ'' jumps, and nothing below it: every tensor of order 1/n exists."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

import kadanoff as kd
from kadanoff.errors import UsageError
from kadanoff.rgflow import flow
from tests.rgflow.dense import true_tensors

X = torch.tensor([[1.0, 0.2], [-0.3, 0.8]], dtype=torch.float64)
NAMES = ("G1", "V", "H1", "D", "A", "B", "F", "P", "Q", "R", "S", "T", "U")
PLACE, BEND = 0.2, 0.3


def net(act: kd.Activation | str) -> kd.Network:
    return kd.MLP(2, [64] * 2, 1, act, C_b=0.1, C_W=1.3, lambda_b=0.5, lambda_W=0.8)


def bent(epsilon: float) -> kd.Activation:
    """tanh z + 0.3 max(z − 0.2, 0)², the square averaged over a Gaussian of width ε."""
    if not epsilon:
        return kd.activation(lambda z: torch.tanh(z) + BEND * torch.relu(z - PLACE) ** 2)

    def f(z: torch.Tensor) -> torch.Tensor:
        x = (z - PLACE) / epsilon
        upper = 0.5 * torch.erfc(-x / math.sqrt(2))
        bell = torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return torch.tanh(z) + BEND * epsilon**2 * ((x * x + 1) * upper + x * bell)

    return dataclasses.replace(
        kd.activation("tanh"),
        name=f"bent({epsilon})",
        f=f,
        derivatives=(),
        odd=False,
        closed_form=None,
    )


def test_a_kink_that_is_none_changes_nothing():
    tanh = kd.activation("tanh")
    plain, declared = (
        flow(net(act), X, order=1) for act in (tanh, dataclasses.replace(tanh, kinks=(0.3,)))
    )
    assert declared.strategy != plain.strategy
    for name in NAMES:
        off = (plain.require(name) - declared.require(name)).abs()
        assert (off <= declared.error[name] + plain.error[name]).all(), name


@pytest.mark.parametrize(
    ("points", "C_b", "width", "allowed"),
    [
        (X[:1], 0.1, 0.004, 1e-5),
        (X, 0.1, 0.04, 3e-3),
        (torch.cat([X[:1], -0.5 * X[:1]]), 0.0, 0.04, 3e-3),
    ],
)
def test_a_bend_is_the_limit_of_smooth_activations(points, C_b, width, allowed):
    """Inputs apart, the same, and opposite; polynomial extrapolation from three widths."""
    arch = dataclasses.replace(net(bent(0.0)), C_b=(C_b,) * 3)
    found = flow(arch, points, order=1)
    # a grid in the plane costs the square of one on the line
    spacing = (0.4 if len(points) == 1 else 0.8) * width
    ladder = []
    for epsilon in (width, 2 * width, 4 * width):
        smooth = dataclasses.replace(arch, activations=(bent(epsilon),) * 2)
        ladder.append(true_tensors(smooth, points, spacing=spacing)[-1])
    for name in NAMES:
        # v(ε) = v + a ε + b ε²: weights 8/3, −2, 1/3 at ε, 2ε, 4ε
        first, second, third = (layer[name] for layer in ladder)
        limit = (8 * first - 6 * second + third) / 3
        scale = float(limit.abs().max())
        gap = float((found.require(name)[-1] - limit).abs().max())
        assert gap < allowed * scale, (name, gap / scale)


@pytest.mark.parametrize("name", ["elu", "softsign"])
def test_elu_and_softsign_have_them_all(name):
    found = flow(net(name), X, order=1)
    for tensor in NAMES:
        value = found.require(tensor)
        assert torch.isfinite(value).all(), tensor
        assert (found.error[tensor] <= 1e-5 * value.abs().max() + 1e-9).all(), tensor


def test_a_kink_of_the_slope_still_has_none():
    with pytest.raises(UsageError, match="delta function"):
        flow(net("relu"), X, order=1).require("R")
