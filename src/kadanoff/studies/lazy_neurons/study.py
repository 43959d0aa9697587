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
    lead="Li and others find that trained Transformers fire only a few percent of their "
    "hidden units, whatever the data, and that keeping the largest k alone costs "
    "nothing and gains robustness. Sparsity emerges in small decoders, too, if far less "
    "of it than at the paper's size, on random labels and on endless data as well. "
    "Whether Top-k is more robust is asked only of networks that are competent first, "
    "and beside nearest neighbours, which need no training.",
    lead_figure="emergence.svg",
    claims=CLAIMS,
    run=run,
)
