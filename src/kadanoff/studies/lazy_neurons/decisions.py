"""What is held against each claim's criterion: directions by t over seeds, numbers by error."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kadanoff.studies.claims import Baseline, Measured
from kadanoff.studies.lab import Lab
from kadanoff.studies.lazy_neurons.parts import NOISE, on_digits

__all__ = [
    "Numbers",
    "Runs",
    "at_step",
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
Plain = Mapping[float, Mapping[str, Numbers]]
"""Accuracies of learners without a network, by label noise."""


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


def emergence(lab: Lab, found: Runs) -> None:
    """Half active at the start, fewer and fewer later, on new text as on old."""
    text = found["text"]
    start, end = [r["start"] for r in text], [r["end"] for r in text]
    steps = text[0]["steps"]
    lab.decide("init", Measured(*mean_error([100 * v for v in start])), note="Before training.")
    note = f"Text decoder, {steps[-1]} steps, {len(text)} seeds."
    lab.decide("emergence", Measured.over(minus(end, start), 100), note=note)
    late = minus(at_step(text, steps[-1]), at_step(text, steps[-2]))
    last = mean_error([100 * r["last"] for r in text])
    lab.decide(
        "few",
        Measured.over(end, 100),
        Measured.over(late, 100),
        note=f"Mean of the blocks after {steps[-1]} steps; last block {last[0]:.1f} ± "
        f"{last[1]:.1f}. Models of the paper's size and training length are out of reach here.",
        baseline=Baseline("the same network untrained", 100 * mean_error(start)[0]),
    )
    lab.decide("flops", Measured.over([100 * (1 - v) for v in end]), note=note)
    lab.decide("frequencies", Measured.over([r["rare"] for r in text], 100), note=note)
    lab.decide("alive", Measured.over([r["never"] for r in text], 100), note=note)
    lab.decide("unseen", Measured.over(minus([r["seen"] for r in text], end), 100), note=note)
    ends = [min(r["first"], r["last"]) - _average(r["active"][-1][1:-1]) for r in text]
    lab.decide("middle", Measured.over(ends, 100), note=note)


def width_and_depth(lab: Lab, found: Runs, wide: int, narrow: int) -> None:
    """Wider and deeper decoders are sparser, though more neurons fire."""
    early = found["narrow"][0]["steps"][-1]
    text, thin, shallow = (at_step(found[name], early) for name in ("text", "narrow", "shallow"))
    note = f"After {early} steps, width {wide} and {narrow}, {len(text)} seeds."
    lab.decide("wider", Measured.over(minus(text, thin), 100), note=note)
    more = [wide * a - narrow * b for a, b in zip(text, thin)]
    lab.decide("count", Measured.over(more), note=note)
    lab.decide("deeper", Measured.over(minus(text, shallow), 100), note=note)


def causes(lab: Lab, found: Runs) -> None:
    """Sparsity without structure in labels, images or symbols."""
    for claim, name, where in (
        ("labels", "random labels", "ViT on digits"),
        ("images", "random images", "ViT, Gaussian noise for images"),
        ("symbols", "random symbols", "Decoder on eight batches of uniform random symbols"),
        ("endless", "endless chain", "Decoder on a Markov chain, every sample new"),
        ("mlp", "MLP, digits", "Two ReLU layers without norms on digits"),
    ):
        values = change(found, name)
        lab.decide(claim, Measured.over(values, 100), note=f"{where}; {len(values)} seeds.")


def drift(lab: Lab, found: Mapping[str, tuple[float, Numbers]]) -> None:
    """The first gradient lowers every activation, by its closed form, for either loss."""
    least = math.inf
    for loss, claim in (("cross_entropy", "drift-ce"), ("mse", "drift-mse")):
        closed, slopes = found[loss]
        mean, error = mean_error(slopes)
        least = min(least, mean / error)
        lab.decide(claim, Measured(mean / closed, error / closed), note="6,000 random readouts.")
    lab.decide("drift", least, note="Cross-entropy and squared error.")


def top_k_on_text(
    lab: Lab, found: Runs, settings: Mapping[str, Any], counts: Mapping[str, float]
) -> None:
    """A Top-k decoder loses next to nothing."""
    top, dense = found["Top-k text"], found["text"]
    early = top[0]["steps"][-1]
    loss, of_dense = [], []
    for t, d in zip(top, dense):
        of_dense.append(d["losses"][d["steps"].index(early)])
        loss.append(t["losses"][-1] - of_dense[-1])
    # said, not hidden: the two may agree on next to nothing learnt
    little = _average(of_dense) > counts["pairs"]
    lab.decide(
        "parity",
        Measured.over(loss),
        note=f"k = {settings['k']} of {settings['m']}, {early} steps, {len(loss)} seeds. The dense "
        f"decoder has {_average(of_dense):.3f} nats a character"
        + (", no better than counting pairs: both have learnt little by then." if little else "."),
        baseline=Baseline("counts of pairs of characters, nats", counts["pairs"]),
    )


def top_k_against_dense(lab: Lab, found: Runs, plain: Plain) -> None:
    """What Top-k gains on digits: with noisy labels, with noisy images, in calibration."""
    pair = [[r["accuracy"] for r in found[on_digits(0.0, top)]] for top in (False, True)]
    worse = Measured.over(min(pair, key=_average))
    seeds = len(pair[0])
    accuracy = " and ".join(f"{100 * _average(values):.1f} %" for values in pair)
    note = f"Digits, ViT, {seeds} seeds; clean accuracy {accuracy} (dense, Top-k)."
    lab.decide(
        "clean",
        Measured.over(_gain(found, 0.0, "accuracy"), 100),
        Measured.over(pair[0]),
        note=note,
        baseline=_neighbours(plain, 0.0, "15 neighbours"),
    )
    for noise, claim in zip(NOISE[1:], ("noise-40", "noise-80")):
        values = [[r["accuracy"] for r in found[on_digits(noise, top)]] for top in (False, True)]
        dense, top = (100 * _average(v) for v in values)
        lab.decide(
            claim,
            Measured.over(_gain(found, noise, "accuracy"), 100),
            worse,
            note=f"{note} With noisy labels: {dense:.1f} % and {top:.1f} %.",
            baseline=_neighbours(plain, noise, "15 neighbours"),
        )
    for claim in ("gaussian", "impulse", "ece"):
        lab.decide(
            claim,
            Measured.over(_gain(found, 0.0, claim), 100),
            worse,
            note=note,
            baseline=None if claim == "ece" else _neighbours(plain, 0.0, claim),
        )


def _neighbours(plain: Plain, noise: float, key: str) -> Baseline:
    mean, error = mean_error([100 * v for v in plain[noise][key]])
    return Baseline("15 nearest neighbours, accuracy in %", mean, error)


def time_saved(lab: Lab, run: Mapping[str, Any], size: Sequence[int]) -> None:
    """Time saved a token, the text being the same."""
    lab.decide(
        "time",
        Measured(*mean_error([100 * v for v in run["saved"]])),
        float(run["same"]),
        note=f"Top-{size[2]} decoder with d = {size[0]}, d_ff = {size[1]}, one token at a time. "
        "The paper's number is that of a kernel which skips no rows, on a TPU.",
    )


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _gain(found: Runs, noise: float, key: str) -> Numbers:
    """Top-k minus dense, a number a seed."""
    dense, top = (found[on_digits(noise, kind)] for kind in (False, True))
    return minus([r[key] for r in top], [r[key] for r in dense])
