"""The study as the registry finds it."""

from __future__ import annotations

from kadanoff.studies.exact_priors.claims import CLAIMS
from kadanoff.studies.exact_priors.page import run
from kadanoff.studies.study import Study

__all__ = ["STUDY"]

STUDY = Study(
    name="exact-priors",
    title="Exact priors of finite networks",
    paper="zavatone2021",
    summary="The exact law of a finite network's output at one input, in closed form: Meijer "
    "functions for linear networks, mixtures of them for ReLU. One Mellin–Barnes integral "
    "replaces them and shows tails, bottlenecks and the 1/n expansion.",
    claims=CLAIMS,
    run=run,
)
