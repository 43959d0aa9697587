"""How many numbers describe an output distribution, and how well."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import kadanoff as kd
from kadanoff.errors import UsageError
from kadanoff.rgflow import (
    component_counts,
    exact_chain,
    metric_couplings,
    moment_series,
    output_density,
)


@pytest.mark.parametrize("N", [1, 2, 3])
def test_counts_are_the_independent_components(N: int) -> None:
    """Counted by symmetrising a tensor of distinct numbers under the exchanges that are allowed."""
    counts = component_counts(N)

    def orbits(*exchanges) -> int:
        index = np.arange(N**4).reshape(N, N, N, N)
        label = index.copy()
        for _ in range(8):
            for axes in exchanges:
                label = np.minimum(label, np.transpose(label, axes))
        return len(np.unique(label))

    pair = [(1, 0, 2, 3), (0, 1, 3, 2)]
    swap = (2, 3, 0, 1)
    assert counts["V"] == counts["A"] == orbits(*pair, swap)
    assert counts["D"] == orbits(*pair)
    assert counts["F"] == counts["U"] == orbits(swap)
    assert counts["B"] == orbits((1, 0, 3, 2), swap)
    assert counts["P"] == orbits((0, 1, 3, 2))
    assert counts["Q"] == orbits()
    assert [metric_couplings(N, p) for p in (0, 1)] == [
        counts["K"],
        2 * counts["K"] + counts["V"],
    ]


def test_one_input_needs_triangular_numbers() -> None:
    assert [metric_couplings(1, p) for p in range(4)] == [1, 3, 6, 10]


def test_densities_improve_order_by_order() -> None:
    """Against the exact law of Ĝ, integrated: errors fall as n^−(order + 1)."""
    z = np.linspace(0.0, 1.5, 31)
    errors = {}
    for n in (20, 40):
        arch = kd.MLP(1, [n] * 3, 1, "tanh", C_b=0.05, C_W=1.5)
        x = torch.ones(1, 1, dtype=torch.float64)
        series, chain = moment_series(arch, x, order=2), exact_chain(arch, x, grid=1024, nodes=80)
        G, p = chain.grid[1:], chain.density[-1][1:]
        gaussian = np.exp(-0.5 * z[:, None] ** 2 / G) / np.sqrt(2 * math.pi * G)
        exact = (gaussian * p).sum(1) * (G[1] - G[0])
        errors[n] = [np.abs(output_density(series, z, order) - exact).max() for order in range(3)]
    for order in range(3):
        slope = math.log2(errors[20][order] / errors[40][order])
        assert slope == pytest.approx(order + 1, abs=0.35)
    assert errors[40][2] < 0.2 * errors[40][1] < 0.04 * errors[40][0]


def test_wrong_orders() -> None:
    series = moment_series(kd.MLP(1, [9], 1, "tanh"), torch.ones(1, 1), order=1)
    with pytest.raises(UsageError, match="order 1, not 2"):
        output_density(series, 0.0, 2)
    with pytest.raises(UsageError, match="order must be >= 0"):
        metric_couplings(2, -1)
