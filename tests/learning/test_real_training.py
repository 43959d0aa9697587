"""Predictions held against networks that are trained for it."""

from __future__ import annotations

import math

import pytest
import torch

import kadanoff as kd
from kadanoff.errors import UsageError
from kadanoff.learning import (
    largest_stable_rate,
    leave_one_out,
    loss_curve,
    modes,
    predict,
)
from kadanoff.learning.correction import extrapolate
from kadanoff.learning.prediction import blocks
from kadanoff.learning.trained import draw_batch, outputs, train_ensemble, train_weights
from tests.known import assert_consistent

G = torch.Generator().manual_seed(7)
X = torch.randn(9, 4, generator=G, dtype=torch.float64)
X_TRAIN, X_TEST = X[:6], X[6:]
Y = 0.7 * torch.randn(6, 2, generator=G, dtype=torch.float64)
WIDTHS = (96, 192, 384)


def arch(width, activation="tanh", n_out=2):
    return kd.MLP(4, [width], n_out, activation, C_b=0.1, C_W=1.4, lambda_b=0.5, lambda_W=1.0)


def extrapolated(values):
    """Values and standard errors at WIDTHS, to infinite width."""
    return extrapolate(
        WIDTHS, torch.stack([v for v, _ in values]), torch.stack([s for _, s in values])
    )[:2]


def ensembles(y, count, **options):
    for width in WIDTHS:
        found = train_ensemble(
            arch(width), X_TRAIN, y, X_TEST, n_networks=count, seed=width,
            dtype=torch.float32, block=256, **options,
        )  # fmt: skip
        yield found


@pytest.mark.slow
def test_regularised_networks_agree():
    eta, ridge, steps = 0.1, 0.5, 60
    found = predict(arch(128), X_TRAIN, Y, X_TEST, t=steps, eta=eta, ridge=ridge)
    without = predict(arch(128), X_TRAIN, Y, X_TEST, t=steps, eta=eta)
    means, covs = [], []
    for got in ensembles(Y, 600, eta=eta, ridge=ridge, steps=steps):
        means.append((got.mean, got.stderr))
        end = got.end[:300] - got.mean
        each = torch.einsum("sai,sbi->sab", end, end) / 2
        covs.append((each.mean(0), each.std(0) / math.sqrt(300)))
    for want, values, allowed in ((found.mean, means, 0.03), (found.cov, covs, 0.2)):
        assert_consistent(want, *extrapolated(values), relative_error=allowed)
    # and the regulariser is what makes the difference
    value, stderr = extrapolated(means)
    assert ((without.mean - value).abs() / stderr).max() > 8


@pytest.mark.slow
def test_one_hot_classes_and_a_left_out_point():
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    net = arch(128, n_out=3)
    targets = torch.nn.functional.one_hot(labels).double()
    b = blocks(net, X_TRAIN, targets, X_TEST)
    # left-out prediction in closed form, and by leaving the point out
    loo = leave_one_out(b.Theta_AA, targets)
    rest = predict(net, X_TRAIN[1:], labels[1:], X_TRAIN[:1])
    torch.testing.assert_close(loo.mean[0], rest.mean[0])
    means = []
    for width in WIDTHS:
        got = train_ensemble(
            arch(width, n_out=3), X_TRAIN[1:], targets[1:], torch.cat([X_TRAIN[:1], X_TEST]),
            eta=0.2, steps=50, n_networks=400, seed=width, dtype=torch.float32, block=200,
        )  # fmt: skip
        means.append((got.mean, got.stderr))
    want = predict(net, X_TRAIN[1:], labels[1:], torch.cat([X_TRAIN[:1], X_TEST]), t=50, eta=0.2)
    value, stderr = extrapolated(means)
    assert_consistent(want.mean, value, stderr, relative_error=0.05)
    assert want.classes is not None
    assert want.classes[value.argmax(1)].tolist() == want.labels.tolist()


@pytest.mark.slow
def test_loss_curve_and_time_scales():
    """Loss beside the measured one, and the decay of each eigenmode."""
    eta = 0.15
    curves = [
        loss_curve(
            arch(w), X_TRAIN, Y, eta=eta, steps=60, networks=300, points=6, seed=w,
            dtype=torch.float32,
        )
        for w in WIDTHS
    ]  # fmt: skip
    value, stderr = extrapolated([(c.measured, c.stderr) for c in curves])
    assert ((value - curves[0].predicted).abs() < 4 * stderr).all()
    assert (stderr < 0.12 * value).all()
    # mode by mode: measured decay rate of the two fastest modes against the predicted time
    b = blocks(arch(128), X_TRAIN, Y, X_TEST)
    times = modes(b.Theta_AA, Y, eta).time
    wide = curves[-1]
    early = (wide.steps > 0) & (wide.steps <= 5)
    for k in (0, 1):
        ratio = wide.modes[early, k] / wide.modes[0, k]
        want = torch.exp(-2 * wide.steps[early] / times[k])
        assert ((ratio - want).abs() < 0.25 * want + 0.02).all()
    torch.testing.assert_close(wide.predicted_modes.sum(1), wide.predicted)


@pytest.mark.parametrize(("batch", "calm"), [(None, 1.01), (2, 3.0)])
def test_edge_of_stability_of_real_networks(batch, calm):
    """Below the predicted largest step the loss falls; 15 % above it first grows many times.

    Later the networks settle where the kernel is flatter (a catapult): it is the rise that tells.
    """
    net = arch(1024)
    edge = largest_stable_rate(blocks(net, X_TRAIN, Y, X_TEST).Theta_AA, batch, reduction="sum")
    orders = [torch.randperm(6, generator=torch.Generator().manual_seed(s)) for s in range(120)]
    for factor, stable in ((0.85, True), (1.15, False)):
        weights = draw_batch(net, 4, torch.Generator().manual_seed(1), dtype=torch.float32)
        peak, first = 0.0, None
        for step in range(120):
            loss = float((outputs(net, weights, X_TRAIN)[-1] - Y).pow(2).mean())
            first = loss if first is None else first
            peak = max(peak, loss / first)
            pick = None if batch is None else orders[step][:batch]
            train_weights(
                net, weights, X_TRAIN, Y, factor * edge, 1,
                batch=None if pick is None else lambda _step, rows=pick: rows,
            )  # fmt: skip
        assert peak < calm if stable else peak > 5


def test_loss_curve_wants_pairs():
    with pytest.raises(UsageError, match="pairs"):
        loss_curve(arch(16), X_TRAIN, Y, eta=0.1, steps=5, networks=3)
    curve = loss_curve(arch(16), X_TRAIN, Y, eta=0.1, steps=5)
    assert curve.measured is None
