"""Stability edge and time scales, against descent that really diverges or not."""

from __future__ import annotations

import math

import pytest
import torch

from kadanoff.errors import DomainError, UsageError
from kadanoff.learning import largest_stable_rate, modes, torch_rate

G = torch.Generator().manual_seed(0)
FEATURES = torch.randn(24, 40, generator=G, dtype=torch.float64) / math.sqrt(40)
THETA = FEATURES @ FEATURES.mT


def test_full_batch_edge():
    top = float(torch.linalg.eigvalsh(THETA)[-1])
    assert largest_stable_rate(THETA, reduction="sum") == pytest.approx(2 / top)
    assert largest_stable_rate(THETA) == largest_stable_rate(THETA, reduction="mean")
    assert largest_stable_rate(THETA, reduction="mean") == pytest.approx(24 * 2 / top)
    assert largest_stable_rate(THETA, batch=24, reduction="sum") == pytest.approx(2 / top)


def _mean_square_growth(batch: int, eta: float) -> float:
    """Largest eigenvalue of the second-moment map, built by brute force over parameters."""
    N = 5
    theta = THETA[:N, :N]
    eye = torch.eye(N, dtype=torch.float64)
    import itertools

    total = torch.zeros(N * N, N * N, dtype=torch.float64)
    subsets = list(itertools.combinations(range(N), batch))
    for rows in subsets:
        mask = torch.zeros(N, dtype=torch.float64)
        mask[list(rows)] = 1
        step = eye - eta * theta * mask
        total += torch.kron(step, step) / len(subsets)
    return float(torch.linalg.eigvals(total).abs().max())


@pytest.mark.parametrize("batch", [1, 2, 4])
def test_mini_batch_edge_by_enumeration(batch):
    edge = largest_stable_rate(THETA[:5, :5], batch, reduction="sum")
    assert _mean_square_growth(batch, 0.999 * edge) < 1
    assert _mean_square_growth(batch, 1.001 * edge) > 1


def test_smaller_batches_are_less_stable_a_mean_step():
    edges = [largest_stable_rate(THETA, b, reduction="mean") for b in (1, 4, 12, 24)]
    assert edges == sorted(edges)


def test_modes():
    found = modes(THETA, torch.randn(24, 2, generator=G, dtype=torch.float64), eta=0.1)
    assert bool((found.values[:-1] >= found.values[1:]).all())
    assert float(found.label_share.sum()) == pytest.approx(1.0)
    v = float(found.values[0])
    assert float(found.time[0]) == pytest.approx(-1 / math.log(abs(1 - 0.1 * v)))
    assert torch.isinf(modes(THETA, eta=1e3).time[0])


def test_torch_rate_is_that_of_mse_loss():
    """Plain SGD with nn.MSELoss on a linear model diverges exactly beyond the converted edge."""
    x = FEATURES
    edge = torch_rate(largest_stable_rate(THETA), 3)
    y = torch.randn(24, 3, generator=G, dtype=torch.float64)
    for factor, stable in ((0.98, True), (1.02, False)):
        W = torch.zeros(40, 3, dtype=torch.float64, requires_grad=True)
        for _ in range(600):
            loss = torch.nn.functional.mse_loss(x @ W, y)
            (grad,) = torch.autograd.grad(loss, W)
            W = (W - factor * edge * grad).detach().requires_grad_()
        assert (float(loss.detach()) < float(y.pow(2).mean())) == stable


def test_errors():
    with pytest.raises(DomainError, match="batch"):
        largest_stable_rate(THETA, 25)
    with pytest.raises(UsageError, match="reduction"):
        largest_stable_rate(THETA, reduction="median")
