"""Criticality against the book's values, exact answers, and iterated recursions."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import kadanoff as kd
from kadanoff.activations import activation
from kadanoff.critical import critical_line, depth_scales, fixed_point, susceptibilities
from kadanoff.critical.susceptibility import square_mean, squared_slope
from kadanoff.errors import UsageError


@pytest.mark.parametrize(
    ("name", "C_W", "nu"),
    [
        ("linear", 1.0, 2.0),
        ("relu", 2.0, 5.0),
        ("leaky_relu(0.3)", 2 / 1.09, 6 * 1.0081 / 1.09**2 - 1),
        ("abs", 1.0, 2.0),
    ],
)
def test_scale_invariant(name: str, C_W: float, nu: float) -> None:
    point = kd.criticality(name)
    assert point.universality_class == "scale-invariant"
    assert (point.C_b, point.C_W, point.nu) == pytest.approx((0.0, C_W, nu), rel=1e-12)


@pytest.mark.parametrize(
    ("spec", "C_W", "a1", "b1"),
    [
        ("tanh", 1.0, -2.0, -2.0),
        ("sin", 1.0, -1.0, -1.0),
        ("erf", math.pi / 4, -2.0, -2.0),
        (torch.arctan, 1.0, -2.0, -2.0),
        (lambda z: z / torch.sqrt(1 + z * z), 1.0, -3.0, -3.0),
        (lambda z: torch.sin(z) + 0.5 * (1 - torch.cos(z)), 1.0, -0.8125, -0.75),
    ],
)
def test_fixed_point_zero(spec, C_W: float, a1: float, b1: float) -> None:
    point = kd.criticality(spec)
    assert point.universality_class == "K*=0"
    assert (point.C_b, point.K_star) == (0.0, 0.0)
    assert (point.C_W, point.a1, point.b1) == pytest.approx((C_W, a1, b1), rel=1e-9)
    assert point.p_K == 1
    assert point.p_perp == pytest.approx(b1 / a1, rel=1e-9)
    assert point.nu == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("name", "C_b", "C_W", "K_star"),
    [
        ("gelu", 0.17292239, 1.98305826, (3 + math.sqrt(17)) / 2),
        ("swish", 0.55514317, 1.98800468, 14.32017362),
        ("mish", 0.09452179, 2.01352407, 1.67016913),
    ],
)
def test_half_stable(name: str, C_b: float, C_W: float, K_star: float) -> None:
    point = kd.criticality(name)
    assert point.universality_class == "half-stable"
    assert (point.C_b, point.C_W, point.K_star) == pytest.approx((C_b, C_W, K_star), abs=6e-9)
    assert (point.chi_parallel, point.chi_perp) == pytest.approx((1, 1), abs=1e-9)


@pytest.mark.parametrize("name", ["sigmoid", "softplus", "monomial(2)", "monomial(3)", "cos"])
def test_no_critical_point(name: str) -> None:
    point = kd.criticality(name)
    assert not point.exists
    assert point.universality_class == "none"
    assert "no solution with C_b >= 0" in point.reason
    assert math.isnan(point.C_W)


@pytest.mark.parametrize("name", ["tanh", "elu", "selu", "softsign"])
def test_exponents_hold_for_the_iterated_recursion(name: str) -> None:
    """K ~ ℓ^(−p_K) and squared differences ~ ℓ^(−p_perp), read off the recursion itself."""
    act = activation(name if name != "softsign" else torch.nn.Softsign())
    point = kd.criticality(act)
    K, delta, seen = torch.tensor(0.5, dtype=torch.float64), 1.0, {}
    for layer in range(1, 1001):
        delta *= point.C_W * float(squared_slope(act, K))
        K = point.C_W * square_mean(act, K)
        if layer in (500, 1000):
            seen[layer] = (float(K), delta)
    slopes = [math.log2(seen[500][i] / seen[1000][i]) for i in (0, 1)]
    assert slopes == pytest.approx([point.p_K, point.p_perp], rel=0.03)


def test_elu_approaches_zero_like_the_inverse_square() -> None:
    """K ≈ 2π/ℓ²: the kink in σ'' of ELU changes the power."""
    K = torch.tensor(0.5, dtype=torch.float64)
    for _ in range(2000):
        K = square_mean(activation("elu"), K)
    assert float(K) * 2000**2 / (2 * math.pi) == pytest.approx(1, rel=0.01)


@pytest.mark.parametrize(
    ("C_W", "C_b", "K", "par", "xi_K", "perp", "c", "xi_c"),
    [
        (0.5, 0.05, 0.0875798652, 0.3711218758, 1.00885292, 0.4319873818, 1.0, 1.19138547),
        (1.5, 0.05, 0.4180372005, 0.5519832057, 1.68282839, 0.9386362682, 1.0, 15.79099403),
        (1.7, 0.05, 0.5330756279, 0.5263736830, 1.55825401, 0.9867408090, 1.0, 74.91827050),
        (1.8, 0.05, 0.5941321720, 0.5129337771, 1.49788379, 1.0082231444, 0.9504105464, 125.784094),
        (2.5, 0.05, 1.0639583774, 0.4284638509, 1.17987292, 1.1335156987, 0.4468042323, 11.7955975),
        (4.0, 0.05, 2.1954939280, 0.3181950994, 0.87329337, 1.3424024144, 0.1650649620, 6.98027353),
        (16.0, 0.09, 12.604149498, 0.1300821023, 0.490294745, 2.36726104, 0.0296959216, 3.639351),
        (2.25, 0.0, 0.7933540426, 0.5046777602, 1.46234074, 1.1393232250, 0.0, 17.04820280),
    ],
)  # fmt: skip
def test_depth_scales_of_tanh(C_W, C_b, K, par, xi_K, perp, c, xi_c) -> None:
    s = depth_scales("tanh", C_b, C_W)
    found = (s.K_star, s.chi_parallel, s.xi_magnitude, s.chi_perp, s.c_star)
    assert found == pytest.approx((K, par, xi_K, perp, c), rel=1e-8, abs=1e-9)
    assert s.xi_angle == pytest.approx(xi_c, rel=1e-6)
    assert s.phase == ("ordered" if perp < 1 else "chaotic")


def test_the_critical_line_of_tanh() -> None:
    K = [0.0457090787, 0.1072923561, 0.5700478816, 1.1644962875, 3.0363963946, 4.8305861914]
    expected = [
        (1.0860262925, 0.0001),
        (1.1891895852, 0.001),
        (1.7609546396, 0.05),
        (2.2851524737, 0.2),
        (3.4432109123, 1.0),
        (4.2663961061, 2.0),
    ]
    assert np.allclose(critical_line("tanh", K), expected, rtol=1e-8, atol=1e-9)
    assert np.allclose(critical_line("relu"), [[2.0, 0.0]])


def test_phase_diagram_separates_the_phases() -> None:
    done = []
    diagram = kd.phase_diagram(
        "tanh", [0.8, 1.2, 2.0], [0.0, 0.3], progress=lambda i, n: done.append((i, n))
    )
    assert diagram.chi_perp.shape == (2, 3)
    assert (diagram.chi_perp[:, 0] < 1).all()
    assert (diagram.chi_perp[:, 2] > 1).all()
    assert done[-1] == (6, 6)
    assert diagram.figure().axes


def test_fixed_points_of_dying_and_exploding_nets() -> None:
    assert fixed_point("tanh", 0.0, 0.5) == 0.0
    assert fixed_point("relu", 0.0, 3.0) == math.inf
    assert fixed_point("relu", 0.1, 1.0) == pytest.approx(0.2)
    assert depth_scales("tanh", 0.0, 1 / 3).chi_perp == pytest.approx(1 / 3, rel=1e-6)
    with pytest.raises(UsageError, match="C_W must be finite"):
        depth_scales("tanh", 0.0, -1.0)
    with pytest.raises(UsageError, match="gamma"):
        kd.criticality("tanh", gamma=1.0)


@pytest.mark.parametrize("name", ["tanh", "gelu", "relu", "swish"])
def test_susceptibilities_are_slopes(name: str) -> None:
    """χ∥ against a difference quotient of the variance map."""
    act, h = activation(name), 1e-4
    for K in (0.3, 2.0, 20.0):
        slope = float(square_mean(act, K * (1 + h)) - square_mean(act, K * (1 - h))) / (2 * h * K)
        assert float(susceptibilities(act, K, 1.7)[0]) == pytest.approx(1.7 * slope, rel=1e-6)


def test_a_skip_connection_rescales_criticality() -> None:
    point = kd.criticality("tanh", gamma=0.5**0.5)
    assert pytest.approx(0.5) == point.C_W
    assert point.nu == pytest.approx((2 / 3) * 0.75)


# the rest of the reference tables: boundary, its inverse, depth scales, slopes, companions


def test_the_whole_critical_line_of_tanh() -> None:
    table = {
        0.2733009135: (1.4242052905, 0.01),
        0.3712403235: (1.5441928403, 0.02),
        0.8057991819: (1.9860726411, 0.1),
        1.4611694469: (2.5051271897, 0.3),
        1.9710306134: (2.8431674597, 0.5),
    }
    assert np.allclose(critical_line("tanh", list(table)), list(table.values()), rtol=1e-8)


@pytest.mark.parametrize(
    ("C_W", "C_b"),
    [
        (1.5, 0.0158178774),
        (1.75, 0.0480782708),
        (2.0, 0.1037798052),
        (2.5, 0.2974037839),
        (3.0, 0.6124977479),
        (4.0, 1.6359572439),
    ],
)
def test_points_on_the_line_are_critical(C_W: float, C_b: float) -> None:
    assert depth_scales("tanh", C_b, C_W).chi_perp == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(
    ("C_W", "C_b", "K", "par", "xi_K", "perp", "c", "xi_c"),
    [
        (1.0, 0.05, 0.1935925202, 0.5642799820, 1.74762624, 0.7590316472, 1, 3.62697562),
        (1.3, 0.05, 0.3153164775, 0.5711234846, 1.78523663, 0.8801635099, 1, 7.83406927),
        (2.0, 0.05, 0.7217618727, 0.4865217440, 1.38797575, 1.0476659996, 0.7440824195, 25.213415),
        (3.0, 0.05, 1.4280084622, 0.3828201966, 1.04146070, 1.2089344241, 0.2993176418, 9.0514557),
        (1.69, 0.09, 0.6070467919, 0.4735158699, 1.33766764, 0.9398074287, 1, 16.10817274),
        (6.25, 0.09, 4.0791238753, 0.2339220456, 0.688341460, 1.585224765, 0.1221037473, 5.1089190),
    ],
)
def test_more_depth_scales_of_tanh(C_W, C_b, K, par, xi_K, perp, c, xi_c) -> None:
    s = depth_scales("tanh", C_b, C_W)
    found = (s.K_star, s.chi_parallel, s.chi_perp, s.c_star)
    assert found == pytest.approx((K, par, perp, c), rel=2e-9, abs=2e-10)
    assert (s.xi_magnitude, s.xi_angle) == pytest.approx((xi_K, xi_c), rel=2e-7)


def test_the_angle_scale_diverges_with_exponent_one() -> None:
    """ξ_c |σ_w² − σ_w,c²| → 4.690 on both sides of the line at σ_b² = 0.05."""
    critical = 1.7609546396
    below = depth_scales("tanh", 0.05, critical - 1e-3).xi_angle * 1e-3
    above = depth_scales("tanh", 0.05, critical + 1e-3).xi_angle * 1e-3
    assert sorted((below, above)) == pytest.approx([4.6888, 4.6965], abs=2e-4)


@pytest.mark.parametrize(
    ("name", "a1", "b1"),
    [("gelu", -1.43e-4, 9.33e-3), ("swish", 2.9e-6, 1.73e-3), ("mish", 7.9e-3, None)],
)
def test_slopes_at_half_stable_points(name: str, a1: float, b1: float | None) -> None:
    point = kd.criticality(name)
    assert point.a1 == pytest.approx(a1, rel=0.05)
    if b1 is not None:
        assert point.b1 == pytest.approx(b1, rel=0.02)


@pytest.mark.parametrize(
    ("name", "K", "parallel"), [("gelu", 3.03498, 0.999906), ("swish", 14.59310, 0.9999992)]
)
def test_companion_fixed_points(name: str, K: float, parallel: float) -> None:
    """Beside each half-stable point of GELU and SWISH lies a stable one, a little off."""
    point, act = kd.criticality(name), activation(name)
    after = point.C_b + point.C_W * float(square_mean(act, K))
    assert after == pytest.approx(K, rel=1e-7)
    assert float(susceptibilities(act, K, point.C_W)[0]) == pytest.approx(parallel, abs=6e-7)


def test_angles_between_relu_inputs_close_like_one_over_depth() -> None:
    """ψ ℓ → 3π although χ⊥ = 1: two inputs merge as a power of depth."""
    act = activation("relu")
    b = torch.tensor(0.2, dtype=torch.float64)
    one = torch.ones((), dtype=torch.float64)
    for _ in range(10_000):
        b = 2 * act.closed(0, 0, one, b, one)
    assert math.acos(float(b)) * 1e4 / (3 * math.pi) == pytest.approx(0.998, abs=0.001)
