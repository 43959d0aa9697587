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
    lead="Roberts's essay asks why physics is simple and AI hard, and answers: no learner "
    "beats chance over all possible tasks, physics is learnable because its "
    "Hamiltonians are sparse, and networks may have sparse descriptions of their own. "
    "By enumeration every learner is right exactly half of the time over all labelings. "
    "Learnt rung by rung, a spin system needs samples in proportion to the couplings "
    "that are assumed possible, not to its size. Networks of small depth over width are "
    "described by a handful of numbers; deeper ones are not, and there sampling does "
    "not even notice.",
    lead_figure="ladder.svg",
    claims=CLAIMS,
    run=run,
)
