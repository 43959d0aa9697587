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
    lead="The essay asks how sparse the function is that a network has *learnt*. Its claims stop "
    "there; these are ours. Networks trained on real digits are set beside the same networks at "
    "random and with shuffled labels. What is learnt from real labels has fewer couplings, at "
    "lower degrees, than what is memorised, and the tangent kernel turns towards the labels. It is "
    "not sparser than the random function, which is all but linear: learning adds couplings, and "
    "real labels add fewer.",
    lead_figure="spectra.svg",
    claims=CLAIMS,
    run=run,
)
