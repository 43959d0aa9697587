r"""Variational circuits U(θ) = W_L e^{iθ_L X_L} ⋯ W_1 e^{iθ_1 X_1} W_0, simulated in batches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kadanoff.errors import UsageError
from kadanoff.studies.quantum_laziness.quantum.observables import Observable, pauli_tables

__all__ = ["CONVENTIONS", "Circuit", "haar_circuits", "haar_unitary", "hardware_efficient"]

# angle of the generator e^{iθX} per unit of the parameter
CONVENTIONS = {"generator": 1.0, "half-angle": -0.5}


@dataclass(frozen=True)
class Circuit:
    r"""A batch of S circuits of one shape, for parameters θ of shape (B, L), S = 1 or S = B.

    Attributes
    ----------
    n_qubits : int
    x, z : int64 Tensor (S, L)
        Bit masks of the Pauli words X_ℓ (see :func:`word_masks`).
    between : tuple of L Tensor or None
        W_ℓ after gate ℓ: nothing, a diagonal (N,), or unitaries (S, N, N).
    initial : Tensor (S, N) or (N,)
        W_0 |0⟩, complex.
    convention : {"generator", "half-angle"}
        How θ turns: e^{iθX}, the paper's, or e^{−iθX/2}, as RX, RY and RZ of PennyLane and Qiskit.
        Derivatives then carry −½, and the kernel ¼.
    layout : str
        ``"hardware-efficient"`` circuits can be written as PennyLane circuits.
    """

    n_qubits: int
    x: Tensor
    z: Tensor
    between: tuple[Tensor | None, ...]
    initial: Tensor
    convention: str = "generator"
    layout: str = "general"

    def __post_init__(self) -> None:
        if self.convention not in CONVENTIONS:
            raise UsageError(
                f"Unknown convention {self.convention!r}.", f"Choose from {list(CONVENTIONS)}."
            )
        if self.x.shape != self.z.shape or len(self.between) != self.x.shape[-1]:
            raise UsageError(
                f"{tuple(self.x.shape)} generators and {len(self.between)} fixed gates: "
                "each of the L generators needs one."
            )

    @property
    def n_parameters(self) -> int:
        return self.x.shape[-1]

    @property
    def count(self) -> int:
        return self.x.shape[0]

    def with_convention(self, convention: str) -> Circuit:
        """The same gates with the other meaning of θ."""
        return replace(self, convention=convention)

    def with_state(self, psi: Tensor) -> Circuit:
        """The same gates on another initial state (N,) or (S, N): another input."""
        return replace(self, initial=psi)

    def one(self, index: int) -> Circuit:
        """Circuit ``index`` of the batch alone."""
        pick = slice(index, index + 1)
        between = tuple(W[pick] if W is not None and W.ndim == 3 else W for W in self.between)
        initial = self.initial[pick] if self.initial.ndim == 2 else self.initial
        return replace(self, x=self.x[pick], z=self.z[pick], between=between, initial=initial)

    def angles(self, count: int, generator: torch.Generator) -> Tensor:
        """θ uniform over the whole period, shape (count, L), float64."""
        period = math.pi / abs(CONVENTIONS[self.convention])
        shape = (count, self.n_parameters)
        return 2 * period * torch.rand(shape, generator=generator, dtype=torch.float64)

    def state(self, theta: Tensor) -> Tensor:
        """U(θ)|0⟩, shape (B, N); differentiable."""
        gates = self._gates(theta)
        psi = self._start(theta)
        for gate, W in zip(gates, self.between):
            psi = _rotate(psi, *gate)
            psi = _fixed(psi, W)
        return psi

    def expectation(self, theta: Tensor, observable: Observable) -> Tensor:
        """z(θ) = ⟨O⟩, shape (B,); differentiable by autograd (memory B·L·N)."""
        self._check(theta, observable)
        return observable.expectation(self.state(theta))

    def gradient(self, theta: Tensor, observable: Observable) -> tuple[Tensor, Tensor, Tensor]:
        """z (B,), ∂z/∂θ (B, L) and the output state (B, N), by the adjoint method.

        One sweep forward and one back, without stored states.
        """
        self._check(theta, observable)
        with torch.no_grad():
            gates = self._gates(theta)
            psi = self._start(theta)
            for gate, W in zip(gates, self.between):
                psi = _fixed(_rotate(psi, *gate), W)
            final = psi
            costate = observable.apply(psi)
            z = (psi.conj() * costate).sum(-1).real
            out = torch.empty_like(theta)
            turn = CONVENTIONS[self.convention]
            pair = torch.stack((psi, costate))
            for k in reversed(range(len(gates))):
                pair = _undo(pair, self.between[k])
                cosine, sine, source, phase = gates[k]
                moved = _word(pair[0], source, phase)
                # dψ/dθ = i·turn·X ψ, hence dz/dθ = 2 Re⟨λ| i·turn·X ψ⟩
                out[:, k] = -2 * turn * (pair[1].conj() * moved).sum(-1).imag
                # undone: the last factor −i sin θ X, both vectors at once
                other = torch.stack((moved, _word(pair[1], source, phase)))
                pair = cosine * pair - sine * other
        return z, out, final

    def _start(self, theta: Tensor) -> Tensor:
        dtype = torch.complex64 if theta.dtype == torch.float32 else torch.complex128
        initial = self.initial.to(dtype=dtype, device=theta.device)
        return initial.expand(len(theta), 2**self.n_qubits)

    def _gates(self, theta: Tensor) -> list[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """cos, i sin, source and phase of every gate."""
        angle = CONVENTIONS[self.convention] * theta
        dtype = torch.complex64 if theta.dtype == torch.float32 else torch.complex128
        cosine, sine = angle.cos().to(dtype), 1j * angle.sin().to(dtype)
        words = torch.stack((self.x, self.z)).flatten(1)
        unique, where = torch.unique(words, dim=1, return_inverse=True)
        source, phase = pauli_tables(unique[0], unique[1], self.n_qubits)
        source, phase = source.to(theta.device), phase.to(theta.device, dtype)
        # one column of (S,) table rows a gate
        columns = where.view(self.x.shape).mT.contiguous().to(theta.device)
        return [
            (c, s, source[rows], phase[rows])
            for c, s, rows in zip(cosine.mT[..., None], sine.mT[..., None], columns)
        ]

    def _check(self, theta: Tensor, observable: Observable) -> None:
        if theta.ndim != 2 or theta.shape[1] != self.n_parameters:
            raise UsageError(
                f"theta has shape {tuple(theta.shape)}; this circuit takes (B, "
                f"{self.n_parameters})."
            )
        if self.count not in (1, len(theta)):
            raise UsageError(
                f"{len(theta)} rows of theta for {self.count} circuits.",
                "Give one row for each circuit, or one circuit for all.",
            )
        if observable.n_qubits != self.n_qubits:
            raise UsageError(
                f"The observable acts on {observable.n_qubits} qubits, the circuit on "
                f"{self.n_qubits}."
            )


def _word(psi: Tensor, source: Tensor, phase: Tensor) -> Tensor:
    if source.shape[0] == 1:
        return phase * psi[..., source[0]]
    return phase * torch.gather(psi, -1, source)


def _rotate(psi: Tensor, cosine: Tensor, sine: Tensor, source: Tensor, phase: Tensor) -> Tensor:
    return cosine * psi + sine * _word(psi, source, phase)


def _fixed(psi: Tensor, W: Tensor | None) -> Tensor:
    if W is None:
        return psi
    W = W.to(psi)
    return W * psi if W.ndim == 1 else (W @ psi[..., None])[..., 0]


def _undo(psi: Tensor, W: Tensor | None) -> Tensor:
    return _fixed(psi, None if W is None else (W.conj() if W.ndim == 1 else W.mH))


def hardware_efficient(
    n_qubits: int,
    depth: int,
    *,
    count: int = 1,
    seed: int = 0,
    convention: str = "generator",
) -> Circuit:
    """The random hardware-efficient circuits of McClean et al. (2018).

    RY(π/4) on every qubit, then ``depth`` layers of one rotation a qubit about a random axis X, Y
    or Z and a ladder of CZ gates between neighbours: L = n·depth parameters.

    Parameters
    ----------
    count : int
        Circuits drawn, each with its own axes.
    """
    if n_qubits < 1 or depth < 1:
        raise UsageError(f"A circuit needs qubits and layers, got {n_qubits} and {depth}.")
    generator = torch.Generator().manual_seed(seed)
    axes = torch.randint(3, (count, depth, n_qubits), generator=generator)
    bit = 2 ** torch.arange(n_qubits - 1, -1, -1)
    x = ((axes < 2) * bit).flatten(1)  # X and Y
    z = ((axes > 0) * bit).flatten(1)  # Y and Z
    i = torch.arange(2**n_qubits)
    both = sum(((i >> k) & (i >> (k + 1)) & 1) for k in range(n_qubits - 1))
    ladder = 1.0 - 2.0 * (torch.as_tensor(both) % 2) * torch.ones(2**n_qubits)
    between: list[Tensor | None] = [None] * (n_qubits * depth)
    if n_qubits > 1:
        between[n_qubits - 1 :: n_qubits] = [ladder.to(torch.complex128)] * depth
    tilt = torch.tensor([math.cos(math.pi / 8), math.sin(math.pi / 8)], dtype=torch.complex128)
    initial = tilt
    for _ in range(n_qubits - 1):
        initial = torch.kron(initial, tilt)
    return Circuit(n_qubits, x, z, tuple(between), initial, convention, "hardware-efficient")


def haar_unitary(count: int, N: int, generator: torch.Generator) -> Tensor:
    """``count`` unitary matrices of side N from the invariant measure, complex128."""
    shape = (count, N, N)
    G = torch.complex(
        torch.randn(shape, generator=generator, dtype=torch.float64),
        torch.randn(shape, generator=generator, dtype=torch.float64),
    )
    Q, R = torch.linalg.qr(G)
    diagonal = torch.diagonal(R, dim1=-2, dim2=-1)
    # QR fixes the phases by convention; this makes them uniform
    return Q * (diagonal / diagonal.abs())[:, None, :]


def haar_circuits(
    n_qubits: int,
    n_parameters: int,
    *,
    count: int = 1,
    seed: int = 0,
    word: str | Sequence[str] | None = None,
    convention: str = "generator",
) -> Circuit:
    """Circuits with a fresh Haar unitary between any two gates: 2-designs exactly.

    Parameters
    ----------
    word : str or sequence of L str, optional
        Generators; Z on the first qubit by default.
    """
    N = 2**n_qubits
    words = word or "Z" + "I" * (n_qubits - 1)
    listed = [words] * n_parameters if isinstance(words, str) else list(words)
    from kadanoff.studies.quantum_laziness.quantum.observables import word_masks

    masks = torch.tensor([word_masks(w) for w in listed])
    if len(listed) != n_parameters or any(len(w) != n_qubits for w in listed):
        raise UsageError(f"Give one word of {n_qubits} letters, or {n_parameters} of them.")
    generator = torch.Generator().manual_seed(seed)
    between = tuple(haar_unitary(count, N, generator) for _ in range(n_parameters))
    initial = haar_unitary(count, N, generator)[:, :, 0]
    x = masks[:, 0].expand(count, -1)
    z = masks[:, 1].expand(count, -1)
    return Circuit(n_qubits, x, z, between, initial, convention)
