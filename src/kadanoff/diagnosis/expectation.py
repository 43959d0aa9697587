"""What random weights give: every measured number beside the ensemble of the model's own program.

The ensemble is that of :func:`kadanoff.program.module_ensemble` on the batch that was measured, or
on its first samples, measured again by themselves, with the laws that
:func:`kadanoff.program.laws` finds, so that the only difference between the two sides is which
weights were drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import scipy.special
import torch
from torch import Tensor, nn

from kadanoff.diagnosis.estimate import Estimate
from kadanoff.diagnosis.inputs import Inputs, head
from kadanoff.diagnosis.losses import evaluate
from kadanoff.diagnosis.result import LayerReport
from kadanoff.diagnosis.sums import residual
from kadanoff.diagnosis.surveying import Survey, survey
from kadanoff.errors import KadanoffError, UsageError
from kadanoff.program.records import call_keys
from kadanoff.program.result import ModuleEnsemble, Quantity
from kadanoff.program.run import module_ensemble
from kadanoff.trace.hf import main_output

__all__ = ["THEORY", "Budget", "Expected", "budget", "expected"]

THEORY = ("none", "quick", "full")
# Multiply-adds of a forward pass up to which eight networks are a matter of a second; of all
# networks together, what the part of the batch they run on is cut down to; and up to which they
# keep eight samples and their Jacobians.
LIGHT, PART, HEAVY = 1e9, 4e9, 5e10
PASSES = 3.0  # of the model on its batch: the most that all networks together may cost
SAMPLES = 8  # fewer leave too few pairs for a correlation
_FIELDS = (
    "mean",
    "second_moment",
    "correlation",
    "kurtosis",
    "jacobian",
    "jacobian_to_output",
)
_POSITIVE = ("second_moment", "jacobian", "jacobian_to_output", "gradient")
Reports = tuple[tuple[LayerReport, ...], tuple[LayerReport, ...]]


@dataclass(frozen=True)
class Expected:
    """The reports with expectations beside what was measured.

    Attributes
    ----------
    layers, sums : tuple of LayerReport
    loss : Estimate or None
    words : str
        Where the expectations come from.
    note : str
        Why there are none; or what stays random at any width.
    """

    layers: tuple[LayerReport, ...]
    sums: tuple[LayerReport, ...]
    loss: Estimate | None = None
    words: str = ""
    note: str = ""


@dataclass(frozen=True)
class Budget:
    """How many networks, probes for each of their Jacobians, and samples they run on."""

    networks: int
    probes: int
    samples: int

    @property
    def passes(self) -> float:
        """Forward and backward passes over these samples, of all networks."""
        # a probe goes back twice: from layer to layer, and from the output; a way back is 2/3
        return self.networks * (1 + 4 / 3 * self.probes)


def budget(theory: str, parameters: int, rows: int, samples: int) -> Budget:
    """What a wish for theory comes to for a model of this size.

    Parameters
    ----------
    theory : {"none", "quick", "full"}
    parameters : int
    rows : int
        Most rows (samples times positions) that one linear map sees in the whole batch.
    samples : int
        Of the batch.

    Raises
    ------
    UsageError
        ``theory`` is none of "none", "quick", "full".
    """
    if theory not in THEORY:
        raise UsageError(f"theory must be one of {', '.join(THEORY)}, got {theory!r}.")
    if theory == "none":
        return Budget(0, 0, 0)
    if theory == "full":
        return Budget(64, 2, samples)
    work = float(parameters) * rows
    if work <= LIGHT / 10:
        return Budget(8, 1, samples)
    many = 8 if work <= LIGHT else 4
    each = many * work / max(samples, 1)
    least = SAMPLES if SAMPLES * each <= HEAVY else 2
    probes = 1 if least * each <= HEAVY else 0
    share = PASSES / Budget(many, probes, samples).passes
    most = max(least, min(int(PART / each), int(share * samples)))
    return Budget(many, probes, min(samples, most))


def expected(
    model: nn.Module,
    inputs: Inputs,
    found: Survey,
    loss: Callable[..., Any] | None,
    reports: Callable[[Survey], Reports],
    *,
    theory: str = "quick",
    seed: int = 0,
    probes: int = 2,
    progress: Callable[..., None] | None = None,
) -> Expected:
    """Set an expectation and its spread beside every number that has one.

    Where the whole batch would be dear, both sides are measured on its first samples: z is
    theirs, and the expectation is carried to the batch by the ratio of what was measured on both.
    A model whose program cannot be run on its laws is left as it was measured, and the note says
    why.

    Parameters
    ----------
    model, inputs, loss
        As diagnosed.
    found : Survey
        What was measured on the batch.
    reports : callable
        The reports of layers and of sums beside the main chain that belong to a survey.
    theory : {"none", "quick", "full"}
    seed : int
    probes : int
        Random vectors for each measured Jacobian.
    progress : callable, optional
        ``progress(done, total)`` in networks.
    """
    layers, sums = reports(found)
    rows = max((math.prod(call.shape[:-1]) for call in found.calls if call.shape), default=1)
    plan = budget(theory, sum(p.numel() for p in model.parameters()), rows, inputs.samples)
    if not plan.networks:
        return Expected(layers, sums)
    part, seen = _part(model, inputs, found, loss, plan.samples, seed, probes)
    try:
        ensemble = module_ensemble(
            model,
            part.kwargs or part.args,
            plan.networks,
            loss=_same_loss(part, loss, seed),
            probes=plan.probes,
            seed=seed,
            progress=progress,
        )
    except Exception as error:  # the user's program, run on numbers it was not written for
        said = error.message if isinstance(error, KadanoffError) else f"{error}"
        return Expected(layers, sums, note=f"no expectation: {said}")
    inside, beside = _keys(seen)
    few_layers, few_sums = (layers, sums) if seen is found else reports(seen)
    told = [_beside(r, ensemble, k) for r, k in zip(few_layers, inside, strict=True)]
    streams = [_beside(r, ensemble, k) for r, k in zip(few_sums, beside, strict=True)]
    at_start = None
    if seen.loss is not None and math.isfinite(seen.loss):
        at_start = _against(Estimate(seen.loss), ensemble.loss)
    words = f"expected: {plan.networks} random networks of the same program"
    if seen is not found:
        told = [_carried(r, few) for r, few in zip(layers, told, strict=True)]
        streams = [_carried(r, few) for r, few in zip(sums, streams, strict=True)]
        if at_start is not None and found.loss is not None:
            at_start = _to_batch(Estimate(found.loss), at_start, True)
        words += f", on {part.samples} of {inputs.samples} samples"
    note = ""
    if ensemble.not_self_averaging:
        note = "differs between networks at any width: " + "; ".join(ensemble.not_self_averaging)
    return Expected(tuple(told), tuple(streams), at_start, words, note)


def _part(
    model: nn.Module,
    inputs: Inputs,
    found: Survey,
    loss: Callable[..., Any] | None,
    count: int,
    seed: int,
    probes: int,
) -> tuple[Inputs, Survey]:
    """The first samples, measured alone; the whole batch if it cannot be cut."""
    part = head(inputs, count)
    if part is inputs:
        return inputs, found
    try:
        seen = survey(model, part, loss, seed, probes)
    except KadanoffError:  # samples that are coupled
        return inputs, found
    same = [(c.path, c.op) for c in seen.calls] == [(c.path, c.op) for c in found.calls]
    return (part, seen) if same else (inputs, found)


def _carried(whole: LayerReport, part: LayerReport) -> LayerReport:
    """A report of the batch with the expectations found on a part of it."""
    new: dict[str, Estimate] = {}
    for name in (*_FIELDS, "gradient"):
        ours, few = getattr(whole, name), getattr(part, name)
        if ours is not None and few is not None and few.predicted is not None:
            new[name] = _to_batch(ours, few, name in _POSITIVE)
    return replace(whole, **new)


def _to_batch(ours: Estimate, few: Estimate, positive: bool) -> Estimate:
    """Carry an expectation from a part of the batch to all of it, by what was measured on both."""
    assert few.predicted is not None
    if positive and few.value > 0 and ours.value > 0 and math.isfinite(ours.value):
        factor = ours.value / few.value
        spread = None if few.spread is None else few.spread * factor
        return replace(ours, predicted=few.predicted * factor, spread=spread, z=few.z)
    return replace(
        ours, predicted=few.predicted + ours.value - few.value, spread=few.spread, z=few.z
    )


def _same_loss(
    inputs: Inputs, loss: Callable[..., Any] | None, seed: int
) -> Callable[[Any], Tensor]:
    """The loss that the diagnosis itself uses, of whatever the model returns."""

    def value(output: Any) -> Tensor:
        main = main_output(output)
        assert main is not None
        generator = torch.Generator().manual_seed(seed)
        return evaluate(loss, output, main, inputs.targets, generator, inputs.task).value

    return value


def _keys(found: Survey) -> tuple[list[str], list[str]]:
    """The ensemble's names of the calls that are reported, and of the sums beside them."""
    inside, beside = [], []
    for call, key in zip(found.calls, call_keys(found.calls)):
        if call.kind not in ("linear", "recurrent", "add") or call.statistics is None:
            continue
        if call.kind == "add" and not call.on_chain:
            if residual(call):
                beside.append(key)
        else:
            inside.append(key)
    return inside, beside


def _beside(report: LayerReport, ensemble: ModuleEnsemble, key: str) -> LayerReport:
    known = ensemble.calls.get(key, {})
    new: dict[str, Estimate] = {}
    for name in _FIELDS:
        estimate: Estimate | None = getattr(report, name)
        if estimate is not None and estimate.predicted is None and name in known:
            new[name] = _against(estimate, known[name])
    square = ensemble.gradients.get(report.parameter or "")
    if report.gradient is not None and square is not None:
        new["gradient"] = _root(report.gradient, square)
    return replace(report, **new)


def _against(estimate: Estimate, quantity: Quantity) -> Estimate:
    z = _gauss(quantity.z(estimate.value), quantity.n)
    return replace(estimate, predicted=quantity.value, spread=quantity.spread, z=z)


def _root(estimate: Estimate, square: Quantity) -> Estimate:
    """A root mean square against an ensemble's mean square: δ√s = δs / 2√s."""
    root = math.sqrt(max(square.value, 0.0))
    z = _gauss(square.z(estimate.value**2), square.n)
    spread = square.spread / (2 * root) if root else 0.0
    return replace(estimate, predicted=root, spread=spread, z=z)


def _gauss(t: float, n: int) -> float:
    """The z of a normal law that is as improbable as t with a spread known from n networks.

    Of few networks the spread is known badly, and large t are not rare (Student's law).
    """
    if not math.isfinite(t) or n < 2:
        return t
    tail = float(scipy.special.stdtr(n - 1, -abs(t)))
    if tail > 1e-290:
        return math.copysign(-float(scipy.special.ndtri(tail)), t)
    # half an incomplete beta function I_x(a, 1/2), a = (n-1)/2, at x = 1/(1 + t²/(n-1)) -> 0
    a = (n - 1) / 2
    log_x = -math.log1p(t * t / (n - 1)) if abs(t) < 1e150 else -2 * math.log(abs(t))
    log_tail = a * log_x - math.log(2 * a) - float(scipy.special.betaln(a, 0.5))
    return math.copysign(_isf(log_tail), t)


def _isf(log_tail: float) -> float:
    """The z with that logarithm of its upper tail, far out: log tail = -z²/2 - log(z √2π)."""
    z = math.sqrt(-2 * log_tail)
    for _ in range(4):
        z = math.sqrt(2 * (-log_tail - math.log(z * math.sqrt(2 * math.pi))))
    return z
