"""Signals along a sequence: what reaches the first step from the loss."""

from __future__ import annotations

import math
from collections.abc import Iterator

from kadanoff.diagnosis.evidence import Evidence
from kadanoff.diagnosis.kinds import kind
from kadanoff.diagnosis.result import Finding

__all__ = ["RULES"]

SHORT = kind(
    "KD701",
    "vanishing-in-time",
    "The beginning of the sequence is out of reach",
    what="The recurrent map contracts: the loss does not feel what was read early, and weights "
    "are trained on the last steps alone.",
    measured="Root mean square of the loss gradient with respect to the input of each step.",
    threshold="10⁻⁶ of the largest step's: float32 sums lose what is below 10⁻⁷. Steps above "
    "10⁻³ count as seen; less than a quarter of 100 or more is critical, sequences of up to 60 "
    "steps are a note (a batch can be learned by heart from its last steps, so that the trial is "
    "no judge of this). Not said where the loss reads every step.",
    remedy="Use nn.LSTM or nn.GRU (forget gate biased to 1 or more), an identity or orthogonal "
    "recurrent weight, shorter sequences, or attention.",
    makes=("does-not-learn", "output-constant"),
)
LONG = kind(
    "KD702",
    "exploding-in-time",
    "Gradients explode along the sequence",
    what="The recurrent map expands: the gradient of early steps outgrows all others, and one "
    "step of the optimiser throws the state anywhere.",
    measured="Root mean square of the loss gradient with respect to the input of each step.",
    threshold="10⁴ times the median step's.",
    remedy="Clip gradients (clip_grad_norm_(…, 1.0)), scale the recurrent weight to spectral "
    "radius 1 (nn.init.orthogonal_), or use nn.LSTM or nn.GRU.",
    makes=("rate-too-high", "does-not-learn"),
    scale=True,
)


def _along(e: Evidence) -> Iterator[Finding]:
    told: set[str] = set()
    for finding in _each(e):
        if finding.code not in told:  # input and recurrent weight of one loop say the same
            told.add(finding.code)
            yield finding


def _each(e: Evidence) -> Iterator[Finding]:
    for time in e.times:
        sizes = list(time.gradient)
        if len(sizes) < 8 or not all(map(math.isfinite, sizes)) or max(sizes) == 0:
            continue
        top = max(sizes)
        seen = sum(s > 1e-3 * top for s in sizes)
        first = sum(sizes[: max(len(sizes) // 10, 1)]) / max(len(sizes) // 10, 1) / top
        where = (time.path,) if time.path else ()
        if first < 1e-6 and sizes.index(top) > len(sizes) // 2:
            yield SHORT.found(
                _severity(seen, len(sizes)),
                f"vanishing in time: of the gradient at the last step {first:.1g} reaches the "
                f"first tenth of {len(sizes)} steps of {time.path or time.op!r} (the limit is "
                f"1e-6); {seen} steps are seen.",
                cost=-math.log(max(first, 1e-40)),
                value=first,
                threshold=1e-6,
                where=where,
            )
        middle = sorted(sizes)[len(sizes) // 2]
        if middle > 0 and top > 1e4 * middle and sizes.index(top) < len(sizes) // 4:
            yield LONG.found(
                "critical" if top > 1e6 * middle else "warning",
                f"exploding in time: the gradient at step {sizes.index(top) + 1} of {len(sizes)} "
                f"of {time.path or time.op!r} is {top / middle:.1g} times the median step's (the "
                "limit is 1e4).",
                cost=math.log(top / middle),
                value=top / middle,
                threshold=1e4,
                where=where,
            )


def _severity(seen: int, steps: int) -> str:
    """Sequences of up to 60 steps train by their end; of 100 and more mostly unseen ones do not."""
    if steps <= 60 or seen >= 0.5 * steps:
        return "note"
    return "critical" if steps >= 100 and seen < 0.25 * steps else "warning"


RULES = (_along,)
