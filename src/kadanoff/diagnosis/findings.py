"""From evidence to findings: run every rule, settle severities, put causes before consequences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from kadanoff.diagnosis.evidence import Evidence
from kadanoff.diagnosis.kinds import KINDS
from kadanoff.diagnosis.result import Finding, TrialReport
from kadanoff.diagnosis.rules import RULES
from kadanoff.diagnosis.rules.depth import MIN_DEPTH
from kadanoff.style.numbers import uncertain

__all__ = ["RULES", "examine", "order", "settle"]

EARLY = "evaluation-before-training"
# what fitting the batch does not show: it costs on other data
_UNSEEN = {"loss-at-start", "attention-saturated", "inputs-unscaled"}
# mistakes that take away a part of the net, or of what it can reach
_PARTS = {
    "softmax-before-cross-entropy",
    "squashed-logits",
    "output-cannot-reach-targets",
    "unregistered",
    "detached",
    "zero-gradient",
    "not-in-optimizer",
    "symmetric-weights",
    "attention-without-scale",
    "vanishing-in-time",
}
STUCK = "does-not-learn"
FAR = 20.0  # times the loss of a constant output
_RANK = {"critical": 0, "warning": 1, "note": 2}


def examine(evidence: Evidence) -> tuple[tuple[Finding, ...], str]:
    """Findings, causes first, and the verdict in one sentence."""
    found = [finding for rule in RULES for finding in rule(evidence)]
    ordered = order(settle(found, evidence.trial, evidence.trained))
    worst = next((f for f in ordered if f.severity != "note"), None)
    return ordered, worst.sentence if worst is not None else _healthy(evidence)


def settle(
    found: Iterable[Finding], trial: TrialReport | None, trained: bool = False
) -> list[Finding]:
    """Let what happened in the trial decide how severe a finding is.

    A matter of size: nothing worse than a warning if the net learns in the trial, a note if it
    learns well (unless it shows on other data only); critical if it does not learn, or is still
    twenty times the loss of a constant output away when the trial ends. A mistake that takes a
    part of the net away, or of what it can reach, is a warning if the rest learns. What is named
    as a cause of not learning is as severe as that. What a fresh net shows in evaluation mode is
    not what training starts from: a note. Scales of trained weights are notes: they have done
    their work.

    Parameters
    ----------
    found : iterable of Finding
    trial : TrialReport or None
        None if there was none.
    trained : bool
        Whether the weights are trained.
    """
    found = list(found)
    codes = {finding.code for finding in found}
    stuck = any(f.code == STUCK and f.severity == "critical" for f in found)
    settled = []
    for finding in found:
        severity = finding.severity
        if EARLY in codes and finding.code in KINDS[EARLY].makes:
            severity = "note"
        elif severity != "note" and finding.code in KINDS:
            severity = _settled(finding, trial, trained, stuck)
        settled.append(replace(finding, severity=severity))
    return settled


def _settled(finding: Finding, trial: TrialReport | None, trained: bool, stuck: bool) -> str:
    """The severity of one finding."""
    learns = trial.learns if trial is not None and trial.finite else None
    scale, severe = KINDS[finding.code].scale, finding.severity == "critical"
    if scale and trained:
        return "note"
    if learns is True and trial is not None and finding.code not in _UNSEEN:
        if scale and not severe and _well(trial):
            return "note"
        return "warning" if scale or finding.code in _PARTS else finding.severity
    if stuck and (scale or leads(finding.code, STUCK)):
        return "critical"
    if scale and trial is not None and _far(trial):
        return "critical"
    return finding.severity


def _far(trial: TrialReport) -> bool:
    """Whether a falling loss is still far from what a constant output has."""
    return bool(trial.constant_loss) and trial.losses[-1] > FAR * (trial.constant_loss or 0.0)


def _well(trial: TrialReport) -> bool:
    """Whether it went at least a quarter of the way from knowing nothing to knowing all."""
    last = min(trial.losses[-3:])
    if trial.constant_loss is not None and trial.constant_loss > 0:
        return last < 0.75 * trial.constant_loss
    return last < 0.5 * trial.losses[0]


def order(found: Sequence[Finding]) -> tuple[Finding, ...]:
    """Causes by severity and cost, each followed by what it brings about."""
    codes = {finding.code for finding in found if finding.severity != "note"}
    parents = {finding: _parents(finding, codes) for finding in found}
    marked = [replace(finding, because_of=parents[finding]) for finding in found]
    marked.sort(key=lambda f: (_RANK[f.severity], -f.cost))
    roots = [f for f in marked if not f.because_of]
    out: list[Finding] = []
    for root in roots:
        out.append(root)
        if root.severity == "note":
            continue
        for other in marked:
            if other not in out and other.because_of and leads(root.code, other.code):
                out.append(other)
    out += [f for f in marked if f not in out]
    # notes that are nobody's consequence come last
    return tuple(sorted(out, key=lambda f: f.severity == "note"))


def _parents(finding: Finding, codes: set[str]) -> tuple[str, ...]:
    """Codes found that bring this one about, unless the two bring each other about."""
    return tuple(
        code
        for code in KINDS
        if code in codes
        and code != finding.code
        and leads(code, finding.code)
        and not (leads(finding.code, code) and _before(finding.code, code))
    )


def _before(a: str, b: str) -> bool:
    """Of two kinds that may bring each other about, which counts as the cause."""
    direct_a, direct_b = b in KINDS[a].makes, a in KINDS[b].makes
    if direct_a != direct_b:
        return direct_a
    return list(KINDS).index(a) < list(KINDS).index(b)


def leads(cause: str, effect: str) -> bool:
    """Whether ``cause`` brings ``effect`` about, directly or through others."""
    seen: set[str] = set()
    todo = [cause]
    while todo:
        code = todo.pop()
        if code not in seen and code in KINDS:
            seen.add(code)
            todo += KINDS[code].makes
            if effect in KINDS[code].makes:
                return True
    return False


def _healthy(evidence: Evidence) -> str:
    depth = len(evidence.chain)
    trend = evidence.gradient or evidence.signal
    trial = evidence.trial
    learned = ""
    if trial is not None and trial.learns:
        learned = (
            f"; in {trial.steps} steps on the batch ({trial.recipe}) the loss fell from "
            f"{trial.losses[0]:.3g} to {trial.losses[-1]:.3g}"
        )
    if trend is not None and depth >= MIN_DEPTH and not evidence.trained:
        factor = uncertain(trend.factor, trend.factor_error)
        what = "χ⊥" if evidence.gradient else "the signal changes by"
        scale = (
            f"{trend.scale:.1f}"
            if math.isfinite(trend.scale) and trend.scale < 1e4
            else ("over 10000")
        )
        return (
            f"healthy: {what} = {factor} per layer over the deeper half, depth scale {scale} "
            f"layers in a net of {depth}{learned}."
        )
    state = " (trained weights)" if evidence.trained else ""
    return (
        f"healthy{state}: none of {len(RULES)} rules broke on {len(evidence.layers)} layers, "
        f"{depth} of them on the main signal path{learned}."
    )
