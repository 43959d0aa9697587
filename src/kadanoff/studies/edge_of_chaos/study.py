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
    claims=CLAIMS,
    run=run,
)
