"""Diagrams: generation, symmetry factors, recursions, against every other route there is."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from xml.etree import ElementTree

import numpy as np
import pytest
import torch

import kadanoff as kd
from kadanoff import diagrams
from kadanoff.activations import activation
from kadanoff.errors import DomainError, UsageError
from kadanoff.gaussian import pair
from kadanoff.rgflow.double_scaling import exponential_functional
from kadanoff.rgflow.single import exact_chain, moment_series


def test_hand_recursions_are_generated() -> None:
    assert [str(diagrams.recursion(k)) for k in (1, 2, 3, 4)] == [
        "K' = C_b + f",
        "κ₂' = f'² κ₂ + v/n",
        "κ₃' = f'³ κ₃ + 3 f'² f'' κ₂² + 3/n f' v' κ₂ + t/n²",
        "κ₄' = f'⁴ κ₄ + 12 f'³ f'' κ₂ κ₃ + 12 f'² f''² κ₂³ + 4 f'³ f''' κ₂³ + 6/n f'² v' κ₃ "
        "+ 12/n f' f'' v' κ₂² + 6/n f'² v'' κ₂² + 4/n² f' t' κ₂ + 3/n² v'² κ₂ + q/n³",
    ]
    assert str(diagrams.recursion(1, 1)) == "δ' = f' δ + 1/2 f'' κ₂"
    assert diagrams.recursion(2).latex() == (
        r"\kappa_{2}^{\prime} = f^{\prime\,2} \kappa_{2} + \frac{1}{n} v"
    )
    assert r"\;(3\text{ terms})" in diagrams.recursion(3).latex(indexed=True)


def automorphisms(diagram: diagrams.Diagram) -> int:
    """Permutations of lines that keep each line's vertex and carry blobs to like blobs."""
    lines = [
        (v, b)
        for b, (column, _) in enumerate(diagram.blobs)
        for v, count in enumerate(column)
        for _ in range(count)
    ]
    found = 0
    for p in itertools.permutations(range(len(lines))):
        moved = {}
        fits = all(
            lines[i][0] == lines[j][0] and moved.setdefault(lines[i][1], lines[j][1]) == lines[j][1]
            for i, j in enumerate(p)
        )
        found += fits and all(diagram.blobs[a][1] == diagram.blobs[b][1] for a, b in moved.items())
    return found


@pytest.mark.parametrize(("k", "loops"), [(1, 2), (1, 3), (2, 1), (2, 2), (3, 1), (4, 0)])
def test_symmetry_factors_count_automorphisms(k: int, loops: int) -> None:
    listed = diagrams.generate(k, loops)
    assert len(set(listed)) == len(listed)
    for d in listed:
        assert (d.k, d.loops, d.order) == (k, loops, k - 1 + loops)
        if sum(d.lines) <= 6:
            assert d.symmetry == automorphisms(d), d


def test_each_diagram_is_a_different_graph() -> None:
    """No two of them go over into each other when vertices and blobs are renamed."""
    seen = set()
    for d in diagrams.generate(4, 1):
        forms = set()
        for p in itertools.permutations(range(len(d.legs))):
            blobs = sorted((tuple(column[i] for i in p), inside) for column, inside in d.blobs)
            forms.add((tuple(d.legs[i] for i in p), tuple(blobs)))
        assert not forms & seen
        seen |= forms


@pytest.mark.parametrize(
    ("widths", "name", "C_W", "C_b"),
    [([50] * 8, "tanh", 1.0, 0.0), ([40, 80, 20, 60], "swish", 1.7, 0.2),
     ([30, 10, 70], "elu", 1.3, 0.1), ([8, 3, 5], "leaky_relu(0.3)", 1.1, 0.0)],
)  # fmt: skip
def test_diagrams_sum_to_the_moment_series(widths, name, C_W, C_b) -> None:
    """Loops included: the series knows nothing of graphs."""
    arch = kd.MLP(1, widths, 1, name, C_W=C_W, C_b=C_b)
    found, series = diagrams.correlators(arch, [[0.9]], 4), moment_series(arch, [[0.9]], order=4)
    for k in range(1, 6):
        for loops in range(5 - k + 1):
            ours, theirs = found.coefficient(k, loops), series.cumulant_series(k)[:, k - 1 + loops]
            # at scale invariance some terms vanish: compare with the largest of the series
            scale = np.abs(series.cumulant_series(k)).max()
            assert ours == pytest.approx(theirs, rel=1e-9, abs=1e-9 * scale)
        assert found.cumulant(k) == pytest.approx(series.cumulant(k), rel=1e-9)


def test_reference_table() -> None:
    found = diagrams.correlators(kd.MLP(1, [50] * 20, 1, "tanh"), [[1.0]])
    rows = [found.coefficient(*name)[[2, 20]] for name in ((1, 1), (2, 0), (3, 0), (4, 0))]
    assert np.stack(rows, 1).ravel() == pytest.approx(
        [-0.03093252, 0.06780749, 0.02299340, 0.00297461,
         -0.13405254, 0.00846416, 0.00615546, 0.00683182], abs=6e-9,
    )  # fmt: skip


@pytest.mark.parametrize(("name", "c", "s3"), [("relu", 5, 44), ("linear", 2, 8)])
def test_scale_invariant_correlators_are_products(name, c, s3) -> None:
    widths = [30, 60, 20]
    arch = kd.MLP(1, widths, 1, name, C_W=kd.criticality(name).C_W)
    found = diagrams.correlators(arch, [[1.0]], 5)
    K = found.K[-1, 0, 0]
    second = math.prod(1 + c / n for n in widths)
    third = math.prod(1 + 3 * c / n + s3 / n**2 for n in widths)
    # κ₂ is complete at order 3, κ₃ would end at order 6: its last term is what is missing
    assert found.cumulant(2)[-1] / K**2 == pytest.approx(second - 1, rel=1e-12)
    assert found.cumulant(3)[-1] / K**3 == pytest.approx(
        third - 3 * second + 2 - s3**3 / math.prod(n**2 for n in widths), rel=1e-11
    )
    assert found.cumulant(1) == pytest.approx(K, rel=1e-13)


@pytest.mark.slow
def test_exact_chain_confirms_every_order() -> None:
    arch = kd.MLP(1, [50] * 6, 1, "tanh", C_W=1.5, C_b=0.05)
    chain = exact_chain(arch, [[1.0]], grid=2048, nodes=100)
    found = diagrams.correlators(arch, [[1.0]], 5)
    for k in (1, 2, 3, 4):
        exact = chain.cumulants[-1, k - 1]
        assert chain.error[-1, k - 1] < 1e-7 * abs(exact)
        gaps = [abs(found.cumulant(k, order=p)[-1] / exact - 1) for p in range(max(k - 1, 1), 6)]
        assert gaps[-1] < 2e-3
        assert all(late < early for early, late in itertools.pairwise(gaps)), (k, gaps)


@pytest.mark.parametrize("name", ["tanh", "relu", "swish"])
def test_two_inputs_agree_with_the_flow(name: str) -> None:
    arch = kd.MLP(2, [40, 80, 20, 60], 1, name, C_W=1.7, C_b=0.2)
    X = [[1.0, 0.3], [-0.4, 0.8]]
    found, flow = diagrams.correlators(arch, X, 1), kd.flow(arch, X, order=1)
    for layer in range(1, arch.L):
        scale = arch.n[layer] / arch.n[1]  # flow divides by the width below the layer
        for i, (a, b) in enumerate(found.pairs):
            shift = float(flow.require("G1")[layer, a, b])
            assert found.coefficient(1, 1)[layer, i] * scale == pytest.approx(
                shift, rel=1e-7, abs=1e-9
            )
            for j, (c, d) in enumerate(found.pairs):
                V = float(flow.require("V")[layer, a, b, c, d])
                assert found.coefficient(2)[layer, i, j] * scale == pytest.approx(V, rel=1e-7)


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_vertices_are_derivatives_of_cumulants(name: str) -> None:
    K, h = torch.tensor([[0.9, 0.4], [0.4, 0.7]], dtype=torch.float64), 1e-5
    act = activation(name)
    at = diagrams.Couplings(act, K, 1.3)
    mean = 1.3 * float(pair(act, K[0, 0], K[0, 1], K[1, 1]).value)
    assert at.tensor(1, 0)[1] == pytest.approx(mean, rel=1e-10)
    for p, (a, b) in enumerate(at.pairs):
        step = torch.zeros_like(K)
        step[a, b] = step[b, a] = h
        up, down = (diagrams.Couplings(act, K + s * step, 1.3) for s in (1, -1))
        for m, r in ((1, 0), (2, 0), (3, 0), (1, 1), (2, 1)):
            slope = (up.tensor(m, r) - down.tensor(m, r)) / (2 * h)
            exact = at.tensor(m, r + 1)[..., p]
            assert exact == pytest.approx(slope, abs=2e-7 * max(1, np.abs(exact).max())), (m, r)


def test_one_input_takes_a_short_cut_to_the_same_vertices() -> None:
    at = diagrams.Couplings(activation("swish"), torch.tensor([[0.8]], dtype=torch.float64), 1.3)
    for m, r in ((1, 0), (1, 3), (2, 2), (3, 1), (4, 0)):
        assert at.tensor(m, r) == pytest.approx(at._cumulant(m, r), rel=1e-10)


def test_correlators_of_preactivations() -> None:
    """Wick's theorem over equal neurons: 1, 3, 15 matchings; and mixed inputs."""
    arch = kd.MLP(2, [30, 30], 4, "tanh", C_W=1.4)
    X = [[1.0, 0.5], [-0.3, 1.2]]
    found = diagrams.correlators(arch, X, 2)
    apart = found.correlator([0] * 4, [1, 1, 2, 2])
    assert found.correlator([0] * 4, [1] * 4) == pytest.approx(3 * apart)
    assert found.correlator([0] * 6, [1] * 6) == pytest.approx(
        15 * found.correlator([0] * 6, [1, 1, 2, 2, 3, 3])
    )
    assert found.correlator([0, 1, 0, 1], [0, 0, 1, 2]) == pytest.approx(0)
    k2 = found.cumulant(2)
    mixed = k2[:, 1, 1] * 2 + k2[:, 0, 2]
    assert found.correlator([0, 0, 1, 1], [5] * 4) == pytest.approx(mixed)
    # drawn preactivations, readout layer
    rng, S = np.random.default_rng(0), 30_000
    x = np.array(X).T * np.sqrt(1.4 / 2)
    for n_in, n_out in ((2, 30), (30, 30), (30, 4)):
        W = rng.standard_normal((S, n_out, n_in))
        x = W @ x if n_in == 2 else W @ (np.sqrt(1.4 / n_in) * np.tanh(x))
    a, b = x[..., 0], x[..., 1]
    value = a[:, 0] * b[:, 0] * a[:, 1] * b[:, 1]
    mean = (a[:, 0] * b[:, 0]).mean() * (a[:, 1] * b[:, 1]).mean()
    error = value.std() / math.sqrt(S)
    predicted = found.correlator([0, 1, 0, 1], [0, 0, 1, 1])[-1]
    assert abs(value.mean() - mean - predicted) < 4 * error + 0.02 * predicted
    assert error < 0.15 * predicted


def test_one_condition() -> None:
    K = torch.tensor([[0.9, 0.6], [0.6, 0.7]], dtype=torch.float64)
    found = diagrams.condition("tanh", K, 1.5)
    act = activation("tanh")
    perp = 1.5 * float(pair(act, K[0, 0], K[0, 1], K[1, 1], 1, 1).value)
    parallel = [
        1.5 * float(pair(act, k, k, k, 1, 1).value + pair(act, k, k, k, 0, 2).value)
        for k in (0.9, 0.7)
    ]
    assert sorted(found.eigenvalues) == pytest.approx(sorted([perp, *parallel]), rel=1e-9)
    # the homogeneous part of κ₃ grows as the cube
    J = found.J
    third = np.einsum("ap,bq,cr->abcpqr", J, J, J).reshape(27, 27)
    assert np.abs(np.linalg.eigvals(third)).max() == pytest.approx(found.growth(3), rel=1e-9)


@pytest.mark.parametrize(
    ("C_W", "expected"),
    [(1.7609546396, [0.5700478816, -0.2194636137, 0.3022696739, 0.1715608236, -0.0592630037]),
     (2.5, [1.0639583774, -0.2592152982, 0.7661136632, 0.2732838615, -0.9936594760])],
)  # fmt: skip
def test_saturation_off_criticality(C_W, expected) -> None:
    found = diagrams.saturation("tanh", 0.05, C_W)
    names = [(1, 0), (1, 1), (2, 0), (3, 0), (4, 0)]
    assert [found[name] for name in names] == pytest.approx(expected, abs=2e-9)
    deep = diagrams.correlators(kd.MLP(1, [9] * 60, 1, "tanh", C_W=C_W, C_b=0.05), [[1.0]], 3)
    assert [deep.coefficient(*name)[-1] for name in found] == pytest.approx(
        list(found.values()), rel=1e-8
    )


def test_universal_ratios() -> None:
    assert diagrams.universal_ratio(2) == Fraction(2, 3)
    assert diagrams.universal_ratio(3) == Fraction(16, 15)
    assert diagrams.universal_ratio(4) == Fraction(96, 35)
    assert diagrams.universal_ratio(1, 1) == Fraction(-1, 3)
    found = diagrams.correlators(kd.MLP(1, [9] * 255, 1, "sin"), [[1.0]], 3)
    K, l = found.K[:, 0, 0], 256
    for k, loops in ((2, 0), (3, 0), (4, 0), (1, 1), (2, 1), (1, 2)):

        def slope(at: int, k=k, loops=loops) -> float:
            return found.coefficient(k, loops)[at - 1] / K[at - 1] ** k / at ** (k - 1 + loops)

        # corrections fall as ln ℓ/ℓ: two depths take most of them out
        limit = 2 * slope(l) - slope(l // 2)
        assert limit == pytest.approx(float(diagrams.universal_ratio(k, loops)), rel=0.05)


def test_universal_ratios_are_the_series_of_the_double_scaling_law() -> None:
    """All loops at fixed r = ℓ/n: cumulants of Yor's exponential functional."""
    r = 0.2
    law = exponential_functional(r, n_samples=400_000, seed=1)
    for k in (1, 2, 3):
        series = float(k == 1) + sum(
            float(diagrams.universal_ratio(k, loops)) * r ** (k - 1 + loops)
            for loops in range(int(k == 1), 5 - k)
        )
        error = law.stderr[k - 1]
        assert error < 0.03 * r ** (k - 1)
        assert abs(series - law.cumulants[k - 1]) < 4 * error + 0.004 * r ** (k - 1), k


def test_drawings() -> None:
    svg = diagrams.to_svg(diagrams.recursion(3))
    root = ElementTree.fromstring(svg)
    assert "4 diagrams of the connected 6-point correlator" in "".join(root.itertext())
    fig = diagrams.draw(diagrams.generate(2, 1), columns=3)
    drawn = [ax for ax in fig.axes if ax.patches or ax.lines]
    assert len(drawn) == len(diagrams.generate(2, 1))
    for ax, diagram in zip(drawn, diagrams.generate(2, 1)):
        # lines and blobs are patches
        assert len(ax.patches) == sum(diagram.lines) + len(diagram.blobs)


def test_refusals() -> None:
    arch = kd.MLP(1, [5, 5], 1, "tanh")
    with pytest.raises(UsageError, match="too many diagrams"):
        diagrams.generate(6, 2)
    with pytest.raises(UsageError, match="k must be"):
        diagrams.generate(0)
    with pytest.raises(UsageError, match="fully connected"):
        diagrams.correlators(kd.Residual(1, 8, 2, 1, "tanh", gamma=0.5), [[1.0]])
    with pytest.raises(DomainError, match="singular"):
        diagrams.correlators(arch, [[1.0], [1.0]], 1)
    with pytest.raises(UsageError, match="order 2 in 1/n"):
        diagrams.correlators(arch, [[1.0]], 1).coefficient(3)
    with pytest.raises(DomainError, match="nothing saturates"):
        diagrams.saturation("relu", 0.0, 2.0)
