"""The laws of parameters: their samples have the moments they state."""

from __future__ import annotations

import math

import pytest
import torch

from kadanoff.errors import UsageError
from kadanoff.program import Law


def _draw(law: Law, shape=(400, 500), seed=0) -> torch.Tensor:
    return law.sample(shape, torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    "law",
    [
        Law(0.0, 0.3),
        Law(0.5, 0.3, "uniform"),
        Law(0.1, 0.02, "trunc_normal", bound=2.0),
        Law(0.0, 0.02, "trunc_normal"),
        Law(0.0, 0.7, "trunc_normal", bound=0.5),
    ],
)
def test_samples_have_the_moments_stated(law):
    x = _draw(law)
    m = x.numel()
    deviation = (x - law.mean) / law.std
    assert abs(float(deviation.mean())) < 4 / math.sqrt(m)
    kurtosis = law.excess + 3
    assert abs(float(deviation.square().mean()) - 1) < 4 * math.sqrt((kurtosis - 1) / m)
    eighth = float(deviation.pow(8).mean())
    error = math.sqrt((eighth - kurtosis**2) / m)
    assert abs(float(deviation.pow(4).mean()) - kurtosis) < 4 * error


def test_orthogonal_has_orthonormal_rows_and_the_mean_square_stated():
    for shape in ((6, 9), (9, 6), (4, 3, 2, 2)):
        W = _draw(Law(0.0, 0.5, "orthogonal"), shape).flatten(1)
        assert float(W.square().mean()) == pytest.approx(0.25, rel=1e-12)
        gram = W @ W.T if W.shape[0] <= W.shape[1] else W.T @ W
        torch.testing.assert_close(gram, gram[0, 0] * torch.eye(len(gram), dtype=W.dtype))


def test_constants_are_the_same_in_every_network():
    own = torch.arange(3.0)
    assert torch.equal(_draw(Law.constant(own), (3,)), own.double())
    assert torch.equal(_draw(Law.constant(1.0), (3,)), torch.ones(3, dtype=torch.float64))
    assert not Law.constant(own).random
    with pytest.raises(UsageError, match=r"shape \(3,\)"):
        _draw(Law.constant(own), (4,))


def test_empirical_entries_come_from_the_pool_and_padding_rows_are_zero():
    law = Law(0.0, 1.0, "empirical", value=torch.tensor([1.0, 2.0, 4.0]))
    assert set(_draw(law, (100,)).tolist()) == {1.0, 2.0, 4.0}
    table = _draw(Law(0.0, 1.0, zero_rows=(2,)), (5, 7))
    assert not table[2].any()
    assert table[[0, 1, 3, 4]].all()


def test_the_global_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    _draw(Law(0.0, 1.0))
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize(
    "bad",
    [
        {"kind": "cauchy"},
        {"std": -1.0},
        {"mean": math.nan},
        {"kind": "empirical"},
        {"kind": "trunc_normal", "bound": 0.0},
    ],
)
def test_what_is_no_law_is_refused(bad):
    with pytest.raises(UsageError):
        Law(**{"std": 1.0, **bad})
