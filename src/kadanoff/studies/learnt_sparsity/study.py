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
    lead="The essay asks how sparse the function is that a network has *learnt*. Its claims "
    "stop there; these are ours. Networks trained on real digits are set beside the "
    "same networks at random and beside the same ones with shuffled labels: how many "
    "couplings the learnt function has in the basis of parities, at which degrees, how "
    "many are needed to classify as well, and how many dimensions of the images are "
    "left from layer to layer.",
    lead_figure="spectra.svg",
    claims=CLAIMS,
    run=run,
)
