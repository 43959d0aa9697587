"""The study as the registry finds it."""

from __future__ import annotations

from kadanoff.studies.edge_of_chaos.claims import CLAIMS
from kadanoff.studies.edge_of_chaos.page import run
from kadanoff.studies.study import Study

__all__ = ["STUDY"]

STUDY = Study(
    name="edge-of-chaos",
    title="The edge of chaos",
    paper="grosvenor2021",
    summary="The phase diagram of deep and recurrent networks, their depth scales with 1/n "
    "corrections, and the depths that train across it. Annealed and typical corrections have "
    "opposite signs.",
    lead="Grosvenor and Jefferson treat deep and recurrent networks as one field theory: "
    "both turn chaotic at one edge, where signals travel furthest, and finite width "
    "shifts how far. The edge and its exponent are found where theory has them; the "
    "shifts of order 1/n have opposite signs for the average over networks and for a "
    "typical one. The printed O(T/N) expression could not be compared, because the text "
    "of the paper was not at hand.",
    lead_figure="phases.svg",
    claims=CLAIMS,
    run=run,
)
