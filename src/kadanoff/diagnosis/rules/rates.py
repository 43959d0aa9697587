"""The optimiser against the model: rate, momentum, decay, and the parameters it holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from kadanoff.diagnosis.evidence import Evidence
from kadanoff.diagnosis.facts import OptimizerFacts
from kadanoff.diagnosis.kinds import kind
from kadanoff.diagnosis.result import Finding, TrialReport
from kadanoff.diagnosis.rules.structure import median, shown

__all__ = ["RULES"]

HIGH = kind(
    "KD201",
    "rate-too-high",
    "The learning rate is too high",
    what="Above 2(1 + β)/λ, with λ the largest curvature and β the momentum, steps overshoot "
    "along the stiffest direction and the loss runs away.",
    measured="Largest eigenvalue of the loss's Hessian on the batch (for Adam and its like, "
    "preconditioned as the optimiser does: Cohen et al. 2022), the edge that follows from it, "
    "and a trial of real steps.",
    threshold="The trial ends above where it began or not finite, or does not learn at a rate "
    "above the edge, while one at least 3 times smaller does; without a trial, the rate is above "
    "the edge.",
    remedy="Lower the rate below the largest stable one; or warm it up.",
    makes=("does-not-learn",),
)
LOW = kind(
    "KD202",
    "rate-too-low",
    "The learning rate is too low",
    what="In the steps planned nothing moves: the weights end where they began.",
    measured="For SGD, rate × largest curvature × steps: by how much the stiffest direction "
    "relaxes; for Adam, rate × steps against the size of the weights. A trial at 10 and 100 "
    "times the rate.",
    threshold="The stiffest direction moves by less than 1/e, or weights by less than 1 %, in the "
    "steps planned (1,000 if not said), and a higher rate learns faster in the trial.",
    remedy="Raise the learning rate: a third of the largest stable one is a good start.",
    makes=("does-not-learn",),
)
MISSING = kind(
    "KD203",
    "not-in-optimizer",
    "Parameters that the optimiser does not hold",
    what="They require a gradient and get one, but no step changes them: the optimiser was made "
    "before they were, or of another copy of the model.",
    measured="Identity of the tensors in the optimiser's groups against model.parameters().",
    threshold="Exact. A warning if some are missing, critical if most are.",
    remedy="Make the optimiser after the model is complete (and on its device): "
    "optimizer = torch.optim.AdamW(model.parameters(), …); or add_param_group.",
    makes=("does-not-learn",),
)
TWICE = kind(
    "KD204",
    "twice-in-optimizer",
    "Parameters that are stepped twice",
    what="A tensor in two groups or two optimisers takes two steps with one gradient.",
    measured="Identity of the tensors in all groups of all optimisers.",
    threshold="Exact.",
    remedy="Pass each parameter once; filter tied weights by id.",
    makes=("rate-too-high",),
)
DECAY = kind(
    "KD205",
    "decay-too-strong",
    "Weight decay wins over the loss",
    what="Decay pulls weights to zero faster than the gradient holds them: the net forgets.",
    measured="For SGD and Adam (decay added to the gradient): decay × |w| against |g|, median over "
    "the weight matrices; for decoupled decay (AdamW): rate × decay × steps planned.",
    threshold="Decay is 10 times the gradient; decoupled: the weights shrink by e in a tenth of "
    "the steps planned (1,000 if not said). The usual 10⁻⁴ … 0.1 is far below.",
    remedy="Use weight_decay between 0 and 0.1 with AdamW, 10⁻⁴ with SGD; none for norms and "
    "biases.",
    makes=("does-not-learn",),
)
SETTINGS = kind(
    "KD206",
    "optimizer-settings",
    "The optimiser cannot work as set",
    what="A rate of 0, a momentum of 1 or more, or maximize=True make it stand still, run away, "
    "or climb the loss.",
    measured="The settings.",
    threshold="Exact.",
    remedy="Set lr > 0, momentum < 1, maximize=False.",
    makes=("does-not-learn", "rate-too-high", "rate-too-low"),
)
STUCK = kind(
    "KD210",
    "does-not-learn",
    "A trial did not learn",
    what="Real steps on one fixed batch did not bring the loss below what a constant output "
    "reaches: the net does not even fit the samples it sees.",
    measured="A trial on a copy: steps with the optimiser given (else Adam at 10⁻³) on the batch, "
    "without changes to the model.",
    threshold="Critical; a warning if another rate learns, a note if moreover the rate is not the "
    "user's but the 10⁻³ tried for want of one. Learning is 3 % below the loss of the best "
    "constant output (10 % below the start, where that is not known).",
    remedy="See the findings above; if there is none, check that inputs and targets belong "
    "together, and try rates from 10⁻⁴ to 10⁻².",
)


def _settings(e: Evidence) -> Iterator[Finding]:
    o = e.optimizer
    if o is None:
        return
    wrong = []
    if o.rate == 0:
        wrong.append("lr = 0")
    if o.momentum >= 1:
        wrong.append(f"momentum = {o.momentum:g} (must be below 1)")
    if o.maximize:
        wrong.append("maximize = True")
    if wrong:
        yield SETTINGS.found(
            "critical",
            f"optimizer settings: {o.name} has {', '.join(wrong)}.",
            cost=2e3,
            value=o.rate,
        )


def _missing(e: Evidence) -> Iterator[Finding]:
    o = e.optimizer
    if o is None:
        return
    if o.missing:
        share = len(o.missing) / max(len(e.trainable), 1)
        extra = f"; it holds {o.foreign} that are not the model's" if o.foreign else ""
        yield MISSING.found(
            "critical" if share > 0.5 else "warning",
            f"not in the optimizer: {o.name} lacks {len(o.missing)} of {len(e.trainable)} "
            f"trainable parameters ({shown(o.missing)}){extra}.",
            cost=1.2e3,
            value=len(o.missing),
            threshold=0,
            where=o.missing,
        )
    if o.twice:
        yield TWICE.found(
            "warning",
            f"twice in the optimizer: {shown(o.twice)} (once each may be).",
            cost=500,
            value=len(o.twice),
            threshold=0,
            where=o.twice,
        )


def _high(e: Evidence) -> Iterator[Finding]:
    o, t = e.optimizer, e.trial
    if o is None or not o.rate > 0:
        return
    if t is not None and t.rate is not None:
        yield from _high_in_trial(e, o, t, t.rate)
    elif e.edge is not None and o.rate > e.edge:
        yield HIGH.found(
            "critical" if o.rate > 3 * e.edge else "warning",
            f"rate too high: lr = {o.rate:g}, and the largest stable rate of {o.name} at the start "
            f"is at most {e.edge:.2g}.",
            f"Set lr to {e.edge / 3:.1g}.",
            cost=900,
            value=o.rate,
            threshold=e.edge,
        )


def _high_in_trial(
    e: Evidence, o: OptimizerFacts, t: TrialReport, used: float
) -> Iterator[Finding]:
    over = t.edge is not None and o.rate > t.edge and t.learns is False
    bad = over or _ran_away(t.losses, t.finite)
    good = [rate for rate, last in e.ladder if rate < 0.4 * o.rate and _fine(t, last)]
    best = _learned(e, lambda rate: rate < 0.4 * used)
    higher = _learned(e, lambda rate: rate > used)
    bad = bad or (t.learns is False and bool(best) and not higher)
    good = best or good
    if not bad or not good:
        return
    edge = f" (largest stable rate at the start: {t.edge:.2g})" if t.edge else ""
    end = f"{t.losses[-1]:.3g}" if t.finite and math.isfinite(t.losses[-1]) else "infinity"
    yield HIGH.found(
        "critical",
        f"rate too high: with {t.recipe} the loss goes from {t.losses[0]:.3g} to {end} in "
        f"{t.steps} steps; at {max(good):.2g} it learns{edge}.",
        f"Set lr to {min(max(good), t.edge or math.inf):.1g} or below.",
        cost=900,
        value=o.rate,
        threshold=t.edge or max(good),
    )


def _learned(e: Evidence, wanted: Callable[[float], bool]) -> list[float]:
    """Other rates at which the trial learned."""
    limit = e.trial.constant_loss if e.trial is not None else None
    if not limit:
        return []
    return [rate for rate, last in e.ladder if wanted(rate) and last < 0.97 * limit]


def _ran_away(losses: tuple[float, ...], finite: bool) -> bool:
    if not finite or not math.isfinite(losses[-1]):
        return True
    start, end = losses[0], min(losses[-3:])
    return end > start + 0.5 * abs(start)


def _fine(trial, last: float) -> bool:
    return math.isfinite(last) and last < trial.losses[0]


def _low(e: Evidence) -> Iterator[Finding]:
    o, t = e.optimizer, e.trial
    if o is None or not o.rate > 0 or t is None or not t.finite:
        return
    if o.adaptive:
        sizes = [p.rms for p in e.parameters if len(p.shape) >= 2 and p.rms > 0]
        moved = o.rate * e.steps / median(sizes) if sizes else math.inf
        little, said = moved < 0.01, f"weights move by at most {moved:.1g} of their size"
    elif t.sharpness is not None and t.sharpness > 0:
        moved = o.rate * t.sharpness * e.steps / (1 - min(o.momentum, 0.999))
        little = moved < 1
        said = f"rate × curvature × steps is {moved:.1g}, the stiffest direction hardly relaxes"
    else:
        return
    faster = [rate for rate, last in e.ladder if rate > o.rate and _fine(t, last)]
    gain = max((t.losses[-1] - last for rate, last in e.ladder if rate > o.rate), default=0.0)
    if little and faster and gain > 3 * max(t.losses[0] - t.losses[-1], 0):
        yield LOW.found(
            "critical",
            f"rate too low: in {e.steps} steps of {t.recipe} {said} (the limit is "
            f"{'1 %' if o.adaptive else '1'}); at {max(faster):.2g} the trial learns.",
            f"Raise lr to about {max(faster):.1g}.",
            cost=850,
            value=o.rate,
            threshold=max(faster),
        )


def _decay(e: Evidence) -> Iterator[Finding]:
    o = e.optimizer
    if o is None or not o.weight_decay > 0 or not o.rate > 0:
        return
    decoupled = o.name.lower() in ("adamw", "nadamw", "lion", "sgdw")
    if decoupled:
        lengths = o.rate * o.weight_decay * e.steps
        if lengths > 10:
            yield DECAY.found(
                "critical" if lengths > 100 else "warning",
                f"decay too strong: rate × weight_decay = {o.rate * o.weight_decay:.2g} a step "
                f"shrinks every weight by e in {1 / (o.rate * o.weight_decay):.0f} steps; the "
                f"limit is a tenth of the {e.steps} planned.",
                cost=200,
                value=o.weight_decay,
                threshold=10 / (o.rate * e.steps),
            )
        return
    pulls = [
        o.weight_decay * p.rms / p.gradient_rms
        for p in e.parameters
        if len(p.shape) >= 2 and p.gradient_rms and p.rms > 0
    ]
    moves = o.adaptive or o.rate * o.weight_decay * e.steps / (1 - min(o.momentum, 0.999)) > 3
    if pulls and median(pulls) > 10 and moves:
        yield DECAY.found(
            "critical" if median(pulls) > 100 else "warning",
            f"decay too strong: weight_decay = {o.weight_decay:g} pulls {median(pulls):.2g} times "
            "as hard as the gradient (median over the weights; the limit is 10).",
            cost=200,
            value=median(pulls),
            threshold=10,
        )


def _stuck(e: Evidence) -> Iterator[Finding]:
    t = e.trial
    if t is None or t.learns is not False or e.constant_targets:
        return
    against = ""
    if t.constant_loss is not None:
        against = f"; a constant output has {t.constant_loss:.3g}, and 3 % less is asked"
    better = [rate for rate, last in e.ladder if t.constant_loss and last < 0.97 * t.constant_loss]
    hint = f"At a rate of {better[0]:.1g} it learns." if better else ""
    own = e.optimizer is not None
    # a rate that nobody chose, where another one does it, says nothing against the net
    yield STUCK.found(
        ("warning" if own else "note") if better else "critical",
        f"does not learn: {t.steps} steps with {t.recipe} on this one batch brought the loss from "
        f"{t.losses[0]:.3g} to {t.losses[-1]:.3g}{against}.",
        hint,
        cost=5,
        value=t.losses[-1],
        threshold=0.97 * t.constant_loss if t.constant_loss else math.nan,
    )


RULES = (_settings, _missing, _high, _low, _decay, _stuck)
