"""The simulator against dense matrices, three ways to a gradient, and PennyLane."""

from __future__ import annotations

import math
import sys
from functools import reduce

import pytest
import torch

from kadanoff.errors import MissingExtraError, UsageError
from kadanoff.studies.quantum_laziness.quantum import (
    Circuit,
    Observable,
    descend,
    dqntk,
    haar_circuits,
    haar_unitary,
    hardware_efficient,
    qnode,
    qntk,
)
from kadanoff.studies.quantum_laziness.quantum.observables import pauli_tables, word_masks
from tests.needs import needs

PAULI = {
    "I": torch.eye(2, dtype=torch.complex128),
    "X": torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128),
    "Y": torch.tensor([[0, -1j], [1j, 0]], dtype=torch.complex128),
    "Z": torch.tensor([[1, 0], [0, -1]], dtype=torch.complex128),
}


def dense(word: str) -> torch.Tensor:
    return reduce(torch.kron, [PAULI[letter] for letter in word])


def draw(circuit: Circuit, count: int, seed: int = 0) -> torch.Tensor:
    return circuit.angles(count, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("word", ["X", "Y", "Z", "YI", "XY", "ZYX", "YYIY"])
def test_pauli_words_are_their_matrices(word: str) -> None:
    psi = torch.randn(3, 2 ** len(word), dtype=torch.complex128)
    x, z = word_masks(word)
    source, phase = pauli_tables(torch.tensor([x]), torch.tensor([z]), len(word))
    assert torch.allclose(phase[0] * psi[:, source[0]], psi @ dense(word).mT, atol=1e-14)
    O, M = Observable.pauli(word), Observable.matrix(dense(word))
    assert torch.allclose(O.apply(psi), M.apply(psi))
    assert torch.allclose(O.variance(psi), M.variance(psi))
    assert O.traces() == pytest.approx(M.traces(), abs=1e-12)


@pytest.mark.parametrize("convention", ["generator", "half-angle"])
def test_a_circuit_is_the_product_of_its_gates(convention: str) -> None:
    words = ["XI", "ZY", "IZ"]
    circuit = haar_circuits(2, 3, count=4, seed=1, word=words, convention=convention)
    theta = draw(circuit, 4)
    angle = theta if convention == "generator" else -theta / 2
    for b in range(4):
        psi = circuit.initial[b]
        for k, word in enumerate(words):
            gate = torch.linalg.matrix_exp(1j * angle[b, k] * dense(word))
            W = circuit.between[k]
            assert W is not None
            psi = W[b] @ gate @ psi
        assert torch.allclose(circuit.state(theta)[b], psi, atol=1e-12)


@pytest.mark.parametrize("convention", ["generator", "half-angle"])
def test_three_gradients_agree(convention: str) -> None:
    O = Observable.pauli("ZXI")
    for circuit in (
        hardware_efficient(3, 3, count=5, seed=2, convention=convention),
        haar_circuits(
            3, 4, count=5, seed=2, word=["XYZ", "ZII", "IYI", "XXX"], convention=convention
        ),
    ):
        theta = draw(circuit, 5)
        z, adjoint, state = circuit.gradient(theta, O)
        assert torch.allclose(O.expectation(state), z)
        leaf = theta.clone().requires_grad_()
        value = circuit.expectation(leaf, O)
        (auto,) = torch.autograd.grad(value.sum(), leaf)
        assert torch.allclose(z, value, atol=1e-13)
        assert torch.allclose(adjoint, auto, atol=1e-12)
        # parameter shift: exact, since z is a sinusoid of one frequency in each angle
        shift, weight = (math.pi / 4, 1.0) if convention == "generator" else (math.pi / 2, 0.5)
        for k in range(circuit.n_parameters):
            step = torch.zeros_like(theta)
            step[:, k] = shift
            up, down = circuit.expectation(theta + step, O), circuit.expectation(theta - step, O)
            assert torch.allclose(adjoint[:, k], weight * (up - down), atol=1e-12)


def test_single_precision_follows() -> None:
    circuit, O = hardware_efficient(5, 10, count=3, seed=1), Observable.pauli("ZZIII")
    theta = draw(circuit, 3)
    z, g, _ = circuit.gradient(theta, O)
    z32, g32, _ = circuit.gradient(theta.float(), O)
    assert z32.dtype == torch.float32
    assert torch.allclose(z32.double(), z, atol=1e-5)
    assert torch.allclose(g32.double(), g, atol=1e-5)


def test_the_rotation_convention_is_a_factor_four() -> None:
    circuit, O = hardware_efficient(3, 5, seed=3), Observable.pauli("ZZI")
    theta = draw(circuit, 4)
    rotations = circuit.with_convention("half-angle")
    assert torch.allclose(rotations.state(-2 * theta), circuit.state(theta), atol=1e-13)
    ratio = qntk(rotations, -2 * theta, O) / qntk(circuit, theta, O)
    assert torch.allclose(ratio, torch.full_like(ratio, 0.25), rtol=1e-12)
    # μ carries four derivatives
    ratio = dqntk(rotations, -2 * theta, O) / dqntk(circuit, theta, O)
    assert torch.allclose(ratio, torch.full_like(ratio, 1 / 16), rtol=1e-9)


def test_kernel_of_several_data_and_outputs() -> None:
    circuit = hardware_efficient(2, 4, seed=5)
    theta = draw(circuit, 3)
    outputs = [Observable.pauli("ZI"), Observable.pauli("XX")]
    generator = torch.Generator().manual_seed(0)
    data = haar_unitary(3, 4, generator)[:, :, 0]
    K = qntk(circuit, theta, outputs, data)
    assert K.shape == (3, 6, 6)

    def values(t: torch.Tensor) -> torch.Tensor:
        rows = [circuit.with_state(s).expectation(t[None], O)[0] for s in data for O in outputs]
        return torch.stack(rows)

    J = torch.stack([torch.autograd.functional.jacobian(values, t) for t in theta])
    assert torch.allclose(K, J @ J.mT, atol=1e-12)
    assert torch.allclose(
        qntk(circuit, theta, outputs[0]), qntk(circuit, theta, outputs[:1])[:, 0, 0]
    )


def test_dqntk_is_the_second_order_of_a_step() -> None:
    circuit, O = hardware_efficient(3, 4, count=4, seed=6), Observable.pauli("ZIZ")
    theta = draw(circuit, 4)
    z, g, _ = circuit.gradient(theta, O)
    mu = dqntk(circuit, theta, O)
    hessian = torch.stack(
        [
            torch.autograd.functional.hessian(
                lambda t, k=k: circuit.one(k).expectation(t[None], O)[0], theta[k]
            )
            for k in range(4)
        ]
    )
    assert torch.allclose(mu, torch.einsum("bi,bij,bj->b", g, hessian, g), atol=1e-10)
    eps = z - 0.3
    for eta in (1e-3, 2e-3):
        after = circuit.expectation(theta - eta * eps[:, None] * g, O) - 0.3
        second = eps - eta * g.square().sum(1) * eps + eta**2 * eps**2 * mu / 2
        assert float((after - second).abs().max()) < 300 * eta**3


def test_haar_unitaries_have_their_moments() -> None:
    U = haar_unitary(20_000, 3, torch.Generator().manual_seed(0))
    assert torch.allclose(U @ U.mH, torch.eye(3, dtype=U.dtype).expand_as(U), atol=1e-12)
    n = len(U)
    assert float(U.mean(0).abs().max()) < 5 / math.sqrt(3 * n)
    # E|U|⁴ = 2/(N(N+1)); the diagonal tells a missing phase correction: E U_ii² = 0
    fourth = U[:, 0, 0].abs() ** 4
    assert abs(float(fourth.mean()) - 1 / 6) < 4 * float(fourth.std()) / math.sqrt(n)
    assert float((U[:, 2, 2] ** 2).mean().abs()) < 5 / math.sqrt(6 * n)


def test_angle_and_shot_noise_are_unbiased() -> None:
    circuit, O = hardware_efficient(2, 3, seed=1), Observable.pauli("ZZ")
    theta = draw(circuit, 1).expand(4000, -1)
    run = descend(circuit, theta, O, 0.0, eta=1e-9, steps=1, sigma=0.02, seed=3)
    moved = run.theta - theta
    assert abs(float(moved.std()) / 0.02 - 1) < 4 / math.sqrt(2 * moved.numel())
    assert abs(float(moved.mean())) < 4 * 0.02 / math.sqrt(moved.numel())
    eta, shots = 1e-3, 100
    run = descend(circuit, theta, O, 0.0, eta=eta, steps=1, shots=shots, seed=3)
    _, g, _ = circuit.gradient(theta[:1], O)
    k = int(g.abs().argmax())
    seen = -(run.theta - theta)[:, k] / (eta * g[0, k])
    z = float(run.epsilon[0, 0])
    expected = math.sqrt((1 - z**2) / shots)
    assert abs(float(seen.mean()) - z) < 4 * expected / math.sqrt(4000)
    assert float(seen.std()) == pytest.approx(expected, rel=4 / math.sqrt(2 * 4000))


def test_what_is_wrong_is_said() -> None:
    circuit = hardware_efficient(2, 2, count=3)
    O = Observable.pauli("ZI")
    with pytest.raises(UsageError, match=r"\(B, 4\)"):
        circuit.gradient(torch.zeros(3, 5), O)
    with pytest.raises(UsageError, match="2 rows of theta for 3 circuits"):
        circuit.gradient(torch.zeros(2, 4), O)
    with pytest.raises(UsageError, match="acts on 3 qubits"):
        circuit.gradient(torch.zeros(3, 4), Observable.pauli("ZII"))
    with pytest.raises(UsageError, match="'full'"):
        hardware_efficient(2, 2, convention="full")
    with pytest.raises(UsageError, match="not Hermitian"):
        Observable.matrix(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
    with pytest.raises(UsageError, match="constant"):
        Observable.pauli("II")


def test_general_circuits_have_no_pennylane_form() -> None:
    needs("pennylane", "quantum")
    needs("pennylane_lightning", "quantum")
    with pytest.raises(UsageError, match="no PennyLane form"):
        qnode(haar_circuits(2, 3), Observable.pauli("ZI"))
    with pytest.raises(UsageError, match="3 circuit"):
        qnode(hardware_efficient(2, 3, count=3), Observable.pauli("ZI"))


def test_absent_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pennylane", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*pennylane"):
        qnode(hardware_efficient(2, 2), Observable.pauli("ZI"))


@pytest.mark.parametrize("convention", ["generator", "half-angle"])
@pytest.mark.parametrize("device", ["lightning.qubit", "default.qubit"])
def test_pennylane_runs_the_same_circuits(device: str, convention: str) -> None:
    needs("pennylane", "quantum")
    needs("pennylane_lightning", "quantum")
    circuits = hardware_efficient(4, 3, count=2, seed=4, convention=convention)
    theta = draw(circuits, 2)
    method = "adjoint" if device.startswith("lightning") else "backprop"
    for O in (Observable.pauli("ZZII"), Observable.pauli("IXYI"), Observable.projector(4)):
        if O.word is None and method == "adjoint":
            continue
        z, g, _ = circuits.gradient(theta, O)
        for k in range(2):
            leaf = theta[k].clone().requires_grad_()
            value = qnode(circuits.one(k), O, device, method)(leaf)
            value.backward()
            assert leaf.grad is not None
            # lightning passes angles on in single precision
            tolerance = 1e-6 if method == "adjoint" else 1e-12
            assert float(value.detach()) == pytest.approx(float(z[k]), abs=tolerance)
            assert torch.allclose(leaf.grad, g[k], atol=tolerance)


def test_a_rotation_of_pennylane_has_a_quarter_of_the_kernel() -> None:
    qml = needs("pennylane", "quantum")

    @qml.qnode(qml.device("default.qubit", wires=1), interface="torch", diff_method="backprop")
    def program(phi):
        qml.RX(phi, wires=0)
        return qml.expval(qml.PauliZ(0))

    phi = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    program(phi).backward()
    assert phi.grad is not None
    one = Circuit(
        1,
        torch.tensor([[1]]),
        torch.tensor([[0]]),
        (None,),
        torch.tensor([1.0, 0.0], dtype=torch.complex128),
    )
    O = Observable.pauli("Z")
    K = float(qntk(one, torch.tensor([[-0.35]], dtype=torch.float64), O))
    assert float(phi.grad) ** 2 == pytest.approx(K / 4, rel=1e-12)
    angle = torch.tensor([[0.7]], dtype=torch.float64)
    half = float(qntk(one.with_convention("half-angle"), angle, O))
    assert float(phi.grad) ** 2 == pytest.approx(half, rel=1e-12)
