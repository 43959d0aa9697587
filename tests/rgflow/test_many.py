"""Averages over several Gaussian samples: exact cases, ranks, kinks, stated errors."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

import kadanoff as kd
from kadanoff.gaussian.kinked import panels
from kadanoff.gaussian.lattices import nested
from kadanoff.gaussian.rules import many
from kadanoff.gaussian.sums import sum_over_nodes

K4 = torch.tensor(
    [[1.0, 0.3, -0.2, 0.1], [0.3, 0.8, 0.4, 0.0], [-0.2, 0.4, 1.2, 0.3], [0.1, 0.0, 0.3, 0.6]],
    dtype=torch.float64,
)


def sine_average(K: torch.Tensor) -> torch.Tensor:
    """⟨sin sin sin sin⟩ exactly: a sum over signs of characteristic functions."""
    N = len(K)
    out = torch.zeros((N,) * 4, dtype=torch.float64)
    for index in itertools.product(range(N), repeat=4):
        at = torch.tensor(index)
        block = K[at][:, at]
        for signs in itertools.product((1.0, -1.0), repeat=4):
            s = torch.tensor(signs, dtype=torch.float64)
            # sin a = Σ_s s e^{isa}/2i
            out[index] += float(s.prod()) * float(torch.exp(-0.5 * s @ block @ s)) / 16
    return out


def wick(K: torch.Tensor) -> torch.Tensor:
    return (
        torch.einsum("ab,cd->abcd", K, K)
        + torch.einsum("ac,bd->abcd", K, K)
        + torch.einsum("ad,bc->abcd", K, K)
    )


@pytest.mark.parametrize("N, bound", [(1, 1e-13), (2, 2e-12), (3, 2e-12), (4, 2e-12)])
def test_four_sines_are_exact(N, bound):
    K = K4[:N, :N]
    rule, found = many([torch.sin], K, [(0, 0, 0, 0)], tolerance=1e-12)
    results = [f[0, 0, 0, 0] for f in found]
    true = (rule.value(results) - sine_average(K)).abs().max()
    assert float(true) < bound
    assert float(true) <= float(rule.error(results).max()) + 1e-15


def test_five_samples_are_taken_by_quadruples():
    K = torch.eye(5, dtype=torch.float64) * 0.4 + 0.3
    rule, found = many([torch.sin], K, [(0, 0, 0, 0), (0, 0)], tolerance=1e-6, odd=True)
    results = [f[0, 0, 0, 0] for f in found]
    true = (rule.value(results) - sine_average(K)).abs().max()
    assert float(true) < 1e-7
    assert float(true) <= float(rule.error(results).max()) + 1e-15


@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_batches_of_subsets_are_what_single_ones_are(name):
    act = kd.activation(name)
    g = torch.Generator().manual_seed(0)
    # of low rank, with a repeated and a nearly parallel sample, and unequal norms
    Z = torch.randn(7, 5, generator=g, dtype=torch.float64) * torch.linspace(0.4, 1.5, 7)[:, None]
    Z[3], Z[5] = Z[1], 0.7 * Z[2] + 1e-3 * Z[5]
    functions = [act.derivative(k) for k in range(6)]
    patterns = [(0, 0), (2, 0), (5, 1), (0, 0, 0, 0), (2, 1, 1, 0), (3, 1, 1, 1), (2, 2, 1, 1)]
    K = Z @ Z.T / 5
    rule, found = many(functions, K, patterns, tolerance=1e-6, odd=act.odd)
    exact = nested(functions, K, patterns, 1e-9, act.odd)[0]
    for p in patterns:
        results = [f[p] for f in found]
        off, error = (rule.value(results) - exact[p]).abs(), rule.error(results)
        assert (off <= error).all(), p
        assert float(error.max() / exact[p].abs().max()) < 2e-5, p


def test_dozens_of_samples_are_expanded_given_pairs():
    """Every entry within the stated error of the closed form, near duplicates included."""
    g = torch.Generator().manual_seed(0)
    Z = torch.randn(14, 5, generator=g, dtype=torch.float64)
    Z[3], Z[8] = Z[2] + 1e-3 * Z[3], -Z[7]
    K = Z @ Z.T / 5
    rule, found = many([torch.sin], K, [(0, 0, 0, 0), (0, 0)], tolerance=1e-6, odd=True)
    assert rule.kind == "expansion"
    results = [f[0, 0, 0, 0] for f in found]
    value, error = rule.value(results), rule.error(results)
    exact = all_sines(K)
    assert ((value - exact).abs() <= error).all()
    assert float(error.max()) < 1e-5 * float(exact.abs().max())


def all_sines(K: torch.Tensor) -> torch.Tensor:
    """``sine_average`` of many samples at once: half of the signs, as the average is even."""
    total = torch.zeros((len(K),) * 4, dtype=torch.float64)
    var = K.diagonal()
    for signs in itertools.product((1.0, -1.0), repeat=3):
        s = (1.0, *signs)
        form = sum(
            var.reshape([-1 if axis == slot else 1 for axis in range(4)]) for slot in range(4)
        )
        for i, j in itertools.combinations(range(4), 2):
            shape = [len(K) if axis in (i, j) else 1 for axis in range(4)]
            form = form + 2 * s[i] * s[j] * K.reshape(shape)
        total += math.prod(s) * torch.exp(-0.5 * form) / 8
    return total


@pytest.mark.parametrize(
    "p", [(0, 0, 0, 0), (0, 0, 1, 1), (2, 1, 1, 0), (3, 1, 1, 1), (2, 2, 1, 1), (0, 1, 0, 1),
          (0, 1, 2, 3)],
)  # fmt: skip
def test_tables_of_pairs_give_every_order_of_samples(p):
    g = torch.Generator().manual_seed(0)
    z, w = torch.randn(50, 3, generator=g).double(), torch.rand(50, generator=g).double()
    functions = [torch.sin, torch.cos, torch.exp, torch.tanh]
    found = sum_over_nodes(functions, iter([(z[:20], w[:20]), (z[20:], w[20:])]), [p, (1, 2)], 3)
    f = [functions[k](z) for k in p]
    torch.testing.assert_close(found[p], torch.einsum("m,ma,mb,mc,md->abcd", w, *f))
    torch.testing.assert_close(found[1, 2], torch.einsum("m,ma,mb->ab", w, z.cos(), z.exp()))


def test_samples_of_lower_rank():
    base = K4[:2, :2]
    mix = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -0.5], [-1.0, 0.0]], dtype=torch.float64)
    K = mix @ base @ mix.T
    rule, found = many([torch.sin], K, [(0, 0, 0, 0)])
    value = rule.value([f[0, 0, 0, 0] for f in found])
    torch.testing.assert_close(value, sine_average(K), rtol=0, atol=1e-11)
    zero = many([torch.cos], torch.zeros(2, 2, dtype=torch.float64), [(0, 0)])[1][0][0, 0]
    torch.testing.assert_close(zero, torch.ones(2, 2, dtype=torch.float64))


@pytest.mark.parametrize("N", [2, 3])
def test_kinks_by_panels(N):
    """Averages of ReLU and step functions against arc-cosine and orthant identities."""
    K = K4[:N, :N]
    relu, step = torch.relu, lambda z: torch.heaviside(z, torch.full_like(z, 0.5))
    rule, found = many([relu, step], K, [(0, 0), (1, 1), (1, 1, 1, 1), (0, 0, 0, 0)], (0.0,))
    assert rule.kind == "panels"
    act = kd.activation("relu")
    for p in (0, 1):
        exact = act.closed(
            p, p, K.diagonal()[:, None].expand(N, N), K, K.diagonal()[None].expand(N, N)
        )
        assert exact is not None
        torch.testing.assert_close(found[0][p, p], exact, rtol=1e-12, atol=1e-12)
    if N == 3:
        # orthant probability of three: 1/8 + Σ asin ρ / 4π
        rho = K / (K.diagonal()[:, None] * K.diagonal()).sqrt()
        exact = 1 / 8 + (rho[0, 1].asin() + rho[0, 2].asin() + rho[1, 2].asin()) / (4 * torch.pi)
        assert float(found[0][1, 1, 1, 1][0, 0, 1, 2]) == pytest.approx(float(exact), abs=1e-12)
    # half the fourth moment
    fourth = found[0][0, 0, 0, 0][0, 0, 0, 0]
    assert float(fourth) == pytest.approx(1.5 * float(K[0, 0]) ** 2, rel=1e-11)


@pytest.mark.parametrize("rho", [0.9, 0.99, 0.9999, -0.999])
def test_nearly_parallel_samples_with_kinks(rho):
    K = torch.tensor([[1.0, rho], [rho, 1.0]], dtype=torch.float64)
    rule, found = many([torch.relu], K, [(0, 0), (0, 0, 0, 0)], (0.0,))
    act = kd.activation("relu")
    one = torch.ones((), dtype=torch.float64)
    exact = act.closed(0, 0, one, rho * one, one)
    assert exact is not None
    assert float(found[0][0, 0][0, 1]) == pytest.approx(float(exact), abs=1e-12)
    error = rule.error([f[0, 0, 0, 0] for f in found])
    assert float(error.max()) < 1e-9


@pytest.mark.slow
def test_four_samples_with_kinks_state_an_honest_error():
    """A kink that is declared but absent sends a linear function to Sobol points."""
    rule, found = many([torch.clone], K4, [(0, 0, 0, 0)], (0.0,))
    assert rule.kind == "sobol"
    results = [f[0, 0, 0, 0] for f in found]
    off = (rule.value(results) - wick(K4)).abs()
    assert float(off.max()) < 1e-3
    z = off[0, 1, 2, 3] / rule.error(results)[0, 1, 2, 3]
    assert float(z) < 6


def test_mean_and_weights_of_panels():
    mean = torch.tensor([0.4, -0.3], dtype=torch.float64)
    nodes = list(panels(K4[:2, :2], (0.0,), 18, mean))
    z, w = torch.cat([n[0] for n in nodes]), torch.cat([n[1] for n in nodes])
    assert float(w.sum()) == pytest.approx(1, abs=1e-13)
    torch.testing.assert_close(w @ z, mean, rtol=0, atol=1e-13)
    torch.testing.assert_close((w[:, None] * z).T @ z, K4[:2, :2] + torch.outer(mean, mean))
