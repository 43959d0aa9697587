"""The study as the registry finds it."""

from __future__ import annotations

from kadanoff.studies.sparsity_principle.claims import CLAIMS
from kadanoff.studies.sparsity_principle.page import run
from kadanoff.studies.study import Study

__all__ = ["STUDY"]

STUDY = Study(
    name="sparsity-principle",
    title="The sparsity principle: why is AI hard and physics simple?",
    paper="roberts2021",
    summary="No free lunch by exact enumeration, the ladder of sparse Hamiltonians learnt rung by "
    "rung, and networks described by a handful of couplings. Data needed count the couplings "
    "that are assumed possible.",
    claims=CLAIMS,
    run=run,
)
