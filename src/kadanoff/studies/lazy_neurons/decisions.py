"""What decides each claim: a direction by Student's t over seeds, a number by its error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kadanoff.studies.lab import Lab
from kadanoff.studies.lazy_neurons.parts import NOISE, on_digits

__all__ = [
    "Numbers",
    "Runs",
    "at_step",
    "by_sign",
    "causes",
    "change",
    "drift",
    "emergence",
    "mean_error",
    "minus",
    "time_saved",
    "top_k_against_dense",
    "top_k_on_text",
    "width_and_depth",
]

Numbers = list[float]
Runs = Mapping[str, list[dict[str, Any]]]
"""The rows of each cell, one a seed."""

# Student's t at 97.5 %, by degrees of freedom
_T = (math.inf, 12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306)


def mean_error(values: Sequence[float]) -> tuple[float, float]:
    """Mean over seeds and its standard error."""
    n = len(values)
    mean = sum(values) / n
    return mean, math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1) / n)


def minus(a: Numbers, b: Numbers) -> Numbers:
    """Differences, seed by seed."""
    return [x - y for x, y in zip(a, b)]


def at_step(rows: list[dict[str, Any]], step: int) -> Numbers:
    """Mean active fraction over blocks at a step, a number a seed."""
    return [_average(row["active"][row["steps"].index(step)]) for row in rows]


def change(found: Runs, name: str) -> Numbers:
    """Active fraction at the end minus that at the start, a number a seed."""
    return [r["end"] - r["start"] for r in found[name]]


def by_sign(
    lab: Lab, claim: str, values: Numbers, sign: int, note: str, shown: float = 1.0
) -> None:
    """Decide by the sign of the mean of ``values``, a number a seed; ``shown`` scales them."""
    mean, error = mean_error(values)
    clear = abs(mean) > _T[len(values) - 1] * error
    text = f"{note} Mean of {len(values)} seeds."
    if not clear:
        text += " No direction at this size: the difference is within its error."
    holds = mean * sign > 0 if clear else None
    lab.decide(claim, holds=holds, value=shown * mean, stderr=shown * error, note=text)


def emergence(lab: Lab, found: Runs) -> None:
    """Half active at the start, fewer and fewer later, on new text as on old."""
    text = found["text"]
    start, end = [r["start"] for r in text], [r["end"] for r in text]
    lab.compare(
        "init",
        *mean_error([100 * v for v in start]),
        systematic=1.0,
        note="Text decoders before training; 1 point for the finite width.",
    )
    words = "Text decoder, end minus start, points."
    by_sign(lab, "emergence", minus(end, start), -1, words, 100)
    mean, error = mean_error([100 * v for v in end])
    last = mean_error([100 * r["last"] for r in text])
    lab.decide(
        "few",
        holds=True if mean + 4 * error < 6.3 else None,
        value=mean,
        stderr=error,
        note=f"Percentage active, mean of the blocks after {text[0]['steps'][-1]} steps (last "
        f"block {last[0]:.1f} ± {last[1]:.1f}) and still falling: models of the paper's size and "
        "training length are out of reach here.",
    )
    mean, error = mean_error([r["never"] for r in text])
    lab.decide(
        "alive",
        holds=True if mean + 4 * error < 0.05 else False if mean - 4 * error > 0.05 else None,
        value=mean,
        stderr=error,
        note="Fraction of neurons that fire on none of the held-out tokens of the "
        "probe; the claim is taken to hold below 5%.",
    )
    gap = minus([r["seen"] for r in text], end)
    mean, error = mean_error(gap)
    lab.decide(
        "unseen",
        holds=abs(mean) + _T[len(gap) - 1] * error < 0.02 or None,
        value=mean,
        stderr=error,
        note="Training minus held-out text; same within 0.02.",
    )
    ends = [min(r["first"], r["last"]) - _average(r["active"][-1][1:-1]) for r in text]
    by_sign(lab, "middle", ends, 1, "Sparser of the two end blocks minus the middle one.", 100)


def width_and_depth(lab: Lab, found: Runs, wide: int, narrow: int) -> None:
    """Wider and deeper decoders are sparser, though more neurons fire."""
    early = found["narrow"][0]["steps"][-1]
    text, thin, shallow = (at_step(found[name], early) for name in ("text", "narrow", "shallow"))
    words = f"Wide minus narrow after {early} steps, points."
    by_sign(lab, "wider", minus(text, thin), -1, words, 100)
    more = [wide * a - narrow * b for a, b in zip(text, thin)]
    by_sign(lab, "count", more, 1, f"Neurons a token and block, width {wide} minus {narrow}.")
    words = f"Three blocks minus one after {early} steps, points."
    by_sign(lab, "deeper", minus(text, shallow), -1, words, 100)


def causes(lab: Lab, found: Runs) -> None:
    """Sparsity without structure in labels, images or symbols."""
    words = "active fraction, end minus start, points."
    for claim, name, where in (
        ("labels", "random labels", "ViT on digits"),
        ("images", "random images", "ViT, Gaussian noise for images"),
        ("symbols", "random symbols", "Decoder on eight batches of uniform random symbols"),
        ("endless", "endless chain", "Decoder on a Markov chain, every sample new"),
        ("mlp", "MLP, digits", "Two ReLU layers without norms on digits"),
    ):
        by_sign(lab, claim, change(found, name), -1, f"{where}, {words}", 100)


def drift(lab: Lab, found: Mapping[str, tuple[float, Numbers]]) -> None:
    """The first gradient lowers every activation, by its closed form, for either loss."""
    least = math.inf
    for loss, claim in (("cross_entropy", "drift-ce"), ("mse", "drift-mse")):
        closed, slopes = found[loss]
        mean, error = mean_error(slopes)
        least = min(least, mean / error)
        lab.compare(
            claim,
            mean / closed,
            error / closed,
            resolution=0.05,
            note="Slope of the mean gradient against the activation over its closed form; "
            "6,000 random readouts.",
        )
    lab.decide(
        "drift",
        holds=least > 4,
        value=least,
        note="Smaller of the two mean slopes, in standard errors above zero.",
    )


def top_k_on_text(lab: Lab, found: Runs, settings: Mapping[str, Any]) -> None:
    """A Top-k decoder loses next to nothing."""
    top, dense = found["Top-k text"], found["text"]
    early = top[0]["steps"][-1]
    loss = []
    for t, d in zip(top, dense):
        loss.append(t["losses"][-1] - d["losses"][d["steps"].index(early)])
    mean, error = mean_error(loss)
    margin = _T[len(loss) - 1] * error
    worse = mean - margin > 0 and mean > 0.05
    lab.decide(
        "parity",
        holds=False if worse else mean + margin < 0.1 or None,
        value=mean,
        stderr=error,
        note=f"Loss with k = {settings['k']} of {settings['m']} minus that without, nats a "
        f"character, after {early} steps; on par if below 0.1 with its error.",
    )


def top_k_against_dense(lab: Lab, found: Runs) -> None:
    """What Top-k gains on digits: with noisy labels, with noisy images, in calibration."""
    clean = _gain(found, 0.0, "accuracy")
    mean, error = mean_error([100 * v for v in clean])
    margin = _T[len(clean) - 1] * error
    lab.decide(
        "clean",
        holds=False if mean + margin < -1 else mean - margin > -1 or None,
        value=mean,
        stderr=error,
        note="Digits, ViT: Top-k minus dense, points; on par if no more than 1 point is lost.",
    )
    for noise, claim in zip(NOISE[1:], ("noise-40", "noise-80")):
        gain = _gain(found, noise, "accuracy")
        beyond = mean_error([100 * v for v in minus(gain, clean)])
        words = (
            "Digits, ViT: Top-k minus dense, points; beyond what it "
            f"gains without noise {beyond[0]:.1f} ± {beyond[1]:.1f}."
        )
        by_sign(lab, claim, gain, 1, words, 100)
    words = "Digits, ViT, no label noise: Top-k minus dense, points."
    for claim, sign in (("gaussian", 1), ("impulse", 1), ("ece", -1)):
        by_sign(lab, claim, _gain(found, 0.0, claim), sign, words, 100)


def time_saved(lab: Lab, run: Mapping[str, Any], size: Sequence[int]) -> None:
    """Time saved a token, the text being the same."""
    mean, error = mean_error([100 * v for v in run["saved"]])
    lab.decide(
        "time",
        holds=None if not run["same"] else mean - 4 * error > 10,
        value=mean,
        stderr=error,
        note=f"Percent of the time a token, Top-{size[2]} decoder with d = {size[0]}, d_ff = "
        f"{size[1]}, one token at a time; the same text with and without. The paper's number is "
        "that of a kernel which skips no rows, on a TPU.",
    )


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _gain(found: Runs, noise: float, key: str) -> Numbers:
    """Top-k minus dense, a number a seed."""
    dense, top = (found[on_digits(noise, kind)] for kind in (False, True))
    return minus([r[key] for r in top], [r[key] for r in dense])
