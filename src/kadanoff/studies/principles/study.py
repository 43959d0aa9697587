"""The study as the registry finds it."""

from __future__ import annotations

from kadanoff.studies.principles.claims import CLAIMS
from kadanoff.studies.principles.page import run
from kadanoff.studies.study import Study

__all__ = ["STUDY"]

STUDY = Study(
    name="principles",
    title="The principles of deep learning theory",
    paper="pdlt2021",
    summary="Criticality, fluctuations of order L/n, the neural tangent kernel and representation "
    "learning: the book's chain of statements at one input, theory beside simulated and trained "
    "networks.",
    claims=CLAIMS,
    run=run,
)
