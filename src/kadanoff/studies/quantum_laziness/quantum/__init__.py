"""Variational quantum circuits beside the classical theory: kernel, laziness, plateaus, noise.

Liu, Lin & Jiang, "Laziness, barren plateau, and noises in machine learning" (2022). A batched
simulator on torch carries the averages; the circuits are also PennyLane programs (extra
``quantum``).
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
    Estimate,
    GradientStatistics,
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
    "Estimate",
    "GradientStatistics",
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
