"""Closed forms against Monte Carlo and against a second route."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from kadanoff import MLP
from kadanoff.errors import DomainError, UsageError
from kadanoff.sparsity.theory import (
    both_active,
    drift,
    drift_monte_carlo,
    fraction_active,
    fraction_at_init,
    measure_drift,
    softmax_square,
)  # fmt: skip
from tests.known import assert_consistent


@pytest.mark.parametrize(
    "loss, n, sigma",
    [("cross_entropy", 10, 0.05), ("cross_entropy", 10, 0.5), ("cross_entropy", 100, 0.1),
     ("mse", 10, 0.05), ("mse", 50, 0.1)],
)  # fmt: skip
def test_drift_by_monte_carlo(loss, n, sigma):
    p = torch.randn(128, generator=torch.Generator().manual_seed(3)).relu().double()
    # one number, the slope, has the small error bar that single entries lack
    closed = drift(p, sigma, n, loss)
    slopes = []
    for seed in range(20):
        mean, _ = drift_monte_carlo(p, sigma, n, loss, n_draws=150, seed=seed)
        slopes.append(float(mean @ p / (p @ p)))
    slopes = torch.tensor(slopes)
    assert_consistent(
        float(closed @ p / (p @ p)), float(slopes.mean()), float(slopes.std() / 20**0.5),
        relative_error=0.15,
    )  # fmt: skip


def test_softmax_square_by_sampling_and_limits():
    for variance, n in ((0.3, 4), (5.0, 10), (40.0, 3), (1.0, 1000)):
        u = torch.randn(40_000 // (n // 50 + 1), n, dtype=torch.float64,
                        generator=torch.Generator().manual_seed(n))  # fmt: skip
        sample = torch.softmax(u * variance**0.5, 1).square().sum(1)
        error = float(sample.std() / len(sample) ** 0.5)
        assert_consistent(
            softmax_square(variance, n), float(sample.mean()), error, relative_error=0.02
        )
    assert softmax_square(1e-8, 7) == pytest.approx(1 / 7, rel=1e-6)
    # two classes: a one-dimensional integral of the logistic function
    u = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    s = torch.sigmoid(u * 2.0**0.5 * 3.0**0.5)
    exact = ((s**2 + (1 - s) ** 2) * torch.exp(-(u**2) / 2)).sum() / torch.exp(-(u**2) / 2).sum()
    assert softmax_square(3.0, 2) == pytest.approx(float(exact), rel=1e-7)


def test_fraction_active():
    assert fraction_active(torch.relu, 3.7) == pytest.approx(0.5, abs=1e-9)
    assert fraction_active(torch.relu, 4.0, threshold=2.0) == pytest.approx(0.158655254, abs=1e-8)
    assert fraction_active(torch.relu, 1.0, mean=1.0) == pytest.approx(0.841344746, abs=1e-8)
    z = torch.randn(400_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 1.3
    share = (nn.functional.gelu(z).abs() >= 0.1).double()
    assert_consistent(
        fraction_active(nn.functional.gelu, 1.69, 0.1), float(share.mean()),
        float(share.std() / len(share) ** 0.5), relative_error=0.01,
    )  # fmt: skip
    with pytest.raises(DomainError, match="-1"):
        fraction_active(torch.relu, 1.0, threshold=-1.0)


@pytest.mark.parametrize("name, threshold", [("relu", 0.0), ("gelu", 0.2), ("tanh", 0.5)])
def test_fraction_at_init_against_real_networks(name, threshold):
    """Every layer of drawn networks; the error bar is that of the networks' means."""
    arch = MLP(6, [1500, 1500, 1500], 1, name, C_W=1.6, C_b=0.05)
    x = torch.randn(2, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    predicted = fraction_at_init(arch, x, threshold)
    act = {"relu": torch.relu, "gelu": nn.functional.gelu, "tanh": torch.tanh}[name]
    generator = torch.Generator().manual_seed(0)
    seen = []
    for _ in range(24):
        h, rows = x.float(), []
        for _ in range(3):
            w = torch.randn(1500, h.shape[1], generator=generator) * (1.6 / h.shape[1]) ** 0.5
            h = act(h @ w.T + 0.05**0.5 * torch.randn(1500, generator=generator))
            rows.append(((h.abs() >= threshold) if threshold else h != 0).double().mean(1))
        seen.append(torch.stack(rows))
    seen = torch.stack(seen)
    error = seen.std(0) / 24**0.5
    for p, mean, e in zip(predicted.flatten(), seen.mean(0).flatten(), error.flatten()):
        assert_consistent(float(p), float(mean), float(e), relative_error=0.02)


def test_both_active():
    assert both_active(1.0) == pytest.approx(0.5)
    assert both_active(0.0) == 0.25
    assert both_active(0.5) == pytest.approx(1 / 3)
    assert both_active(-1.0) == pytest.approx(0.0, abs=1e-12)


def test_measured_drift_of_fresh_models():
    """The closed form is an average over readouts: a dozen models are drawn."""
    slopes, predicted = [], []
    for seed in range(12):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(20, 1000), nn.ReLU(), nn.Linear(1000, 50, bias=False))
        x, y = 3 * torch.randn(1500, 20), torch.randint(50, (1500,))
        (found,) = measure_drift(model, (x, y))
        slopes.append(found.slope)
        predicted.append(found.predicted)
        assert 0 < found.stderr < 0.2 * found.slope
        assert all(p.grad is None for p in model.parameters())
    # entries of the readout are uniform with variance 1/(3 · 1000), and the logits small
    assert math.isclose(sum(predicted) / 12, (1 / 3000) * (1 - 1 / 50), rel_tol=0.02)
    slopes = torch.tensor(slopes)
    assert_consistent(
        sum(predicted) / 12, float(slopes.mean()), float(slopes.std() / 12**0.5),
        relative_error=0.05,
    )  # fmt: skip
    with pytest.raises(UsageError, match="targets"):
        measure_drift(model, x)


def test_measured_drift_of_regression_and_its_error_bar():
    """Squared error: n σ² for outputs that are still free; the error bar against fresh tokens."""
    slopes, predicted = [], []
    for seed in range(12):
        torch.manual_seed(seed)
        model = nn.Sequential(nn.Linear(20, 1000), nn.ReLU(), nn.Linear(1000, 8, bias=False))
        (found,) = measure_drift(model, (torch.randn(500, 20), torch.zeros(500, 8)))
        slopes.append(found.slope)
        predicted.append(found.predicted)
    assert math.isclose(sum(predicted) / 12, 8 / 3000, rel_tol=0.02)
    slopes = torch.tensor(slopes)
    assert_consistent(
        sum(predicted) / 12, float(slopes.mean()), float(slopes.std() / 12**0.5),
        relative_error=0.05,
    )  # fmt: skip
    again = [measure_drift(model, (torch.randn(100, 20), torch.randn(100, 8)))[0]
             for _ in range(150)]  # fmt: skip
    spread = float(torch.tensor([a.slope for a in again]).std())
    # a standard deviation of 150 is known to 6 %
    assert 0.75 < spread / (sum(a.stderr for a in again) / 150) < 1.33
