"""Pauli words and observables on n qubits, as index permutations with phases."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.errors import UsageError

__all__ = ["Observable", "pauli_tables", "word_masks"]


def word_masks(word: str) -> tuple[int, int]:
    """Bit masks (x, z) of a Pauli word such as ``"XIZY"``; the first letter is wire 0.

    Wire 0 is the most significant bit of a basis state's index, as in PennyLane. Y counts in both.
    """
    x = z = 0
    for letter in word.upper():
        if letter not in "IXYZ":
            raise UsageError(f"{word!r} is no Pauli word.", "Use the letters I, X, Y and Z.")
        x, z = 2 * x + (letter in "XY"), 2 * z + (letter in "ZY")
    return x, z


def _parity(bits: Tensor) -> Tensor:
    for shift in (16, 8, 4, 2, 1):
        bits = bits ^ (bits >> shift)
    return bits & 1


def pauli_tables(x: Tensor, z: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """Action of Pauli words with masks x, z (W,): (P ψ)_i = phase_i ψ_(source_i).

    Returns ``source`` (W, 2ⁿ) int64 and ``phase`` (W, 2ⁿ) complex128.
    """
    i = torch.arange(2**n)[None, :]
    source = i ^ x[:, None]
    sign = 1.0 - 2.0 * _parity(source & z[:, None]).double()
    # X Z = −i Y: one factor i for each Y
    quarter = torch.stack([_parity((x & z) >> k & 1) for k in range(n)]).sum(0)
    return source, sign * (1j ** quarter.double()[:, None])


@dataclass(frozen=True)
class Observable:
    """A Hermitian operator on n qubits.

    Make one with :meth:`pauli`, :meth:`projector` or :meth:`matrix`.

    Attributes
    ----------
    n_qubits : int
    word : str or None
        If it is a Pauli word.
    dense : Tensor (N, N) or None
        Its matrix otherwise.
    """

    n_qubits: int
    word: str | None = None
    dense: Tensor | None = None

    @classmethod
    def pauli(cls, word: str) -> Observable:
        """A Pauli word, e.g. ``"ZZII"``."""
        word_masks(word)
        if not word or set(word.upper()) == {"I"}:
            raise UsageError(f"The observable {word!r} is constant.", "Name a traceless word.")
        return cls(len(word), word=word.upper())

    @classmethod
    def projector(cls, n_qubits: int) -> Observable:
        """|0…0⟩⟨0…0|."""
        dense = torch.zeros(2**n_qubits, 2**n_qubits, dtype=torch.complex128)
        dense[0, 0] = 1
        return cls(n_qubits, dense=dense)

    @classmethod
    def matrix(cls, O: Tensor) -> Observable:
        """Any Hermitian matrix (N, N), N a power of two."""
        N = len(O)
        if O.ndim != 2 or O.shape[0] != O.shape[1] or N < 2 or N & (N - 1):
            raise UsageError(f"An observable is a square matrix of side 2ⁿ, got {tuple(O.shape)}.")
        O = O.to(torch.complex128)
        if not torch.allclose(O, O.mH):
            raise UsageError("The observable is not Hermitian.")
        return cls(N.bit_length() - 1, dense=O)

    def apply(self, psi: Tensor) -> Tensor:
        """O ψ for states (..., N)."""
        if self.dense is not None:
            return psi @ self.dense.to(psi).mT
        assert self.word is not None
        x, z = word_masks(self.word)
        source, phase = pauli_tables(torch.tensor([x]), torch.tensor([z]), self.n_qubits)
        return phase[0].to(psi) * psi[..., source[0].to(psi.device)]

    def expectation(self, psi: Tensor) -> Tensor:
        """⟨ψ|O|ψ⟩, real, for states (..., N)."""
        return (psi.conj() * self.apply(psi)).sum(-1).real

    def variance(self, psi: Tensor) -> Tensor:
        """⟨O²⟩ − ⟨O⟩² of states (..., N)."""
        moved = self.apply(psi)
        return moved.abs().square().sum(-1) - self.expectation(psi) ** 2

    def traces(self) -> tuple[float, float, float, float]:
        """Tr O, Tr O², Tr O³, Tr O⁴."""
        if self.word is not None:
            return 0.0, float(2**self.n_qubits), 0.0, float(2**self.n_qubits)
        assert self.dense is not None
        spectrum = torch.linalg.eigvalsh(self.dense)
        return tuple(float((spectrum**k).sum()) for k in (1, 2, 3, 4))  # type: ignore[return-value]
