"""Exponential growth and decay with depth, layers unlike their like, collapse, narrowness.

The thresholds are such that power laws in depth and fluctuations at finite width, which healthy
nets have, stay below them. How severe an exponential is goes by what it adds up to: with
PyTorch's default initialisation, width 128, Adam at 10⁻³, digits, 300 steps, ReLU nets of up to 10
layers (10⁻⁸ of the squared gradient is left) learn at full speed, of 12 and 16 (10⁻⁹, 10⁻¹²) three
and ten times slower, of 25 not at all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from kadanoff.diagnosis.chain import Trend, expected_trends
from kadanoff.diagnosis.evidence import Evidence
from kadanoff.diagnosis.kinds import Kind, kind
from kadanoff.diagnosis.result import Finding, LayerReport
from kadanoff.diagnosis.rules.structure import median
from kadanoff.errors import KadanoffError
from kadanoff.style.numbers import uncertain

__all__ = ["BATCH_NORM_LENGTHS", "MIN_DEPTH", "RULES"]

LENGTHS = 3.0  # depth of the net in depth scales ξ beyond which an exponential is named
BATCH_NORM_LENGTHS = 8.0
MIN_DEPTH = 4  # layers below which no exponential can be told from anything else
# what it adds up to over the net, as a logarithm of the square: a warning, critical
SHRINKS = (math.log(1e9), math.log(1e16))
GROWS = (math.log(1e4), math.log(1e8))

_TRAINS = ("does-not-learn", "output-constant")
_MEASURED = (
    "The mean logarithm per layer over the deeper half of the main path: of the second moment of "
    "preactivations (signal), and of squared partial Jacobians (χ⊥, gradient), with its error."
)
_THRESHOLD = (
    "Named beyond 3 depth scales. A note up to a factor 10⁹ (growth: 10⁴) in the square over the "
    "whole net, a warning to 10¹⁶ (10⁸), critical beyond: default ReLU nets of 10 layers lose 10⁸ "
    "and learn at full speed, of 16 layers 10¹² and learn slowly, of 25 layers 10¹⁹ and do not."
)
_REMEDY = (
    "Initialise at criticality: kadanoff tune, or He (ReLU: variance 2/fan_in) and 1/fan_in "
    "(tanh); or add normalisation before each layer or skip connections around them."
)

SILENT = kind(
    "KD1010",
    "silent",
    "A layer gives exactly zero",
    what="Nothing passes this layer: all later ones see the same for every input.",
    measured="Second moment of the preactivations of each layer on the main path.",
    threshold="Exact: 0 on every sample, and weights below get no gradient either.",
    remedy="Check for zero weights, or for units that were all dead in the layer before.",
    makes=("zero-gradient", *_TRAINS),
)
VANISHING = kind(
    "KD1011",
    "vanishing",
    "The signal vanishes with depth",
    what="Each layer multiplies the signal by the same factor below 1; after enough layers only "
    "the biases are left, and all inputs give the same output.",
    measured=_MEASURED,
    threshold=_THRESHOLD,
    remedy=_REMEDY,
    makes=("collapsed", *_TRAINS, "unlike-theory"),
    scale=True,
)
EXPLODING = kind(
    "KD1012",
    "exploding",
    "The signal explodes with depth",
    what="Each layer multiplies the signal by the same factor above 1: outputs and gradients are "
    "as large as their product, and no learning rate fits all layers.",
    measured=_MEASURED,
    threshold=_THRESHOLD,
    remedy=_REMEDY,
    makes=("loss-at-start", "rate-too-high", "saturated", "unlike-theory", *_TRAINS),
    scale=True,
)
ORDERED = kind(
    "KD1013",
    "ordered",
    "The net is in the ordered phase",
    what="χ⊥ < 1: differences between inputs, and gradients on their way back, die out "
    "exponentially with depth.",
    measured=_MEASURED,
    threshold=_THRESHOLD,
    remedy=_REMEDY,
    makes=("collapsed", *_TRAINS, "unlike-theory"),
    scale=True,
)
CHAOTIC = kind(
    "KD1014",
    "chaotic",
    "The net is in the chaotic phase",
    what="χ⊥ > 1: nearby inputs fly apart and gradients explode exponentially with depth.",
    measured=_MEASURED,
    threshold=_THRESHOLD,
    remedy=_REMEDY,
    makes=("saturated", "rate-too-high", "loss-at-start", *_TRAINS),
    scale=True,
)
ODD = kind(
    "KD1015",
    "odd_layer",
    "One layer unlike its like",
    what="A layer whose weights are of another size than those of the layers built like it: a "
    "slip in the initialisation, or a layer that came from elsewhere.",
    measured="fan_in · mean(W²) of each layer over the median of layers with the same operation, "
    "shape, activation and norm (at least 4 of them).",
    threshold="A factor 4 (2 in the weights), and 8 times the scatter of its like.",
    remedy="Rescale its weight, or look for what changed it.",
    makes=(
        "exploding",
        "vanishing",
        "saturated",
        "loss-at-start",
        "unlike-theory",
        "attention-saturated",
    ),
    scale=True,
)
COLLAPSED = kind(
    "KD1016",
    "collapsed",
    "Distinct inputs have become one",
    what="Samples that differ at the first layer are the same vector at the last: what tells them "
    "apart is lost.",
    measured="1 − mean correlation of two samples at the last layer of the main path over that at "
    "the first.",
    threshold="A note from 10⁻³, a warning from 10⁻⁶, critical from 10⁻⁸, where single precision "
    "sees no more.",
    remedy="Bring the net to criticality (kadanoff tune), remove large biases or mean shifts; in "
    "graph nets use fewer layers, or skip connections (over-smoothing).",
    makes=_TRAINS,
    scale=True,
)
NARROW = kind(
    "KD1017",
    "narrow",
    "Deep for its width",
    what="Fluctuations from one draw of the weights to the next grow with depth over width: seeds "
    "differ by factors.",
    measured="Σ 1/n over the hidden layers of a plain net.",
    threshold="1, where the standard deviation of a signal exceeds its mean; in nets of 8 layers "
    "or more.",
    remedy="Make the hidden layers wider, or the net shallower, or add normalisation or skips.",
    scale=True,
)


def _silent(e: Evidence) -> Iterator[Finding]:
    dark = [layer for layer in e.chain if layer.second_moment.value == 0]
    if not dark or len(e.chain) < 2 or dark[0] is e.chain[-1]:
        return
    first = dark[0]
    yield SILENT.found(
        "critical",
        f"silent: the second moment at layer {first.index} ({_name(first)}) is exactly 0 on "
        "every sample; it must be above 0 for anything to be learned.",
        cost=5e3,
        value=0.0,
        threshold=0.0,
        layers=[layer.index for layer in dark],
    )


def _severity(total: float, grows: bool) -> str:
    warning, critical = GROWS if grows else SHRINKS
    return "critical" if total > critical else "warning" if total > warning else "note"


def _depth_scale(e: Evidence) -> Iterator[Finding]:
    """Exponential loss or growth of the gradient, of the signal, or of both."""
    gradient, signal = e.gradient, e.signal
    depth = len(e.chain)
    if depth < MIN_DEPTH or e.origin is not None:
        return
    gradient = gradient if gradient is not None and gradient.exceeds(LENGTHS) else None
    signal = signal if signal is not None and signal.exceeds(LENGTHS) else None
    if gradient is not None and not _arrives(e, gradient, LENGTHS):
        gradient = None
    gradient, signal = _at_infinite_width(e, gradient, signal, LENGTHS)
    if signal is not None and (gradient is None or gradient.rate * signal.rate > 0):
        yield _signal(e, signal, gradient)
    elif gradient is not None:
        yield _gradient(e, gradient)


def _signal(e: Evidence, signal: Trend, gradient: Trend | None) -> Finding:
    depth = len(e.chain)
    gain, critical = _gain(e.chain)
    verb, found = ("shrinks", VANISHING) if signal.rate < 0 else ("grows", EXPLODING)
    amplitude = math.exp(max(min(signal.rate / 2, 300.0), -300.0))
    total = math.exp(max(min(signal.rate * depth / 2, 700.0), -700.0))
    left = f"{total:.1g} of it is left" if signal.rate < 0 else f"it is {total:.1g} times larger"
    also = ""
    if gradient is not None:
        chi = uncertain(gradient.factor, gradient.factor_error)
        also = f"; so does the gradient, χ⊥ = {chi} per layer"
    gains = f"; gain is {uncertain(*gain)}, critical is {critical:.3g}" if critical else ""
    cost = max(abs(signal.rate), abs(gradient.rate) if gradient else 0.0) * depth
    return found.found(
        _severity(cost, signal.rate > 0),
        f"{found.code}: the signal {verb} by "
        f"{uncertain(amplitude, amplitude * signal.error / 2)} per layer: after {depth} layers "
        f"{left}{also}; its depth scale is {signal.scale:.1f} layers, a net of {depth} needs at "
        f"least {depth / LENGTHS:.1f}{gains}.",
        _gain_remedy(e, gain, critical),
        cost=cost,
        value=amplitude,
        stderr=amplitude * signal.error / 2,
        threshold=math.exp(math.copysign(LENGTHS / depth / 2, signal.rate)),
        layers=[layer.index for layer in e.chain],
    )


def _gradient(e: Evidence, gradient: Trend) -> Finding:
    depth = len(e.chain)
    gain, critical = _gain(e.chain)
    found: Kind = ORDERED if gradient.rate < 0 else CHAOTIC
    chi = uncertain(gradient.factor, gradient.factor_error)
    what = (
        "the signal dies with depth scale"
        if found is ORDERED
        else "gradients explode and nearby inputs fly apart with depth scale"
    )
    gains = f" (gain {uncertain(*gain)}, critical {critical:.3g})" if critical else ""
    cost = abs(gradient.rate) * depth
    # weights before a batch norm are scale invariant: growth costs learning rate, not learning
    harmless = e.batch_normalised and gradient.rate > 0
    return found.found(
        "note" if harmless else _severity(cost, gradient.rate > 0),
        f"{found.code}: χ⊥ = {chi}, {what} {gradient.scale:.1f} layers; {depth} layers "
        f"need a depth scale of at least {depth / LENGTHS:.1f} layers{gains}.",
        _gain_remedy(e, gain, critical),
        cost=cost,
        value=gradient.factor,
        stderr=gradient.factor_error,
        threshold=math.exp(math.copysign(LENGTHS / depth, gradient.rate)),
        layers=[layer.index for layer in e.chain],
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


def _odd_layer(evidence: Evidence) -> Iterator[Finding]:
    """A layer whose gain is far from that of its like."""
    ratio = 4.0
    if evidence.trained:
        return
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
        middle = median(logs)
        if middle < math.log(1e-200):
            continue  # all of them start at zero on purpose
        width = 1.4826 * median([abs(x - middle) for x in logs])
        for layer, log in zip(group, logs, strict=True):
            off = log - middle
            if abs(off) > math.log(ratio) and abs(off) > 8 * width:
                gain = layer.weight_gain
                assert gain is not None
                usual = math.exp(middle)
                yield ODD.found(
                    "warning" if layer.normalised else "critical",
                    f"odd layer: layer {layer.index} ({_name(layer)}) has gain "
                    f"{uncertain(gain.value, gain.stderr)}, its {len(group) - 1} like layers "
                    f"{usual:.3g}; a factor {ratio:g} is the limit.",
                    f"Rescale its weight by {math.exp(max(min(-off / 2, 50), -50)):.3g}, or look "
                    "for what changed it.",
                    cost=min(abs(off), 100.0),
                    value=gain.value,
                    stderr=gain.stderr,
                    threshold=usual * (ratio if off > 0 else 1 / ratio),
                    layers=[layer.index],
                    where=[layer.path],
                )


def _collapsed(evidence: Evidence) -> Iterator[Finding]:
    """Distinct inputs have become one."""
    limit = 1e-3
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
        yield COLLAPSED.found(
            "critical" if ratio < 1e-8 else "warning" if ratio < 1e-6 else "note",
            f"collapsed: 1 − correlation of two inputs fell from {before:.2g} to "
            f"{uncertain(max(after, 0.0), error)} over {len(chain)} layers, to {ratio:.1g} of it; "
            f"the limit is {limit:g}.",
            cost=-math.log(ratio),
            value=after,
            stderr=error,
            threshold=limit * before,
            layers=[layer.index for layer in chain],
        )


def _narrow(evidence: Evidence) -> Iterator[Finding]:
    """Depth over width so large that no two draws of this net are alike."""
    limit = 1.0
    chain = evidence.chain
    if evidence.trained:
        return
    if any(layer.normalised or layer.role == "stream" or layer.fan_in == 0 for layer in chain):
        return
    if any(layer.op not in ("linear", "addmm", "matmul", "mm") for layer in chain):
        return
    ratio = sum(1 / layer.fan_out for layer in chain if layer.fan_out)
    if ratio > limit and len(chain) >= 8:
        yield NARROW.found(
            "warning",
            f"narrow: the depth-to-width ratio Σ 1/n is {ratio:.2f}, the limit is {limit:g}: from "
            "one draw of the weights to the next, outputs differ by factors.",
            f"Make the hidden layers at least {math.ceil(len(chain) / limit)} wide, or the net "
            "shallower, or add normalisation or skip connections.",
            cost=ratio,
            value=ratio,
            threshold=limit,
            layers=[layer.index for layer in chain],
        )


def _name(layer: LayerReport) -> str:
    return layer.path or layer.parameter or layer.op


def _gain(chain: Sequence[LayerReport]) -> tuple[tuple[float, float], float | None]:
    """Typical measured gain of the chain's hidden layers with its error, and the critical one."""
    known = [layer for layer in chain[1:] if layer.weight_gain and layer.critical_gain is not None]
    if not known:
        return (math.nan, math.nan), None
    gains = sorted(known, key=lambda layer: layer.weight_gain.value)  # type: ignore
    middle = gains[len(gains) // 2]
    assert middle.weight_gain is not None
    return (middle.weight_gain.value, middle.weight_gain.stderr), middle.critical_gain


def _gain_remedy(evidence: Evidence, gain: tuple[float, float], critical: float | None) -> str:
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


RULES = (_silent, _depth_scale, _odd_layer, _collapsed, _narrow)
