"""The ladder of sparsity: counts, sampling, and couplings recovered at every rung."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from kadanoff.errors import UsageError
from kadanoff.studies.sparsity_principle.hypercube import points, walsh
from kadanoff.studies.sparsity_principle.ising import (
    Ising,
    divergence,
    fit,
    fit_energies,
    generic,
    k_local,
    ladder,
    lattice,
    samples_needed,
    translation_invariant,
)
from tests.known import assert_consistent


def test_counts_of_couplings() -> None:
    assert ladder((4, 4)) == {
        "generic": 65535,
        "2-local": 136,
        "local": 48,
        "translation invariant": 2,
    }
    assert ladder((10,), k=3) == {
        "generic": 1023,
        "3-local": 175,
        "local": 20,
        "translation invariant": 2,
    }
    assert translation_invariant((3, 4), isotropic=False).free == 3
    assert translation_invariant((3, 4), fields=False, isotropic=False).free == 2
    assert lattice((2, 2)).free == 4 + 4  # a side of two has one bond, not two
    assert generic(5).free == 31
    assert k_local(6, 2).free == 21


def test_energies_are_walsh_series() -> None:
    """A generic Hamiltonian is minus the Walsh transform of its couplings."""
    rng = np.random.default_rng(0)
    terms = generic(5)
    model = Ising(terms, rng.normal(size=31))
    found = walsh(-model.energy(points(5)))
    number = [sum(1 << j for j in subset) for subset in terms.subsets]
    assert np.allclose(found[number], model.J, atol=1e-12)
    assert abs(found[0]) < 1e-12


def test_energies_determine_the_couplings_once_there_are_as_many() -> None:
    rng = np.random.default_rng(1)
    truth = Ising(translation_invariant((7,)), np.array([0.2, 0.5]))
    for terms in (generic(7), k_local(7, 2), lattice((7,)), translation_invariant((7,))):
        rows = rng.permutation(128)
        # parities of a few random states may be dependent: a handful more are drawn
        for M in (terms.free - 1, terms.free, min(terms.free + 10, 128)):
            states = points(7)[rows[:M]]
            model, rank = fit_energies(terms, states, truth.energy(states))
            exact = np.abs(model.energy(points(7)) - truth.energy(points(7))).max() < 1e-8
            assert rank <= M
            assert exact or rank < terms.free
        # the constant of the energy is known, so 2^N − 1 distinct states are enough
        assert rank == terms.free


@pytest.mark.parametrize("shape", [(9,), (3, 3)])
def test_gibbs_sampling_is_exact_sampling(shape) -> None:
    """Means of all terms, z-scores against the listed distribution; three-body term included."""
    terms = k_local(9, 3) if shape == (9,) else lattice(shape)
    rng = np.random.default_rng(2)
    model = Ising(terms, 0.25 * rng.normal(size=terms.free) / (3 if shape == (9,) else 1))
    p = np.exp(model.log_probabilities)
    expected = p @ terms.parities(points(9))
    for method in ("exact", "gibbs"):
        M = 8192
        states = model.sample(M, seed=3, method=method, chains=512, thin=4, burn_in=50)
        assert states.shape == (M, 9)
        sampled = terms.parities(states)
        # states of a chain are correlated: average over chains first
        chains = sampled.reshape(-1, 512, terms.free).mean(0)
        error = chains.std(0, ddof=1) / math.sqrt(512)
        z = (sampled.mean(0) - expected) / error
        assert error.max() < 0.02
        assert np.abs(z).max() < 4.5
        assert 0.6 < (z**2).mean() < 1.6


def test_pseudo_likelihood_recovers_couplings_at_every_rung() -> None:
    truth = Ising(translation_invariant((8,)), np.array([0.15, 0.4]))
    states = truth.sample(6000, seed=4)
    for terms in (k_local(8, 3), lattice((8,)), translation_invariant((8,))):
        found = fit(terms, states)
        # what the couplings of the truth are at this rung
        expected = fit_energies(terms, points(8), truth.energy(points(8)))[0].J
        z = (found.J - expected) / found.stderr
        assert found.stderr.max() < 0.04
        assert np.abs(z).max() < 4
        if terms.free > 10:
            assert 0.5 < (z**2).mean() < 1.6


def test_lattice_of_many_spins() -> None:
    """144 spins, sampled; fields and bonds all different, and all the same."""
    rng = np.random.default_rng(5)
    terms = lattice((12, 12))
    J = np.concatenate([0.1 * rng.normal(size=144), 0.25 + 0.1 * rng.normal(size=288)])
    truth = Ising(terms, J)
    states = truth.sample(4000, seed=6, chains=1000, burn_in=100, thin=10)
    found = fit(terms, states)
    z = (found.J - J) / found.stderr
    assert found.stderr.max() < 0.05
    assert np.abs(z).max() < 4.5
    assert 0.8 < (z**2).mean() < 1.3
    uniform = Ising(translation_invariant((12, 12)), np.array([0.05, 0.3]))
    few = uniform.sample(20, seed=7, burn_in=200)
    found = fit(uniform.terms, few)
    assert found.stderr.max() < 0.05
    assert np.abs((found.J - uniform.J) / found.stderr).max() < 4


def test_samples_needed_count_couplings() -> None:
    """KL ≈ T/2M at small targets: the samples grow as the number T of couplings of the rung."""
    truth = Ising(translation_invariant((6,)), np.array([0.1, 0.3]))
    target = 0.005
    rungs = (k_local(6, 2), lattice((6,)), translation_invariant((6,)))
    need = [samples_needed(truth, terms, target, repeats=40, seed=1) for terms in rungs]
    for terms, found in zip(rungs, need):
        expected = terms.free / (2 * target)
        assert_consistent(expected, found.samples, found.stderr, relative_error=0.2)
    couplings = [terms.free for terms in rungs]
    assert couplings == [21, 12, 2]
    # and they are told apart: more couplings, more samples
    for more, fewer in itertools.pairwise(need):
        assert more.samples - fewer.samples > 4 * (more.stderr**2 + fewer.stderr**2) ** 0.5


def test_divergence() -> None:
    terms = lattice((3,))
    a, b = Ising(terms, np.full(6, 0.2)), Ising(terms, np.full(6, 0.25))
    assert divergence(a, a) == pytest.approx(0, abs=1e-14)
    assert divergence(a, b) > 0
    free = Ising(k_local(1, 1), np.array([0.3]))
    p, q = 1 / (1 + math.exp(-0.6)), 0.5
    expected = p * math.log(p / q) + (1 - p) * math.log((1 - p) / q)
    assert divergence(free, Ising(k_local(1, 1), np.zeros(1))) == pytest.approx(expected)


def test_wrong_calls() -> None:
    with pytest.raises(UsageError, match="couplings are too many"):
        generic(40)
    with pytest.raises(UsageError, match="finite couplings"):
        Ising(generic(3), np.ones(3))
    with pytest.raises(UsageError, match="at most 16 spins"):
        _ = Ising(lattice((5, 5)), np.zeros(75)).log_probabilities
    with pytest.raises(UsageError, match="±1"):
        fit(lattice((3,)), np.zeros((4, 3)))
    with pytest.raises(UsageError, match="bracket"):
        samples_needed(
            Ising(translation_invariant((4,)), np.array([0.0, 0.5])),
            lattice((4,)),
            sizes=[2000, 4000],
        )


@pytest.mark.gpu
def test_gibbs_sampling_on_the_gpu() -> None:
    model = Ising(translation_invariant((3, 3)), np.array([0.1, 0.2]))
    expected = np.exp(model.log_probabilities) @ model.terms.features(points(9))
    states = model.sample(8192, method="gibbs", chains=8192, burn_in=100, device="cuda")
    features = model.terms.features(states)
    error = features.std(0) / math.sqrt(len(features))
    assert (np.abs(features.mean(0) - expected) < 4 * error).all()
