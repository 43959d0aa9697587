"""Norms whose statistics are wrong, that stand in the wrong place, and sums that drown a part."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from kadanoff.diagnosis.evidence import Evidence
from kadanoff.diagnosis.kinds import kind
from kadanoff.diagnosis.result import Finding

__all__ = ["RULES"]

STALE = kind(
    "KD901",
    "stale-statistics",
    "Running statistics are not those of the data",
    what="In evaluation mode batch norm divides by what it has seen in training; if that was "
    "something else (too few steps, too small a momentum, other data), eval mode gives rubbish "
    "where train mode is fine.",
    measured="For each batch norm in evaluation mode: running mean and variance against those of "
    "this batch.",
    threshold="Means off by more than 1 standard deviation (root mean square over channels), or "
    "variances by a factor 4 in the median: batches of 30 stay below 0.4 and 1.3.",
    remedy="Reset and accumulate them anew: momentum=None, model.train(), a few batches, "
    "model.eval(); or raise momentum to 0.1.",
    makes=(
        "loss-at-start",
        "output-constant",
        "collapsed",
        "exploding",
        "vanishing",
        "dead",
        "ordered",
        "chaotic",
        "saturated",
    ),
)
FRESH = kind(
    "KD902",
    "evaluation-before-training",
    "A fresh net in evaluation mode",
    what="Its batch norms use mean 0 and variance 1, which they have not measured yet: what is "
    "seen here is not what training starts from.",
    measured="Running statistics that are exactly 0 and 1 in evaluation mode.",
    threshold="A fact.",
    remedy="Call model.train() to see what training sees.",
    makes=(
        "silent",
        "ordered",
        "chaotic",
        "vanishing",
        "exploding",
        "collapsed",
        "loss-at-start",
        "output-constant",
        "zero-gradient",
        "dead",
        "saturated",
        "unlike-theory",
        "loss-unlike-theory",
    ),
)
ONE = kind(
    "KD903",
    "norm-over-one",
    "A norm over a single number",
    what="A number minus its own mean is 0: a norm over one feature, or batch norm over a batch of "
    "one, erases the signal.",
    measured="How many numbers each norm averages over.",
    threshold="1 erases everything; below 4 it is a warning, as their variance is a coin toss.",
    remedy="Use larger batches, GroupNorm or LayerNorm over more features, or none here.",
    makes=("output-constant", "zero-gradient", "silent", "does-not-learn", "detached", "collapsed"),
)
LAST = kind(
    "KD904",
    "norm-on-output",
    "A norm on the output",
    what="The output is normalised: its mean and size are fixed over the batch or the features, "
    "so that targets of another size cannot be reached except by its gain and bias.",
    measured="The function the output ends in.",
    threshold="Batch norm on the output, or layer norm over at most 8 outputs.",
    remedy="Put the norm before the last linear layer, not after it.",
    makes=("loss-at-start",),
    scale=True,
)
POST = kind(
    "KD905",
    "post-norm",
    "Post-norm without warm-up in sight",
    what="Norms after each residual sum shrink the skip path by a factor at every block: the "
    "gradient of a deep post-norm net decays towards its input, and Adam's first steps can break "
    "it (Xiong et al. 2020).",
    measured="Norms directly after residual sums on the main path.",
    threshold="A fact up to 6 blocks; a warning from 12 blocks.",
    remedy="Warm the learning rate up over some hundreds of steps, or use pre-norm "
    "(norm_first=True).",
    makes=("ordered", "vanishing", "does-not-learn"),
    scale=True,
)
DROWNED = kind(
    "KD906",
    "drowned-summand",
    "One stream drowns the other",
    what="Where two streams are added, the larger is all that the next layers see: positions many "
    "times the tokens make all sequences look alike.",
    measured="Root mean square of both summands, and whether each varies from sample to sample.",
    threshold="A part that does not vary over samples is 5 times the part that carries the data "
    "(a note), 10 times (a warning), 100 times (critical): a small GPT has after 100 steps of Adam "
    "a loss of 0.26 with positions as large as tokens, 0.22 with 7 times, 0.9 with 20 times, 2.7 "
    "with 70 times, and 3.1 with 200 times, where it stays for 100 more.",
    remedy="Bring both to one size: nn.init.normal_(positions.weight, std=0.02) beside tokens of "
    "0.02, or multiply the token embedding by sqrt(d).",
    makes=("collapsed", "does-not-learn", "tokens-collapse", "output-constant"),
    scale=True,
)


def _stale(e: Evidence) -> Iterator[Finding]:
    norms = [n for n in e.norms if n.op == "batch_norm" and not n.training and n.off is not None]
    if not norms or e.samples < 2:
        return
    bad = []
    for n in norms:
        assert n.off is not None
        assert n.spread is not None
        if n.off > 1 or not 0.25 < n.spread < 4:
            bad.append(n)
    if _untouched(e):
        yield FRESH.found(
            "note",
            f"evaluation before training: {len(norms)} batch norms are in evaluation mode and "
            "have seen no batch yet (mean 0, variance 1).",
            cost=0.0,
            value=len(norms),
        )
        return
    if not bad:
        return
    worst = max(bad, key=lambda n: max(n.off or 0, (n.spread or 1), 1 / max(n.spread or 1, 1e-9)))
    yield STALE.found(
        "critical" if len(bad) > len(norms) / 2 else "warning",
        f"stale statistics: in {len(bad)} of {len(norms)} batch norms (evaluation mode) the "
        f"running statistics are not those of the data; in {worst.path!r} the means differ by "
        f"{worst.off:.2g} standard deviations (limit 1), the variance of the data is "
        f"{worst.spread:.2g} times the running one (limits 0.25 and 4).",
        cost=700,
        value=worst.off or 0.0,
        threshold=1.0,
        where=[n.path for n in bad],
    )


def _untouched(e: Evidence) -> bool:
    if e.model is None:
        return False
    for name, buffer in e.model.named_buffers():
        if name.endswith("num_batches_tracked") and int(buffer) > 0:
            return False
        if name.endswith("running_mean") and bool((buffer != 0).any()):
            return False
    return True


def _one(e: Evidence) -> Iterator[Finding]:
    for n in e.norms:
        if n.op == "batch_norm" and not n.training:
            continue
        limit = 2 if n.op == "rms_norm" else 4
        if 1 <= n.group < limit:
            lost = n.group == 1 and n.op != "rms_norm"
            yield ONE.found(
                "critical" if lost else "warning",
                f"norm over one: {n.op} {n.path!r} averages over {n.group} "
                f"number{'s' * (n.group > 1)}"
                + (", so that its output is the same for every input" if lost else "")
                + " (the limit is 4).",
                cost=1.5e3 if lost else 20,
                value=n.group,
                threshold=4,
                where=(n.path,),
            )
            return


def _last(e: Evidence) -> Iterator[Finding]:
    out = e.output
    if out is None or out.ends not in ("batch_norm", "layer_norm", "group_norm") or e.stands_in:
        return
    if len(out.shape) != 2 or (out.ends == "layer_norm" and out.shape[1] > 8):
        return
    yield LAST.found(
        "warning",
        f"norm on the output: the output of {out.shape[1]} numbers a sample ends in {out.ends}, "
        f"which fixes its size (here {out.std:.2g}).",
        cost=15,
        value=out.std,
    )


def _post(e: Evidence) -> Iterator[Finding]:
    sums = [s for s in e.sums if all(s.varies)]
    # in pre-norm a sum goes on as it is: the next sum takes it up
    closed = [s.path for s in sums if s.normed and not s.carried]
    if len(closed) < 2 or len(closed) < 0.6 * len(sums):
        return
    blocks = _blocks(closed)
    yield POST.found(
        "warning" if blocks >= 12 else "note",
        f"post-norm: {len(closed)} residual sums are normalised before they go on ({blocks} "
        f"block{'s' * (blocks > 1)} in a row); "
        "the gradient decays towards the input, and training needs a warm-up.",
        cost=5,
        value=blocks,
        threshold=12,
    )


def _blocks(paths: Sequence[str]) -> int:
    """Blocks of the longest stack these sums stand in; two sums a block if none is numbered."""
    stacks: dict[str, set[str]] = {}
    for path in paths:
        numbered = re.match(r"(.*\b\d+)(?:\.|$)", path)
        if numbered:
            block = numbered.group(1)  # encoder.layers.3 of the stack encoder.layers.#
            stacks.setdefault(re.sub(r"\b\d+", "#", block), set()).add(block)
    return max(map(len, stacks.values())) if stacks else max(len(paths) // 2, 1)


def _drowned(e: Evidence) -> Iterator[Finding]:
    worst, most = None, 5.0
    for s in e.sums:
        for own, other in ((0, 1), (1, 0)):
            if s.varies[own] and not s.varies[other] and s.sizes[own] > 0:
                ratio = s.sizes[other] / s.sizes[own]
                if ratio > most:
                    worst, most = s, ratio
    if worst is None or e.samples < 2:
        return
    yield DROWNED.found(
        "critical" if most > 100 else "warning" if most > 10 else "note",
        f"drowned summand: in {worst.path or 'forward'!r} a part that is the same for every "
        f"sample is {most:.3g} times the part that carries the data ({most**2:.3g} in variance; "
        "the limit is 5).",
        cost=80,
        value=most,
        threshold=5.0,
        where=(worst.path,),
    )


RULES = (_stale, _one, _drowned, _last, _post)
