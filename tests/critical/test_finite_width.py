"""Depth scales at finite width: reference values, exact chains, and the law of real networks."""

from __future__ import annotations

import math

import pytest
import torch

from kadanoff.activations import activation
from kadanoff.architecture import MLP
from kadanoff.critical import depth_scales, finite_width_scales
from kadanoff.critical.modes import correlation_mode
from kadanoff.errors import AnalysisError, UsageError
from kadanoff.rgflow.single import exact_chain
from kadanoff.studies.edge_of_chaos.chaos import tangent_growth

EDGE = 1.7609546396


@pytest.mark.parametrize(
    ("C_W", "parallel", "perp", "typical"),
    [
        (1.5, 0.25777, 0.23346, -1.45965),
        (EDGE, 0.33896, 0.31849, -1.67835),
        (2.5, 0.34432, 0.40512, -2.36086),
    ],
)
def test_reference_coefficients_of_tanh(C_W, parallel, perp, typical) -> None:
    s = finite_width_scales("tanh", 0.05, C_W)
    # the third number is that of n (exp Λ − χ⊥)
    assert (s.parallel, s.perp, s.typical * s.chi_perp) == pytest.approx(
        (parallel, perp, typical), abs=6e-6
    )


@pytest.mark.parametrize(
    ("C_W", "rate", "shift"),
    [(2.5, 0.91871677, 1.477067), (3.0, 0.89540472, 1.115826), (4.0, 0.86652800, 0.885334)],
)
def test_reference_shifts_at_the_stable_correlation(C_W, rate, shift) -> None:
    s = finite_width_scales("tanh", 0.05, C_W)
    assert s.chi_angle == pytest.approx(rate, abs=6e-9)
    assert s.angle == pytest.approx(shift, abs=1e-6)
    assert s.xi_angle() == pytest.approx(depth_scales("tanh", 0.05, C_W).xi_angle, rel=1e-6)


def test_corrected_length_and_edge() -> None:
    s = finite_width_scales("tanh", 0.05, 2.5)
    assert (s.xi_angle(), s.xi_angle(50)) == pytest.approx((11.8, 18.8), abs=0.05)
    edge = finite_width_scales("tanh", 0.05, EDGE)
    assert edge.slope == pytest.approx(0.2133, abs=2e-4)
    assert edge.edge_shift(50) == pytest.approx(-0.030, abs=5e-4)
    assert edge.edge_shift(50, typical=True) == pytest.approx(0.157, abs=1e-3)
    # the slope is a derivative: check it as one
    h = 1e-4
    up, down = (depth_scales("tanh", 0.05, EDGE + sign * h).chi_perp for sign in (1, -1))
    assert edge.slope == pytest.approx((up - down) / (2 * h), rel=1e-6)


@pytest.mark.parametrize(
    ("V", "K1", "C_W"),
    [(0.3022696739, -0.2194636137, EDGE), (0.7661136632, -0.2592152982, 2.5)],
)
def test_fixed_points_of_the_fluctuations(V, K1, C_W) -> None:
    s = finite_width_scales("tanh", 0.05, C_W)
    assert (s.V_star, s.K1_star) == pytest.approx((V, K1), rel=1e-8)


@pytest.mark.parametrize("name", ["tanh", "erf"])
def test_two_inputs_agree_with_the_closed_form_in_the_ordered_phase(name: str) -> None:
    """The perturbation theory of two inputs at c = 1 is that of the tangent."""
    s = finite_width_scales(name, 0.05, 1.4)
    rate, shift = correlation_mode(activation(name), 1.4, s.K_star, 1.0)
    assert (rate, shift) == pytest.approx((s.chi_perp, s.perp), rel=1e-6)


def test_relu_has_no_annealed_shift_and_the_known_typical_one() -> None:
    """E|δz|² of ReLU is exact at any width; ln|δz|² falls by ν/2 = 5/2 over n a layer."""
    s = finite_width_scales("relu", 0.05, 1.5)
    assert (s.parallel, s.perp) == pytest.approx((0.0, 0.0), abs=1e-12)
    assert s.typical == pytest.approx(-2.5, rel=1e-12)


@pytest.mark.parametrize(("C_W", "n"), [(1.5, 40), (2.5, 80)])
def test_magnitudes_relax_as_predicted_in_the_exact_chain(C_W: float, n: int) -> None:
    """λ∥(n) from the mean of Ĝ between deep layers of the exact transition operator."""
    s = finite_width_scales("tanh", 0.05, C_W)
    arch = MLP(1, [n] * 13, 1, "tanh", C_b=0.05, C_W=C_W)
    x = torch.full((1, 1), math.sqrt(1.3 * s.K_star / C_W))
    kappa = exact_chain(arch, x, grid=1024, nodes=80).cumulants[:, 0]
    steps = kappa[1:] - kappa[:-1]
    rate = (steps[-1] / steps[-4]) ** (1 / 3)
    assert n * (rate - s.chi_parallel) == pytest.approx(s.parallel, abs=1.2 / n)


@pytest.mark.parametrize(
    ("name", "C_b", "C_W", "n", "next_order"),
    [("tanh", 0.05, 1.5, 60, 3), ("gelu", 0.1, 1.3, 120, 15)],
)
def test_nearby_inputs_separate_as_predicted(name, C_b, C_W, n, next_order) -> None:
    """Both averages, against networks sampled from their exact law.

    Measured at n = 60 and 240, the 1/n² coefficients are below 3 for tanh and about 13 for GELU.
    """
    first, s = 8, finite_width_scales(name, C_b, C_W)
    growth = tangent_growth(name, C_b, C_W, n, first + 8, 16_000, seed=3)
    value, error = growth.annealed(first)
    assert n * error < 0.2
    assert abs(n * (value - s.chi_perp) - s.perp) < 4 * n * error + next_order / n
    value, error = growth.typical(first)
    assert n * error < 0.1
    assert abs(n * (value - math.log(s.chi_perp)) - s.typical) < 4 * n * error + next_order / n


def test_where_nothing_can_be_expanded() -> None:
    with pytest.raises(AnalysisError, match="dies"):
        finite_width_scales("tanh", 0.0, 0.9)
    with pytest.raises(AnalysisError, match="explodes"):
        finite_width_scales("relu", 0.1, 2.5)
    with pytest.raises(AnalysisError, match="no isolated fixed point"):
        finite_width_scales("relu", 0.0, 2.0)
    with pytest.raises(AnalysisError, match="kink"):
        correlation_mode(activation("relu"), 1.5, 1.0, 1.0)
    with pytest.raises(UsageError, match="ordered phase"):
        finite_width_scales("tanh", 0.05, 2.5).xi_angle(50, typical=True)
