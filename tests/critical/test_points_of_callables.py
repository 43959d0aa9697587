"""The critical point of fifty callables against their own susceptibilities and iterated vertex."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import kadanoff as kd
from kadanoff.activations import activation
from kadanoff.critical.susceptibility import slope_of_variance, square_mean, squared_slope
from kadanoff.gaussian import one


def bent(seed: int):
    """A function with σ(0) = 0 and other slopes, curvatures and kinks left and right of zero."""
    rng = np.random.default_rng(seed)
    left, right = rng.uniform(0.3, 1.5, 2)
    scale = 10 ** rng.uniform(-1, 1)
    curve = (0.0, float(rng.uniform(-0.3, 0.3)))[seed % 2]
    # equal products s q on both sides: then the approach is analytic in K (s = 1)
    pull = (left * curve / right, curve)

    def sigma(z: Tensor) -> Tensor:
        u = z / scale
        below = left * torch.tanh(u + pull[1] * u**2 * torch.exp(-(u**2)))
        above = right * torch.tanh(u + pull[0] * left / right * u**2 * torch.exp(-(u**2)))
        return torch.where(u > 0, above, below)

    return sigma


def test_a_kink_at_zero_has_its_own_exponents() -> None:
    """tanh + 0.3 ReLU: a1 = b1 = −2·1.15/1.345, ν = (3 A₄/A₂² − 1)/3."""
    point = kd.criticality(lambda z: torch.tanh(z) + 0.3 * torch.relu(z))
    A2, A4 = (1 + 1.3**2) / 2, (1 + 1.3**4) / 2
    assert float(point.C_W * A2) == pytest.approx(1, rel=1e-12)
    assert point.a1 == pytest.approx(-2.3 / A2, rel=1e-9)
    assert point.b1 == pytest.approx(-2.3 / A2, rel=1e-9)
    assert point.nu == pytest.approx((3 * A4 / A2**2 - 1) / 3, rel=1e-12)


@pytest.mark.parametrize("seed", range(50))
def test_fifty_callables_against_their_own_susceptibilities(seed: int) -> None:
    act = activation(bent(seed))
    point = kd.criticality(act)
    assert point.universality_class == "K*=0"
    if math.isnan(point.a1):
        # s₊q₊ ≠ s₋q₋: K ~ ℓ⁻², seen in 1 − K'/K ∝ √K
        K = torch.tensor([1e-6, 4e-6], dtype=torch.float64) / abs(point.C_W)
        loss = one(lambda z: z * z - point.C_W * act(z) ** 2, K, act.kinks).value / K
        assert float(loss[1] / loss[0]) == pytest.approx(2, rel=0.02)
        return
    # (χ − 1)/K at two kernels, extrapolated to K = 0
    K = torch.tensor([1e-6, 4e-6], dtype=torch.float64) / abs(point.a1)
    for chi, expected in (
        (point.C_W * slope_of_variance(act, K), 2 * point.a1),
        (point.C_W * squared_slope(act, K), point.b1),
    ):
        slope = (chi - 1) / K
        # the next term is of relative order √K
        limit = 2 * slope[0] - slope[1]
        assert float(limit) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(
    "spec",
    [
        "tanh",
        "elu",
        "selu",
        "softsign",
        lambda z: torch.tanh(z) + 0.3 * torch.relu(z),
        lambda z: torch.relu(torch.tanh(z)),
        lambda z: torch.where(z > 0, torch.tanh(z), 0.3 * torch.sin(z)),
        lambda z: z - z**3 / 50,
    ],
)
def test_the_vertex_grows_by_nu_a_layer(spec) -> None:
    """V' = χ∥² V + C_W² (⟨σ⁴⟩ − ⟨σ²⟩²), iterated: V/K² against ν ℓ."""
    act = activation(spec)
    point = kd.criticality(act)
    K = torch.tensor(0.5, dtype=torch.float64)
    V, seen = torch.zeros(()).double(), {}
    for layer in range(1, 401):
        m2 = square_mean(act, K)
        m4 = one(lambda z: act(z) ** 4, K, act.kinks).value
        chi = point.C_W * slope_of_variance(act, K)
        V = chi**2 * V + point.C_W**2 * (m4 - m2**2)
        K = point.C_W * m2
        if layer in (200, 400):
            seen[layer] = float(V / K**2)
    # the slope over an octave of depth: corrections fall like ln ℓ/ℓ
    slope = (seen[400] - seen[200]) / 200
    assert slope == pytest.approx(point.nu, rel=0.04)


def test_half_stable_slopes_have_no_step_in_them() -> None:
    """a1 and b1 of swish, GELU and mish against a fine difference of their susceptibilities."""
    for name in ("swish", "gelu", "mish"):
        act, point = activation(name), kd.criticality(name)
        h = 1e-3 * point.K_star
        K = point.K_star + torch.tensor([-2 * h, -h, h, 2 * h], dtype=torch.float64)
        stencil = torch.tensor([1.0, -8.0, 8.0, -1.0], dtype=torch.float64) / (12 * h)
        a1 = 0.5 * float(stencil @ (point.C_W * slope_of_variance(act, K)))
        b1 = float(stencil @ (point.C_W * squared_slope(act, K)))
        assert point.a1 == pytest.approx(a1, rel=1e-5)
        assert point.b1 == pytest.approx(b1, rel=1e-7)
        assert point.p_perp == pytest.approx(b1 / a1, rel=1e-5)
        assert 0 < point.a1_error < 1e-8 * abs(point.a1)


def test_every_fixed_point_is_reported() -> None:
    point = kd.criticality(lambda z: z - z**3 / 50)
    assert point.K_star == 0
    assert [round(other.K_star, 8) for other in point.others] == [round(50 / 3, 8)]
    assert point.others[0].C_b > 0


def test_straight_around_zero_says_so() -> None:
    for spec in ("hard_tanh", nn.ReLU6()):
        point = kd.criticality(spec)
        assert point.universality_class == "K*=0"
        assert "slower than any power" in point.reason


def test_a_line_of_critical_points() -> None:
    """Soft-threshold functions have χ∥ = χ⊥ at every K."""
    point = kd.criticality(nn.Softshrink(0.5))
    assert point.exists
    assert "every K" in point.reason
    assert (point.chi_parallel, point.chi_perp) == pytest.approx((1, 1), abs=1e-12)


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ("sign", "jumps at z = 0"),
        (nn.Hardshrink(0.3), "jumps at z"),
        (torch.expm1, "no solution"),
        (lambda z: z + z**3, "no solution"),
    ],
)
def test_none_has_a_reason(spec, why: str) -> None:
    point = kd.criticality(spec)
    assert not point.exists
    assert why in point.reason


def test_an_average_beyond_reach_is_refused() -> None:
    """⟨e^{2z}⟩ at K = 142 is e^284, all of it beyond 23 standard deviations."""
    with pytest.raises(kd.errors.ConvergenceError, match="beyond 12 standard deviations"):
        one(lambda z: torch.exp(2 * z), 142.0)
