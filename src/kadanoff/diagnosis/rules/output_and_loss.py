"""What the model ends in against the loss and the targets."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from kadanoff.diagnosis.evidence import Evidence
from kadanoff.diagnosis.facts import OutputFacts, TargetFacts
from kadanoff.diagnosis.kinds import kind
from kadanoff.diagnosis.result import Finding
from kadanoff.trace.ends import ends_in, views_of

__all__ = ["RULES"]

_REAL = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "difference")
_LOSS_AT_START = ("loss-at-start", "output-constant", "does-not-learn", "no-gradient")

SOFTMAX = kind(
    "KD101",
    "softmax-before-cross-entropy",
    "Softmax before cross entropy",
    what="Cross entropy applies a softmax itself; on probabilities it can neither come near 0 "
    "nor give a gradient of any size, as e^p lies between 1 and e.",
    measured="The tensor given to cross entropy, in the model or in the loss: it ends in a "
    "softmax, or is non-negative and sums to 1 over the classes.",
    threshold="Exact: sums equal 1 to three digits on every sample, which logits never do.",
    remedy="Remove the softmax and return logits (apply it outside the loss when you need "
    "probabilities); or keep it, return its logarithm, and use NLLLoss.",
    makes=_LOSS_AT_START,
)
SQUASHED = kind(
    "KD102",
    "squashed-logits",
    "An activation on logits",
    what="The loss wants logits of any size; an activation on them bounds the probabilities the "
    "model can express, or cuts the gradient.",
    measured="The function that makes the tensor given to cross entropy or to binary cross entropy "
    "with logits, seen through views.",
    threshold="Exact: sigmoid, tanh, ReLU and the like on logits.",
    remedy="Remove the activation after the last layer; the loss applies its own.",
    makes=(*_LOSS_AT_START, "dead", "saturated"),
)
ONE_UNIT = kind(
    "KD103",
    "softmax-over-one-unit",
    "Softmax over one unit",
    what="A softmax over a single number is 1 for every input, with gradient exactly 0.",
    measured="The size of the axis of the last softmax.",
    threshold="Exact: one unit.",
    remedy="Use a sigmoid (or none, with BCEWithLogitsLoss) for one unit, or give the last layer "
    "one unit for each class.",
    makes=(*_LOSS_AT_START, "zero-gradient", "detached", "output-cannot-reach-targets"),
)
LABELS = kind(
    "KD104",
    "labels-out-of-range",
    "Labels out of range",
    what="Cross entropy picks the logit at the label: a label outside 0 … C − 1 picks none.",
    measured="Smallest and largest label of all data given, against the axis of classes.",
    threshold="Exact. Labels 1 … C are named as numbered from 1. This is an error (exit code 2).",
    remedy="Renumber the labels from 0, or give the last layer as many outputs as there are.",
)
FLOATS = kind(
    "KD105",
    "float-class-labels",
    "Class labels as real numbers",
    what="Whole numbers stored as floats are no classes to cross entropy.",
    measured="Type of the targets, where the output has several numbers a sample.",
    threshold="Exact. This is an error (exit code 2).",
    remedy="Use targets.long().",
)
COUNT = kind(
    "KD112",
    "target-count",
    "Another number of targets than samples",
    what="Which target belongs to which sample cannot be told.",
    measured="Lengths of the output and of the targets.",
    threshold="Exact. This is an error (exit code 2).",
    remedy="Give one target for each sample.",
)
SHAPE = kind(
    "KD113",
    "target-shape",
    "Targets that fit no loss",
    what="Neither classes nor numbers of this shape go with the output.",
    measured="Shapes and types of output and targets.",
    threshold="Exact. This is an error (exit code 2).",
    remedy="Give one class for each row of outputs, or one real number for each output; or pass "
    "loss=.",
)
RANGE = kind(
    "KD106",
    "output-cannot-reach-targets",
    "The output cannot reach the targets",
    what="The last activation bounds the output, and part of the targets lies outside: no weights "
    "can fit them, and the gradient there is zero or vanishes.",
    measured="The range of the function the output ends in against the targets.",
    threshold="1 % of the target values outside (5 % of the range beyond it counts as inside); "
    "critical from 20 %, where what is left is a constant for most of them.",
    remedy="Remove the activation after the last layer (for real targets), or scale the targets "
    "into its range.",
    makes=(*_LOSS_AT_START, "dead", "saturated", "targets-unscaled"),
)
PROBABILITIES = kind(
    "KD107",
    "probabilities-expected",
    "The loss wants (log-)probabilities",
    what="NLLLoss and KLDivLoss read log-probabilities and check nothing: on raw logits or on "
    "probabilities they have no lower bound, and reward large numbers rather than right ones.",
    measured="Whether the exponentials of what the loss is given sum to 1 along the classes.",
    threshold="Exact to three digits.",
    remedy="Apply log_softmax(dim=1) before the loss, or use CrossEntropyLoss on logits.",
    makes=_LOSS_AT_START,
)
AXIS = kind(
    "KD108",
    "wrong-class-axis",
    "Classes on the wrong axis",
    what="Cross entropy takes classes on axis 1; here they are on another one, so that positions "
    "compete instead of classes. It runs because the sizes happen to allow it.",
    measured="Which axis the last linear map writes its units on, against axis 1 of what the loss "
    "is given.",
    threshold="Exact.",
    remedy="Give the loss output.transpose(1, -1), or flatten: output.reshape(-1, classes), "
    "targets.reshape(-1).",
    makes=_LOSS_AT_START,
)
BROADCAST = kind(
    "KD109",
    "broadcast-loss",
    "Output and targets are broadcast against each other",
    what="Shapes such as (N, 1) and (N,) give an (N, N) table of differences: every output is "
    "compared with every target, and the best the model can do is their mean.",
    measured="Shapes given to the loss, or to the difference in a hand-written one.",
    threshold="Exact: more differences than outputs and than targets.",
    remedy="Bring both to one shape: output.squeeze(-1), or targets.unsqueeze(-1).",
    makes=_LOSS_AT_START,
)
WRONG_SOFTMAX = kind(
    "KD110",
    "softmax-over-wrong-axis",
    "Softmax over the samples",
    what="The softmax runs over the batch: samples compete with each other, and the output of one "
    "depends on which others stand beside it.",
    measured="The axis along which the output sums to 1.",
    threshold="Exact to three digits.",
    remedy="Use softmax(dim=1) (or -1), the axis of classes; with CrossEntropyLoss, none at all.",
    makes=("softmax-before-cross-entropy", "probabilities-expected", *_LOSS_AT_START),
)
NUMBERS = kind(
    "KD111",
    "classes-as-numbers",
    "Classes fitted as numbers",
    what="One output fits the class index by mean square: the model is told that class 2 lies "
    "between 1 and 3.",
    measured="Integer targets of more than two values, one output a sample, a loss of differences.",
    threshold="Exact.",
    remedy="Give the last layer one unit for each class and use CrossEntropyLoss.",
)


def _softmax(e: Evidence) -> Iterator[Finding]:
    for call in e.loss_calls:
        if call.op != "cross_entropy":
            continue
        seen = OutputFacts.of(call.output, ends_in(call.output))
        axis = 1 if call.output.ndim > 1 else 0
        if seen is None or call.output.shape[axis] < 2:
            continue
        if seen.ends == "softmax" or seen.sums == axis:
            classes = call.output.shape[axis]
            best = math.log((math.e + classes - 1) / math.e)  # right class 1, all others 0
            yield SOFTMAX.found(
                "critical",
                f"softmax before cross entropy: what the loss is given sums to 1 over its "
                f"{classes} classes on every sample; on such numbers it cannot fall below "
                f"{best:.3g} (0 on logits).",
                value=best,
                threshold=0.0,
                cost=1e3,
                where=(call.path,) if call.path else (),
            )
            return


def _squashed(e: Evidence) -> Iterator[Finding]:
    for call in e.loss_calls:
        if call.op not in ("cross_entropy", "binary_cross_entropy_with_logits"):
            continue
        end = ends_in(call.output)
        if end in ("sigmoid", "tanh", "relu", "hardtanh", "softplus", "hardsigmoid", "logsigmoid"):
            name = call.op.replace("_", " ")
            twice = end == "sigmoid"
            low, high = (float(v) for v in call.output.detach().aminmax())
            yield SQUASHED.found(
                "critical" if twice else "warning",
                f"squashed logits: {name} is given the output of {end} (values from {low:.3g} to "
                f"{high:.3g}), and wants numbers of any size and sign.",
                f"Remove the {end} after the last layer; {name} applies its own.",
                cost=900,
                value=high,
                where=(call.path,) if call.path else (),
            )
            return


def _one_unit(e: Evidence) -> Iterator[Finding]:
    out = e.output
    if out is None or out.ends not in ("softmax", "log_softmax") or len(out.shape) < 2:
        return
    axis = out.sums if out.sums is not None else out.logs
    if axis is not None and out.shape[axis] == 1:
        yield ONE_UNIT.found(
            "critical",
            f"softmax over one unit: the output has shape {out.shape} and is 1 for every input "
            "(its gradient is exactly 0).",
            cost=2e3,
            value=1.0,
            threshold=2.0,
        )


def _wrong_softmax(e: Evidence) -> Iterator[Finding]:
    out = e.output
    if out is None or out.sums != 0 or len(out.shape) < 2 or out.shape[0] != e.samples:
        return
    if e.samples > 1 and out.shape[1] > 1:
        yield WRONG_SOFTMAX.found(
            "critical",
            f"softmax over the samples: the output of shape {out.shape} sums to 1 along axis 0, "
            "that of the samples.",
            cost=2e3,
            value=0,
            threshold=1,
        )


# what each function can give; None is no bound
_RANGES: dict[str, tuple[float | None, float | None]] = {
    "relu": (0.0, None),
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softplus": (0.0, None),
    "exp": (0.0, None),
    "abs": (0.0, None),
    "softmax": (0.0, 1.0),
    "hardsigmoid": (0.0, 1.0),
    "elu": (-1.0, None),
    "gelu": (-0.17, None),
    "silu": (-0.279, None),
    "logsigmoid": (None, 0.0),
    "sin": (-1.0, 1.0),
    "log_softmax": (None, 0.0),
}


def _reach(e: Evidence) -> Iterator[Finding]:
    for call in e.loss_calls:
        if call.op not in _REAL or call.output.numel() != call.target.numel():
            continue
        end = ends_in(call.output)
        if end in (None, "clamp"):
            end = _clipped(call.output)
        low, high = _RANGES.get(end or "", (None, None))
        if low is None and high is None:
            continue
        y = call.target.detach().double()
        slack = 0.05 * (1.0 if low is None or high is None else high - low)
        slack = min(slack, 0.05 * float(y.std(unbiased=False))) if y.numel() > 1 else slack
        outside = torch.zeros_like(y, dtype=torch.bool)
        if low is not None:
            outside |= y < low - slack
        if high is not None:
            outside |= y > high + slack
        share = float(outside.double().mean())
        if share > 0.01:
            lowest = "-inf" if low is None else f"{low:g}"
            bounds = f"{lowest} to {'inf' if high is None else f'{high:g}'}"
            yield RANGE.found(
                "critical" if share > 0.2 else "warning",
                f"output cannot reach the targets: it ends in {end} ({bounds}), the targets go "
                f"from {float(y.min()):.3g} to {float(y.max()):.3g}; {100 * share:.0f} % of them "
                "are out of reach (the limit is 1 %).",
                f"Remove the {end} after the last layer, or scale the targets into {bounds}.",
                cost=800,
                value=share,
                threshold=0.01,
                where=(call.path,) if call.path else (),
            )
            return


def _clipped(z: Tensor) -> str | None:
    """A cut at zero made by hand shows in many exact zeros and nothing below."""
    z = z.detach()
    some = bool(z.min() == 0) and bool(z.max() > 0)
    return "relu" if some and float((z == 0).float().mean()) > 0.1 else None


def _probabilities(e: Evidence) -> Iterator[Finding]:
    for call in e.loss_calls:
        if call.op not in ("nll_loss", "kl_div") or call.output.ndim < 2:
            continue
        seen = OutputFacts.of(call.output, ends_in(call.output))
        axis = 1 if call.op == "nll_loss" else call.output.ndim - 1
        if seen is None or seen.logs == axis or seen.ends == "log_softmax":
            continue
        total = float(call.output.detach().exp().sum(axis).mean())
        what = "probabilities" if seen.sums == axis else "logits"
        yield PROBABILITIES.found(
            "critical",
            f"log-probabilities expected: {call.op} is given {what}; their exponentials sum to "
            f"{total:.3g} a sample instead of 1.",
            cost=1e3,
            value=total,
            threshold=1.0,
            where=(call.path,) if call.path else (),
        )
        return


def _axis(e: Evidence) -> Iterator[Finding]:
    last = next((x for x in reversed(e.layers) if x.role != "stream"), None)
    if last is None or last.op not in ("linear", "addmm", "matmul", "mm"):
        return
    for call in e.loss_calls:
        z = call.output
        if call.op != "cross_entropy" or z.ndim < 3 or call.target.is_floating_point():
            continue
        turned = any(name.startswith(("Transpose", "Permute", "Movedim")) for name in views_of(z))
        if z.shape[-1] == last.fan_out and not turned:
            yield AXIS.found(
                "critical",
                f"classes on the wrong axis: the last layer writes its {last.fan_out} units on "
                f"the last axis of {tuple(z.shape)}, and cross entropy reads axis 1, of size "
                f"{z.shape[1]}, as classes.",
                cost=1e3,
                value=z.ndim - 1,
                threshold=1,
                layers=(last.index,),
                where=(last.path,),
            )
            return


def _broadcast(e: Evidence) -> Iterator[Finding]:
    for call in e.loss_calls:
        if call.op not in (*_REAL, "binary_cross_entropy"):
            continue
        a, b = tuple(call.output.shape), tuple(call.target.shape)
        if a == b or not a or not b:
            continue
        try:
            both = torch.broadcast_shapes(a, b)
        except RuntimeError:
            continue
        size = both.numel()
        if size > max(call.output.numel(), call.target.numel()):
            yield BROADCAST.found(
                "critical",
                f"broadcast loss: the output has shape {a}, the targets {b}; their difference has "
                f"{tuple(both)}, {size} numbers for {call.target.numel()} targets.",
                cost=1e3,
                value=size,
                threshold=call.target.numel(),
            )
            return


def _numbers(e: Evidence) -> Iterator[Finding]:
    y: TargetFacts | None = e.targets
    if y is None or y.kind != "classes" or y.high - y.low < 2 or e.output is None:
        return
    calls = [c for c in e.loss_calls if c.op in _REAL]
    if not calls or calls[0].output.numel() != calls[0].target.numel():
        return
    distinct = int(torch.unique(calls[0].target).numel())
    if distinct == y.high - y.low + 1 and distinct <= 100 and y.low in (0, 1):
        yield NUMBERS.found(
            "warning",
            f"classes fitted as numbers: the targets are the whole numbers {y.low:.0f} to "
            f"{y.high:.0f}, the model has one output, and the loss is of differences.",
            cost=20,
            value=distinct,
            threshold=2,
        )


RULES = (
    _one_unit,
    _wrong_softmax,
    _softmax,
    _squashed,
    _reach,
    _probabilities,
    _axis,
    _broadcast,
    _numbers,
)
