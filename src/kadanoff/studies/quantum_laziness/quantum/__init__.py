"""Variational quantum circuits beside the classical theory: kernel, laziness, plateaus, noise.

Liu, Lin & Jiang, "Laziness, barren plateau, and noises in machine learning" (2022). A batched
simulator on torch carries the averages; the circuits are also PennyLane programs (extra
``quantum``).

``circuits``     Variational circuits U(θ) = W_L e^{iθ_L X_L} ⋯ W_1 e^{iθ_1 X_1} W_0
``kernel``       The quantum neural tangent kernel of a circuit, its second-order companion
``observables``  Pauli words and observables on n qubits, as index permutations with phases
``pennylane``    The same circuits as PennyLane programs
``theory``       Closed forms of random variational circuits: gradients, kernel, fluctuations
``training``     Gradient descent on circuits, without noise and with noisy angles or finite shots
"""

from kadanoff.studies.quantum_laziness.quantum import theory
from kadanoff.studies.quantum_laziness.quantum.circuits import (
    CONVENTIONS,
    Circuit,
    haar_circuits,
    haar_unitary,
    hardware_efficient,
)
from kadanoff.studies.quantum_laziness.quantum.kernel import (
    GradientStatistics,
    KernelEstimate,
    dqntk,
    gradient_statistics,
    qntk,
)
from kadanoff.studies.quantum_laziness.quantum.observables import Observable
from kadanoff.studies.quantum_laziness.quantum.pennylane import qnode
from kadanoff.studies.quantum_laziness.quantum.theory import Predictions, predictions
from kadanoff.studies.quantum_laziness.quantum.training import Descent, descend

__all__ = [
    "CONVENTIONS",
    "Circuit",
    "Descent",
    "GradientStatistics",
    "KernelEstimate",
    "Observable",
    "Predictions",
    "descend",
    "dqntk",
    "gradient_statistics",
    "haar_circuits",
    "haar_unitary",
    "hardware_efficient",
    "predictions",
    "qnode",
    "qntk",
    "theory",
]
