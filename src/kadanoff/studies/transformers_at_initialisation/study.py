"""The study as the registry finds it."""

from __future__ import annotations

from kadanoff.studies.study import Study
from kadanoff.studies.transformers_at_initialisation.claims import CLAIMS
from kadanoff.studies.transformers_at_initialisation.page import run

__all__ = ["STUDY"]

STUDY = Study(
    name="transformers-at-initialisation",
    title="Effective theory of Transformers at initialisation",
    paper="dinan2023",
    summary="Signals, gradients and the spread between seeds of random Transformers: how each "
    "group's gradient scales with width and depth, when tokens collapse, and which two exponents "
    "rule stacks with norms after their branches. Predicted by a map of a few numbers, held "
    "against networks sampled without their weights.",
    claims=CLAIMS,
    run=run,
    lead="Random Transformers obey a few numbers. With rates 1/n for matrices and 1 for all else "
    "each group takes an equal part in a step at every width. Pre-norm stacks are critical without "
    "tuning: gradients grow as a power of depth, smaller where attention mixes tokens, larger by "
    "one where a gate multiplies. With norms after the branches two exponents rule, and where "
    "the first vanishes order turns into chaos. And how much seeds differ is a number of "
    "order one over the width for every architecture, the four-point vertex nobody has a formula "
    "for.",
    lead_figure="seeds.svg",
)
