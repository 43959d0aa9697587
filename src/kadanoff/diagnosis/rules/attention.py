"""Attention: saturated, masked altogether, without its scale; tokens that become alike."""

from __future__ import annotations

import math
from collections.abc import Iterator

from kadanoff.diagnosis.evidence import Evidence
from kadanoff.diagnosis.kinds import kind
from kadanoff.diagnosis.result import Finding

__all__ = ["RULES"]

SATURATED = kind(
    "KD801",
    "attention-saturated",
    "Attention is saturated",
    what="Scores are so far apart that each softmax picks one position; queries and keys then get "
    "almost no gradient.",
    measured="Mean entropy of the attention weights over the logarithm of the positions allowed, "
    "and the largest score of a row above its mean (median over rows).",
    threshold="Entropy below 0.25 with scores more than 6 above their mean, in an untrained net: "
    "independent unit-variance scores give 0.85 to 0.95.",
    remedy="Divide the scores by sqrt(d_head); make the query and key weights smaller; or "
    "normalise queries and keys.",
    makes=("does-not-learn", "loss-at-start", "unlike-theory"),
    scale=True,
)
UNSCALED = kind(
    "KD802",
    "attention-without-scale",
    "Scores are not divided by √d",
    what="A product of queries and keys of d independent entries has standard deviation √d; "
    "without the factor 1/√d the softmax saturates.",
    measured="Standard deviation of the scores that reach the softmax over that of the bare "
    "product of queries and keys, against d^(-1/2).",
    threshold="The ratio is at least half of 1 where d ≥ 16, and the scores have standard "
    "deviation above 2.",
    remedy="scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1]), or use "
    "torch.nn.functional.scaled_dot_product_attention.",
    makes=("attention-saturated", "does-not-learn", "unlike-theory"),
)
MASKED = kind(
    "KD803",
    "masked-row",
    "A query that may look nowhere",
    what="A row of the scores is masked altogether: its softmax is 0/0.",
    measured="Rows of the scores (or of the mask) that are minus infinity everywhere, over all "
    "samples.",
    threshold="Exact: one row.",
    remedy="Leave each row one open position (itself), drop empty sequences, or fill with a large "
    "negative number (-1e9) instead of -inf.",
    makes=("not-finite", "zero-gradient"),
)
COLLAPSE = kind(
    "KD804",
    "tokens-collapse",
    "Tokens become alike",
    what="Attention averages: without skips, norms or enough spread of the scores all positions "
    "of a sequence end in one vector (rank collapse; Dong et al. 2021, Noci et al. 2022).",
    measured="Mean correlation between rows (samples and positions) of the last sum on the main "
    "path, against the first.",
    threshold="What is left of 1 − correlation: a note below 10⁻³, a warning below 10⁻⁶, critical "
    "below 10⁻⁸. A post-norm net in its first hundred steps falls to 10⁻⁴ and learns.",
    remedy="Keep the skip connections, scale residual branches by 1/sqrt(depth), use pre-norm.",
    makes=("does-not-learn",),
    scale=True,
)


def _unscaled(e: Evidence) -> Iterator[Finding]:
    bad = [
        a
        for a in e.attentions
        if a.width is not None
        and a.width >= 16
        and a.scaled is not None
        and a.scaled > 0.5
        and a.scaled > 2.5 / math.sqrt(a.width)
        and (a.logit > 5 or a.entropy < 0.7)
    ]
    if bad and not e.trained:
        worst = max(bad, key=lambda a: a.logit)
        yield UNSCALED.found(
            "critical" if worst.entropy < 0.25 else "warning",
            f"attention without scale: in {len(bad)} of {len(e.attentions)} attentions the scores "
            f"are {worst.scaled:.2g} of the bare product of {worst.width} entries "
            f"(1/√{worst.width} = {(worst.width or 1) ** -0.5:.2g}); in {worst.path!r} they reach "
            f"{worst.logit:.3g} above their mean, the entropy is {worst.entropy:.2f} of its "
            "maximum.",
            cost=120,
            value=worst.scaled or math.nan,
            threshold=0.5,
            where=[a.path for a in bad],
        )


def _saturated(e: Evidence) -> Iterator[Finding]:
    if e.trained:
        return
    bad = [a for a in e.attentions if a.entropy < 0.25 and a.logit > 6]
    if bad:
        worst = min(bad, key=lambda a: a.entropy)
        yield SATURATED.found(
            "warning" if len(bad) > len(e.attentions) / 2 else "note",
            f"attention saturated: the entropy is {worst.entropy:.2g} of its maximum in "
            f"{worst.path!r}, below 0.25 in {len(bad)} of {len(e.attentions)} attentions; scores "
            f"reach {worst.logit:.3g} above their mean.",
            cost=100,
            value=worst.entropy,
            threshold=0.25,
            where=[a.path for a in bad],
        )


def _masked(e: Evidence) -> Iterator[Finding]:
    bad = [a for a in e.attentions if a.masked]
    if bad:
        rows = bad[0].masked
        shown = ", ".join(map(str, rows[:4])) + (" ..." if len(rows) > 4 else "")
        yield MASKED.found(
            "critical" if e.origin is not None else "warning",
            f"masked row: in {bad[0].path or 'the model'} every position is masked for a query of "
            f"sample{'s' * (len(rows) > 1)} {shown} (0 may be).",
            cost=2e4,
            value=len(rows),
            threshold=0,
            where=[a.path for a in bad],
        )


def _collapse(e: Evidence) -> Iterator[Finding]:
    if e.trained or not e.attentions:
        return
    chain = [x for x in e.layers if not x.residual and x.correlation is not None]
    if len(chain) < 4:
        return
    first, last = chain[0].correlation, chain[-1].correlation
    assert first is not None
    assert last is not None
    before, after = 1 - first.value, 1 - last.value
    if before > 1e-3 and after < 1e-3 * before:
        left = max(after, 0) / before
        yield COLLAPSE.found(
            "critical" if left < 1e-8 else "warning" if left < 1e-6 else "note",
            f"tokens collapse: 1 − correlation falls from {before:.2g} to {max(after, 0):.2g} "
            f"over {len(chain)} layers of the main path; the limit is 1e-3 of it.",
            cost=90,
            value=after,
            threshold=1e-3 * before,
        )


RULES = (_masked, _unscaled, _saturated, _collapse)
