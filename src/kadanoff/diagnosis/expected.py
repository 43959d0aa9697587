"""What random weights give: every measured number beside the ensemble of the model's own program.

The ensemble is that of :func:`kadanoff.program.module_ensemble` on the batch that was measured,
with the laws that :func:`kadanoff.program.laws` finds, so that the only difference between the
two sides is which weights were drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import scipy.special
import scipy.stats
import torch
from torch import Tensor, nn

from kadanoff.diagnosis.estimate import Estimate
from kadanoff.diagnosis.inputs import Inputs
from kadanoff.diagnosis.losses import evaluate
from kadanoff.diagnosis.result import LayerReport
from kadanoff.diagnosis.sums import residual
from kadanoff.diagnosis.survey import Survey
from kadanoff.errors import KadanoffError, UsageError
from kadanoff.program.records import call_keys
from kadanoff.program.result import ModuleEnsemble, Quantity
from kadanoff.program.run import module_ensemble
from kadanoff.trace.hf import main_output

__all__ = ["THEORY", "Expected", "expected", "networks"]

THEORY = ("none", "quick", "full")
# multiply-adds of a forward pass up to which eight networks are a matter of a second, and up to
# which four with their Jacobians stay within eight passes of the model
LIGHT, HEAVY = 1e9, 5e10
_FIELDS = (
    "mean",
    "second_moment",
    "correlation",
    "kurtosis",
    "jacobian",
    "jacobian_to_output",
)


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


def networks(theory: str, parameters: int, rows: int) -> tuple[int, int]:
    """How many networks, and how many probes for each of their Jacobians.

    Raises
    ------
    UsageError
        ``theory`` is none of "none", "quick", "full".
    """
    if theory not in THEORY:
        raise UsageError(f"theory must be one of {', '.join(THEORY)}, got {theory!r}.")
    work = float(parameters) * rows
    if theory == "none":
        return 0, 0
    if theory == "full":
        return 64, 2
    return (8, 1) if work <= LIGHT else (4, 1 if work <= HEAVY else 0)


def expected(
    model: nn.Module,
    inputs: Inputs,
    found: Survey,
    loss: Callable[..., Any] | None,
    layers: Sequence[LayerReport],
    sums: Sequence[LayerReport],
    *,
    theory: str = "quick",
    seed: int = 0,
) -> Expected:
    """Set an expectation and its spread beside every number that has one.

    A model whose program cannot be run on its laws is left as it was measured, and the note says
    why.
    """
    layers, sums = tuple(layers), tuple(sums)
    rows = max((math.prod(call.shape[:-1]) for call in found.calls if call.shape), default=1)
    many, probes = networks(theory, sum(p.numel() for p in model.parameters()), rows)
    if not many:
        return Expected(layers, sums)
    try:
        ensemble = module_ensemble(
            model,
            inputs.kwargs or inputs.args,
            many,
            loss=_same_loss(inputs, loss, seed),
            probes=probes,
            seed=seed,
        )
    except (KadanoffError, RuntimeError, TypeError, ValueError, ArithmeticError) as error:
        said = error.message if isinstance(error, KadanoffError) else f"{error}"
        return Expected(layers, sums, note=f"no expectation: {said}")
    inside, beside = _keys(found)
    told = [_beside(r, ensemble, k) for r, k in zip(layers, inside, strict=True)]
    streams = [_beside(r, ensemble, k) for r, k in zip(sums, beside, strict=True)]
    at_start = None
    if found.loss is not None and math.isfinite(found.loss):
        at_start = _against(Estimate(found.loss), ensemble.loss)
    words = f"expected: {many} random networks of the same program"
    note = ""
    if ensemble.not_self_averaging:
        note = "differs between networks at any width: " + "; ".join(ensemble.not_self_averaging)
    return Expected(tuple(told), tuple(streams), at_start, words, note)


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
    tail = float(scipy.stats.t.sf(abs(t), n - 1))
    if tail > 1e-290:
        return math.copysign(float(scipy.stats.norm.isf(tail)), t)
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
