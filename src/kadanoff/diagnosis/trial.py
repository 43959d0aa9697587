"""A few real training steps on a copy: what statics cannot decide.

Nothing of the model, its optimiser or the random state is changed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.diagnosis.inputs import Inputs
from kadanoff.diagnosis.losses import evaluate
from kadanoff.diagnosis.recipe import copied, described
from kadanoff.diagnosis.result import TrialReport
from kadanoff.errors import KadanoffError
from kadanoff.trace.hf import main_output
from kadanoff.trace.layers import Layers
from kadanoff.trace.recorder import Recorder
from kadanoff.trace.sandbox import untouched

__all__ = ["ladder", "learned", "run_trial", "stable_rate"]

STEPS = 30
PATIENCE = 4  # an undecided trial goes on to so many times the steps
SECONDS = 3.0
LEARNED = 0.97  # of the constant output's loss


def run_trial(
    model: nn.Module,
    inputs: Inputs,
    loss: Callable[..., Any] | None,
    optimizer: Any,
    *,
    steps: int,
    constant: float | None,
    seed: int = 0,
    seconds: float = SECONDS,
    scale: float = 1.0,
    curvature: bool = False,
    progress: Callable[..., None] | None = None,
) -> TrialReport | None:
    """Train a copy for a few steps on the batch and report; None if it cannot be trained.

    Parameters
    ----------
    model, inputs, loss
        As diagnosed.
    optimizer : Optimizer, sequence of them, Recipe or None
    steps : int
        While nothing is decided the trial goes on to four times as many, within ``seconds``.
    constant : float or None
        Loss of the best constant output.
    scale : float
        Factor on all learning rates.
    curvature : bool
        Measure the sharpness and the edge that follows from it.
    progress : callable, optional
        ``progress(done, total)`` in steps.
    """
    begin = time.perf_counter()
    devices = [p.device for p in model.parameters() if p.device.type == "cuda"][:1]
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        torch.manual_seed(seed)
        try:
            twin, made = copied(model, optimizer)
        except Exception:  # a model or an optimiser that cannot be copied
            return None
        twin.train()
        for one in made:
            for group in one.param_groups:
                group["lr"] = group["lr"] * scale

        def value() -> Tensor:
            output = twin(*inputs.args, **inputs.kwargs)
            main = main_output(output)
            if main is None:
                raise RuntimeError("no output")
            again = torch.Generator().manual_seed(seed)
            return evaluate(loss, output, main, inputs.targets, again, inputs.task).value

        report = TrialReport(described(made[0]), 0, (), constant)
        start = time.perf_counter()  # copying and importing are no steps
        report = replace(report, rate=float(made[0].param_groups[0]["lr"]))
        try:
            if curvature and not _adaptive(made[0]):
                report = _with_edge(report, twin, made[0], value, seconds=seconds)
            report = _steps(report, twin, made, value, steps, start, seconds, progress)
            if curvature and report.finite and _adaptive(made[0]):
                report = _with_edge(report, twin, made[0], value, seconds=seconds)
        except (RuntimeError, ValueError, TypeError, KadanoffError):
            return None
        report = replace(report, dead_after=_dead(twin, inputs) if report.finite else None)
        return replace(report, seconds=time.perf_counter() - begin)


def _steps(
    report: TrialReport,
    twin: nn.Module,
    made: Sequence[Any],
    value: Callable[[], Tensor],
    steps: int,
    start: float,
    seconds: float,
    progress: Callable[..., None] | None,
) -> TrialReport:
    losses: list[float] = []
    finite, ratio, unchanged = True, None, None
    weights = [p for p in twin.parameters() if p.requires_grad and p.ndim >= 2]
    for step in range(PATIENCE * steps + 1):
        if progress is not None:
            progress(step, steps if step <= steps else PATIENCE * steps)
        current = value()
        losses.append(float(current.detach()))
        if not math.isfinite(losses[-1]) or abs(losses[-1]) > 1e6 * (abs(losses[0]) + 1):
            finite = math.isfinite(losses[-1])
            break
        if step == 1:
            start = time.perf_counter()  # a first step imports and allocates
        if step == 3 and (time.perf_counter() - start) / 3 * steps > 6 * seconds:
            raise RuntimeError("too slow to try")
        decided = step >= steps and learned(losses, report.constant_loss) is not False
        if (
            step == PATIENCE * steps
            or decided
            or (step >= min(steps, 10) and time.perf_counter() - start > seconds)
        ):
            break
        for one in made:
            one.zero_grad(set_to_none=True)
        if not current.requires_grad:
            continue
        current.backward()
        before = [p.detach().clone() for p in weights] if step == 1 else []
        for one in made:
            one.step()
        if before:
            ratio, unchanged = _moved(weights, before)
    verdict = learned(losses, report.constant_loss) if finite else False
    away = abs(losses[-1]) > 1e6 * (abs(losses[0]) + 1)
    if verdict is False and finite and not away and len(losses) <= steps:
        verdict = None  # time ran out before enough steps were taken to tell
    return replace(
        report,
        steps=len(losses) - 1,
        losses=tuple(losses),
        finite=finite,
        learns=verdict,
        update_ratio=ratio,
        unchanged=unchanged,
    )


def _moved(
    weights: Sequence[Tensor], before: Sequence[Tensor]
) -> tuple[float | None, float | None]:
    """Median over matrices of |Δw|/|w|, and the fraction of entries that did not change."""
    ratios, same, count = [], 0, 0
    with torch.no_grad():
        for now, old in zip(weights, before):
            size = float(old.float().norm())
            if size > 0:
                ratios.append(float((now - old).float().norm()) / size)
            if now.grad is not None:
                alive = now.grad != 0
                same += int(((now == old) & alive).sum())
                count += int(alive.sum())
    low = weights[0].dtype in (torch.float16, torch.bfloat16) if weights else False
    middle = sorted(ratios)[len(ratios) // 2] if ratios else None
    return middle, (same / count if count and low else None)


def learned(losses: Sequence[float], constant: float | None) -> bool | None:
    """Whether a course of losses shows learning.

    None if it began below what needs learning, or is still falling from a start far above it.
    """
    if len(losses) < 2:
        return None
    start, end = losses[0], sum(losses[-3:]) / len(losses[-3:])
    if not math.isfinite(end):
        return False
    if start == 0:
        return None  # nothing is left to learn
    if constant is not None and constant > 1e-6:
        if start < 0.7 * constant:
            return None
        if end < LEARNED * constant and end < 0.99 * start:
            return True
        # on its way down from a bad start, and not there yet: undecided
        before = losses[-1 - max(len(losses) // 4, 1)]
        return None if start > 1.02 * constant and end < 0.99 * before else False
    return end < start - 0.1 * abs(start)


def stable_rate(
    model: nn.Module,
    inputs: Inputs,
    loss: Callable[..., Any] | None,
    optimizer: Any,
    *,
    seed: int = 0,
) -> float | None:
    """An upper bound of the largest stable rate of SGD, where a trial is too slow.

    Two power iterations from the gradient, which lies largely along the stiffest directions; a
    smaller curvature than the largest gives a larger rate than the stable one. None for Adam and
    its like, whose edge needs a preconditioner that has settled.

    Parameters
    ----------
    model : nn.Module
    inputs : Inputs
    loss : callable or None
    optimizer
        As :func:`kadanoff.diagnose` takes it.
    seed : int
    """
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            twin, made = copied(model, optimizer)
            if _adaptive(made[0]):
                return None
            twin.train()
            torch.manual_seed(seed)

            def value() -> Tensor:
                output = twin(*inputs.args, **inputs.kwargs)
                main = main_output(output)
                assert main is not None
                again = torch.Generator().manual_seed(seed)
                return evaluate(loss, output, main, inputs.targets, again, inputs.task).value

            return _with_edge(TrialReport("", 0, ()), twin, made[0], value, 2).edge
    except Exception:  # a model that cannot be copied, or a user's loss that fails
        return None


def ladder(
    model: nn.Module,
    inputs: Inputs,
    loss: Callable[..., Any] | None,
    optimizer: Any,
    trial: TrialReport,
    *,
    seed: int,
    seconds: float = SECONDS,
) -> tuple[tuple[float, float], ...]:
    """The same trial at other rates: (rate, loss at the end), smaller ones first.

    Parameters
    ----------
    model : nn.Module
    inputs : Inputs
    loss : callable or None
    optimizer
        As :func:`kadanoff.diagnose` takes it.
    trial : TrialReport
        At the user's own rate.
    seed : int
    seconds : float
        Time that all of them may take.
    """
    start = time.perf_counter()
    out = []
    over = trial.edge is not None and trial.rate is not None and trial.rate > trial.edge
    ran = over or not trial.finite or trial.losses[-1] > trial.losses[0]
    factors = (0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4) if ran else (0.1, 10.0, 0.01, 100.0, 1e-3)
    for factor in factors:
        if time.perf_counter() - start > 2 * seconds:
            break
        other = run_trial(
            model,
            inputs,
            loss,
            optimizer,
            steps=max(trial.steps // PATIENCE, 10),
            constant=trial.constant_loss,
            seed=seed,
            seconds=seconds / 2,
            scale=factor,
        )
        if other is None or other.rate is None:
            break
        out.append((other.rate, other.losses[-1] if other.finite else math.inf))
        if other.finite and other.learns and other.losses[-1] < trial.losses[0]:
            break
    return tuple(sorted(out))


def _adaptive(optimizer: Any) -> bool:
    return "betas" in optimizer.param_groups[0] or "alpha" in optimizer.param_groups[0]


def _dead(twin: nn.Module, inputs: Inputs) -> float | None:
    try:
        layers = Layers()
        with untouched(twin, quiet=True), torch.no_grad(), Recorder(twin, layers):
            twin(*inputs.args, **inputs.kwargs)
    except Exception:
        return None
    values = [float(c.units.dead) for c in layers.calls if c.units is not None]
    values = [v for v in values if math.isfinite(v)]
    return max(values) if values else None


def _sharpness(
    optimizer: Any, adaptive: bool, value: Callable[[], Tensor], iterations: int, seconds: float
) -> float:
    """The largest eigenvalue of P^(-1/2) H P^(-1/2) by power iteration; P is 1 for SGD."""
    groups = optimizer.param_groups
    parameters = [p for g in groups for p in g["params"] if p.requires_grad]
    roots = [_root(optimizer, p, groups[0]) if adaptive else None for p in parameters]
    gradients = torch.autograd.grad(value(), parameters, create_graph=True, allow_unused=True)
    pairs = [(p, g, r) for p, g, r in zip(parameters, gradients, roots) if g is not None]
    v = [g.detach().clone() for _, g, _ in pairs]
    top = 0.0
    start = time.perf_counter()
    for step in range(iterations):
        if step >= 2 and time.perf_counter() - start > seconds / 2:
            break
        size = math.sqrt(sum(float(x.square().sum()) for x in v))
        if not size > 0 or not math.isfinite(size):
            break
        v = [x / size for x in v]
        down = [x if r is None else x / r for x, (_, _, r) in zip(v, pairs)]
        product = sum((g * x).sum() for (_, g, _), x in zip(pairs, down))
        assert isinstance(product, Tensor)
        hessian = torch.autograd.grad(
            product, [p for p, _, _ in pairs], retain_graph=True, allow_unused=True
        )
        found = [torch.zeros_like(x) if h is None else h for h, x in zip(hessian, v)]
        found = [h if r is None else h / r for h, (_, _, r) in zip(found, pairs)]
        before, top = top, sum(float((h * x).sum()) for h, x in zip(found, v))
        v = found
        if abs(top - before) < 2e-3 * abs(top):
            break
    return top


def _with_edge(
    report: TrialReport,
    twin: nn.Module,
    optimizer: Any,
    value: Callable[[], Tensor],
    iterations: int = 20,
    seconds: float = math.inf,
) -> TrialReport:
    """Sharpness by power iteration, and the largest stable rate for this optimiser.

    It begins at the gradient, which lies largely along the stiffest directions, so that what is
    found when the time is over is a little low.

    SGD with momentum β is stable below 2(1 + β)/λ. Adam is so with λ of P^(-1/2) H P^(-1/2), P the
    preconditioner it has reached, below 2(1 + β₁)/((1 − β₁) λ): Cohen et al. (2022),
    arXiv:2207.14484.
    """
    group = optimizer.param_groups[0]
    adaptive = _adaptive(optimizer)
    try:
        top = _sharpness(optimizer, adaptive, value, iterations, seconds)
    except RuntimeError:  # no second derivative (fused recurrent kernels)
        return report
    if not math.isfinite(top) or top <= 0:
        return report
    beta = float(group.get("momentum", 0.0) or 0.0)
    if adaptive:
        beta = float(group.get("betas", (0.9,))[0])
        edge = 2 * (1 + beta) / ((1 - beta) * top)
    else:
        edge = 2 * (1 + min(beta, 0.9999)) / top
    return replace(report, sharpness=top, edge=edge)


def _root(optimizer: Any, p: Tensor, group: dict[str, Any]) -> Tensor | None:
    """P^(1/2) of Adam and RMSprop for one parameter."""
    state = optimizer.state.get(p, {})
    square = state.get("exp_avg_sq", state.get("square_avg"))
    if square is None:
        return None
    step = float(state.get("step", 1))
    beta = float(group.get("betas", (0.9, group.get("alpha", 0.99)))[1])
    corrected = square / (1 - beta**step) if "betas" in group else square
    return (corrected.sqrt() + float(group.get("eps", 1e-8))).sqrt()
