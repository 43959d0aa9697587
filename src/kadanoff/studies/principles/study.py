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
    lead="The book builds a theory of deep networks in powers of 1/n: where they are "
    "critical, how they fluctuate from one draw to the next, how their kernel moves in "
    "training. Critical points, growth laws, fluctuations, the Bayesian posterior and "
    "the ends of training come out as printed, in networks that were really drawn and "
    "trained. One statement does not: the information that outputs share has its "
    "maximum at the optimal aspect ratio only in the truncated expansion.",
    lead_figure="fluctuations.svg",
    claims=CLAIMS,
    run=run,
)
