"""One file a topic; each rule reads the evidence and yields findings, and nothing else.

``attention``, ``data``, ``depth``, ``learning_signal``, ``loss_at_start``, ``normalisation``
(norms and sums of streams), ``not_finite``, ``output_and_loss``, ``rates``, ``structure``,
``theory``, ``time``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kadanoff.diagnosis.evidence import Evidence
from kadanoff.diagnosis.result import Finding
from kadanoff.diagnosis.rules import (
    attention,
    data,
    depth,
    learning_signal,
    loss_at_start,
    normalisation,
    not_finite,
    output_and_loss,
    rates,
    structure,
    theory,
    time,
)

__all__ = ["RULES"]

RULES: tuple[Callable[[Evidence], Iterator[Finding]], ...] = (
    *not_finite.RULES,
    *learning_signal.RULES,
    *output_and_loss.RULES,
    *data.RULES,
    *normalisation.RULES,
    *attention.RULES,
    *structure.RULES,
    *time.RULES,
    *rates.RULES,
    *loss_at_start.RULES,
    *depth.RULES,
    *theory.RULES,
)
