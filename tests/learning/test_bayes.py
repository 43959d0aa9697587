"""Posterior, evidence and leave-one-out: algebra, and networks weighted by their likelihood."""

from __future__ import annotations

import math

import pytest
import torch

from kadanoff.architecture import MLP
from kadanoff.errors import AnalysisError, DataError, DomainError, UsageError
from kadanoff.learning import (
    best_noise,
    hebbian_variance,
    leave_one_out,
    log_evidence,
    posterior,
    predict,
    select,
)
from kadanoff.learning.correction import extrapolate
from kadanoff.rgflow import flow
from tests.known import assert_consistent
from tests.learning.weighted import PARTS, Problem, weighted_posteriors

G = torch.Generator().manual_seed(3)
X = torch.randn(7, 3, generator=G, dtype=torch.float64)
Y = torch.randn(5, 2, generator=G, dtype=torch.float64)


def arch(depth=2, width=64, n_out=2, activation="relu"):
    return MLP(3, [width] * depth, n_out, activation, C_b=0.2, C_W=1.3)


def test_evidence_is_the_density_of_the_labels():
    K = flow(arch(), X[:5]).K[-1] + 0.1 * torch.eye(5, dtype=torch.float64)
    law = torch.distributions.MultivariateNormal(torch.zeros(5, dtype=torch.float64), K)
    want = float(law.log_prob(Y.mT).sum())
    assert log_evidence(flow(arch(), X[:5]).K[-1], Y, 0.1) == pytest.approx(want, rel=1e-10)
    found = predict(arch(), X[:5], Y, X[5:], method="bayes", noise=0.1)
    assert found.log_evidence == pytest.approx(want, rel=1e-10)


def test_leave_one_out_is_leaving_one_out():
    K = flow(arch(), X[:5]).K[-1]
    found = leave_one_out(K, Y, 0.05)
    for i in range(5):
        rest = [j for j in range(5) if j != i]
        order = [*rest, i]
        post = posterior(K[order][:, order], Y[rest], noise=0.05)
        torch.testing.assert_close(found.mean[i], post.mean[0])
        torch.testing.assert_close(found.variance[i], post.cov[0, 0] + 0.05)


def test_noise_maximises_the_evidence():
    K = flow(arch(), X[:5]).K[-1]
    s2, value = best_noise(K, Y)
    assert value == pytest.approx(log_evidence(K, Y, s2), rel=1e-9)
    for factor in (0.9, 1.1):
        assert log_evidence(K, Y, s2 * factor) <= value + 1e-9


def test_selection_finds_the_depth_that_made_the_labels():
    """Labels drawn from one prior are most probable under it, on average over draws."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(60, 3, generator=g, dtype=torch.float64)
    kernels = {d: flow(arch(d), x).K[-1] for d in (1, 3, 8)}
    root = torch.linalg.cholesky(kernels[3] + 0.01 * torch.eye(60, dtype=torch.float64))
    y = root @ torch.randn(60, 40, generator=g, dtype=torch.float64)
    picked = select([1, 3, 8], kernels.__getitem__, y)
    assert picked.winner == 3
    assert picked.noise[1] == pytest.approx(0.01, rel=0.2)


def test_order_1_by_expanding_a_known_mixture():
    """Metric with a two-point law: posterior averages over it, expanded, are the formulas."""
    K = flow(arch(), X[:4]).K[-1]
    y = Y[:3]
    tilt = torch.randn(4, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tilt = 0.05 * (tilt + tilt.mT)
    shift = 0.03 * torch.eye(4, dtype=torch.float64)
    V = torch.einsum("ab,cd->abcd", tilt, tilt)

    def exact(n):
        total, weights = None, []
        for sign in (-1, 1):
            metric = K + sign * tilt / math.sqrt(n) + shift / n
            post = posterior(metric, y, noise=0.1)
            weights.append(post.log_evidence)
            first = torch.cat([post.mean.flatten(), post.cov.flatten(), metric.flatten()])
            total = [*(total or []), first]
        w = torch.softmax(torch.tensor(weights, dtype=torch.float64), 0)
        log_p = torch.logsumexp(torch.tensor(weights, dtype=torch.float64), 0) - math.log(2)
        means = [t[:2] for t in total]
        average = w[0] * total[0] + w[1] * total[1]
        spread = torch.einsum("si,sj,s->ij", torch.stack(means), torch.stack(means), w)
        spread = spread - torch.outer(average[:2], average[:2])
        return average, spread, log_p

    base = posterior(K, y, noise=0.1)
    for n, tolerance in ((10**4, 2e-3), (10**5, 2e-4)):
        average, spread, log_p = exact(n)
        found = posterior(K, y, noise=0.1, G1=shift, V=V, n=n)
        scaled = n * (average[:2] - base.mean.flatten())
        torch.testing.assert_close(
            scaled, n * found.terms["mean_1"].flatten(), rtol=tolerance, atol=tolerance
        )
        torch.testing.assert_close(
            n * spread, n * found.terms["hebbian"][:, :, 0, 0], rtol=tolerance, atol=tolerance
        )
        # total covariance of one output, averaged over outputs
        cov = average[2] - base.cov[0, 0] + spread.diagonal().mean()
        torch.testing.assert_close(
            n * cov, n * found.terms["cov_1"][0, 0], rtol=tolerance, atol=tolerance
        )
        torch.testing.assert_close(
            n * (average[3:].reshape(4, 4) - K),
            n * found.terms["kernel_shift"],
            rtol=tolerance,
            atol=tolerance,
        )
        assert n * float(log_p - base.log_evidence) == pytest.approx(
            n * found.terms["log_evidence_1"], rel=tolerance, abs=tolerance
        )


@pytest.mark.slow
def test_weighted_networks_agree():
    """Order 1/n of every part of the posterior, from finite networks weighted by the labels.

    Three noise levels, and at each left-out point; one set of drawn networks serves all.
    """
    x = torch.tensor([[1.2, 0.3], [-0.5, 1.1], [0.6, 1.0], [0.2, -0.8]], dtype=torch.float64)
    y = 1.15 * torch.tensor([[1.0, -0.7], [0.4, 0.8], [-0.6, 0.5]], dtype=torch.float64)
    setup = {"activation": "erf", "C_b": 0.2, "C_W": 1.5}
    widths, noises, left_out = (32, 64, 128), (0.1, 0.2, 0.5), 0.1
    problems = [Problem([0, 1, 2], [3], y, noise) for noise in noises]
    for i in range(3):
        rest = [j for j in range(3) if j != i]
        problems.append(Problem(rest, [i], y[rest], left_out))
    runs = [
        weighted_posteriors(MLP(2, [n] * 2, 2, **setup), x, problems, 240_000, n) for n in widths
    ]
    net = MLP(2, [32] * 2, 2, **setup)

    def measured(k, name):
        values = [torch.as_tensor(run[k][0][name]) for run in runs]
        errors = [torch.as_tensor(run[k][1][name]) for run in runs]
        return extrapolate(widths, torch.stack(values), torch.stack(errors), 2)[:2]

    # the smallest parts against their own size, with the error bars that they have
    allowed = {
        "mean_1": 0.06, "cov_1": 0.08, "kernel_shift": 0.03, "hebbian": 0.03, "log_evidence_1": 0.1,
    }  # fmt: skip
    for k, noise in enumerate(noises):
        want = predict(net, x[:3], y, x[3:], order=1, method="bayes", noise=noise)
        for name in PARTS:
            assert_consistent(
                32 * torch.as_tensor(want.terms[name]),
                *measured(k, name),
                relative_error=allowed[name],
            )
    tensors = flow(net, x[:3], order=1)
    K = tensors.K[-1]
    G1, V = tensors.require("G1")[-1], tensors.require("V")[-1]
    first = leave_one_out(K, y, left_out, G1=G1, V=V, n=32)
    zeroth = leave_one_out(K, y, left_out)
    for name, part, size in (("mean", "mean_1", 0.06), ("variance", "cov_1", 0.12)):
        shift = 32 * (getattr(first, name) - getattr(zeroth, name))
        found = [measured(len(noises) + i, part) for i in range(3)]
        assert_consistent(
            shift.flatten(),
            torch.cat([value.flatten() for value, _ in found]),
            torch.cat([error.flatten() for _, error in found]),
            relative_error=size,
        )
    # each label given the others: a ratio of evidences
    whole = measured(0, "log_evidence_1")
    rest = [measured(len(noises) + i, "log_evidence_1") for i in range(3)]
    value = sum(float(whole[0] - v) for v, _ in rest)
    error = sum(math.hypot(float(whole[1]), float(e)) for _, e in rest)
    want = 32 * (first.log_predictive - zeroth.log_predictive)
    assert abs(want - value) < 4 * error
    assert error < 0.1 * abs(want)


def test_hebbian_sign():
    assert float(hebbian_variance(2.0, 1.0, 0.5, 10)) > 1.0
    assert float(hebbian_variance(1.0, 1.0, 0.5, 10)) == 1.0


def test_errors():
    doubled, labels = torch.cat([X[:5], X[:1]]), torch.cat([Y, -Y[:1]])
    with pytest.raises(DataError, match="points 0 and 5"):
        predict(arch(), doubled, labels, X[5:], method="bayes")
    with pytest.raises(AnalysisError, match="singular"):
        predict(arch(), doubled, torch.cat([Y, Y[:1]]), X[5:], method="bayes")
    with pytest.raises(DomainError, match="variance"):
        predict(arch(), X[:5], Y, X[5:], method="bayes", noise=-1.0)
    with pytest.raises(UsageError, match="at most 64"):
        predict(arch(), X[:1].repeat(65, 1), Y[:1].repeat(65, 1), X[5:], order=1)
    with pytest.raises(UsageError, match="architecture"):
        predict("tanh", X[:5], Y, X[5:])
    with pytest.raises(UsageError, match="device"):
        predict(arch(), X[:5], Y, X[5:], device="gpu")
    uniform = MLP(3, [16], 2, "tanh", init="uniform")
    for method in ("bayes", "gradient"):
        with pytest.raises(UsageError, match="uniform"):
            predict(uniform, X[:5], Y, X[5:], order=1, method=method)
    with pytest.raises(UsageError, match="candidates"):
        select([], lambda c: c, Y)
