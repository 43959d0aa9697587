"""Streaming sums and their jackknife errors."""

import torch
from scipy.stats import norm, t

from kadanoff.ensembles.moments import BINS, Moments


def covariance(means):
    return {"c": means["xy"] - means["x"] * means["y"], "m": means["x"]}


def fill(x, y, size):
    moments = Moments()
    for at in range(0, len(x), size):
        a, b = x[at : at + size], y[at : at + size]
        moments.add(len(a), {"x": a.sum(), "y": b.sum(), "xy": (a * b).sum()})
    return moments


def test_error_of_a_mean_is_the_textbook_one():
    x = torch.randn(BINS, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = fill(x, x, 1).estimate(covariance)["m"]
    torch.testing.assert_close(found.value, x.mean())
    # Student: 64 bins know their own scatter to 9 %
    widened = t.ppf(norm.cdf(1.0), BINS - 1) * x.std() / BINS**0.5
    torch.testing.assert_close(found.stderr, widened)


def test_covariance_and_its_error_with_uneven_bins():
    g = torch.Generator().manual_seed(1)
    pulls, errors = [], []
    for _ in range(300):
        x = torch.randn(1000, dtype=torch.float64, generator=g)
        y = 0.5 * x + torch.randn(1000, dtype=torch.float64, generator=g)
        found = fill(x, y, 9).estimate(covariance)["c"]  # 112 pieces, the last of 1
        pulls.append((found.value - 0.5) / found.stderr)
        errors.append(found.stderr)
    pulls = torch.stack(pulls)
    # Var(xy) = Var x Var y + Cov² = 1.25 + 0.25
    assert abs(torch.stack(errors).mean() / (1.5 / 1000) ** 0.5 - 1) < 0.05
    assert abs(pulls.mean()) < 4 / 300**0.5
    assert 0.85 < pulls.std() < 1.2


def test_merging_adds_bins():
    x = torch.arange(2.0 * BINS, dtype=torch.float64)
    whole = fill(x, x, 1)
    first, second = fill(x[:BINS], x[:BINS], 1), fill(x[BINS:], x[BINS:], 1)
    first.merge(second)
    assert first.n == whole.n
    assert first.pieces == whole.pieces
    for name in whole.sums:
        assert torch.equal(first.sums[name], whole.sums[name])


def test_one_bin_has_no_error():
    assert fill(torch.ones(3), torch.ones(3), 5).estimate(covariance)["m"].stderr.isnan()
