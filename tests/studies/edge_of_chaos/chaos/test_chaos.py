"""Recurrent networks: mean field, loops, simulation, and depths that train."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kadanoff.activations import activation
from kadanoff.critical import critical_line
from kadanoff.data import load
from kadanoff.errors import AnalysisError, ConvergenceError, DomainError, UsageError
from kadanoff.gaussian import pair
from kadanoff.studies.edge_of_chaos.chaos import (
    LinearNetwork,
    mean_field,
    simulate_recurrent,
    static_state,
    tangent_growth,
    trace_power,
    trace_power_montecarlo,
    train_across,
)
from kadanoff.studies.edge_of_chaos.chaos.recurrent import dual


@pytest.mark.parametrize(
    ("g", "C_0", "E_0", "lyapunov"),
    [
        (1.5, 0.747686, -0.095679, 0.046747),
        (2.0, 1.924805, -0.237564, 0.112459),
        (3.0, 5.446326, -0.526365, 0.235462),
    ],
)
def test_reference_states_of_tanh(g, C_0, E_0, lyapunov) -> None:
    state = mean_field("tanh", g * g)
    assert (state.C_0, state.E_0, state.lyapunov) == pytest.approx((C_0, E_0, lyapunov), rel=3e-5)
    assert not state.static


def test_near_the_edge() -> None:
    """The coarser value known at g = 1.2, and λ → (g − 1)²/2 from below as g → 1."""
    state = mean_field("tanh", 1.44)
    variance, ground = state.C_0 / 0.242629, state.E_0 / -0.023989
    assert variance == pytest.approx(1, rel=3e-6)
    assert ground == pytest.approx(1, rel=5e-4)
    ratios = [mean_field("tanh", g * g).lyapunov / (0.5 * (g - 1) ** 2) for g in (1.1, 1.02)]
    assert ratios[0] < ratios[1] < 1
    assert ratios[1] == pytest.approx(1, abs=0.1)


def test_the_motion_obeys_its_equation() -> None:
    """C'' = γ²C − C_W⟨σσ⟩ − C_b on the solution, with biases and noise."""
    act = activation("tanh")
    for C_b, D in ((0.0, 0.0), (0.1, 0.3)):
        state = mean_field(act, 4.0, C_b, D=D)
        h, at = state.tau[1], slice(100, 4000, 300)
        second = np.gradient(np.gradient(state.C, h), h)[at]
        force = state.C[at] - 4.0 * dual(act, state.C_0, state.C[at]) - C_b
        assert np.abs(second - force).max() < 2e-5
        slope = (-3 * state.C[0] + 4 * state.C[1] - state.C[2]) / (2 * h)
        assert slope == pytest.approx(-D / 2, abs=1e-5)


def test_phase_boundary_of_recurrent_and_feedforward_networks_is_one_line() -> None:
    C_W, C_b = critical_line("tanh", [0.5700478816])[0]
    assert mean_field("tanh", C_W * 0.98, C_b).lyapunov < 0
    assert mean_field("tanh", C_W * 0.98, C_b).static
    assert static_state("tanh", C_W, C_b)[1] == pytest.approx(0, abs=1e-8)
    with pytest.raises(ConvergenceError, match="too near the edge"):
        mean_field("tanh", C_W * (1 + 1e-7), C_b)
    above = mean_field("tanh", C_W * 1.05, C_b)
    assert above.lyapunov > 0
    assert 0 < above.C_inf < above.C_0


def test_linear_network_with_noise_is_solved_exactly() -> None:
    state = mean_field("linear", 0.5, D=1.0)
    m = LinearNetwork(0.5).mass
    assert 2 * m * state.C_0 == pytest.approx(1, rel=1e-9)
    assert state.lyapunov == pytest.approx(math.sqrt(0.5) - 1, rel=1e-9)
    assert np.allclose(state.C, np.exp(-m * state.tau) / (2 * m), atol=1e-8)


@pytest.mark.parametrize("k", [0, 1])
def test_dual_is_the_average_over_pairs(k: int) -> None:
    C = np.array([0.0, 0.3, 1.2, 1.7])
    expected = pair(activation("tanh"), 1.7, torch.from_numpy(C), 1.7, k, k).value.numpy()
    assert np.allclose(dual(activation("tanh"), 1.7, C, k), expected, rtol=1e-9)


def test_simulated_networks_approach_the_mean_field() -> None:
    """Variance, autocorrelation and exponent of drawn networks of two sizes.

    The variance has no visible 1/N term; the exponent is suppressed by one, and is extrapolated.
    """
    state, found = mean_field("tanh", 9.0), {}
    for N, networks in ((100, 32), (200, 16)):
        found[N] = simulate_recurrent(
            "tanh", 9.0, N=N, n_networks=networks, time=60, warm_up=20, dt=0.1, seed=1
        )
        value, error = found[N].mean("variance")
        assert error < 0.04 * state.C_0
        assert abs(value - state.C_0) < 4 * error
    (low, e_low), (high, e_high) = (found[N].mean("lyapunov") for N in (100, 200))
    error = math.hypot(2 * e_high, e_low)
    assert error < 0.15 * state.lyapunov
    assert low < high < state.lyapunov
    assert abs(2 * high - low - state.lyapunov) < 4 * error
    # the shape of the decay, relative to the variance of the same run
    run = found[200]
    at = np.searchsorted(run.tau, 2.0)
    ratio = run.C[at] / run.C[0]
    expected = np.interp(run.tau[at], state.tau, state.C) / state.C_0
    error = ratio.std(ddof=1) / math.sqrt(len(ratio))
    assert error < 0.03
    assert abs(ratio.mean() - expected) < 4 * error


def test_loops_of_the_linear_network() -> None:
    network = LinearNetwork(0.16)
    omega, N = np.array([0.0, 0.25, 0.5, 1.0, 2.0]), 50
    expected = [0.540, 0.380, 0.147, -0.0075, -0.0083]
    loop = N * (network.correlator(omega, N) - network.correlator(omega))
    assert loop == pytest.approx(expected, abs=6e-4)
    value, error = network.montecarlo(omega, N, 1500, seed=2)
    assert (N * error < [0.06, 0.05, 0.03, 0.01, 0.003]).all()
    # the order 1/N² is a few per cent of the loop
    assert (np.abs(value - network.correlator(omega, N)) < 4 * error + 0.06 * abs(loop) / N).all()
    assert LinearNetwork(0.36).correlator(0.0, 1) - LinearNetwork(0.36).correlator(
        0.0
    ) == pytest.approx(2.747, abs=1e-3)
    assert network.correlation_time() == pytest.approx(1 / network.mass)
    assert network.correlation_time(50) < network.correlation_time()


def test_response_of_drawn_networks() -> None:
    network, N, g = LinearNetwork(0.36), 12, torch.Generator().manual_seed(0)
    W = torch.randn(20_000, N, N, generator=g, dtype=torch.float64) * math.sqrt(0.36 / N)
    z = torch.tensor(1 + 1j, dtype=torch.complex128)
    trace = torch.linalg.inv(z * torch.eye(N) - W).diagonal(dim1=1, dim2=2).mean(1)
    error = trace.std() / math.sqrt(len(trace))
    loop = abs(network.response(1.0, N) - network.response(1.0))
    assert abs(complex(trace.mean()) - complex(network.response(1.0, N))) < 4 * error + 0.1 * loop
    assert error < 0.1 * loop


def test_traces_of_powers() -> None:
    pairs = [(2, 0), (4, 0), (3, 1), (4, 2), (2, 2), (2, 1)]
    assert [40 * trace_power(*p, 1.0, 40) for p in pairs] == pytest.approx([1, 1, 2, 3, 40, 0])
    value, error = trace_power_montecarlo(pairs[:4], 1.0, 40, 3000)
    expected = np.array([trace_power(*p, 1.0, 40) for p in pairs[:4]])
    assert (40 * error < [0.04, 0.06, 0.07, 0.12]).all()
    # the order 1/N² lies within 8 % at N = 40
    assert (np.abs(value - expected) < 4 * error + 0.08 * expected).all()


def test_depth_that_trains_ends_with_the_correlation_length() -> None:
    """A deep net trains near the edge and not far below it, where 6 ξ_c is less than its depth."""
    data = load("digits")
    X, y = data.inputs[:256], data.targets[:256]
    result = train_across(
        "tanh", X, y, [0.8, 1.76], 0.05, 30, width=32, rates=(0.01, 0.03), steps=120, seed=1
    )
    assert result.accuracy.shape == (2, 2, 1)
    assert result.best[0] < 0.25
    assert result.best[1] > 0.7


def test_wrong_calls() -> None:
    with pytest.raises(AnalysisError, match="without bound"):
        mean_field("relu", 4.0, 0.1)
    with pytest.raises(UsageError, match="gamma"):
        mean_field("tanh", 1.0, gamma=0.0)
    with pytest.raises(DomainError, match="edge"):
        LinearNetwork(1.5)
    with pytest.raises(AnalysisError, match="dies"):
        tangent_growth("tanh", 0.0, 0.5, 10, 3)
    with pytest.raises(UsageError, match="Layers"):
        tangent_growth("tanh", 0.1, 1.0, 10, 3, 64).typical(3, 3)
    with pytest.raises(UsageError, match="dt"):
        simulate_recurrent("tanh", 1.0, dt=2.0)
    with pytest.raises(UsageError, match="depth"):
        train_across("tanh", torch.ones(4, 2), torch.zeros(4), [1.0], 0.0, 1)


@pytest.mark.gpu
def test_on_the_gpu() -> None:
    """The same laws from another generator: means within their errors."""
    for device in ("cpu", "cuda"):
        growth = tangent_growth("tanh", 0.05, 1.5, 40, 12, 6400, device=device)
        value, error = growth.typical(6)
        assert abs(value - (math.log(0.9386) - 1.555 / 40)) < 4 * error + 3 / 40**2
    run = simulate_recurrent("tanh", 9.0, N=200, n_networks=16, time=60, dt=0.1, device="cuda")
    value, error = run.mean("variance")
    assert abs(value - mean_field("tanh", 9.0).C_0) < 4 * error
    X, y = torch.randn(64, 5), torch.arange(64) % 2
    assert train_across("tanh", X, y, [1.5], 0.05, 4, steps=5, device="cuda").best.shape == (1, 1)
