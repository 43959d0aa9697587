"""Activations along training: units that die or saturate, signals that grow without end."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from kadanoff.diagnosis.kinds import kind
from kadanoff.diagnosis.result import Finding
from kadanoff.watching.film import Film
from kadanoff.watching.growth import about, doubling

__all__ = ["RULES"]

TAIL = 12  # frames
LOOKBACK = 5  # frames over which deaths are counted

DYING = kind(
    "KD1521",
    "units-die",
    "Units die",
    what="A unit that is silent for every input gets no gradient and stays so: the layer has "
    "become narrower for good.",
    measured="Share of an activation's units that give 0 for every sample looked at, at each look "
    "(where it is above 5 %, on up to 256 samples of the batch), against five looks earlier.",
    threshold="A tenth of the units within five looks: a note; a warning if half of the layer is "
    "dead, critical above nine tenths. Of 20 healthy families, two lost up to 40 % of a layer.",
    remedy="Lower the rate, clip gradients, shrink negative biases, or use an activation that "
    "never falls silent (GELU, leaky ReLU). Units that are dead can be drawn anew.",
    makes=("gradient-lost",),
)
SATURATES = kind(
    "KD1522",
    "units-saturate",
    "Units saturate",
    what="Values on the plateau of tanh or a sigmoid pass no gradient.",
    measured="Share of an activation's values with a derivative below a twentieth of the largest, "
    "on the watched batch.",
    threshold="Above 0.9 for three looks, after having been below 0.5.",
    remedy="Lower the rate, or decay the weights; normalise in front of the activation.",
    makes=("gradient-lost",),
)
OVERFLOWS = kind(
    "KD1523",
    "signal-grows",
    "A signal grows until it overflows",
    what="Activations that double again and again end beyond the largest number of the precision "
    "used, or drown whatever is added to them.",
    measured="Largest magnitude of each layer's output on the watched batch, and a fit of "
    "exponential growth to the last eight looks.",
    threshold="Surely growing, a thousand times the first look, and at the limit of the precision "
    "(in float32 and bfloat16: of float16, 65,504) within as many steps as were taken, or 2,000.",
    remedy="Lower the rate or decay the weights of the layers before it; add a norm.",
    makes=("not-finite-in-training", "loss-spike"),
)
LOST = kind(
    "KD1524",
    "gradient-lost",
    "A layer no longer gets a gradient",
    what="It trained, and does not train any more: everything behind it is silent, cut or frozen.",
    measured="Gradient of the loss on the watched batch by layer.",
    threshold="Exactly zero for three looks, after it was not; the model as a whole still has one.",
    remedy="See which activation behind it died; lower the rate; go back to a checkpoint.",
)


def _dying(film: Film) -> Iterator[Finding]:
    found = []
    for name in film.names("dead"):
        steps, values = film.layer("dead", name, LOOKBACK + 1)
        if len(values) < 2:
            continue
        lowest = min(range(len(values) - 1), key=lambda i: values[i])
        died = values[-1] - values[lowest]
        if died >= 0.1:
            found.append((values[-1], died, steps[-1] - steps[lowest], name))
    if not found:
        return
    now, died, steps_ago, name = max(found)
    yield DYING.found(
        "critical" if now >= 0.9 else "warning" if now >= 0.5 else "note",
        f"units die: {100 * died:.0f} % of the units of {name!r} died in the last {steps_ago:,} "
        f"steps; {100 * now:.0f} % are dead now{_others(len(found))}.",
        cost=300 * now,
        value=now,
        threshold=0.5,
        where=[name for *_, name in found],
    )


def _others(count: int) -> str:
    return f" (so in {count} layers)" if count > 1 else ""


def _saturates(film: Film) -> Iterator[Finding]:
    found = []
    for name in film.names("saturated"):
        _, values = film.layer("saturated", name)
        if len(values) >= 4 and min(values[-3:]) > 0.9 and min(values) < 0.5:
            found.append((values[-1], min(values), name))
    if not found:
        return
    now, best, name = max(found)
    yield SATURATES.found(
        "warning",
        f"units saturate: {100 * now:.0f} % of the values of {name!r} are on the plateau, "
        f"{100 * best:.0f} % were at best{_others(len(found))}.",
        cost=200,
        value=now,
        threshold=0.9,
        where=[name for *_, name in found],
    )


def _overflows(film: Film) -> Iterator[Finding]:
    horizon = max(2000, film.step)
    limit = min(film.facts.get("limit", math.inf), 65504.0)
    found = []
    for name in film.names("peak"):
        steps, values = film.layer("peak", name, TAIL)
        start = film.frames[0].layers.get("peak", {}).get(name, math.inf)
        if not values or not values[-1] > max(1000 * start, 100):
            continue
        growth = doubling(steps, values)
        if growth is not None and growth.until(limit) < horizon:
            found.append((growth.until(limit), name, values[-1], growth))
    if not found:
        return
    left, name, value, growth = min(found, key=lambda item: item[0])
    half = film.facts.get("limit", math.inf) < 1e5
    overflow = "float16 overflows" if half else "float16 would overflow"
    more = f" ({len(found)} layers do)" if len(found) > 1 else ""
    yield OVERFLOWS.found(
        "critical" if half else "warning",
        f"a signal grows: the output of {name!r} reaches {value:.3g} and "
        f"{growth.pace}{more}; {overflow} in about {about(left)} steps.",
        cost=1e3,
        value=value,
        threshold=limit,
        where=[name for _, name, *_ in found],
    )


def _lost(film: Film) -> Iterator[Finding]:
    # only looks in which the model as a whole has a gradient tell
    frames = [f for f in film.frames if f.scalars.get("probe_gradient", 0.0) > 0]
    if len(frames) < 4:
        return
    gone = []
    for name in film.names("gradient"):
        values = [f.layers["gradient"].get(name) for f in frames]
        seen = [v for v in values if v is not None]
        if len(seen) >= 4 and max(seen[-3:]) == 0 and max(seen) > 0:
            gone.append(name)
    if gone:
        shown = ", ".join(repr(name) for name in gone[:3]) + (" …" if len(gone) > 3 else "")
        yield LOST.found(
            "critical" if len(gone) > len(film.names("gradient")) / 2 else "warning",
            f"gradient lost: {shown} got a gradient and {'get' if len(gone) > 1 else 'gets'} none "
            "any more.",
            cost=250,
            value=len(gone),
            threshold=0,
            where=gone,
        )


RULES: tuple[Callable[[Film], Iterator[Finding]], ...] = (_dying, _saturates, _overflows, _lost)
