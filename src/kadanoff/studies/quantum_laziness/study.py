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
    claims=CLAIMS,
    run=run,
)
