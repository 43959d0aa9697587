"""Closed forms against ensembles of random circuits, z-scores with errors that mean something."""

from __future__ import annotations

import math

import pytest
import torch

from kadanoff.errors import DomainError, UsageError
from kadanoff.studies.quantum_laziness.quantum import (
    Observable,
    descend,
    gradient_statistics,
    haar_circuits,
    haar_unitary,
    hardware_efficient,
    predictions,
    theory,
)


def observable(name: str, n: int) -> Observable:
    if name == "projector":
        return Observable.projector(n)
    if name == "word":
        return Observable.pauli("ZX"[: min(n, 2)] + "I" * max(0, n - 2))
    # neither traceless nor of two levels
    spectrum = torch.linspace(-0.4, 1.0, 2**n, dtype=torch.float64) ** 3
    return Observable.matrix(torch.diag(spectrum).to(torch.complex128))


def z(measured: float, error: float, predicted: float) -> float:
    return abs(measured - predicted) / error


@pytest.mark.parametrize("name", ["word", "projector", "spectrum"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_gradient_kernel_and_its_spread_for_two_designs(n: int, name: str) -> None:
    O, L = observable(name, n), 12
    found = gradient_statistics(
        lambda count, seed: haar_circuits(n, L, count=count, seed=seed),
        O,
        4000,
        seed=n,
        block=1000,
    )
    mean, std = theory.qntk_mean(O, L), theory.qntk_std(O, L)
    assert found.kernel.stderr < 0.02 * mean
    assert z(found.kernel.value, found.kernel.stderr, mean) < 4
    assert found.kernel_std.stderr < 0.03 * std
    assert z(found.kernel_std.value, found.kernel_std.stderr, std) < 4
    each = theory.gradient_variance(O)
    for part in (found.first, found.middle, found.last):
        assert z(part.value, part.stderr, each) < 4
    assert z(found.gradient_mean.value, found.gradient_mean.stderr, 0.0) < 4


def test_the_kernel_does_not_concentrate_with_gates_alone() -> None:
    O = observable("word", 2)
    wide = theory.qntk_std(O, 10**9) / theory.qntk_mean(O, 10**9)
    # spread of 1 − z² with (1 + z)/2 ~ Beta(2, 2): E z² = 1/5, E z⁴ = 3/35
    expected = math.sqrt(3 / 35 - 1 / 25) / (1 - 1 / 5)
    assert wide == pytest.approx(expected, rel=1e-6)
    found = gradient_statistics(
        lambda count, seed: haar_circuits(2, 200, count=count, seed=seed), O, 800, seed=5, block=200
    )
    measured = found.kernel_std.value / found.kernel.value
    error = found.kernel_std.stderr / found.kernel.value
    exact = theory.qntk_std(O, 200) / theory.qntk_mean(O, 200)
    leading = theory.qntk_std_leading(O, 200) / theory.qntk_mean(O, 200)
    assert z(measured, error, exact) < 4
    assert measured - leading > 10 * error


def test_large_n_limits_are_the_papers() -> None:
    for name in ("word", "projector"):
        O, L = observable(name, 9), 50
        N, t2 = 2**9, O.traces()[1]
        large = 2 * L * t2 / N**2
        assert theory.qntk_mean(O, L) == pytest.approx(large, rel=0.01)
    O = observable("word", 9)
    assert theory.qntk_std(O, 50) == pytest.approx(theory.qntk_std_leading(O, 50), rel=0.01)


@pytest.mark.parametrize("name", ["word", "projector", "spectrum"])
def test_moments_over_haar_states(name: str) -> None:
    O = observable(name, 2)
    psi = haar_unitary(40_000, 4, torch.Generator().manual_seed(1))[:, :, 0]
    value = O.expectation(psi)
    square = O.variance(psi) + value**2
    for powers, sample in (
        ((1, 1), value**2),
        ((2, 1, 1), square * value**2),
        ((2, 2), square**2),
        ((1, 1, 1, 1), value**4),
    ):
        predicted = theory.haar_moment(powers, O.traces(), 4)
        error = float(sample.std()) / 200
        # a Pauli word's square is one: no spread there at all
        assert abs(float(sample.mean()) - predicted) < 4 * error + 1e-12
        assert error < 0.03 * predicted
    assert theory.value_variance(O) == pytest.approx(
        theory.haar_moment((1, 1), O.traces(), 4) - (O.traces()[0] / 4) ** 2
    )


def test_the_conventions_scale_the_forms() -> None:
    O = observable("word", 3)
    for form, power in (
        (theory.qntk_mean, 1),
        (theory.qntk_std, 1),
        (theory.qntk_std_leading, 1),
        (theory.state_conditioned_rate, 1),
        (theory.dqntk_std, 2),
    ):
        assert form(O, 7, "half-angle") * 4**power == pytest.approx(form(O, 7))


def test_kernel_follows_the_output_state() -> None:
    # given φ, E K = c Var_φ(O): regression through circuits that end in different states
    O, L = observable("word", 2), 30
    circuit = haar_circuits(2, L, count=3000, seed=8)
    theta = circuit.angles(3000, torch.Generator().manual_seed(0))
    _, g, state = circuit.gradient(theta, O)
    K, spread = g.square().sum(1), O.variance(state)
    c = theory.state_conditioned_rate(O, L)
    for low, high in ((0.0, 0.5), (0.5, 0.9), (0.9, 1.01)):
        inside = (spread >= low) & (spread < high)
        excess = K[inside] - c * spread[inside]
        error = float(excess.std()) / math.sqrt(int(inside.sum()))
        assert error < 0.05 * c
        assert abs(float(excess.mean())) < 4 * error


def test_first_step_and_frozen_law() -> None:
    O = Observable.pauli("ZZII")
    circuit = hardware_efficient(4, 40, seed=1)
    theta = circuit.angles(8, torch.Generator().manual_seed(0))
    K0 = circuit.gradient(theta, O)[1].square().sum(1)
    run = descend(circuit, theta, O, 0.0, eta=0.02 / K0, steps=3)
    for t in (1, 3):
        predicted = torch.stack(
            [
                torch.tensor(theory.frozen_law(0.02 / float(k), float(k), float(e), t))
                for k, e in zip(K0, run.epsilon[0])
            ]
        )
        # next order: ½η²ε²μ of a step, and K moving with it
        assert torch.allclose(run.epsilon[t].float(), predicted, rtol=0.004 * t)
    lazy = 0.02 / K0 * run.epsilon[0].abs() * (K0 / 160).sqrt()
    assert torch.allclose(run.first_move, lazy, rtol=1e-9)


def test_angle_noise_plateau() -> None:
    O = Observable.pauli("ZZI")
    circuit = hardware_efficient(3, 20, seed=2)
    theta = circuit.angles(200, torch.Generator().manual_seed(1))
    eta, sigma = 0.4 / theory.qntk_mean(O, 60), 1e-3
    run = descend(circuit, theta, O, 0.2, eta=eta, steps=70, sigma=sigma, seed=5)
    late = run.epsilon[40:].square().mean(0) / 2
    # each start has its own kernel
    K = run.K[40:].mean(0)
    ratio = late / torch.tensor([theory.noise_plateau(eta, float(k), sigma) for k in K])
    error = float(ratio.std()) / math.sqrt(len(ratio))
    assert error < 0.03
    assert abs(float(ratio.mean()) - 1) < 4 * error


def test_shot_noise_plateau() -> None:
    O = Observable.pauli("ZZI")
    circuit = hardware_efficient(3, 20, seed=2)
    theta = circuit.angles(200, torch.Generator().manual_seed(1))
    eta, shots = 0.4 / theory.qntk_mean(O, 60), 4000
    run = descend(circuit, theta, O, 0.2, eta=eta, steps=70, shots=shots, seed=5)
    late = run.epsilon[40:].square().mean(0) / 2
    K = run.K[40:].mean(0)
    expected = [theory.shot_plateau(eta, float(k), shots, 1 - 0.2**2) for k in K]
    ratio = late / torch.tensor(expected)
    error = float(ratio.std()) / math.sqrt(len(ratio))
    assert error < 0.03
    assert abs(float(ratio.mean()) - 1) < 4 * error


def test_three_regimes_of_the_state_conditioned_law() -> None:
    inside = theory.state_conditioned_law(0.01, 10.0, 0.0, 0.5, 400)
    edge = theory.state_conditioned_law(0.01, 10.0, -1.0, 0.5, 4000)
    outside = theory.state_conditioned_law(0.01, 10.0, -1.3, 0.5, 4000)
    assert inside[-1] / inside[-2] == pytest.approx(1 - 0.1, abs=1e-6)
    # dε/dt = −2ηc ε² at the edge, ε ≈ 1/(2ηc t)
    assert edge[-1] * 2 * 0.1 * 4000 == pytest.approx(1.0, rel=0.03)
    assert outside[-1] == pytest.approx(0.3, abs=1e-6)


def test_noise_law_and_its_time() -> None:
    eta, K, sigma, e0 = 0.05, 4.0, 1e-2, 0.7
    x = e0**2
    for _ in range(30):
        x = (1 - eta * K) ** 2 * x + K * sigma**2
    assert theory.noise_law(eta, K, sigma, e0, 30) == pytest.approx(x)
    t = theory.noise_time(eta, K, sigma, e0)
    decay = (1 - eta * K) ** (2 * t) * e0**2
    assert decay == pytest.approx(2 * theory.noise_plateau(eta, K, sigma))


def test_predictions_and_their_domain() -> None:
    O = Observable.pauli("ZZII")
    L = round(theory.parameters_needed(O, 0.1))
    told = predictions(O, L, 0.1, epsilon0=0.5, sigma=1e-3)
    assert told.eta_K == pytest.approx(1.0, rel=0.01)
    assert told.move == pytest.approx(0.1 * 0.5 * math.sqrt(theory.gradient_variance(O)))
    assert told.plateau == pytest.approx(told.K * 1e-6 / 2, rel=0.01)
    with pytest.raises(DomainError, match="below"):
        predictions(O, 3 * L, 0.1)
    with pytest.raises(UsageError, match="no error"):
        gradient_statistics(lambda n, s: haar_circuits(2, 2, count=n, seed=s), O, 1)
