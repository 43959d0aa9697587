"""Many pairs at once against one pair at a time."""

import pytest
import torch

from kadanoff.activations import activation
from kadanoff.gaussian import averages, one, pair
from kadanoff.gaussian.rules import many


def pairs():
    K11 = torch.tensor([0.05, 0.4, 1.0, 2.5], dtype=torch.float64)
    K22 = torch.tensor([0.3, 0.4, 1.7, 0.1], dtype=torch.float64)
    rho = torch.tensor([0.0, 1.0, -0.9, 0.6], dtype=torch.float64)
    return K11, rho * (K11 * K22).sqrt(), K22


@pytest.mark.parametrize("name", ["tanh", "gelu", "relu", "silu"])
def test_equal_the_integrals_of_pairs(name):
    act = activation(name)
    K11, K12, K22 = pairs()
    for k, found in enumerate(averages(act, K11, K12, K22)):
        expected = pair(act, K11, K12, K22, k, k).value
        assert float((found - expected).abs().max()) < 1e-11 * float(expected.abs().max())


@pytest.mark.parametrize("name", ["tanh", "silu"])
def test_coincident_inputs_take_one_integral(name):
    act = activation(name)
    K = torch.tensor([1e-3, 0.5, 0.5, 4.0], dtype=torch.float64)
    for k, found in enumerate(averages(act, K, K, K)):
        f = act.derivative(k)
        expected = one(lambda z, f=f: f(z) ** 2, K).value
        assert float((found - expected).abs().max()) < 1e-12 * float(expected.abs().max())


def test_only_what_is_asked_of_each_sample():
    """Two kinds of functions for two kinds of samples: the entries that belong are the same."""
    g = torch.Generator().manual_seed(3)
    x = torch.randn(6, 5, generator=g, dtype=torch.float64)
    K = x @ x.mT / 5 + 0.2 * torch.eye(6, dtype=torch.float64)
    functions = [torch.tanh, lambda z: 1 - torch.tanh(z) ** 2, torch.sin, torch.cos]
    patterns = [(0, 0, 2, 2), (0, 1, 2, 3), (1, 1, 2, 2), (0, 1), (3, 3)]
    homes = [range(2)] * 3 + [range(2, 4)] * 3
    _, (whole, _) = many(functions, K, patterns, tolerance=1e-8)
    _, (part, _) = many(functions, K, patterns, tolerance=1e-8, homes=homes)
    first, last = slice(0, 3), slice(3, 6)
    for p in patterns:
        at = tuple(first if k < 2 else last for k in p)
        assert (whole[p][at] - part[p][at]).abs().max() < 1e-8
    assert part[0, 0, 2, 2][last, last, last, last].abs().max() == 0
