"""Attention along training: logits that grow, entropies that collapse."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kadanoff.diagnosis.kinds import kind
from kadanoff.diagnosis.result import Finding
from kadanoff.watching.film import Film
from kadanoff.watching.growth import about, doubling

__all__ = ["RULES"]

FLOAT16 = 65504.0
TAIL = 12  # frames

GROWS = kind(
    "KD1511",
    "logits-grow",
    "Attention logits grow exponentially",
    what="Query and key weights feed each other's growth; each softmax picks one position, its "
    "gradient vanishes, and the training of large transformers breaks down (Dehghani et al. "
    "2023, Wortsman et al. 2023).",
    measured="Largest magnitude among the scores of each attention on the watched batch, at each "
    "look, and a fit of exponential growth to the last eight.",
    threshold="Above 50, surely growing (slope four standard errors above zero), and float16 "
    "would overflow (65,504) within as many steps as were taken, or within 2,000. Critical if "
    "training runs in float16 or the logits are above 1,000.",
    remedy="Normalise queries and keys (QK-norm), lower the rate, raise the weight decay on their "
    "weights, or cap the logits.",
    makes=("attention-collapses", "not-finite-in-training", "loss-spike"),
)
COLLAPSES = kind(
    "KD1512",
    "attention-collapses",
    "Attention collapses onto single positions",
    what="Each query attends to one position; queries and keys get almost no gradient any more.",
    measured="Mean entropy of the attention weights over its maximum, on the watched batch, and "
    "the largest logit.",
    threshold="Below 0.05 for three looks, after having been above 0.3, with logits above 50. "
    "Trained heads that point at one token have logits of 10 to 30.",
    remedy="Normalise queries and keys, lower the rate, or warm it up.",
)


def _grows(film: Film) -> Iterator[Finding]:
    horizon = max(2000, film.step)
    found = []
    for name in film.names("max_logit"):
        steps, values = film.layer("max_logit", name, TAIL)
        if not values or not values[-1] > 50:
            continue
        growth = doubling(steps, values)
        if growth is not None and growth.until(FLOAT16) < horizon:
            found.append((growth.until(FLOAT16), name, values[-1], growth))
    if found:
        left, name, value, growth = min(found, key=lambda item: item[0])
        half = "float16" in film.precision and "bfloat16" not in film.precision
        overflow = "float16 overflows" if half else "float16 would overflow"
        yield GROWS.found(
            "critical" if half or value > 1000 else "warning",
            f"attention logits grow: the largest in {name!r} is {value:.3g} and "
            f"{growth.pace}{_others(len(found))}; {overflow} in about {about(left)} steps.",
            cost=2e3,
            value=growth.steps,
            stderr=growth.stderr,
            threshold=FLOAT16,
            where=[name for _, name, *_ in found],
        )


def _others(count: int) -> str:
    return f" (so in {count} attentions)" if count > 1 else ""


def _collapses(film: Film) -> Iterator[Finding]:
    found = []
    for name in film.names("entropy"):
        _, values = film.layer("entropy", name)
        _, logits = film.layer("max_logit", name, 1)
        if len(values) < 4 or max(values[-3:]) >= 0.05 or max(values) < 0.3:
            continue
        if logits and logits[-1] > 50:
            found.append((values[-1], max(values), logits[-1], name))
    if found:
        now, best, logit, name = min(found)
        yield COLLAPSES.found(
            "warning",
            f"attention collapses: the entropy in {name!r} fell from {best:.2f} to {now:.3f} of "
            f"its maximum{_others(len(found))}; the largest logit is {logit:.3g}.",
            cost=100,
            value=now,
            threshold=0.05,
            where=[name for *_, name in found],
        )


RULES: tuple[Callable[[Film], Iterator[Finding]], ...] = (_grows, _collapses)
