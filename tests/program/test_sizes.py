"""Gradients by parameter, and their powers of width and depth."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import nn

from kadanoff.errors import UsageError
from kadanoff.program import gradient_powers, gradient_sizes, power_fit

X = torch.randn(4, 20, generator=torch.Generator().manual_seed(0))


class Deep(nn.Module):
    """Linear layers of unit gain and a readout: every gradient has a closed form."""

    def __init__(self, width: int = 64, depth: int = 2) -> None:
        super().__init__()
        sizes = [20, *[width] * depth]
        self.layers = nn.ModuleList(
            nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(sizes)
        )
        self.head = nn.Linear(width, 1, bias=False)
        for layer in (*self.layers, self.head):
            nn.init.normal_(layer.weight, 0.0, layer.in_features**-0.5)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return self.head(x)


def total(z):
    """Σ z of one output."""
    return z.sum()


def test_sizes_are_those_of_the_closed_form():
    n, x = 96, X[:1]
    found = gradient_sizes(Deep, x, total, n_networks=2)
    K = float(x.square().mean())
    # |∂z/∂W|² = |x|² |δ|² with E|δ|² = 1 behind every hidden layer, E|x|² = n K
    assert set(found) == {"layers.0.weight", "layers.1.weight", "head.weight"}
    hidden = gradient_sizes(lambda: Deep(n), x, total, n_networks=200)["layers.1.weight"]
    assert hidden.entries == n * n
    error = hidden.entries * hidden.mean_square.stderr
    assert error < 0.05 * n * K
    assert abs(hidden.total_square - n * K) < 4 * error
    assert hidden.total_absolute == pytest.approx(n * n * math.sqrt(2 / math.pi) * hidden.rms)


def test_powers_of_width_and_depth():
    wide = gradient_powers(Deep, X[:1], [48, 96, 192, 384], total, n_networks=40)
    # E g² of an entry: K |δ_i|² = K/n for hidden matrices, K for the readout
    for name, power in (("layers.0.weight", -1.0), ("layers.1.weight", -1.0), ("head.weight", 0.0)):
        fit = wide[name].entry
        assert abs(fit.power - power) < 4 * fit.stderr
        assert fit.stderr < 0.25
    assert wide["layers.1.weight"].total.power == pytest.approx(
        wide["layers.1.weight"].entry.power + 2
    )
    deep = gradient_powers(
        lambda L: Deep(256, L), X[:1], [2, 4, 8], total, blocks=True, correction=False,
        n_networks=32,
    )  # fmt: skip
    fit = deep["layers.*.weight"].entry
    # all hidden layers alike, but for the first, whose fan-in is the data's
    assert set(deep) == {"layers.*.weight", "head.weight"}
    assert abs(fit.power) < 0.35
    with pytest.raises(UsageError, match="3 different sizes"):
        gradient_powers(Deep, X, [64, 64, 128], total)


def test_fits_of_powers():
    n = [8, 16, 32, 64]
    value = [3 * x**-1.5 * math.exp(0.7 / x) for x in n]
    fit = power_fit(n, value, [0.01 * v for v in value])
    assert fit.power == pytest.approx(-1.5)
    assert fit.kappa == pytest.approx(0.7)
    assert fit.chi2 == pytest.approx(0, abs=1e-12)
