"""The study as the registry finds it."""

from __future__ import annotations

from kadanoff.studies.effective_theories.claims import CLAIMS
from kadanoff.studies.effective_theories.page import run
from kadanoff.studies.study import Study

__all__ = ["STUDY"]

STUDY = Study(
    name="effective-theories",
    title="Structures of neural network effective theories",
    paper="banta2023",
    summary="Feynman diagrams for finite networks: connected correlators of preactivations, "
    "generated with their symmetry factors, evaluated, printed and drawn. One condition governs "
    "the criticality of all of them.",
    claims=CLAIMS,
    run=run,
)
