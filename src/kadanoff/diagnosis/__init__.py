"""A model and a batch in, a diagnosis out: measurements, predictions, findings.

``measure``         the walk from a model to a diagnosis
``inputs``          what the user hands over, checked
``surveying``       one recorded forward pass and its backward passes
``sightings``       what the witness notes: one record a kind of call
``vocabulary``      operations by what they do to a stream
``witness``         sums, softmaxes, norms, scans, losses and cut gradients met on the way
``losses``          the loss that is used, and that of the best constant output
``finite``          where NaN and infinity begin
``facts``           data, output, targets and optimiser in numbers
``weights``         symmetric, half loaded, as PyTorch draws them
``chain``           trends along the main signal path
``expectation``     what they give in any model, beside what was measured
``recipe``          the optimiser
``trial``           a few real steps on a copy
``evidence``        everything the rules look at
``gather``          from raw measurements to the evidence
``rules``           one file a topic
``kinds``           the catalogue of findings, ``catalogue`` its pages
``findings``        run the rules, settle severities, put causes first
``estimate``, ``result``  what comes out
``predicted``       the same before a model is built, from its code alone
``sums``            streams beside the main chain
``blocks``          calls grouped by block and role
``plain_words``     a healthy verdict in one sentence
``terminal``, ``html``, ``plots``  how it is shown
``baseline``        what has moved since a diagnosis that was kept
``block_table``, ``block_figures``   a row and a line a block
"""

from __future__ import annotations

from kadanoff.diagnosis.baseline import Change as Change
from kadanoff.diagnosis.baseline import changes as changes
from kadanoff.diagnosis.measure import diagnose as diagnose
from kadanoff.diagnosis.recipe import Recipe as Recipe
from kadanoff.diagnosis.result import Diagnosis as Diagnosis
from kadanoff.diagnosis.result import Estimate as Estimate
from kadanoff.diagnosis.result import Finding as Finding
from kadanoff.diagnosis.result import LayerReport as LayerReport
from kadanoff.diagnosis.result import ParameterReport as ParameterReport
from kadanoff.diagnosis.result import TimeReport as TimeReport
from kadanoff.diagnosis.result import TrialReport as TrialReport

__all__ = [
    "Change",
    "Diagnosis",
    "Estimate",
    "Finding",
    "LayerReport",
    "ParameterReport",
    "Recipe",
    "TimeReport",
    "TrialReport",
    "changes",
    "diagnose",
]
