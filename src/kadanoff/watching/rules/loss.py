"""The loss along training: spikes and where they begin, divergence, what is not finite."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import median

from kadanoff.diagnosis.kinds import kind
from kadanoff.diagnosis.result import Finding
from kadanoff.watching.film import Film, Frame
from kadanoff.watching.growth import about, doubling

__all__ = ["RULES", "suspicious"]

NOT_FINITE = kind(
    "KD1501",
    "not-finite-in-training",
    "The loss or a gradient stops being finite",
    what="From this step on the weights are lost: every later loss is NaN.",
    measured="The loss at each backward pass, and the gradient of the first layer, in which a NaN "
    "from anywhere arrives; then the last forward pass is repeated operation by operation, with "
    "the weights still good.",
    threshold="Exact: one NaN or infinity. Gradients that a gradient scaler will skip do not "
    "count.",
    remedy="Stop, go back to a checkpoint before this step, and mend the operation named: "
    "clip gradients, lower the rate, add an epsilon to what is divided, rooted or logged.",
)
DIVERGES = kind(
    "KD1502",
    "loss-diverges",
    "The loss runs away",
    what="Steps overshoot along the stiffest directions, each further than the last.",
    measured="The training loss of the last five steps against the first one, and a fit of "
    "exponential growth to the last ten.",
    threshold="Three times the loss of the first step for five steps and still growing (slope four "
    "standard errors above zero), or a hundred times at any step.",
    remedy="Lower the learning rate below the largest stable one, or warm it up.",
    makes=(
        "not-finite-in-training",
        "units-die",
        "units-saturate",
        "gradient-lost",
        "signal-grows",
        "weights-stand-still",
        "logits-grow",
        "attention-collapses",
        "updates-too-large",
    ),
)
SPIKE = kind(
    "KD1503",
    "loss-spike",
    "The loss spikes",
    what="A part of what was learned is lost within a few steps; large models may not recover.",
    measured="Mean loss of the steps since the last pulse (a fifth of `every`) against the median "
    "of the twenty pulses before it. The layer named is the first by depth whose second moment "
    "has left its course, or else the one whose gradient rose first.",
    threshold="More than eight robust standard deviations and more than a quarter of all that the "
    "loss has come down. Critical if it is back above where training began.",
    remedy="Go back to a checkpoint before it and leave out the batches in between; clip "
    "gradients; lower the rate or Adam's beta2.",
)

BEFORE = 20  # pulses a spike is compared with
FEWEST = 8
QUIET = 5  # frames in which a spike is not said again


def _not_finite(film: Film) -> Iterator[Finding]:
    broken = film.broken
    if broken is None:
        return
    what = {"loss": "the loss is not finite", "gradient": "a gradient is not finite"}
    first = what.get(broken.what, "the loss is not finite")
    course = _course(film)
    yield NOT_FINITE.found(
        "critical",
        f"not finite: {first}{' ' if broken.sentence.startswith('and') else ': '}"
        f"{broken.sentence}{course}.",
        cost=1e5,
        where=[broken.path] if broken.path else [],
    )


def _course(film: Film) -> str:
    """How the loss came there: it may have been running away for some steps."""
    seen = [(s, v) for s, v in film.recent if math.isfinite(v) and v > 0][-10:]
    growth = doubling([s for s, _ in seen], [v for _, v in seen])
    first = film.facts.get("first_loss", math.inf)
    if growth is None or growth.value < 3 * first:
        return ""
    return f"; it {growth.pace} and was {seen[-1][1]:.3g} before"


def _diverges(film: Film) -> Iterator[Finding]:
    first = film.facts.get("first_loss")
    if first is None or len(film.recent) < 2:
        return
    now = film.recent[-1][1]
    growth = doubling(*_columns(film.recent[-10:]))
    far = now > 100 * abs(first) + 1e-3
    low = min(value for _, value in film.recent[-5:])
    steady = len(film.recent) > 5 and growth is not None and low > 3 * abs(first) + 1e-6
    if not far and not steady:
        return
    pace = "" if growth is None else f" and {growth.pace}"
    limit = film.facts.get("limit", math.inf)
    left = "" if growth is None else _overflow(growth.until(limit), film)
    yield DIVERGES.found(
        "critical",
        f"the loss diverges: it began at {first:.3g}, is {now:.3g} now{pace}{left}"
        f"{_edge_then(film)}.",
        cost=1e4,
        value=now,
        threshold=3 * abs(first),
    )


def _overflow(steps: float, film: Film) -> str:
    if not steps < 1000:
        return ""
    return f"; {film.precision.split()[0]} overflows in about {about(steps)} steps"


def _edge_then(film: Film) -> str:
    """The largest stable rate, where a look has found it."""
    steps, edges = film.scalar("edge")
    _, sharp = film.scalar("sharpness")
    _, rates = film.scalar("rate")
    if not steps or not rates or not sharp or not edges[-1] > 0:
        return ""
    stable = rates[-1] * edges[-1] / sharp[-1]
    if not 0 < stable < rates[-1]:
        return ""
    return (
        f"; the rate is {rates[-1]:.2g}, and the largest stable one was {stable:.2g} at step "
        f"{steps[-1]:,}"
    )


# -- spikes --------------------------------------------------------------------------------------


def suspicious(film: Film) -> bool:
    """Whether the last pulse is a spike that deserves a look of its own.

    Parameters
    ----------
    film : Film
    """
    return _spike_height(film) is not None


def _spike_height(film: Film) -> tuple[float, float, float] | None:
    """Loss now, its median before, and how far it had come down; None if it is no spike."""
    seen = [p.loss for p in film.pulses[-BEFORE - 1 :] if math.isfinite(p.loss)]
    first = film.facts.get("first_loss")
    if len(seen) <= FEWEST or first is None or not math.isfinite(film.pulses[-1].loss):
        return None
    *before, now = seen
    middle = median(before)
    scatter = 1.4826 * median(abs(v - middle) for v in before)
    descent = first - min(before)
    if descent <= 0 or now - middle <= max(8 * scatter, 0.25 * descent):
        return None
    return now, middle, descent


def _spike(film: Film) -> Iterator[Finding]:
    found = _spike_height(film)
    if found is None:
        return
    said = [e.step for e in film.events if e.finding.code == SPIKE.code]
    if said and film.step - said[-1] < QUIET * film.every:
        return
    now, middle, descent = found
    layer, how = _beginning(film)
    share = (now - middle) / descent
    where = f"; it begins in {layer!r}, {how}" if layer else ""
    back = now > film.facts["first_loss"]
    yield SPIKE.found(
        "critical" if back else "warning",
        f"loss spike: {middle:.3g} → {now:.3g}, {100 * share:.0f} % of all it had come down"
        f"{where}.",
        cost=500,
        value=now,
        threshold=middle + 0.25 * descent,
        where=[layer] if layer else [],
    )


def _beginning(film: Film) -> tuple[str, str]:
    """The layer in which a spike begins, and by what it shows."""
    if len(film.frames) > 1 and film.frames[-1].step == film.step:
        before, now = film.frames[-2], film.frames[-1]
        for name in film.names("second_moment"):
            change = _moved(before, now, name)
            usual = [
                abs(_moved(a, b, name) or 0.0)
                for a, b in zip(film.frames[-8:-2], film.frames[-7:-1])
            ]
            custom = median(usual) if usual else 0.0
            if change is not None and abs(change) > max(4 * custom, 0.4):
                return name, f"whose second moment changed by a factor {math.exp(change):.2g}"
    return _by_gradient(film)


def _moved(before: Frame, now: Frame, name: str) -> float | None:
    old = before.layers.get("second_moment", {}).get(name, 0.0)
    new = now.layers.get("second_moment", {}).get(name, 0.0)
    return math.log(new / old) if old > 0 and new > 0 and math.isfinite(new) else None


def _by_gradient(film: Film) -> tuple[str, str]:
    pulses = film.pulses[-BEFORE - 1 :]
    for place in range(max(len(pulses) - 3, 1), len(pulses)):
        rises = {}
        for name, size in pulses[place].gradients.items():
            usual = [p.gradients[name] for p in pulses[:-3] if p.gradients.get(name, 0.0) > 0]
            if usual and math.isfinite(size):
                rises[name] = size / median(usual)
        if rises and max(rises.values()) > 4:
            name = max(rises, key=lambda n: rises[n])
            return name, f"whose gradient rose by a factor {rises[name]:.2g}"
    return "", ""


def _columns(pairs: list[tuple[int, float]]) -> tuple[list[int], list[float]]:
    return [s for s, _ in pairs], [v for _, v in pairs]


RULES: tuple[Callable[[Film], Iterator[Finding]], ...] = (_not_finite, _diverges, _spike)
