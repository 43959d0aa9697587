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
    lead="Banta, Cai, Craig and Zhang compute what random networks do as sums of Feynman "
    "diagrams, and find that one condition makes all correlators critical at once. The "
    "diagrams are generated here from rules, up to the eight-point function and with "
    "loops; they are the law of networks really drawn, each loop costs a factor 1/n, "
    "and one spectrum decides all correlators. The text of the paper was not at hand: "
    "most of the numbers are our derivation from its definitions, and say so.",
    lead_figure="eight.svg",
    claims=CLAIMS,
    run=run,
)
