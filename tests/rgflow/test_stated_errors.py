"""Stated errors are true: random networks, every component of every tensor, an independent rule.

The reference integrates on a plain square grid (:mod:`tests.rgflow.dense`).
"""

from __future__ import annotations

import pytest
import torch

import kadanoff as kd
from tests.rgflow.dense import true_tensors

ACTIVATIONS = ("tanh", "sin", "gelu", "erf", "silu", "sigmoid", "softplus", "mish")


def random_network(g: torch.Generator) -> tuple[kd.Network, torch.Tensor]:
    """Activation, depth, variances and rates, and one or two inputs of any size."""

    def between(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=g))

    def choice(count: int) -> int:
        return int(torch.randint(count, (1,), generator=g))

    inputs, layers = 1 + choice(2), 1 + choice(3)
    arch = kd.MLP(
        3,
        [32] * layers,
        1,
        ACTIVATIONS[choice(len(ACTIVATIONS))],
        C_b=10 ** between(-3, 1.5 if inputs == 1 else 0.5),
        C_W=between(0.3, 3),
        lambda_b=between(0, 2),
        lambda_W=between(0.1, 2),
    )
    size = 10 ** between(-1, 0.3)
    return arch, size * torch.randn(inputs, 3, generator=g, dtype=torch.float64)


@pytest.mark.parametrize(
    ("rule", "tolerance"),
    [("single", None), ("single", 1e-6), ("batched", 1e-6), ("expanded", 1e-6)],
)
def test_ninety_nine_of_a_hundred_components_are_within_the_stated_error(
    monkeypatch, rule, tolerance
):
    if rule != "single":
        monkeypatch.setattr("kadanoff.gaussian.rules._SINGLE_SUBSETS", 0)
    if rule == "expanded":
        monkeypatch.setattr("kadanoff.gaussian.rules._SUBSETS", 0)
    g = torch.Generator().manual_seed(20)
    total = outside = 0
    for _ in range(12):
        arch, X = random_network(g)
        found = kd.flow(arch, X, order=1, tolerance=tolerance)
        for l, layer in enumerate(true_tensors(arch, X), 1):
            for name, true in layer.items():
                off = (found.require(name)[l] - true).abs()
                total += off.numel()
                outside += int((off > found.error[name][l]).sum())
                # and the stated errors are small enough to mean something
                bar = 1e-8 if tolerance is None else 1e-2
                assert float(found.error[name][l].max()) <= bar * max(1.0, float(true.abs().max()))
    assert total > 1000
    assert outside <= 0.01 * total
