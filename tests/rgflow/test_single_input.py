"""One input beyond leading order: series, exact chain, double scaling, asymptotics, information."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import integrate

import kadanoff as kd
from kadanoff.errors import DomainError, UsageError
from kadanoff.rgflow.double_scaling import exponential_functional, log_normal
from kadanoff.rgflow.growth import asymptotics, compare_asymptotics, scale_invariant_solution
from kadanoff.rgflow.information import (
    aspect,
    entropy,
    mutual_information,
    optimal_aspect_ratio,
    optimal_gamma,
)
from kadanoff.rgflow.single import exact_chain, moment_series


@pytest.mark.parametrize(
    ("layer", "K", "K1", "V4", "V6", "V8"),
    [
        (2, 0.3942944904, 0, 0.09752374, 0.01008078, -0.01187639),
        (3, 0.2364504105, -0.03093252, 0.06780749, 0.02299340, 0.00297461),
        (6, 0.1034406081, -0.07986126, 0.03231099, 0.01814964, 0.01283618),
        (21, 0.0259019767, -0.13405254, 0.00846416, 0.00615546, 0.00683182),
    ],
)
def test_leading_vertices_of_tanh(layer, K, K1, V4, V6, V8) -> None:
    series = moment_series(kd.MLP(1, [50] * 20, 1, "tanh"), [[1.0]], order=3)
    found = [series.cumulant_series(k)[layer - 1, k - 1] for k in (2, 3, 4)]
    assert series.K[layer - 1] == pytest.approx(K, abs=1e-10)
    assert series.cumulant_series(1)[layer - 1, 1] == pytest.approx(K1, abs=1e-8)
    assert found == pytest.approx([V4, V6, V8], abs=1e-8)


@pytest.mark.parametrize("name", ["relu", "linear", "leaky_relu(0.2)"])
def test_scale_invariant_moments_are_exact_products(name: str) -> None:
    """E Ĝ² = K² Π(1 + ν/n): the series must reproduce it order by order, unequal widths too."""
    point = kd.criticality(name)
    widths = [30, 60, 20]
    arch = kd.MLP(1, widths, 1, name, C_W=point.C_W)
    series = moment_series(arch, [[1.0]], order=3)
    exact = point.C_W**2 * (np.prod([1 + point.nu / n for n in widths]) - 1)
    assert series.cumulant(2)[-1] == pytest.approx(exact, rel=1e-12)
    assert series.cumulant(1) == pytest.approx([point.C_W] * 4, rel=1e-12)


def test_series_and_flow_agree() -> None:
    """Two independent routes to G1 and V: no closed form, unequal widths."""
    arch = kd.MLP(3, [40, 80, 20, 60], 2, "swish", C_W=1.7, C_b=0.2)
    x = [[0.3, -1.2, 0.8]]
    series, flow = moment_series(arch, x, order=1), kd.flow(arch, x, order=1)
    for layer in range(1, arch.L):
        scale = arch.n[layer] / arch.n[1]  # flow divides by the width below the layer
        mean = series.cumulant_series(1)[layer, 1] * scale
        variance = series.cumulant_series(2)[layer, 1] * scale
        assert float(flow.G1[layer, 0, 0]) == pytest.approx(mean, rel=1e-8)
        assert float(flow.V[layer, 0, 0, 0, 0]) == pytest.approx(variance, rel=1e-8)


@pytest.mark.slow
def test_exact_chain_confirms_the_series_order_by_order() -> None:
    arch = kd.MLP(1, [50] * 10, 1, "tanh")
    chain = exact_chain(arch, [[1.0]], grid=2048, nodes=100)
    series = moment_series(arch, [[1.0]], order=3)
    assert chain.cumulants[-1, :3] == pytest.approx([0.05002126, 3.2016e-4, 4.2202e-6], rel=2e-5)
    assert chain.error[-1, 1] < 1e-9
    gaps = [
        abs(series.cumulant(2, order=order)[-1] / chain.cumulants[-1, 1] - 1) for order in (1, 2, 3)
    ]
    assert gaps[0] > 5 * gaps[1] > 25 * gaps[2]
    mass = chain.density[-1].sum() * (chain.grid[1] - chain.grid[0])
    assert mass == pytest.approx(1.0, abs=1e-8)


def test_exact_chain_refuses_what_it_cannot_do() -> None:
    with pytest.raises(UsageError, match="unbounded"):
        exact_chain(kd.MLP(1, [5], 1, "relu"), [[1.0]])
    with pytest.raises(UsageError, match="fully connected"):
        moment_series(kd.Residual(1, 8, 2, 1, "tanh", gamma=0.5), [[1.0]])
    with pytest.raises(UsageError, match="One input"):
        moment_series(kd.MLP(1, [5], 1), [[1.0], [2.0]])


def test_a_silent_network_is_refused() -> None:
    with pytest.raises(DomainError, match="no signal is left"):
        moment_series(kd.MLP(1, [5, 5, 5], 1, "tanh", C_W=[1.0, 0.0, 1.0, 1.0]), [[1.0]])


def test_log_normal_is_the_limit_of_the_exact_products() -> None:
    r, n = 0.3, 200_000
    law = log_normal(r, 5.0)
    assert (1 + 5 / n) ** round(r * n) - 1 == pytest.approx(law.cumulants[1], rel=1e-3)
    s3 = 44.0  # third cumulant of relu(z)²/⟨relu(z)²⟩
    third = (1 + 15 / n + s3 / n**2) ** round(r * n) - 3 * (1 + 5 / n) ** round(r * n) + 2
    assert third == pytest.approx(law.cumulants[2], rel=1e-3)


def test_exponential_functional() -> None:
    law = exponential_functional(0.05, n_samples=40_000)
    assert law.stderr[0] < 1e-3
    # second order in r separates the law from its leading term
    assert abs(law.cumulants[0] - 0.9834) < 4 * law.stderr[0] + 5e-5
    one = exponential_functional(1.0, n_samples=100_000)
    assert abs(one.cumulants[0] - 0.7226) < 4 * one.stderr[0] + 0.002
    assert one.cumulants[0] > one.leading[0] + 10 * one.stderr[0]


@pytest.mark.parametrize("name", ["relu", "linear", "leaky_relu(0.3)"])
def test_scale_invariant_solution_is_the_recursion(name: str) -> None:
    point = kd.criticality(name)
    arch = kd.MLP(1, [9] * 5, 1, name, C_W=point.C_W, lambda_b=0.3, lambda_W=0.7)
    flow = kd.flow(arch, [[1.3 / math.sqrt(point.C_W)]], order=1)
    exact = scale_invariant_solution(name, 6, 1.3**2, 0.3, 0.7)
    for observable, values in exact.items():
        found = flow.require(observable).reshape(6, -1)[:, 0]
        assert found.tolist() == pytest.approx(values, rel=1e-11, abs=1e-12), observable


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tanh", "sin"])
def test_power_laws_of_the_recursion(name: str) -> None:
    near, far = compare_asymptotics(name, 48), compare_asymptotics(name, 128)
    for early, late in zip(near, far, strict=True):
        gap = abs(late.measured - late.coefficient)
        assert gap < 0.045 * abs(late.coefficient), late.ratio
        # the gap closes like ln ℓ/ℓ, so the agreement is no accident of one depth
        if late.exponent == 1:
            before = abs(early.measured - early.coefficient)
            assert gap < max(0.75 * before, 0.015 * abs(late.coefficient)), late.ratio


def test_no_power_laws_off_the_classes() -> None:
    with pytest.raises(UsageError, match="no universal power laws"):
        asymptotics("gelu")


def test_information_coefficients_by_integration() -> None:
    """Entropy and information of a Gaussian scale mixture, integrated numerically."""
    from scipy.special import gammaln, roots_hermitenorm

    v = 0.004
    # Ĝ log-normal with mean 1 and variance v
    x, w = roots_hermitenorm(40)
    spread = math.sqrt(math.log1p(v))
    G, w = np.exp(spread * x - spread**2 / 2), w / w.sum()
    assert float((w * (G - 1) ** 2).sum()) == pytest.approx(v, rel=1e-9)

    def radial_entropy(m: int) -> float:
        area = math.log(2) + 0.5 * m * math.log(math.pi) - gammaln(m / 2)

        def density(r: float) -> float:
            return float((w * (2 * math.pi * G) ** (-m / 2) * np.exp(-0.5 * r * r / G)).sum())

        def integrand(r: float) -> float:
            p = density(r)
            return -p * math.log(p) * math.exp(area) * r ** (m - 1) if p > 0 else 0.0

        return integrate.quad(integrand, 0, 14, epsabs=1e-13, epsrel=1e-12, limit=200)[0]

    exact = {m: radial_entropy(m) for m in (1, 2, 3)}
    loss = [exact[m] - 0.5 * m * math.log(2 * math.pi * math.e) for m in (1, 2)]
    assert loss == pytest.approx([entropy(m, 1, v) - entropy(m, 1, 0) for m in (1, 2)], rel=0.05)
    information = exact[1] + exact[2] - exact[3]
    assert information == pytest.approx(mutual_information(1, 2, v), rel=2e-3)


@pytest.mark.parametrize(
    ("name", "n_out", "expected"),
    [("relu", 1, 0.0348), ("linear", 10, 0.0400), ("tanh", 10, 0.1200), ("tanh", 1, 0.2609)],
)
def test_optimal_aspect_ratio(name: str, n_out: int, expected: float) -> None:
    assert optimal_aspect_ratio(name, n_out) == pytest.approx(expected, abs=5e-5)


def test_optimal_gamma_solves_its_equation() -> None:
    for name, nu in (("tanh", lambda g: 2 / 3 * (1 - g**4)),
                     ("linear", lambda g: (1 - g**2) * ((1 - g**2) * 2 + 4 * g**2))):  # fmt: skip
        gamma = optimal_gamma(name, 64, 40, 3)
        assert 0 < gamma < 1
        assert nu(gamma) * 40 / 64 == pytest.approx(4 / 29)
    assert optimal_gamma("tanh", 10_000, 2) == 0.0


def test_aspect_names_the_regime() -> None:
    def regime(width: int, depth: int) -> str:
        return aspect(kd.MLP(8, [width] * depth, 1, "relu", C_W=2.0)).regime

    assert regime(10_000, 2) == "kernel regime"
    assert regime(200, 8) == "effectively deep"
    assert regime(20, 30) == "chaotic"
    seen = aspect(kd.MLP(8, [100] * 10, 1, "relu", C_W=2.0))
    assert seen.v == pytest.approx(5 * 10 / 100)
    assert seen.width == math.ceil(5 * 10 * 23 / 4)
    # a skip of strength γ slows the growth of the vertex
    skip = aspect(kd.Residual(8, 100, 10, 1, "tanh", gamma=0.9, C_W=1 - 0.81))
    plain = aspect(kd.MLP(8, [100] * 11, 1, "tanh"))
    assert 0 < skip.v < plain.v
