"""Training at infinite width: limits, algebra, errors, and ensembles of real networks."""

from __future__ import annotations

import math

import pytest
import torch

import kadanoff as kd
from kadanoff.errors import AnalysisError, DataError, DomainError, UsageError
from kadanoff.learning import as_targets, blocks, expected_loss, predict
from kadanoff.learning.correction import extrapolate
from kadanoff.learning.trained import train_ensemble
from tests.known import assert_consistent

G = torch.Generator().manual_seed(7)
X = torch.randn(9, 4, generator=G, dtype=torch.float64)
X_TRAIN, X_TEST = X[:5], X[5:]
Y = torch.randn(5, 2, generator=G, dtype=torch.float64)


def arch(width=256, n_out=2, activation="relu", depth=2):
    return kd.MLP(
        4, [width] * depth, n_out, activation, C_b=0.1, C_W=1.4, lambda_b=0.5, lambda_W=1.0
    )


def test_start_is_the_prior_and_end_fits():
    b = blocks(arch(), X_TRAIN, Y, X_TEST)
    start = predict(arch(), X_TRAIN, Y, X_TEST, t=0)
    assert start.mean.abs().max() == 0
    torch.testing.assert_close(start.cov, b.K_BB)
    end = predict(arch(), X_TRAIN, Y, X_TRAIN)
    torch.testing.assert_close(end.mean, Y)
    assert end.cov.abs().max() < 1e-10


def test_flow_solves_its_differential_equation():
    h = 1e-5
    b = blocks(arch(), X_TRAIN, Y, X_TRAIN)
    for t in (0.1, 1.0):
        ahead = predict(arch(), X_TRAIN, Y, X_TRAIN, t=t + h).mean
        here = predict(arch(), X_TRAIN, Y, X_TRAIN, t=t).mean
        behind = predict(arch(), X_TRAIN, Y, X_TRAIN, t=t - h).mean
        torch.testing.assert_close(
            (ahead - behind) / (2 * h), -b.Theta_AA @ (here - Y), atol=1e-7, rtol=1e-6
        )


def test_descent_is_the_iterated_step():
    b = blocks(arch(), X_TRAIN, Y, X_TEST)
    eta, ridge = 0.2, 0.3
    c = torch.zeros_like(Y)
    for _ in range(13):
        c = c - eta * (b.Theta_AA @ c - Y + ridge * c)
    found = predict(arch(), X_TRAIN, Y, X_TEST, t=13, eta=eta, ridge=ridge)
    torch.testing.assert_close(found.mean, b.Theta_BA @ c)


def test_ridge_end_is_kernel_ridge_regression():
    b = blocks(arch(), X_TRAIN, Y, X_TEST)
    eye = torch.eye(5, dtype=torch.float64)
    want = b.Theta_BA @ torch.linalg.solve(b.Theta_AA + 0.4 * eye, Y)
    torch.testing.assert_close(predict(arch(), X_TRAIN, Y, X_TEST, ridge=0.4).mean, want)


def test_classes_become_one_hot():
    labels = torch.tensor([3, 5, 3, 5, 9])
    targets = as_targets(labels, 5)
    assert targets.classes is not None
    assert targets.classes.tolist() == [3, 5, 9]
    found = predict(arch(n_out=3), X_TRAIN, labels, X_TRAIN)
    assert found.labels.tolist() == labels.tolist()
    assert found.mean.shape == (5, 3)


def test_float32_input_is_computed_in_float64():
    found = predict(arch(), X_TRAIN.float(), Y.float(), X_TEST.float())
    assert found.mean.dtype == torch.float64


def test_duplicates_with_equal_labels_are_fine():
    doubled, labels = torch.cat([X_TRAIN, X_TRAIN[:1]]), torch.cat([Y, Y[:1]])
    torch.testing.assert_close(
        predict(arch(), doubled, labels, X_TEST).mean,
        predict(arch(), X_TRAIN, Y, X_TEST).mean,
        atol=1e-6,
        rtol=1e-6,
    )


def test_errors_name_what_is_wrong():
    doubled = torch.cat([X_TRAIN, X_TRAIN[:1]])
    with pytest.raises(DataError, match="points 0 and 5"):
        predict(arch(), doubled, torch.cat([Y, -Y[:1]]), X_TEST)
    linear = kd.MLP(4, [16], 2, "linear", lambda_b=0.0)
    with pytest.raises(AnalysisError, match="rank 4"):
        predict(linear, X_TRAIN, Y, X_TEST)
    with pytest.raises(UsageError, match="not stable"):
        predict(arch(), X_TRAIN, Y, X_TEST, eta=10.0)
    with pytest.raises(DomainError, match="number of steps"):
        predict(arch(), X_TRAIN, Y, X_TEST, eta=0.1, t=1.5)
    with pytest.raises(DomainError, match="not a time"):
        predict(arch(), X_TRAIN, Y, X_TEST, t=-1)
    with pytest.raises(DataError, match="no training points"):
        predict(arch(), X_TRAIN[:0], Y[:0], X_TEST)
    with pytest.raises(DataError, match="no test points"):
        predict(arch(), X_TRAIN, Y, X_TEST[:0])
    with pytest.raises(DataError, match="4 targets"):
        predict(arch(), X_TRAIN, Y[:4], X_TEST)
    with pytest.raises(DataError, match="not finite"):
        predict(arch(), X_TRAIN, Y / 0, X_TEST)
    with pytest.raises(DataError, match="dtype"):
        predict(arch(), X_TRAIN.to(torch.complex128), Y, X_TEST)
    with pytest.raises(DataError, match="outputs"):
        predict(arch(), X_TRAIN, Y[:, :1], X_TEST)
    with pytest.raises(UsageError, match="Unknown method"):
        predict(arch(), X_TRAIN, Y, X_TEST, method="adam")
    with pytest.raises(UsageError, match="ridge"):
        predict(arch(), X_TRAIN, Y, X_TEST, noise=0.1)
    with pytest.raises(UsageError, match="posterior"):
        predict(arch(), X_TRAIN, Y, X_TEST, method="bayes", t=3)


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_trained_networks_agree(activation):
    """Mean and covariance of real networks at three times, extrapolated from three widths."""
    count, eta, y = 1000, 0.15, 0.5 * Y
    # A trained preactivation moves by 1/√n. With a kink a share 1/√n of the neurons switch, each
    # changes the NTK by a finite amount, and the mean nears its limit like 1/√n: at widths 192,
    # 768, 3072 the largest deviation is 0.051, 0.029, 0.015. Smooth activations go like 1/n.
    smooth = activation != "relu"
    widths = (192, 384, 768) if smooth else (384, 768, 1536)
    variable = widths if smooth else tuple(math.sqrt(n) for n in widths)
    for steps in (3, 40):
        means, covs = [], []
        for width in widths:
            net = arch(width, activation=activation, depth=1)
            got = train_ensemble(
                net,
                X_TRAIN,
                y,
                X_TEST,
                eta=eta,
                steps=steps,
                n_networks=count,
                seed=steps + width,
                dtype=torch.float32,
            )
            means.append((got.mean, got.stderr))
            # within a pair outputs are correlated; take one of each
            end = got.end[: count // 2] - got.mean
            cov = torch.einsum("sai,sbi->sab", end, end) / 2
            covs.append((cov.mean(0), cov.std(0) / math.sqrt(count // 2)))
        found = predict(arch(activation=activation, depth=1), X_TRAIN, y, X_TEST, t=steps, eta=eta)
        for want, pairs, allowed in ((found.mean, means, 0.06), (found.cov, covs, 0.15)):
            value, stderr, _ = extrapolate(
                variable, torch.stack([p[0] for p in pairs]), torch.stack([p[1] for p in pairs])
            )
            assert_consistent(want, value, stderr, relative_error=allowed)


def test_expected_loss_is_mean_plus_spread():
    b = blocks(arch(), X_TRAIN, Y, X_TRAIN)
    times = torch.tensor([0.0, 2.0, 10.0])
    losses = expected_loss(b, times, eta=0.2)
    for t, loss in zip(times.tolist(), losses.tolist()):
        found = predict(arch(), X_TRAIN, Y, X_TRAIN, t=t, eta=0.2)
        want = 0.5 * float(((found.mean - Y) ** 2).sum() + 2 * found.cov.diagonal().sum())
        assert abs(loss - want) < 1e-9 * want + 1e-12
