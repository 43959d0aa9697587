"""The optimiser along training: its edge, the size of its steps, what it steps at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from kadanoff.diagnosis.kinds import kind
from kadanoff.diagnosis.result import Finding
from kadanoff.watching.film import Film

__all__ = ["RULES"]

EDGE = kind(
    "KD1531",
    "above-the-edge",
    "The sharpness is above the edge of the optimiser",
    what="Along the stiffest direction each step overshoots. At the edge itself training goes on "
    "well, with a loss that is not monotone (Cohen et al. 2021); far above it the loss runs away.",
    measured="Largest eigenvalue of the Hessian on the watched batch, by power iteration carried "
    "on from look to look (a lower bound), against 2(1+β)/η for SGD; preconditioned, against "
    "2(1+β₁)/((1−β₁)η), for Adam. A batch smaller than the one trained on overstates it.",
    threshold="Above the edge at three measurements in a row: a note. A warning if it is twice "
    "the edge and the loss has not fallen since.",
    remedy="Lower the learning rate, or warm it up more slowly.",
    makes=("loss-diverges", "loss-spike"),
)
LARGE = kind(
    "KD1532",
    "updates-too-large",
    "Each step replaces much of the weights",
    what="Where one step changes the weights by a tenth of their size, the gradient no longer "
    "describes where it leads.",
    measured="|Δw|/|w| of a real step, median over the weight matrices.",
    threshold="Above 0.1 at three looks in a row, with a loss that has not fallen by a tenth. "
    "About 10⁻³ is usual.",
    remedy="Lower the learning rate.",
    makes=("loss-diverges", "units-die"),
)
STILL = kind(
    "KD1533",
    "weights-stand-still",
    "Steps are taken, but the weights do not change",
    what="Updates are lost in rounding (small steps on bfloat16 weights), gradients are zero, or "
    "the optimiser holds other tensors than the model.",
    measured="|Δw|/|w| of a real step, median over the weight matrices.",
    threshold="Below 10⁻⁹ at three looks in a row while the rate is not zero, with a loss that has "
    "not halved.",
    remedy="Keep the weights in float32 (autocast the forward pass); check which parameters the "
    "optimiser was given.",
)
ELSEWHERE = kind(
    "KD1534",
    "another-model-trained",
    "The loop trains something else",
    what="The model that is watched takes no part in the loop: it was replaced, copied or wrapped "
    "after the watch was opened.",
    measured="Steps of optimisers that hold none of its parameters; at the end of the loop, that "
    "no step of it was seen.",
    threshold="As many steps in a row as lie between two looks; at the end, none at all.",
    remedy="Open the watch on the model that is trained, after the optimiser was made; with a "
    "hand-written update call w.step(loss).",
)
SKIPPED = kind(
    "KD1535",
    "scaler-skips",
    "The gradient scaler skips every step",
    what="Scaled gradients overflow at each backward pass, so that no step is taken.",
    measured="Backward passes of a scaled loss since the last step of the optimiser.",
    threshold="25 in a row; a scaler needs about 16 to come down from 65,536 to 1.",
    remedy="Look for what is infinite without the scaler: run a few steps in float32 or bfloat16.",
)


def _edge(film: Film) -> Iterator[Finding]:
    steps, ratios = film.scalar("sharpness_over_edge")
    if len(ratios) < 3 or min(ratios[-3:]) <= 1:
        return
    first = len(ratios) - 1
    while first > 0 and ratios[first - 1] > 1:
        first -= 1
    since = steps[first]
    _, sharpness = film.scalar("sharpness", 1)
    _, edge = film.scalar("edge", 1)
    losses = dict(zip(*film.scalar("loss")))
    worse = losses[steps[-1]] >= losses[since]
    name = "2(1+β₁)/((1−β₁)η)" if "Adam" in film.recipe else "2/η"
    if "momentum" in film.recipe:
        name = "2(1+β)/η"
    numbers = f" ({sharpness[-1]:.3g} against {edge[-1]:.3g} now)" if sharpness and edge else ""
    yield EDGE.found(
        "warning" if min(ratios[-3:]) > 2 and worse else "note",
        f"above the edge: the sharpness is above {name} since step {since:,}{numbers}"
        f"{', and the loss has not fallen since' if worse else ''}.",
        cost=50,
        value=ratios[-1],
        threshold=1,
    )


def _large(film: Film) -> Iterator[Finding]:
    _, values = film.scalar("update_ratio", 3)
    _, losses = film.scalar("loss")
    if len(values) < 3 or min(values) <= 0.1 or losses[-1] < 0.9 * losses[0]:
        return
    yield LARGE.found(
        "warning",
        f"updates too large: a step changes the weights by {100 * values[-1]:.0f} % "
        "(median over the matrices; about 0.1 % is usual), and the loss has not fallen.",
        cost=400,
        value=values[-1],
        threshold=0.1,
    )


def _still(film: Film) -> Iterator[Finding]:
    _, values = film.scalar("update_ratio", 3)
    _, rates = film.scalar("rate", 3)
    _, losses = film.scalar("loss")
    if len(values) < 3 or max(values) >= 1e-9 or not rates or min(rates) <= 0:
        return
    if losses[-1] < 0.5 * losses[0]:  # it has converged
        return
    yield STILL.found(
        "warning",
        f"weights stand still: with a rate of {rates[-1]:.2g} a step changes them by "
        f"{values[-1]:.1e} of their size.",
        cost=600,
        value=values[-1],
        threshold=1e-9,
    )


def _elsewhere(film: Film) -> Iterator[Finding]:
    foreign = int(film.facts.get("foreign", 0))
    ended = bool(film.facts.get("ended"))
    if foreign:
        said = f"{foreign:,} steps in a row were taken by an optimiser that holds none of its"
        said += " parameters"
    elif ended and film.step == 0 and not film.facts.get("skipped"):
        said = "the loop ended, and no step of it was seen"
    else:
        return
    yield ELSEWHERE.found(
        "warning", f"not the model that is trained: {said}.", cost=3e3, value=foreign
    )


def _skipped(film: Film) -> Iterator[Finding]:
    count = film.facts.get("skipped", 0)
    if count:
        yield SKIPPED.found(
            "warning",
            f"the gradient scaler has skipped {count:.0f} steps in a row.",
            cost=2e3,
            value=count,
            threshold=25,
        )


RULES: tuple[Callable[[Film], Iterator[Finding]], ...] = (
    _edge,
    _large,
    _still,
    _elsewhere,
    _skipped,
)
