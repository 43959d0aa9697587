"""Inputs and targets: their scales, their columns, their repetitions."""

from __future__ import annotations

import math
from collections.abc import Iterator

from kadanoff.diagnosis.evidence import Evidence
from kadanoff.diagnosis.kinds import kind
from kadanoff.diagnosis.result import Finding

__all__ = ["RULES"]

_FLOW = (
    "saturated",
    "dead",
    "exploding",
    "vanishing",
    "ordered",
    "chaotic",
    "collapsed",
    "loss-at-start",
    "rate-too-high",
    "does-not-learn",
    "attention-saturated",
    "output-constant",
    "unlike-theory",
)

UNSCALED = kind(
    "KD301",
    "inputs-unscaled",
    "Inputs are not scaled",
    what="Initialisations and learning rates are made for inputs of size 1 about 0; on others the "
    "first layer saturates or drowns in its bias, and one rate no longer fits all layers.",
    measured="Root mean square and mean of the data as the first weights see them (what the model "
    "does to its inputs before is taken into account; nothing is said behind a norm).",
    threshold="Root mean square above 20 or below 0.01, or a mean 10 standard deviations from 0. "
    "Digits from 0 to 16 (root mean square 8) train as they are; pictures from 0 to 255 do not. "
    "Critical above 200, below 0.001, or 30 standard deviations from 0, also for nets that fit "
    "their batch: angles of size 1000 in a net of sines, counts of 300 in one of tanh, and inputs "
    "at 50 ± 1 in one of ReLU were learned by heart and told nothing of other samples.",
    remedy="Standardise: x = (x − mean) / std, with mean and std of the training set; pixels: "
    "x / 127.5 − 1.",
    makes=_FLOW,
    scale=True,
)
SCALES = kind(
    "KD302",
    "feature-scales",
    "One column drowns the others",
    what="The first layer adds up columns; one that is a thousand times larger is all it sees.",
    measured="Size (standard deviation, or mean if larger) of each column over the median one, as "
    "the first weights see them.",
    threshold="A factor 100: at 100 the others are 1 % of the sum, which training with one "
    "learning rate does not find again.",
    remedy="Standardise each column: x = (x − x.mean(0)) / x.std(0), with the training set's "
    "numbers; logarithm for columns over several decades.",
    makes=("inputs-unscaled", *_FLOW),
    scale=True,
)
CONSTANT = kind(
    "KD303",
    "constant-columns",
    "Columns that never vary",
    what="A column that is the same in every sample says nothing, and divides by zero when it is "
    "standardised.",
    measured="Columns whose standard deviation over the batch is 0.",
    threshold="More than half of the columns is a warning, fewer are a note from 20 %: "
    "pixels at the rim of a picture are constant in every data set.",
    remedy="Drop them, or see whether something went wrong in preprocessing.",
)
REPEATED = kind(
    "KD304",
    "repeated-samples",
    "Samples that are copies",
    what="A batch of copies is a smaller batch: a shuffled index, a broken loader or augmentation "
    "that does nothing.",
    measured="Fraction of samples whose inputs another sample has too.",
    threshold="One half; exact copies are rare in real data, except for tokens and graphs. "
    "Critical from 95 %: such a batch holds a sample or two.",
    remedy="Look at the loader: does each index return its own sample?",
    makes=("collapsed", "output-constant", "does-not-learn"),
)
TARGETS = kind(
    "KD305",
    "targets-unscaled",
    "Targets are not scaled",
    what="A fresh net gives numbers of size 1; targets far larger (or far from 0) take thousands "
    "of steps to reach, and the gradient is as large as they are.",
    measured="Mean and standard deviation of the targets of a loss of differences, against the "
    "size of the outputs.",
    threshold="Root mean square above 30, or a mean more than 10 standard deviations from 0: with "
    "Adam at 10⁻³ an output moves by about 0.1 a step.",
    remedy="Standardise: y = (y − y.mean()) / y.std(), and undo it on predictions.",
    makes=(
        "loss-at-start",
        "rate-too-high",
        "does-not-learn",
        "not-finite",
        "output-cannot-reach-targets",
        "output-constant",
    ),
    scale=True,
)
ONE_CLASS = kind(
    "KD306",
    "one-class",
    "All targets are the same",
    what="If every target is the same there is nothing to learn but a constant.",
    measured="Share of the commonest class, or the spread of real targets.",
    threshold="All of at least 16 targets.",
    remedy="Shuffle before batching; check how labels are read.",
    makes=("loss-at-start", "does-not-learn", "output-constant"),
)
PADDING = kind(
    "KD307",
    "padding-attended",
    "Padding is attended to",
    what="Attention gives weight to padding: what a sequence means depends on how long its "
    "neighbours in the batch are.",
    measured="Mean attention weight on positions whose token is the embedding's padding_idx.",
    threshold="2 % of the weight, in batches where at least 5 % of the positions are padding.",
    remedy="Pass a mask: key_padding_mask=(tokens == pad), or scores.masked_fill(pad, -inf).",
)


NAN_TARGETS = kind(
    "KD308",
    "targets-not-finite",
    "Targets that are NaN or infinite",
    what="One such target makes the loss NaN.",
    measured="All targets given.",
    threshold="Exact. This is an error (exit code 2).",
    remedy="Remove or impute them.",
)


def _unscaled(e: Evidence) -> Iterator[Finding]:
    x = e.inputs
    if x is None or x.normed or not math.isfinite(x.rms):
        return
    size = max(x.rms, 1e-300)
    shifted = x.std > 0 and abs(x.mean) > 10 * x.std and size > 3
    if 0.01 <= size <= 20 and not shifted:
        return
    first = next((layer for layer in e.layers if layer.path == x.path), None)
    behind = first is not None and first.normalised and first.op.startswith("conv")
    pixels = x.low >= 0 and 100 < x.high <= 255
    what = " (pixels from 0 to 255)" if pixels else ""
    severity = "note" if behind and size > 0.01 else "warning"
    far = x.std > 0 and abs(x.mean) > 30 * x.std and size > 3
    if not behind and (size > 200 or size < 1e-3 or far):
        severity = "critical"
    yield UNSCALED.found(
        severity,
        f"inputs unscaled{what}: they go from {x.low:.3g} to {x.high:.3g}, mean {x.mean:.3g}, "
        f"root mean square {size:.3g}; 0.01 to 20 about a mean near 0 is what initialisations "
        "are made for.",
        "Divide by 127.5 and subtract 1." if pixels else "",
        cost=200,
        value=size,
        threshold=20 if size > 1 else 0.01,
        where=(x.path,) if x.path else (),
    )


def _scales(e: Evidence) -> Iterator[Finding]:
    x = e.inputs
    if x is None or x.normed or x.count < 2 or not 100 <= x.ratio < math.inf:
        return
    yield SCALES.found(
        "critical" if x.ratio > 1e3 else "warning",
        f"feature scales: column {x.worst} of {x.count} is {x.ratio:.2g} times as large as the "
        "median column (the limit is 100): the first layer sees that column alone.",
        cost=300,
        value=x.ratio,
        threshold=100,
        where=(x.path,) if x.path else (),
    )


def _constant(e: Evidence) -> Iterator[Finding]:
    x = e.inputs
    if x is None or len(x.constant) < 0.2 * x.count or x.count < 2 or e.samples < 8:
        return
    share = len(x.constant) / x.count
    shown = ", ".join(map(str, x.constant[:5])) + (" ..." if len(x.constant) > 5 else "")
    yield CONSTANT.found(
        "warning" if share > 0.5 and x.tabular else "note",
        f"constant columns: {len(x.constant)} of {x.count} input columns ({shown}) are the same "
        f"in all {e.samples} samples.",
        cost=0.1,
        value=share,
        threshold=0.5,
    )


def _repeated(e: Evidence) -> Iterator[Finding]:
    if e.samples >= 8 and e.duplicates > 0.5:
        yield REPEATED.found(
            "critical" if e.duplicates > 0.95 else "warning",
            f"repeated samples: {100 * e.duplicates:.0f} % of the {e.samples} samples are copies "
            "of others (the limit is 50 %).",
            cost=50,
            value=e.duplicates,
            threshold=0.5,
        )


def _targets(e: Evidence) -> Iterator[Finding]:
    calls = [
        c
        for c in e.loss_calls
        if c.op in ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "difference")
    ]
    if not calls or not calls[0].target.numel() or not calls[0].target.is_floating_point():
        return
    y = calls[0].target.detach().double()
    mean, std = float(y.mean()), float(y.std(unbiased=False))
    size = float(y.square().mean().sqrt())
    shifted = size > 3 and abs(mean) > 10 * std and std > 0
    if size <= 30 and not shifted:
        return
    reach = e.output.std if e.output is not None else 1.0
    reached = e.output is not None and size < 3 * max(abs(e.output.high), abs(e.output.low), reach)
    if reached and e.trained:
        return  # a trained net that gives such numbers
    yield TARGETS.found(
        "critical" if size > 300 else "warning",
        f"targets unscaled: they have mean {mean:.3g} and standard deviation {std:.3g}, the "
        f"outputs {reach:.3g}; the limit is a root mean square of 30, a mean within 10 standard "
        "deviations.",
        cost=400,
        value=size,
        threshold=30,
    )


def _one_class(e: Evidence) -> Iterator[Finding]:
    y = e.targets
    if y is None or not y.finite or not y.shape or y.shape[0] < 16:
        return
    if (y.kind == "classes" and y.share == 1.0) or (y.kind == "real" and y.low == y.high):
        yield ONE_CLASS.found(
            "warning",
            f"one class: all {y.shape[0]} targets are {y.low:g}.",
            cost=60,
            value=1.0,
            threshold=1.0,
        )


def _padding(e: Evidence) -> Iterator[Finding]:
    pad = e.padded
    if pad is None or not 0.05 < float(pad.float().mean()) < 1:
        return
    for one in e.attentions:
        w = one.weights
        if w is None or tuple(w.shape) != tuple(pad.shape):
            continue
        some = pad.any(1) & ~pad.all(1)
        if not bool(some.any()):
            return
        mass = float((w * pad.to(w.device))[some].sum(1).nan_to_num(0).mean())
        if mass > 0.02:
            yield PADDING.found(
                "warning",
                f"padding attended: {100 * mass:.0f} % of the attention in {one.path!r} goes to "
                f"padding, which is {100 * float(pad.float().mean()):.0f} % of the positions.",
                cost=10,
                value=mass,
                threshold=0.02,
                where=(one.path,),
            )
        return


RULES = (_scales, _unscaled, _targets, _repeated, _one_class, _padding, _constant)
