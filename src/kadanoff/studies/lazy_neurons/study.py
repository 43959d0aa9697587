"""The study as the registry finds it."""

from __future__ import annotations

from kadanoff.studies.lazy_neurons.claims import CLAIMS
from kadanoff.studies.lazy_neurons.page import run
from kadanoff.studies.study import Study

__all__ = ["STUDY"]

STUDY = Study(
    name="lazy-neurons",
    title="The lazy neuron phenomenon",
    paper="li2022lazy",
    summary="Trained Transformers fire few of their hidden units for any one input. Emergence by "
    "width, depth and kind of data, the gradient drift that starts it, and Top-k training.",
    claims=CLAIMS,
    run=run,
)
