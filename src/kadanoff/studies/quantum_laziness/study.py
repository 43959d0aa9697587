"""The study as the registry finds it."""

from __future__ import annotations

from kadanoff.studies.quantum_laziness.claims import CLAIMS
from kadanoff.studies.quantum_laziness.page import run
from kadanoff.studies.study import Study

__all__ = ["STUDY"]

STUDY = Study(
    name="quantum-laziness",
    title="Laziness, barren plateaus and noise",
    paper="liu2022laziness",
    summary="Random variational quantum circuits move each angle exponentially little and still "
    "train exponentially fast. Kernel, fluctuation, dynamics, targets and noise are measured "
    "against closed forms, in a batched simulator and in PennyLane.",
    extra="quantum",
    modules=("pennylane", "pennylane_lightning"),
    lead="Liu, Lin and Jiang say that random quantum circuits move each angle exponentially "
    "little and train exponentially fast all the same, so that laziness is not a barren "
    "plateau. Both are found. Their formulas for fluctuations hold at leading order for "
    "Pauli words and fail for projectors, where all gates share one output state; the "
    "second-order kernel fluctuates more than the formula says, by a factor of 1.3 at "
    "six qubits; and at the edge of the spectrum the error falls a little less fast "
    "than 1/t.",
    lead_figure="training.svg",
    claims=CLAIMS,
    run=run,
)
