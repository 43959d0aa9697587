"""Evidence of networks at their own width, and the choice of depth and width by it."""

from __future__ import annotations

import math

import pytest
import torch

from kadanoff.architecture import MLP
from kadanoff.errors import UsageError
from kadanoff.learning import choose_depth, drawn_evidence, log_evidence, predict
from kadanoff.learning.depth import drawn_metrics
from kadanoff.rgflow import flow
from kadanoff.rgflow.information import optimal_aspect_ratio
from tests.known import assert_consistent

X = torch.randn(4, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
NOISE = 0.05


def roots(arch, draws, seed):
    G = drawn_metrics(arch, X, draws, torch.Generator().manual_seed(seed))
    return torch.linalg.cholesky(G + NOISE * torch.eye(4, dtype=torch.float64))


def test_evidence_finds_the_ratio_that_made_the_labels():
    """Labels of networks of L/n = 3/8 are most probable, on average, for networks like them."""
    nets = {n: MLP(3, [n] * 3, 3, "relu", C_W=2.0) for n in (4, 8, 16)}
    tasks, draws = 300, 4000
    g = torch.Generator().manual_seed(2)
    y = roots(nets[8], tasks, 5) @ torch.randn(tasks, 4, 3, generator=g, dtype=torch.float64)
    evidence = {}
    for n, arch in nets.items():
        root = roots(arch, draws, 3)
        flat = y.permute(1, 0, 2).reshape(4, -1).expand(draws, 4, tasks * 3)
        white = torch.linalg.solve_triangular(root, flat, upper=False)
        log_p = -0.5 * (white**2).sum(1).reshape(draws, tasks, 3).sum(2)
        log_p = log_p - 3 * root.diagonal(dim1=1, dim2=2).log().sum(1)[:, None]
        log_p = log_p - 6 * math.log(2 * math.pi) - math.log(draws)
        evidence[n] = torch.logsumexp(log_p, 0)
    for n in (4, 16):
        behind = evidence[8] - evidence[n]
        assert float(behind.mean()) > 4 * float(behind.std()) / math.sqrt(tasks)
    # the library's own number for one task, from other draws
    value, stderr, effective = drawn_evidence(nets[8], X, y[0], NOISE, draws=4000, seed=9)
    assert effective > 100
    assert_consistent(float(evidence[8][0]), value, stderr, relative_error=0.05)


def test_drawn_evidence_becomes_that_of_the_expansion():
    y = torch.tensor([[1.0, -0.7], [0.4, 0.8], [-0.6, 0.5]], dtype=torch.float64)
    nets = [MLP(3, [n] * 2, 2, "erf", C_b=0.2, C_W=1.5) for n in (48, 192)]
    choice = choose_depth(nets, X[:3], 2 * y, 0.1, draws=10_000)
    narrow, wide = choice.candidates
    assert wide.infinite_width == pytest.approx(
        log_evidence(flow(nets[0], X[:3]).K[-1], 2 * y, 0.1), rel=1e-9
    )
    assert abs(wide.drawn - wide.order_1) < 4 * wide.stderr
    shift = abs(narrow.order_1 - narrow.infinite_width)
    assert narrow.stderr < 0.1 * shift
    assert abs(narrow.drawn - narrow.order_1) < 0.3 * shift
    assert choice.by_evidence in choice.undecided


def test_information_prefers_its_ratio():
    nets = [MLP(3, [64] * d, 2, "linear", C_W=1.0) for d in (1, 5)]
    y = torch.tensor([[0.3, -0.2], [0.1, 0.2]], dtype=torch.float64)
    choice = choose_depth(nets, X[:2], y, 0.1, draws=200)
    assert choice.by_information == 1  # 5/64 is nearer to 2/26 than 1/64
    assert choice.information_ratio[1] == pytest.approx(optimal_aspect_ratio("linear", 2))


def test_many_points_of_an_activation_with_kinks():
    """The order 1/n is left out; the evidence at the network's own width is there all the same."""
    x = torch.randn(20, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    nets = [MLP(3, [32] * d, 1, "relu", C_W=2.0) for d in (1, 2)]
    choice = choose_depth(nets, x, torch.sin(x[:, :1]), 0.1, draws=200)
    assert all(math.isnan(c.order_1) for c in choice.candidates)
    assert all(math.isfinite(c.drawn) for c in choice.candidates)
    assert choice.by_evidence in choice.undecided
    with pytest.raises(UsageError, match="kinks"):
        predict(nets[0], x, torch.sin(x[:, :1]), x[:1], order=1, method="bayes", noise=0.1)


def test_bad_calls():
    y = torch.ones(4, 1, dtype=torch.float64)
    with pytest.raises(UsageError, match="candidates"):
        choose_depth([], X, y, 0.1)
    with pytest.raises(UsageError, match="noise"):
        drawn_evidence(MLP(3, [8], 1, "tanh"), X, y, 0.0)
    with pytest.raises(UsageError, match="plain"):
        drawn_evidence(MLP(3, [8], 1, "tanh", init="orthogonal"), X, y, 0.1)
