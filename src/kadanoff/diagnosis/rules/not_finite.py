"""NaN and infinity, with the place where they begin; ranges of low precision."""

from __future__ import annotations

from collections.abc import Iterator

from kadanoff.diagnosis.evidence import Evidence
from kadanoff.diagnosis.kinds import kind
from kadanoff.diagnosis.result import Finding

__all__ = ["RULES"]

NOT_FINITE = kind(
    "KD501",
    "not-finite",
    "NaN or infinity",
    what="One NaN spreads through the loss to every gradient, and one step later to every weight.",
    measured="Output, loss and all gradients over every sample; if one is not finite the model is "
    "run again and each operation's result is looked at, forward and (anomaly mode) backward.",
    threshold="Exact: one number is enough. Minus infinities of masks are no finding.",
    remedy="See the operation named: mask with a large negative number instead of −inf, or give "
    "each row one open position; add ε inside log, sqrt and division; use a wider dtype.",
    makes=(
        "does-not-learn",
        "loss-at-start",
        "zero-gradient",
        "overflow",
        "rate-too-high",
        "exploding",
        "unlike-theory",
        "masked-row",
        "attention-saturated",
    ),
)
HALF = kind(
    "KD502",
    "float16-range",
    "Out of the range of float16",
    what="float16 ends at 65504 and at 6·10⁻⁸: activations overflow to infinity, gradients "
    "underflow to 0.",
    measured="Root mean square of the preactivations, and the share of weights whose gradient is "
    "exactly 0, in a float16 model.",
    threshold="A fifth of 65504 within 5 standard deviations; one half of the weight matrices "
    "without gradient.",
    remedy="Train with autocast and torch.amp.GradScaler, or in bfloat16.",
    makes=("zero-gradient", "not-finite"),
)

_HINTS = {
    "log": "log of 0 (or of a negative number): add ε, or use log_softmax / logsumexp.",
    "sqrt": "sqrt has an infinite slope at 0: use (x + ε).sqrt().",
    "div": "division by 0: add ε to the denominator.",
    "truediv": "division by 0: add ε to the denominator.",
    "pow": "a power with negative or zero base: clamp the base to at least ε.",
    "exp": "exp overflows beyond 88 in float32: clamp its argument, or subtract the maximum.",
    "norm": "a norm has no slope at 0: add ε inside its square root.",
    "linalg_vector_norm": "a norm has no slope at 0: add ε inside its square root.",
    "acos": "acos has an infinite slope at ±1: clamp to ±(1 − ε).",
    "std": "std of equal (or single) numbers has no slope: add ε.",
    "var": "variance of a single number: give more samples, or unbiased=False.",
}


def _origin(e: Evidence) -> Iterator[Finding]:
    o = e.origin
    if o is None:
        return
    name = "NaN" if o.what == "nan" else "infinity"
    place = f"{o.op} of {o.path!r}" if o.path else (f"{o.op} in the loss" if o.in_loss else o.op)
    rows = ""
    if o.samples:
        shown = ", ".join(map(str, o.samples[:4])) + (" ..." if len(o.samples) > 4 else "")
        rows = f" on sample{'s' * (len(o.samples) > 1)} {shown} (of {e.samples})"
    remedy = _HINTS.get(o.op.removesuffix("_"), "")
    extra = ""
    if o.masked and ("softmax" in o.op or "attention" in o.op):
        extra = ": a row of nothing but minus infinity, all its positions are masked"
        remedy = (
            "Leave each row one open position, fill with a large negative number (-1e9) instead "
            "of -inf, or zero such rows after the softmax."
        )
    if o.backward:
        sentence = (
            f"not finite: the loss is finite, its gradient is not; {name} first appears in the "
            f"backward of {o.op}" + (f", below {o.path!r}" if o.path else "") + f"{rows}."
        )
    else:
        sentence = f"not finite: {name} first appears in {place}{rows}{extra}."
        if o.what == "inf" and o.size > 1e3:
            sentence = sentence[:-1] + f" (its operands reach {o.size:.2g})."
    yield NOT_FINITE.found(
        "critical",
        sentence,
        remedy,
        cost=1e4,
        value=len(o.samples),
        threshold=0,
        where=(o.path,) if o.path else (),
    )


def _half(e: Evidence) -> Iterator[Finding]:
    if e.dtype != "float16":
        return
    worst = max(e.layers, key=lambda x: x.second_moment.value, default=None)
    if worst is not None and 5 * worst.second_moment.value**0.5 > 65504 / 5:
        yield HALF.found(
            "critical",
            f"float16 range: preactivations of layer {worst.index} ({worst.path}) have root mean "
            f"square {worst.second_moment.value**0.5:.3g}; float16 ends at 65504.",
            cost=500,
            value=worst.second_moment.value**0.5,
            threshold=65504 / 25,
            layers=(worst.index,),
        )
    weights = [p for p in e.parameters if len(p.shape) >= 2 and p.name in e.trainable]
    lost = [p for p in weights if p.gradient_norm == 0]
    if weights and len(lost) > len(weights) / 2 and not e.stands_in:
        yield HALF.found(
            "critical",
            f"float16 range: the gradients of {len(lost)} of {len(weights)} weights underflow to "
            "exactly 0 (float16 ends at 6e-8).",
            "Scale the loss: torch.amp.GradScaler; or use bfloat16.",
            cost=500,
            value=len(lost) / len(weights),
            threshold=0.5,
        )


RULES = (_origin, _half)
