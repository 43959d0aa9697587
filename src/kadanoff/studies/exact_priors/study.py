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
    lead="Zavatone-Veth and Pehlevan give the exact law of a finite network's output at one "
    "input, a Meijer function for linear networks and a mixture of them for ReLU. The "
    "closed forms are the law of networks with drawn weights, for one output and for "
    "several; a narrow layer rules the whole; and one integral replaces the Meijer "
    "functions, thousands of times faster.",
    lead_figure="linear.svg",
    claims=CLAIMS,
    run=run,
)
