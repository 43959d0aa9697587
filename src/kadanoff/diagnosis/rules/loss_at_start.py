"""The loss before the first step, and an output that does not depend on the input."""

from __future__ import annotations

import math
from collections.abc import Iterator

from kadanoff.diagnosis.evidence import Evidence
from kadanoff.diagnosis.kinds import kind
from kadanoff.diagnosis.result import Finding

__all__ = ["RULES"]

START = kind(
    "KD601",
    "loss-at-start",
    "The loss starts too high",
    what="A fresh net should know nothing: ln C for C classes, the variance of real targets. A "
    "higher loss is confidence in random answers, and the first hundreds of steps go into "
    "unlearning them.",
    measured="The loss on the batch, against that of the best constant output (entropy of the "
    "labels' frequencies, variance of the targets).",
    threshold="Cross entropy: a note from 2 nats above (logits of standard deviation 2), a warning "
    "from 5: nets of digits learn as well as others up to 4 above; from 15 to 90 above they fit "
    "the batch and are wrong on 23 to 26 % of other digits instead of 16 %, and small GPTs are "
    "behind after 150 steps of Adam. Squared errors: a note from 10 times, a warning from 20, "
    "critical from 100, where 150 steps do not reach the mean of the targets. Not said of trained "
    "nets.",
    remedy="Make the last layer's weights smaller: nn.init.normal_(head.weight, "
    "std=fan_in ** -0.5) or zero them; check that the norm before it is there.",
    makes=("rate-too-high",),
    scale=True,
)
UNEXPECTED = kind(
    "KD603",
    "loss-unlike-theory",
    "The loss is not what random weights give",
    what="The engine runs the model on its own law: its loss at the start has a mean and a spread "
    "from one draw to the next. A loss far outside says that the weights are not what they seem, "
    "or that the data is not what the net was made for.",
    measured="z = (loss − expected) / spread over sampled networks of the same laws.",
    threshold="z > 5, and half of the expected value above. Not said of weights that training "
    "has changed.",
    remedy="See which layer departs first from its expectation; check what was changed after the "
    "weights were drawn.",
    scale=True,
)
CONSTANT = kind(
    "KD602",
    "output-constant",
    "The output does not depend on the input",
    what="All samples get the same output: whatever the model knows of them is lost on the way.",
    measured="Standard deviation of the output over the samples, over its root mean square.",
    threshold="A note from 10⁻⁴, a warning from 10⁻⁶ (a default ReLU net of 12 layers, which "
    "learns slowly), critical from 10⁻⁷, where rounding begins. Not said of outputs that are zero "
    "on purpose.",
    remedy="See where the samples become alike: initialise for the activation (kadanoff tune), "
    "add skip connections or normalisation.",
    makes=("does-not-learn",),
    scale=True,
)


def _start(e: Evidence) -> Iterator[Finding]:
    if e.trained or e.stands_in or e.loss is None or e.constant is None:
        return
    if not math.isfinite(e.loss):
        return
    entropy = any("cross_entropy" in c.op or c.op == "nll_loss" for c in e.loss_calls)
    last = next((x for x in reversed(e.layers) if x.role in ("readout", "hidden")), None)
    layers = (last.index,) if last is not None else ()
    if entropy:
        classes = [c.output.shape[1] for c in e.loss_calls if c.output.ndim > 1]
        # a few labels know less than all classes: a fresh net spreads over all of them
        nothing = max(e.constant, math.log(max(classes, default=2)))
        over = e.loss - nothing
        if over < 2:
            return
        head = ""
        if last is not None and last.weight_gain is not None:
            head = f" (gain of the last layer, {last.path!r}: {last.weight_gain.value:.3g})"
        yield START.found(
            "warning" if over > 5 else "note",
            f"loss at the start: {e.loss:.3g}, a model that knows nothing has {nothing:.3g}; "
            f"the limit is 2 above{head}.",
            cost=30 + min(over, 20),
            value=e.loss,
            threshold=nothing + 2,
            layers=layers,
        )
    elif e.constant > 0 and e.loss > 10 * e.constant:
        ratio = e.loss / e.constant
        yield START.found(
            "critical" if ratio > 100 else "warning" if ratio > 20 else "note",
            f"loss at the start: {e.loss:.3g}, {ratio:.3g} times that of the best constant "
            f"({e.constant:.3g}); the limit is 10 times.",
            cost=30 + min(math.log(ratio), 20),
            value=e.loss,
            threshold=10 * e.constant,
            layers=layers,
        )


def _expected(e: Evidence) -> Iterator[Finding]:
    """The loss against that of random weights of the same laws."""
    found = e.expected_loss
    if e.trained or e.changed or e.stands_in or found is None:
        return
    if found.z is None or found.predicted is None:
        return
    spread = found.spread or 0.0
    # a lower one is what training gives
    if found.z > 5 and found.value - found.predicted > 0.5 * abs(found.predicted):
        yield UNEXPECTED.found(
            "warning",
            f"loss unlike theory: it starts at {found.value:.3g}, random weights of these laws "
            f"give {found.predicted:.3g} ± {spread:.2g} (z = {found.z:.0f}, the limit is 5).",
            cost=25,
            value=found.value,
            threshold=found.predicted,
        )


def _constant(e: Evidence) -> Iterator[Finding]:
    out = e.output
    if out is None or e.samples < 4 or out.shape[:1] != (e.samples,) or e.origin is not None:
        return
    size = max(abs(out.high), abs(out.low))
    if size == 0 or not math.isfinite(out.varies):
        return  # zero on purpose, or said elsewhere
    last = next((x for x in reversed(e.layers) if x.role in ("readout", "hidden")), None)
    if last is not None and any(p.name == last.parameter and p.rms == 0 for p in e.parameters):
        return
    ratio = out.varies / size
    if ratio < 1e-4 and out.sums is None:
        yield CONSTANT.found(
            "critical" if ratio < 1e-7 else "warning" if ratio < 1e-6 else "note",
            f"output constant: over {e.samples} samples the output varies by {ratio:.1g} of its "
            "size (the limit is 1e-4).",
            cost=15,
            value=ratio,
            threshold=1e-4,
        )


RULES = (_start, _expected, _constant)
