"""Four-point averages of many samples: closed forms, the rule of few samples, stated errors."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from kadanoff.activations import activation
from kadanoff.gaussian.conditioned import Conditioned
from kadanoff.gaussian.lattices import nested

PATTERNS = (
    (0, 0, 0, 0), (0, 0, 1, 1), (1, 1, 1, 1), (2, 1, 1, 0), (3, 1, 1, 1), (2, 2, 1, 1),
    (1, 1), (2, 0), (3, 1), (4, 0),
)  # fmt: skip


def metric(N: int, features: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    X = torch.randn(N, features, generator=g, dtype=torch.float64)
    X[1] = X[0] + 1e-3 * X[1]  # near duplicates
    X[3] = -X[2]  # opposite
    X[5] = X[4]  # the same
    return 0.1 + 1.1 * X @ X.mT / features


def sines(K: torch.Tensor, pattern: tuple[int, ...]) -> torch.Tensor:
    """⟨Π sin⁽ᵖ⁾(z)⟩ for all choices of samples: each sine is two exponentials."""
    N, slots = len(K), len(pattern)
    total = torch.zeros((N,) * slots, dtype=torch.complex128)
    for signs in itertools.product((1, -1), repeat=slots):
        variance = torch.zeros((N,) * slots, dtype=torch.float64)
        for a, b in itertools.product(range(slots), repeat=2):
            if a == b:
                shape = [N if s == a else 1 for s in range(slots)]
                variance = variance + K.diagonal().reshape(shape)
            else:
                shape = [N if s in (a, b) else 1 for s in range(slots)]
                variance = variance + signs[a] * signs[b] * K.reshape(shape)
        phase = sum(s * p for s, p in zip(signs, pattern, strict=True)) * math.pi / 2
        total += (
            math.prod(signs) * complex(math.cos(phase), math.sin(phase)) * (-0.5 * variance).exp()
        )
    return (total / (2j) ** slots).real


@pytest.mark.parametrize("even", [True, False])
def test_sines_have_closed_forms(even):
    K = metric(9, 4)
    functions = [lambda z, k=k: torch.sin(z + k * math.pi / 2) for k in range(6)]
    rule = Conditioned(functions, K, PATTERNS, 1e-7, even)
    fine, coarse = rule.averages(0), rule.averages(1)
    for p in PATTERNS:
        want = sines(K, p)
        error = (fine[p] - want).abs().max()
        assert error < 1e-7, p
        # the difference of the two levels is no less than a third of the error
        assert error < 3 * (coarse[p] - fine[p]).abs().max() + 1e-11, p


def test_monomials_are_those_of_wick():
    K = metric(8, 3)
    one = torch.ones(len(K), dtype=torch.float64)
    functions = [lambda z: z, torch.ones_like]
    found = Conditioned(functions, K, [(0, 0, 0, 0), (0, 0, 1, 1), (0, 0)], 1e-7).averages(0)
    wick = ("ab,cd", "ac,bd", "ad,bc")
    pairs = torch.stack([torch.einsum(f"{at}->abcd", K, K) for at in wick])
    assert (found[0, 0, 0, 0] - pairs.sum(0)).abs().max() < 1e-6 * pairs.sum(0).max()
    want = torch.einsum("ab,c,d->abcd", K, one, one)
    assert (found[0, 0, 1, 1] - want).abs().max() < 1e-6
    assert (found[0, 0] - K).abs().max() < 1e-9


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_quadruples_agree_with_their_own_integrals(name):
    act = activation(name)
    functions = [act.derivative(k) for k in range(6)]
    K = 0.5 * metric(6, 4, seed=1)
    want = nested(functions, K, PATTERNS, 1e-9, act.odd)[0]
    rule = Conditioned(functions, K, PATTERNS, 1e-6, act.odd)
    fine, coarse = rule.averages(0), rule.averages(1)
    for p in PATTERNS:
        error = (fine[p] - want[p]).abs().max()
        assert error < 2e-6 * max(1.0, float(want[p].abs().max())), p
        # correlations of the higher orders are rounded to single precision on both levels
        rounding = torch.finfo(torch.float32).eps * want[p].abs().max()
        assert error < 3 * (coarse[p] - fine[p]).abs().max() + rounding, p


def test_the_tolerance_is_kept():
    functions = [lambda z, k=k: torch.sin(z + k * math.pi / 2) for k in range(4)]
    K, p = metric(9, 4, seed=2), (3, 1, 1, 1)
    want = sines(K, p)
    errors = [
        float((Conditioned(functions, K, [p], t, True).averages(0)[p] - want).abs().max())
        for t in (1e-3, 1e-6)
    ]
    assert errors[0] < 1e-3
    assert errors[1] < min(1e-6, 0.1 * errors[0])
