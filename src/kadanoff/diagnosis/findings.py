"""What can be wrong with a net: rules as data, each with its threshold, sentence and remedy.

Every rule compares a measured number, allowing for its uncertainty, with a threshold. The
thresholds are chosen such that power laws in depth and fluctuations at finite width, which
healthy nets have, stay below them; the tests hold them on hundreds of healthy nets.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kadanoff.diagnosis.chain import (
    Trend,
    backward_trend,
    expected_trends,
    gradient_trend,
    hidden_chain,
    signal_trend,
)
from kadanoff.diagnosis.result import Finding, LayerReport
from kadanoff.errors import KadanoffError
from kadanoff.style.numbers import uncertain

__all__ = ["RULES", "Evidence", "Rule", "examine"]


@dataclass(frozen=True)
class Evidence:
    """What the rules look at."""

    layers: tuple[LayerReport, ...]
    chain: tuple[LayerReport, ...]
    gradient: Trend | None
    signal: Trend | None
    backward: Trend | None = None
    batch_normalised: bool = False
    arch: Any = None


@dataclass(frozen=True)
class Rule:
    """One thing that can be wrong.

    Attributes
    ----------
    code : str
    threshold : float
        What the number is held against; ``meaning`` says what it is.
    meaning : str
    check : callable
        ``check(evidence, threshold)`` yields findings.
    """

    code: str
    threshold: float
    meaning: str
    check: Callable[[Evidence, float], Iterator[Finding]]


def examine(
    layers: Sequence[LayerReport], arch: Any = None, batch_normalised: bool = False
) -> tuple[tuple[Finding, ...], str]:
    """Findings, the costliest first, and the verdict in one sentence."""
    chain = tuple(hidden_chain(layers))
    evidence = Evidence(
        tuple(layers),
        chain,
        gradient_trend(chain),
        signal_trend(chain),
        backward_trend(chain),
        batch_normalised,
        arch,
    )
    found = [finding for rule in RULES for finding in rule.check(evidence, rule.threshold)]
    found.sort(key=lambda finding: -finding.cost)
    return tuple(found), found[0].sentence if found else _healthy(evidence)


# -- the rules ---------------------------------------------------------------------------------


def _overflow(evidence: Evidence, _: float) -> Iterator[Finding]:
    bad = [
        layer for layer in evidence.layers if not math.isfinite(layer.second_moment.value)
    ]  # fmt: skip
    if bad:
        first = bad[0]
        yield Finding(
            "overflow",
            "critical",
            1e4,
            f"overflow: preactivations of layer {first.index} ({_name(first)}) are no longer "
            f"finite, though weights and data are (0 of {len(evidence.layers)} layers may be).",
            "Reduce the gain of the layers before it, see kadanoff tune; or use a wider dtype.",
            tuple(layer.index for layer in bad),
            float(len(bad)),
            0.0,
            0.0,
        )


def _silent(evidence: Evidence, _: float) -> Iterator[Finding]:
    dark = [layer for layer in evidence.chain if layer.second_moment.value == 0]
    if dark:
        first = dark[0]
        yield Finding(
            "silent",
            "critical",
            5e3,
            f"silent: the second moment at layer {first.index} ({_name(first)}) is exactly 0 on "
            "every sample; it must be above 0 for anything to be learned.",
            "Check for zero weights, or for units that were all dead in the layer before.",
            tuple(layer.index for layer in dark),
            0.0,
            0.0,
            0.0,
        )


def _depth_scale(evidence: Evidence, lengths: float) -> Iterator[Finding]:
    """Exponential loss or growth of the gradient, of the signal, or of both."""
    gradient, signal = evidence.gradient, evidence.signal
    depth = len(evidence.chain)
    if depth < MIN_DEPTH:
        return
    gradient = gradient if gradient is not None and gradient.exceeds(lengths) else None
    signal = signal if signal is not None and signal.exceeds(lengths) else None
    if gradient is not None and not _arrives(evidence, gradient, lengths):
        gradient = None
    gradient, signal = _at_infinite_width(evidence, gradient, signal, lengths)
    gain, critical = _gain(evidence.chain)
    remedy = _gain_remedy(evidence, gain, critical)
    where = tuple(layer.index for layer in evidence.chain)
    limit = depth / lengths
    if signal is not None and (gradient is None or gradient.rate * signal.rate > 0):
        verb, code = ("shrinks", "vanishing") if signal.rate < 0 else ("grows", "exploding")
        amplitude = math.exp(max(min(signal.rate / 2, 300.0), -300.0))
        total = math.exp(max(min(signal.rate * depth / 2, 700.0), -700.0))
        left = (
            f"{total:.1g} of it is left" if signal.rate < 0 else f"it is {total:.1g} times larger"
        )
        also = ""
        if gradient is not None:
            chi = uncertain(gradient.factor, gradient.factor_error)
            also = f"; so does the gradient, χ⊥ = {chi} per layer"
        gains = f"; gain is {uncertain(*gain)}, critical is {critical:.3g}" if critical else ""
        yield Finding(
            code,
            "critical",
            max(abs(signal.rate), abs(gradient.rate) if gradient else 0.0) * depth,
            f"{code}: the signal {verb} by "
            f"{uncertain(amplitude, amplitude * signal.error / 2)} per "
            f"layer: after {depth} layers {left}{also}; its depth scale is "
            f"{signal.scale:.1f} layers, a net of {depth} needs at least {limit:.1f}{gains}.",
            remedy,
            where,
            amplitude,
            amplitude * signal.error / 2,
            math.exp(math.copysign(lengths / depth / 2, signal.rate)),
        )
        return
    if gradient is not None:
        code = "ordered" if gradient.rate < 0 else "chaotic"
        chi = uncertain(gradient.factor, gradient.factor_error)
        what = (
            "the signal dies with depth scale"
            if code == "ordered"
            else "gradients explode and nearby inputs fly apart with depth scale"
        )
        gains = f" (gain {uncertain(*gain)}, critical {critical:.3g})" if critical else ""
        yield Finding(
            code,
            "critical" if abs(gradient.rate) * depth > 2 * lengths else "warning",
            abs(gradient.rate) * depth,
            f"{code}: χ⊥ = {chi}, {what} {gradient.scale:.1f} layers, the net has {depth} and "
            f"needs at least {limit:.1f}{gains}.",
            remedy,
            where,
            gradient.factor,
            gradient.factor_error,
            math.exp(math.copysign(lengths / depth, gradient.rate)),
        )


def _arrives(evidence: Evidence, gradient: Trend, lengths: float) -> bool:
    """Whether the gradient that reaches the layers shows the trend of the local Jacobians."""
    back = evidence.backward
    if back is None:
        return True
    if evidence.batch_normalised and gradient.rate > 0:
        # weights before a batch norm are scale invariant: a growing gradient costs learning rate
        # rather than learning, and every such net has it (Yang et al. 2019, arXiv:1902.08129)
        lengths = BATCH_NORM_LENGTHS
    return back.rate * gradient.rate > 0 and min(
        abs(back.rate), abs(gradient.rate)
    ) > lengths / len(evidence.chain)


def _at_infinite_width(
    evidence: Evidence, gradient: Trend | None, signal: Trend | None, lengths: float
) -> tuple[Trend | None, Trend | None]:
    """Drop trends that the theory at these C_W and C_b lacks: a chance of the draw, at finite n."""
    if evidence.arch is None or (gradient is None and signal is None):
        return gradient, signal
    try:
        expected = expected_trends(evidence.arch, evidence.chain[0].second_moment.value)
    except KadanoffError:
        return gradient, signal
    if expected is None:
        return gradient, signal
    kept = [
        found if found and wanted.exceeds(lengths) and wanted.rate * found.rate > 0 else None
        for found, wanted in zip((gradient, signal), expected, strict=True)
    ]
    return kept[0], kept[1]


def _odd_layer(evidence: Evidence, ratio: float) -> Iterator[Finding]:
    """A layer whose gain is far from that of its like."""
    groups: dict[tuple, list[LayerReport]] = {}
    for layer in evidence.layers:
        if layer.weight_gain is not None and layer.call_index == 0 and layer.op != "embedding":
            leaf = (layer.parameter or "").split(".")[-2:-1]
            name = "" if not leaf or leaf[0].isdigit() else leaf[0]
            # the scale of a weight means something else behind a norm or another activation
            reads = (layer.normalised, layer.critical_gain)
            like = (layer.op, name, layer.fan_in, layer.fan_out, *reads)
            groups.setdefault(like, []).append(layer)
    for group in groups.values():
        if len(group) < 4:
            continue
        logs = [math.log(max(layer.weight_gain.value, 1e-300)) for layer in group]  # type: ignore
        middle = _median(logs)
        if middle < math.log(1e-200):
            continue  # all of them start at zero on purpose
        width = 1.4826 * _median([abs(x - middle) for x in logs])
        for layer, log in zip(group, logs, strict=True):
            off = log - middle
            if abs(off) > math.log(ratio) and abs(off) > 8 * width:
                gain = layer.weight_gain
                assert gain is not None
                usual = math.exp(middle)
                yield Finding(
                    "odd_layer",
                    "warning" if layer.normalised else "critical",
                    min(abs(off), 100.0),
                    f"odd layer: layer {layer.index} ({_name(layer)}) has gain "
                    f"{uncertain(gain.value, gain.stderr)}, its {len(group) - 1} like layers "
                    f"{usual:.3g}; a factor {ratio:g} is the limit.",
                    f"Rescale its weight by {math.exp(max(min(-off / 2, 50), -50)):.3g}, or look "
                    "for what changed it.",
                    (layer.index,),
                    gain.value,
                    gain.stderr,
                    usual * (ratio if off > 0 else 1 / ratio),
                )


def _dead(evidence: Evidence, limit: float) -> Iterator[Finding]:
    """Units silent on every sample; symmetric preactivations allow at most one half of them."""
    yield from _fraction(
        evidence,
        "dead",
        limit,
        "units are dead (0 on every sample)",
        "Raise the biases (they are too negative) or lower the learning rate that killed them.",
        spread=True,
    )


def _saturated(evidence: Evidence, limit: float) -> Iterator[Finding]:
    yield from _fraction(
        evidence,
        "saturated",
        limit,
        "activation values sit on the plateau (|σ'| below 0.05 of its maximum), which passes no "
        "gradient",
        "Lower the gain or normalise the inputs; kadanoff tune finds the critical gain.",
    )


def _fraction(
    evidence: Evidence, name: str, limit: float, what: str, remedy: str, spread: bool = False
) -> Iterator[Finding]:
    bad: list[tuple[LayerReport, float, float]] = []
    for layer in evidence.layers:
        estimate = getattr(layer, name)
        if estimate is None:
            continue
        # which units are dead is a coin toss each: at the limit, its error counts
        error = math.sqrt(0.25 / max(layer.fan_out, 1)) if spread else estimate.stderr
        error = error if math.isfinite(error) else 0.0
        if estimate.value - 4 * error > limit:
            bad.append((layer, estimate.value, error))
    if not bad:
        return
    layer, value, error = max(bad, key=lambda item: item[1])
    passed = math.prod(max(1 - v, 1e-12) for _, v, _ in bad)
    count = f" in {len(bad)} layers, worst" if len(bad) > 1 else ""
    yield Finding(
        name,
        "critical" if value > (1 + limit) / 2 else "warning",
        -math.log(passed),
        f"{name}: {uncertain(100 * value, 100 * error)} % of {what}{count} in layer {layer.index} "
        f"({_name(layer)}); the limit is {100 * limit:.0f} %.",
        remedy,
        tuple(layer.index for layer, _, _ in bad),
        value,
        error,
        limit,
    )


def _collapsed(evidence: Evidence, limit: float) -> Iterator[Finding]:
    """Distinct inputs have become one."""
    chain = [layer for layer in evidence.chain if layer.correlation is not None]
    if len(chain) < MIN_DEPTH:
        return
    first, last = chain[0].correlation, chain[-1].correlation
    assert first is not None
    assert last is not None
    before, after = 1 - first.value, 1 - last.value
    # below 1e-6 single precision sees nothing, and batches of one repeated sample say nothing
    if before < 1e-6 or not math.isfinite(after):
        return
    if last.predicted is not None and 1 - last.predicted > limit * before:
        return  # this draw of a narrow net did it, not its C_W and C_b
    error = last.stderr if math.isfinite(last.stderr) else 0.0
    if (max(after, 1e-9) + 3 * error) / before < limit:
        ratio = max(after, 1e-9) / before
        yield Finding(
            "collapsed",
            "critical",
            -math.log(ratio),
            f"collapsed: 1 − correlation of two inputs fell from {before:.2g} to "
            f"{uncertain(max(after, 0.0), error)} over {len(chain)} layers, to {ratio:.1g} of it; "
            f"the limit is {limit:g}.",
            "Bring the net to criticality (kadanoff tune); remove large biases or mean shifts.",
            tuple(layer.index for layer in chain),
            after,
            error,
            limit * before,
        )


def _narrow(evidence: Evidence, limit: float) -> Iterator[Finding]:
    """Depth over width so large that no two draws of this net are alike."""
    chain = evidence.chain
    if any(layer.normalised or layer.role == "stream" or layer.fan_in == 0 for layer in chain):
        return
    if any(layer.op not in ("linear", "addmm", "matmul", "mm") for layer in chain):
        return
    ratio = sum(1 / layer.fan_out for layer in chain if layer.fan_out)
    if ratio > limit:
        yield Finding(
            "narrow",
            "warning",
            ratio,
            f"narrow: the depth-to-width ratio Σ 1/n is {ratio:.2f}, the limit is {limit:g}: from "
            "one draw of the weights to the next, outputs differ by factors.",
            f"Make the hidden layers at least {math.ceil(len(chain) / limit)} wide, or the net "
            "shallower, or add normalisation or skip connections.",
            tuple(layer.index for layer in chain),
            ratio,
            0.0,
            limit,
        )


BATCH_NORM_LENGTHS = 8.0
MIN_DEPTH = 4  # layers below which no exponential can be told from anything else

RULES: tuple[Rule, ...] = (
    Rule("overflow", 0.0, "layers with non-finite preactivations", _overflow),
    Rule("silent", 0.0, "second moment of a layer", _silent),
    Rule("depth_scale", 3.0, "depth of the net in depth scales ξ", _depth_scale),
    Rule("odd_layer", 4.0, "gain of a layer over the median of its like", _odd_layer),
    Rule("dead", 0.6, "fraction of dead units", _dead),
    Rule("saturated", 0.5, "fraction of saturated values", _saturated),
    Rule("collapsed", 1e-3, "what is left of the distance between inputs", _collapsed),
    Rule("narrow", 1.0, "Σ 1/n over hidden layers", _narrow),
)


# -- words -------------------------------------------------------------------------------------


def _healthy(evidence: Evidence) -> str:
    depth = len(evidence.chain)
    trend = evidence.gradient or evidence.signal
    if trend is not None and depth >= MIN_DEPTH and trend.scale < depth / 3:
        factor = uncertain(trend.factor, trend.factor_error)
        back = evidence.backward
        arrives = "" if back is None else f"; the squared gradient changes by {back.factor:.2g}"
        return (
            f"healthy: none of {len(RULES)} rules broke on {depth} layers of the main path; "
            f"locally χ⊥ = {factor} per layer over the deeper half{arrives} per layer, which "
            "normalisation or the width explain (threshold: a trend beyond them)."
        )
    if trend is not None and depth >= MIN_DEPTH:
        factor = uncertain(trend.factor, trend.factor_error)
        what = "χ⊥" if evidence.gradient else "the signal changes by"
        scale = f"{trend.scale:.1f}" if trend.scale < 1e4 else "over 10000"
        return (
            f"healthy: {what} = {factor} per layer over the deeper half, depth scale {scale} "
            f"layers; a net of {depth} needs at least {depth / 3:.1f}."
        )
    return (
        f"healthy: none of {len(RULES)} rules broke on {len(evidence.layers)} layers "
        f"({depth} of them on the main signal path; trends need {MIN_DEPTH})."
    )


def _name(layer: LayerReport) -> str:
    return layer.path or layer.parameter or layer.op


def _gain(chain: Sequence[LayerReport]) -> tuple[tuple[float, float], float | None]:
    """Typical measured gain of the chain's hidden layers with its error, and the critical one."""
    known = [
        layer for layer in chain[1:] if layer.weight_gain and layer.critical_gain is not None
    ]  # fmt: skip
    if not known:
        return (math.nan, math.nan), None
    gains = sorted(known, key=lambda layer: layer.weight_gain.value)  # type: ignore
    middle = gains[len(gains) // 2]
    assert middle.weight_gain is not None
    return (middle.weight_gain.value, middle.weight_gain.stderr), middle.critical_gain


def _gain_remedy(
    evidence: Evidence, gain: tuple[float, float], critical: float | None
) -> str:  # fmt: skip
    if critical is None:
        return (
            "Rescale the initialisation with kadanoff.tune(model, sample), or add normalisation "
            "before each layer or skip connections around them."
        )
    wanted = [
        x.critical_gain for x in evidence.layers if x.critical_gain is not None and x.index > 1
    ]
    if wanted and max(wanted) > 1.05 * min(wanted):
        return (
            f"Initialise each layer's weights with n·Var(W) as in its column `crit.` (from "
            f"{min(wanted):.4g} to {max(wanted):.4g}: it depends on what the layer reads), or call "
            "kadanoff.tune(model, sample)."
        )
    off = gain[0] / critical
    if not 0.95 < off < 1.05:
        return (
            f"Initialise weights with variance {critical:.4g}/fan_in (multiply them by "
            f"{math.sqrt(critical / gain[0]) if gain[0] > 0 else math.inf:.3g}) and biases as "
            "kadanoff.criticality says, or call kadanoff.tune(model, sample)."
        )
    return (
        "The weights have critical gain: set the biases to the critical C_b (0 for tanh and "
        "ReLU), or call kadanoff.tune(model, sample)."
    )


def _median(values: Sequence[float]) -> float:
    ordered = sorted(values)
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2
