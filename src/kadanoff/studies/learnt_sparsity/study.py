"""The study as the registry finds it."""

from __future__ import annotations

from kadanoff.studies.learnt_sparsity.claims import CLAIMS
from kadanoff.studies.learnt_sparsity.page import run
from kadanoff.studies.study import Study

__all__ = ["STUDY"]

STUDY = Study(
    name="learnt-sparsity",
    title="The flow of a trained classifier: how sparse is what was learnt?",
    paper="roberts2021",
    summary="Networks trained on real digits, beside the same ones at random and with shuffled "
    "labels: couplings of the learnt function, dimensions from layer to layer, and the kernel.",
    claims=CLAIMS,
    run=run,
)
