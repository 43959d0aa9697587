"""Parities, all labelings, and learners on them."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

import kadanoff as kd
from kadanoff.errors import UsageError
from kadanoff.studies.sparsity_principle.hypercube import (
    all_labelings,
    decision_tree,
    degrees,
    effective_couplings,
    inverse_walsh,
    juntas,
    kernel_machine,
    kernel_spectrum,
    low_degree,
    nearest_neighbour,
    neural_network,
    off_training,
    points,
    trained_function,
    walsh,
    weight_by_degree,
)

HALF = Fraction(1, 2)


def test_the_transform_is_the_sum_over_parities() -> None:
    n, rng = 5, np.random.default_rng(0)
    X, f = points(n), rng.normal(size=(3, 32))
    member = (np.arange(32)[:, None] >> np.arange(n)) & 1
    parity = np.where(member[:, None] == 1, X, 1.0).prod(2)  # (S, x)
    assert np.allclose(walsh(f), f @ parity.T / 32, atol=1e-14)
    assert np.allclose(inverse_walsh(walsh(f)), f, atol=1e-13)
    assert np.allclose((walsh(f) ** 2).sum(1), (f**2).mean(1))
    assert (degrees(n) == member.sum(1)).all()


def test_spectra_of_known_functions() -> None:
    X = points(4)
    parity = X[:, 0] * X[:, 2]
    assert weight_by_degree(walsh(parity)) == pytest.approx([0, 0, 1, 0, 0])
    assert effective_couplings(walsh(parity)) == pytest.approx(1.0)
    majority = np.sign(X[:, :3].sum(1))  # ½(x1 + x2 + x3 − x1x2x3)
    assert weight_by_degree(walsh(majority)) == pytest.approx([0, 0.75, 0, 0.25, 0])
    assert effective_couplings(walsh(majority)) == pytest.approx(4.0)


def test_counts_of_sparse_labelings() -> None:
    assert [len(all_labelings(n)) for n in (1, 2, 3, 4)] == [4, 16, 256, 65536]
    # constants, one-bit functions, and the ten two-bit functions that need both bits
    assert [len(juntas(4, k)) for k in (0, 1, 2)] == [2, 10, 10 + 10 * math.comb(4, 2)]
    assert len(juntas(3, 3)) == 256
    # a Boolean function of degree 1 depends on one bit
    assert [len(low_degree(3, d)) for d in (0, 1, 3)] == [2, 8, 256]
    assert len(np.unique(juntas(4, 2), axis=0)) == 70


LEARNERS = {
    "nearest neighbour": nearest_neighbour(),
    "3 neighbours": nearest_neighbour(3),
    "tree": decision_tree(),
    "network": neural_network((16,), steps=80),
    "NTK": kernel_machine(kd.MLP(3, [32, 32], 1, "relu", C_W=2.0)),
    "NNGP": kernel_machine(kd.MLP(3, [32], 1, "tanh", C_b=0.1), "nngp"),
}


@pytest.mark.parametrize("name", LEARNERS)
def test_no_free_lunch_on_three_bits(name: str) -> None:
    """Exactly ½ over all 256 labelings, for every training set of four corners."""
    labels = all_labelings(3)
    for train in itertools.islice(itertools.combinations(range(8), 4), 0, 70, 7):
        found = off_training(LEARNERS[name], 3, train, labels)
        assert found.accuracy == HALF
        assert found.std == pytest.approx(found.expected_std, rel=1e-12)
        assert found.training_accuracy > HALF


def test_no_free_lunch_on_four_bits_and_its_repeal() -> None:
    """All 65,536 labelings: ½. Labelings that a few bits decide: more, for every learner."""
    rng = np.random.default_rng(1)
    learners = {
        "near": nearest_neighbour(),
        "tree": decision_tree(),
        "net": neural_network((16,), steps=100),
        "ntk": kernel_machine(kd.MLP(4, [32, 32], 1, "relu", C_W=2.0)),
    }
    everything, sparse = all_labelings(4), juntas(4, 1)
    train = np.sort(rng.permutation(16)[:8])
    for learner in learners.values():
        assert off_training(learner, 4, train, everything).accuracy == HALF
        assert off_training(learner, 4, train, sparse).accuracy > Fraction(3, 5)


def test_a_learner_that_peeks_is_not_at_one_half() -> None:
    """The test can fail: restricted to one completion of each pattern, ½ is beaten."""
    labels = all_labelings(3)
    constant = labels[(labels == labels[:, :1]).all(1)]
    assert off_training(nearest_neighbour(), 3, [0, 5], constant).accuracy == 1


@pytest.mark.parametrize("which", ["nngp", "ntk"])
def test_infinite_networks_are_diagonal_in_parities(which: str) -> None:
    n = 6
    gram = kd.kernel(kd.MLP(n, [32, 32], 1, "relu", C_W=2.0))(points(n), points(n), get=which)
    values, residue = kernel_spectrum(gram.numpy())
    assert residue < 1e-12
    # a kernel that is a power series of x·x'/n with positive terms
    assert (values > -1e-12).all()
    assert values[1] > values[2] > values[4]
    # its trace: Σ_S eigenvalue = k(x, x)
    count = np.array([math.comb(n, d) for d in range(n + 1)])
    assert (values * count).sum() == pytest.approx(float(gram[0, 0]))


def test_training_makes_the_spectrum_sparse_where_the_target_is() -> None:
    X, rng = points(6), np.random.default_rng(0)
    targets = np.stack([X[:, 1] * X[:, 4], np.sign(rng.normal(size=64))])
    _, after = trained_function(targets, rng.permutation(64)[:48], steps=800, widths=(48,))
    count = effective_couplings(walsh(after))
    assert count[0] < 8
    assert count[1] > 20


def test_wrong_calls() -> None:
    with pytest.raises(UsageError, match="n = 1 … 4"):
        all_labelings(5)
    with pytest.raises(UsageError, match="2\\^n values"):
        walsh(np.ones(6))
    with pytest.raises(UsageError, match="training corners"):
        off_training(nearest_neighbour(), 2, [0, 0], all_labelings(2))
    with pytest.raises(UsageError, match="return ±1"):
        off_training(lambda x, y, X: np.zeros((len(y), len(X))), 2, [0], all_labelings(2))
