"""What a healthy diagnosis says in one sentence, to somebody who trains such models."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator
from dataclasses import replace

from kadanoff.diagnosis.blocks import BlockRows, Group, blocks_of, pooled
from kadanoff.diagnosis.estimate import Estimate
from kadanoff.diagnosis.result import Diagnosis, LayerReport
from kadanoff.style.numbers import short

__all__ = ["in_plain_words", "summary", "uneven"]

# a gradient this many times that of the other blocks is worth a word
UNEVEN = 3.0
# queries and keys below values by this factor
FAINT = 5.0


def summary(diagnosis: Diagnosis) -> str:
    """The verdict on a healthy model in words that name blocks, not symbols.

    Parameters
    ----------
    diagnosis : Diagnosis
        Without findings that are worse than a note.

    Returns
    -------
    str
        ``"signal and gradient reach all 12 blocks; the loss starts where it should (4.56, expected
        4.6 ± 0.1); block 0 gets 14 times the gradient of the others"``, as far as it is known.
    """
    blocks = blocks_of(diagnosis.layers, diagnosis.sums)
    said = [_reach(diagnosis, blocks), *_loss(diagnosis), *uneven(blocks), *_faint(blocks)]
    if diagnosis.trained:
        said.insert(0, "the model looks trained")
    return "; ".join(said) + "."


def in_plain_words(diagnosis: Diagnosis) -> Diagnosis:
    """The same; a healthy one with a verdict that names blocks, the theory's words beside it."""
    if not diagnosis.healthy:
        return replace(diagnosis, physics=diagnosis.physics or diagnosis.verdict)
    return replace(diagnosis, verdict=summary(diagnosis), physics=diagnosis.verdict)


def _reach(d: Diagnosis, blocks: BlockRows) -> str:
    count, what = len(blocks.numbered), "blocks"
    if not blocks:
        count, what = len([r for r in d.layers if r.role != "stream"]), "layers"
    if count == 1:
        return "signal and gradient reach its one layer"
    who = f"all {count} {what}" if count > 2 else f"both {what}"
    with_gradient = any(r.gradient is not None for r in d.layers)
    return f"signal and gradient reach {who}" if with_gradient else f"the signal reaches {who}"


def _loss(d: Diagnosis) -> Iterator[str]:
    """Where the loss starts, beside what the law of the weights says."""
    if d.loss is None or not math.isfinite(d.loss):
        return
    expected = d.expected_loss
    if expected is None or expected.predicted is None:
        if not d.loss_stands_in:
            yield f"the loss starts at {short(d.loss)}"
        return
    near = expected.z is not None and abs(expected.z) < 4
    band = f"expected {short(expected.predicted, 3)} ± {short(expected.spread, 1)}"
    where = "where it should" if near else "elsewhere than it should"
    yield f"the loss starts {where} ({short(d.loss)}, {band})"


def uneven(blocks: BlockRows) -> Iterator[str]:
    """A block, or one role in it, that gets far more or far less gradient than in the others."""
    candidates = [_apart(blocks, [(g, g.gradient) for g in blocks.numbered], "")]
    for part in blocks.parts:
        values = [(g, pooled(g.parts.get(part, ()), "gradient")) for g in blocks.numbered]
        candidates.append(_apart(blocks, values, f"{part} of "))
    known = [c for c in candidates if c is not None]
    if not known:
        return
    whole = candidates[0]
    # the whole block if it stands out, else the role that does most
    ratio, said = whole if whole is not None else max(known)
    yield said.format(short(ratio, 2))


def _apart(
    blocks: BlockRows, values: list[tuple[Group, Estimate | None]], what: str
) -> tuple[float, str] | None:
    """By which factor the block that stands out most does so, and in words; None if none does."""
    found = [(g, e.value) for g, e in values if e is not None and e.value > 0]
    if len(found) < 3:
        return None
    told = []
    for extreme in (max, min):
        group, value = extreme(found, key=lambda pair: pair[1])
        others = statistics.median(v for g, v in found if g is not group)
        name = f"{what}{blocks.name(group)}"
        told.append((value / others, f"{name} gets {{}} times the gradient of the others"))
        told.append((others / value, f"{name} gets {{}} times less gradient than the others"))
    ratio, said = max(told)
    return (ratio, said) if ratio > UNEVEN else None


def _faint(blocks: BlockRows) -> Iterator[str]:
    """Queries and keys that hardly learn at first: scores are small, or tokens alike."""
    for group in reversed(blocks.numbered):
        queries = _gradient(group, "attention q, k")
        values = _gradient(group, "attention v")
        if queries and values:
            if values / queries > FAINT:
                yield (
                    f"queries and keys of {blocks.name(group)} get "
                    f"{short(values / queries, 2)} times less than its values"
                )
            return


def _gradient(group: Group, part: str) -> float | None:
    layers: tuple[LayerReport, ...] = group.parts.get(part, ())
    estimate = pooled(layers, "gradient")
    return None if estimate is None else estimate.value
