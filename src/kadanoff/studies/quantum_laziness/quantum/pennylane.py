"""The same circuits as PennyLane programs, for its devices and differentiation methods."""

from __future__ import annotations

import math
from typing import Any

from kadanoff.errors import UsageError, require_extra
from kadanoff.studies.quantum_laziness.quantum.circuits import CONVENTIONS, Circuit
from kadanoff.studies.quantum_laziness.quantum.observables import Observable

__all__ = ["qnode"]


def qnode(
    circuit: Circuit,
    observable: Observable,
    device: str = "lightning.qubit",
    diff_method: str = "adjoint",
    interface: str = "torch",
    shots: int | None = None,
) -> Any:
    """A PennyLane QNode θ (L,) ↦ ⟨O⟩ of one hardware-efficient circuit.

    Gates are RX, RY and RZ (e^{−iφP/2}) and CZ. A circuit in the ``"generator"`` convention is
    run with φ = −2θ: derivatives with respect to θ are the generator's.

    Parameters
    ----------
    circuit : Circuit
        From :func:`hardware_efficient`, one circuit (``circuit.one(k)``).
    observable : Observable
    device, diff_method, interface
        As PennyLane takes them.
    shots : int, optional
        Sampled instead of exact; needs ``diff_method="parameter-shift"``.

    Raises
    ------
    MissingExtraError
        Without the packages of the extra ``quantum``.
    """
    qml = require_extra("pennylane", "quantum")
    if device.startswith("lightning"):
        require_extra("pennylane_lightning", "quantum")
    if circuit.layout != "hardware-efficient" or circuit.count != 1:
        raise UsageError(
            f"{circuit.count} circuit(s) of layout {circuit.layout!r} have no PennyLane form here.",
            "Pass hardware_efficient(...).one(k).",
        )
    n = circuit.n_qubits
    gates = [_gate(qml, int(x), int(z), n) for x, z in zip(circuit.x[0], circuit.z[0])]
    factor = -2 * CONVENTIONS[circuit.convention]

    def program(theta: Any) -> Any:
        for wire in range(n):
            qml.RY(math.pi / 4, wires=wire)
        for k, (gate, wire) in enumerate(gates):
            gate(factor * theta[k], wires=wire)
            if wire == n - 1:
                for left in range(n - 1):
                    qml.CZ(wires=[left, left + 1])
        return qml.expval(_observable(qml, observable))

    made = qml.QNode(
        program, qml.device(device, wires=n), interface=interface, diff_method=diff_method
    )
    return made if shots is None else qml.set_shots(made, shots)


def _gate(qml: Any, x: int, z: int, n: int) -> tuple[Any, int]:
    wire = n - 1 - (max(x, z).bit_length() - 1)
    return (qml.RY if x and z else qml.RX if x else qml.RZ), wire


def _observable(qml: Any, observable: Observable) -> Any:
    if observable.word is not None:
        return qml.pauli.string_to_pauli_word(observable.word)
    assert observable.dense is not None
    return qml.Hermitian(observable.dense.numpy(), wires=range(observable.n_qubits))
