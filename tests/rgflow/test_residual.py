"""Skip connections, two-layer blocks and orthogonal weights, against formulas and simulation."""

from __future__ import annotations

import math

import pytest
import torch

import kadanoff as kd
from kadanoff.errors import UsageError
from kadanoff.gaussian.replicas import Replicas
from kadanoff.rgflow import flow
from kadanoff.rgflow.residual import residual_flow
from kadanoff.rgflow.two_layers import _derived, two_layer_averages
from tests.rgflow.differentials import drawn_differentials
from tests.rgflow.drawn import deviations, drawn
from tests.rgflow.simulate import extrapolate, simulate

X2 = torch.tensor([[1.2, 0.3], [-0.5, 1.1]], dtype=torch.float64)


ALL = ("G1", "H1", "V", "D", "A", "B", "F", "P", "Q", "R", "S", "T", "U")


def relu_skip(depth=5):
    arch = kd.Residual(1, 64, depth, 1, "relu", gamma=math.sqrt(0.5), C_W=1.0)
    return flow(arch, torch.ones(1, 1), order=1)


def test_without_skip_it_is_the_plain_network():
    plain = kd.MLP(2, [64] * 3, 1, "sin", C_b=0.1, C_W=1.5)
    kept = kd.Residual(2, 64, 2, 1, "sin", gamma=1e-9, C_b=0.1, C_W=1.5)
    a, b = flow(plain, X2, order=1), flow(kept, X2, order=1)
    for name in ("K", "Theta", *ALL):
        torch.testing.assert_close(a.require(name), b.require(name), rtol=1e-7, atol=2e-8)


@pytest.mark.parametrize("name", ["gelu", "relu"])
@pytest.mark.parametrize("init", ["gaussian", "orthogonal"])
def test_nodes_and_lines_give_the_plain_network_too(name, init):
    """The same tensors by the book's recursions and by pieces of lines, unequal widths."""
    plain = kd.MLP(
        2, [48, 32, 64], 8, name, C_b=0.1, C_W=1.3, lambda_b=0.5, lambda_W=0.8, init=init
    )
    f = flow(plain, X2, order=1)
    found = residual_flow(plain, X2, list(f.K), list(f.Theta), 1e-10).tensors
    names = [n for n in ALL if name == "gelu" or n not in "RSTU"]
    assert set(found) == set(names)
    for n in names:
        scale = float(f.require(n).abs().max())
        torch.testing.assert_close(found[n], f.require(n), rtol=1e-6, atol=1e-8 * scale)


def test_uniform_weights_move_the_means_and_nothing_else():
    rates = {"lambda_b": 0.5, "lambda_W": 0.8}
    a, b = (
        flow(kd.Residual(2, 64, 2, 1, "gelu", gamma=0.6, C_W=1.3, init=i, **rates), X2[:1], order=1)
        for i in ("gaussian", "uniform")
    )
    for name in ALL:
        same = bool(torch.isclose(a.require(name), b.require(name), rtol=1e-12).all())
        assert same == (name not in ("G1", "H1")), name


@pytest.mark.parametrize("g2", [0.3, 0.5, 0.8])
def test_linear_residual_network(g2):
    # nu = (1 - g2)[(1 - g2) 2 + 4 g2] a layer, exactly linear in depth
    arch = kd.Residual(1, 64, 4, 1, "linear", gamma=math.sqrt(g2), C_W=[1] + [1 - g2] * 5)
    f = flow(arch, torch.ones(1, 1), order=1)
    nu = (1 - g2) * ((1 - g2) * 2 + 4 * g2)
    l = torch.arange(5, dtype=torch.float64)
    torch.testing.assert_close(f.require("V").flatten()[:5], nu * l, rtol=1e-10, atol=1e-10)


def test_layer_two_is_exact_at_any_width():
    """One block on a layer whose NTK is a number: no power of 1/n is left out, n = 6 will do."""
    f = flow(skip_net(6, "gelu"), X2[:1], order=1)
    found = drawn_differentials(skip_net(6, "gelu"), X2[:1], 8_000, seed=3)
    for name, (value, stderr) in found.items():
        predicted = f.require(name)[1]
        assert float((value[0] - predicted).abs() / stderr[0]) < 4, name
        assert float(stderr[0] / predicted.abs()) < 0.05, name


def test_linear_residual_network_of_two_inputs_has_isserlis_form():
    g2 = 0.4
    arch = kd.Residual(2, 64, 3, 1, "linear", gamma=math.sqrt(g2), C_W=[1] + [1 - g2] * 4)
    f = flow(arch, X2, order=1)
    K = f.K[0]
    wick = torch.einsum("ac,bd->abcd", K, K) + torch.einsum("ad,bc->abcd", K, K)
    nu = (1 - g2) * ((1 - g2) + 2 * g2)
    for l in range(4):
        torch.testing.assert_close(f.require("V")[l], nu * l * wick, rtol=1e-9, atol=1e-9)


def test_two_layer_blocks_of_relu():
    # (1 - g2)[(1 - g2)((3 A4/A2² - 1) n/m + 2) + 4 g2]
    for g2, m in ((0.5, 64), (0.3, 32)):
        c = math.sqrt(2 * (1 - g2))
        arch = kd.Residual(
            1, 64, 4, 1, "relu", gamma=math.sqrt(g2), C_W=[1] + [c] * 4 + [2],
            block="two_layer", hidden=m,
        )  # fmt: skip
        f = flow(arch, torch.ones(1, 1), order=1)
        nu = (1 - g2) * ((1 - g2) * (5 * 64 / m + 2) + 4 * g2)
        l = torch.arange(5, dtype=torch.float64)
        torch.testing.assert_close(f.require("V").flatten()[:5], nu * l, rtol=1e-10, atol=1e-10)


def test_three_point_vertex_alone_is_the_first_term_of_the_memory():
    """TwoLayers cut at two derivatives gives 2.25, 5.40, 9.19, 13.42; the full one is larger."""
    V, t, g, cut = 0.0, 0.0, math.sqrt(0.5), []
    # E[zσ²], ⟨σσ'⟩, C_W² Var σ² and 2γ²C_W(⟨σ²z²⟩ − K⟨σ²⟩) of ReLU at K = C_W = 1
    three, slope = 2 / math.sqrt(2 * math.pi), 1 / math.sqrt(2 * math.pi)
    for _ in range(4):
        V, t = V + 1.25 + 1.0 + 4 * slope * t, g * t + g * three
        cut.append(V)
    assert cut == pytest.approx([2.25, 5.40, 9.19, 13.42], abs=0.01)
    full = relu_skip().require("V").flatten()
    assert full[1:5].tolist() == pytest.approx([2.25, 5.477465, 9.368426, 13.718985], abs=1e-6)


def test_what_does_not_exist_says_so():
    f = relu_skip(2)
    with pytest.raises(UsageError, match="kinks"):
        f.require("R")
    with pytest.raises(UsageError, match="plain Gaussian network"):
        f.require("U6")
    # twice an input is parallel to it: no separate derivatives where ReLU has its kink
    two = kd.Residual(2, 64, 1, 1, "relu", gamma=0.5)
    parallel = flow(two, torch.stack([X2[0], 2 * X2[0]]), order=1)
    with pytest.raises(UsageError, match="parallel"):
        parallel.require("H1")


def test_derivatives_on_the_gaussian_are_those_on_the_functions():
    """What kinked activations need, on smooth ones: Hermite polynomials against derivatives."""
    early, late = kd.activation("sin"), kd.activation("tanh")
    K = torch.tensor([[1.0, 0.4], [0.4, 0.7]], dtype=torch.float64)
    later = torch.tensor([[1.1, 0.5], [0.5, 0.9]], dtype=torch.float64)
    _, (exact, _) = two_layer_averages(early, K, late, later, 0.8, 1e-8)
    joint = torch.cat([torch.cat([K, 0.8 * K], 1), torch.cat([0.8 * K, later], 1)])
    rule, shared = Replicas("sobol", 8), {}
    drawn_ = [_derived(early, late, joint, (), rule, r, shared)[0] for r in range(2)]
    found = {w: (drawn_[0][w] + drawn_[1][w]) / 2 for w in drawn_[0]}
    for then in ((0, 0), (1, 1), (0, 1)):
        for now in ((2, 0), (3, 1), (2, 2), (2, 1)):
            if (then, now) not in exact.pairs:
                continue
            a, b = found[then, now], exact.pairs[then, now]
            for c, d in ((0, 0), (0, 1), (1, 0), (1, 1)):
                x, y = a[..., c, d], b[..., c, d]
                if c == d and now in ((3, 1), (2, 2)):
                    # only the sum exists with kinks
                    x = found[then, (3, 1)][..., c, c] + found[then, (2, 2)][..., c, c]
                    y = exact.pairs[then, (3, 1)][..., c, c] + exact.pairs[then, (2, 2)][..., c, c]
                # panels without a kink to cut at, and a sample of four variables
                assert float((x - y).abs().max()) < 5e-3 * float(b.abs().max())


def test_orthogonal_linear_network_keeps_the_metric_exactly():
    """Square Haar layers preserve overlaps: V = −(KK + KK) at every depth, no growth."""
    arch = kd.MLP(32, [32] * 4, 32, "linear", init="orthogonal")
    g = torch.Generator().manual_seed(0)
    f = flow(arch, torch.randn(2, 32, generator=g), order=1)
    K = f.K[0]
    wick = torch.einsum("ac,bd->abcd", K, K) + torch.einsum("ad,bc->abcd", K, K)
    for l in range(5):
        torch.testing.assert_close(f.require("V")[l], -wick, rtol=1e-9, atol=1e-9)


def test_orthogonal_tanh_saturates():
    f = flow(kd.MLP(1, [64] * 120, 1, "tanh", init="orthogonal"), torch.ones(1, 1), order=1)
    ratio = (f.require("V").flatten() / f.K.flatten() ** 2)[1:]
    assert ratio[:5].tolist() == pytest.approx([-1.80, -1.77, -1.78, -1.79, -1.81], abs=0.01)
    assert -2.0 < float(ratio[-2]) < -1.94


def check_all(f, runs, widths, bars: dict[str, float]):
    """|z| < 4 for every component of every name; at the last layer error bars below ``bars``.

    Layers before may have next to nothing by cancellation; what is zero must come out as zero.
    """
    for name, (z, bar) in deviations(f, runs, widths, tuple(bars)).items():
        if float(f.require(name)[len(z)].abs().max()) > 1e-9:
            assert float(bar[-1]) < bars[name], (name, bar)
        assert float(z.max()) < 4, (name, z)


def check(f, small, large, widest: float, layers: int, slots=None):
    """|z| < 4 for every component of V, with errors below ``widest`` of the largest one."""
    value, stderr = extrapolate(small, large)
    predicted = f.require("V")[1 : layers + 1]
    for l in range(layers):
        assert float(stderr[l].max() / predicted[l].abs().max()) < widest
        # linear extrapolation leaves terms of order 1/n²: a third of the first-order drift / n
        drift = (large[0][l] - small[0][l]).abs() / 3
        z = (value[l] - predicted[l]) / (stderr[l] ** 2 + drift**2).sqrt().clamp_min(1e-12)
        assert float(z.abs().max()) < 4


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tanh", "gelu"])
def test_residual_vertex_of_two_inputs_against_simulation(name):
    arch = kd.Residual(2, 64, 2, 1, name, gamma=0.8, C_b=0.1, C_W=0.9)
    f = flow(arch, X2, order=1)
    runs = [
        simulate(arch.activations[0], f.K[0], 3, n, 40_000, gamma=0.8, C_W=0.9, C_b=0.1, seed=n)
        for n in (32, 64)
    ]
    check(f, *runs, widest=0.05, layers=2)
    shift = 64 * (runs[1][2] - f.K[1:3]) - f.require("G1")[1:3]
    assert float((shift / (64 * runs[1][3])).abs().max()) < 4


LAMBDA = {"lambda_b": 0.5, "lambda_W": [0.8, 0.6, 0.8, 0.9]}


def skip_net(n: int, name: str, **options) -> kd.Network:
    options = {"gamma": 0.8, "C_b": 0.1, "C_W": 0.9} | options
    return kd.Residual(options.pop("n_in", 2), n, 2, 1, name, **LAMBDA, **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, block",
    [
        ("gelu", {}),
        ("tanh", {}),
        ("relu", {}),
        ("tanh", {"block": "two_layer"}),
        ("relu", {"block": "two_layer"}),
        ("gelu", {"init": "orthogonal"}),
        ("gelu", {"init": "uniform"}),
    ],
    ids=str,
)
def test_ntk_of_residual_networks_against_drawn_ones(name, block):
    """Odd, other and kinked activations, both blocks, three laws: metric and NTK at order 1/n."""
    uniform = block.get("init") == "uniform"

    def inputs(n: int):
        # weights that are not normal show 1/n_0 of the input
        return torch.tensor([[1.5, 0.5]], dtype=torch.float64).repeat(1, n // 2 if uniform else 1)

    def arch(n: int):
        return skip_net(n, name, **block | {"n_in": inputs(n).shape[1]})

    f = flow(arch(24), inputs(24), order=1)
    # without normal rows less of the noise is known
    networks = 80_000 if "init" in block else 24_000
    runs = [drawn(arch(n), inputs(n), networks, seed=n) for n in (12, 24)]
    bars = {"V": 0.06, "D": 0.05, "A": 0.05, "B": 0.02, "F": 0.04, "G1": 0.05, "H1": 0.05}
    if (name, block) == ("tanh", {}):
        bars["H1"] = 0.5  # its parts cancel to 2 % of them
    check_all(f, runs, (12, 24), bars)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{}, {"init": "orthogonal"}, {"init": "orthogonal", "gamma": 0.0}],
    ids=str,
)
def test_differentials_of_residual_and_orthogonal_networks_against_drawn_ones(options):
    X = X2[:1]
    f = flow(skip_net(24, "gelu", **options), X, order=1)

    def runs(widths, networks, order):
        return [
            drawn_differentials(skip_net(n, "gelu", **options), X, k, seed=n, batch=40, order=order)
            for n, k in zip(widths, networks)
        ]

    check_all(f, runs((8, 16), (10_000, 10_000), 1), (8, 16), {"P": 0.1, "Q": 0.1})
    check_all(f, runs((6, 12), (6_000, 1_600), 2), (6, 12), dict.fromkeys("RSTU", 0.1))


@pytest.mark.slow
def test_differentials_of_two_layer_blocks():
    """P and Q against drawn networks; R to U, whose drawn form costs n⁴ and more, against the
    sampler without weights (which is held against drawn networks in tests/ensembles)."""

    def arch(n: int):
        return skip_net(n, "gelu", block="two_layer")

    X, f = X2[:1], flow(arch(24), X2[:1], order=1)
    runs = [drawn_differentials(arch(n), X, 8_000, seed=n, batch=40, order=1) for n in (8, 16)]
    check_all(f, runs, (8, 16), {"P": 0.12, "Q": 0.12})
    runs = []
    for n in (24, 48):
        found = kd.ensemble(arch(n), X, 1_300, observables=[*"RSTU"], seed=n).values
        runs.append({q: (found[q].value[1:-1], found[q].stderr[1:-1]) for q in "RSTU"})
    check_all(f, runs, (24, 48), dict.fromkeys("RSTU", 0.12))


@pytest.mark.slow
def test_fourth_cumulant_of_uniform_weights_against_drawn_ones():
    """Most of G1 and H1 of tanh: the error bars are far below what the cumulant changes."""
    X = torch.tensor([[1.5, 0.5]], dtype=torch.float64)

    def arch(n: int, init: str):
        return kd.Residual(n, n, 2, 1, "tanh", gamma=0.8, init=init, **LAMBDA)

    f, normal = (flow(arch(24, i), X.repeat(1, 12), order=1) for i in ("uniform", "gaussian"))
    runs = [drawn(arch(n, "uniform"), X.repeat(1, n // 2), 60_000, seed=n) for n in (12, 24)]
    for name, (z, bar) in deviations(f, runs, (12, 24), ("G1", "H1")).items():
        predicted, other = f.require(name)[1:3], normal.require(name)[1:3]
        assert float(z.max()) < 4
        error = bar * predicted.abs().flatten(1).amax(1)
        assert float((error / (predicted - other).abs().flatten(1).amax(1)).max()) < 0.2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gelu", "relu"])
def test_ntk_of_residual_networks_of_two_inputs_against_drawn_ones(name):
    f = flow(skip_net(24, name), X2, order=1)
    runs = [drawn(skip_net(n, name), X2, 6_000, seed=n) for n in (12, 24)]
    check_all(f, runs, (12, 24), {"V": 0.14, "D": 0.09, "A": 0.08, "B": 0.03, "F": 0.06})


@pytest.mark.slow
def test_two_layer_blocks_against_simulation():
    arch = kd.Residual(
        2, 64, 2, 1, "gelu", gamma=0.8, C_b=0.1, C_W=0.9, block="two_layer", hidden=128
    )
    f = flow(arch, X2, order=1)
    runs = [
        simulate(
            arch.activations[0], f.K[0], 3, n, 30_000, gamma=0.8, C_W=0.9, C_b=0.1,
            seed=n, hidden=2 * n,
        )
        for n in (32, 64)
    ]  # fmt: skip
    check(f, *runs, widest=0.05, layers=2)


def test_orthogonal_ntk_of_a_linear_network_does_not_fluctuate():
    """W W^T = C_W: metric, NTK and every product of Jacobians are those of the infinite width."""
    arch = kd.MLP(32, [32] * 4, 32, "linear", C_W=1.0, init="orthogonal")
    g = torch.Generator().manual_seed(0)
    f = flow(arch, torch.randn(2, 32, generator=g), order=1)
    for name in ("A", "B", "D", "F", "H1", "G1"):
        assert float(f.require(name).abs().max()) < 1e-9


@pytest.mark.slow
def test_orthogonal_networks_of_two_inputs_against_drawn_ones():
    def arch(n: int):
        return kd.MLP(
            2, [n] * 3, 1, "gelu", C_b=0.1, C_W=1.3, lambda_b=0.5, lambda_W=0.8, init="orthogonal"
        )

    f = flow(arch(32), X2, order=1)
    runs = [drawn(arch(n), X2, 8_000, seed=n) for n in (16, 32)]
    check_all(f, runs, (16, 32), {"V": 0.08, "D": 0.06, "A": 0.05, "B": 0.02, "F": 0.03})


@pytest.mark.slow
def test_relu_skip_against_simulation_excludes_the_cut_memory():
    f = relu_skip(2)
    K1 = torch.ones(1, 1, dtype=torch.float64)
    runs = [
        simulate(torch.relu, K1, 3, n, 1_200_000 * 32 // n, gamma=math.sqrt(0.5), seed=n)
        for n in (32, 64)
    ]
    check(f, *runs, widest=0.01, layers=2)
