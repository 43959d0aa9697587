"""Swap MLP blocks for ones that skip what is inactive, wherever that is measured to be faster."""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn

from kadanoff.errors import UsageError, install_command
from kadanoff.sparsity import backends
from kadanoff.sparsity.blocks import Block, find_blocks
from kadanoff.sparsity.calibrate import Timing, time_blocks, union_costs
from kadanoff.sparsity.convert import inherit_report
from kadanoff.sparsity.inputs import Example, device_of, examples, output_of
from kadanoff.sparsity.plans import SCREENED, BlockPlan, plan_blocks
from kadanoff.sparsity.predictor import Predictor
from kadanoff.sparsity.skip import FastLinear, SkipBlock, SkipLinear, UnionCosts
from kadanoff.style.numbers import short

__all__ = [
    "Acceleration",
    "BlockChoice",
    "accelerate",
    "acceleration_of",
    "restore",
]

_FUSED, _KEPT = "activation_relu_or_gelu", "_kadanoff_activation_relu_or_gelu"
# reports by model: a user's module is not ours to hang attributes on
_REPORTS: WeakKeyDictionary[nn.Module, Acceleration] = WeakKeyDictionary()

_ALWAYS = UnionCosts((2, 4, 8), (float("inf"),) * 3)

_DEVICE = {"numba": "cpu", "triton": "cuda"}


@dataclass(frozen=True)
class BlockChoice:
    """What one block runs on. ``choice`` is "dense" or the back end; times in seconds a token."""

    name: str
    kind: str
    choice: str
    scope: str  # "block", "screened block", "second matrix" or ""
    active: float
    dense_seconds: float
    chosen_seconds: float
    reason: str
    predictor: Predictor | None = None

    @property
    def speedup(self) -> float:
        """Dense time over chosen time (1 where dense stays)."""
        return self.dense_seconds / self.chosen_seconds if self.chosen_seconds else 1.0


@dataclass(frozen=True)
class Acceleration:
    """Report of :func:`accelerate`: choices, and the whole model's check on the data given.

    ``model_ratio``: fastest call of the accelerated model over the dense one's, first example;
    ``output_error``: relative difference of the outputs there.
    """

    blocks: tuple[BlockChoice, ...]
    exact: bool
    model_ratio: float
    output_error: float
    notes: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        head = f"one call of the model takes {short(self.model_ratio)} of its dense time; "
        head += f"outputs differ by {short(self.output_error)} of their size"
        rows = []
        for x in self.blocks:
            words = f"  {x.name}: {x.choice}"
            if x.choice != "dense":
                times = f"{short(1e6 * x.dense_seconds)} to {short(1e6 * x.chosen_seconds)} µs"
                words += f", {x.speedup:.2f} times as fast ({times} a token)"
            rows.append(words + (f" ({x.reason})" if x.reason else ""))
        return "\n".join([head, *rows, *self.notes])


def accelerate(
    model: nn.Module,
    data: Any,
    backend: str = "auto",
    layers: list[str] | None = None,
    predictor_rank: int | None = None,
    tolerance: float | None = None,
    force: bool = False,
    inplace: bool = False,
    screen: bool = True,
) -> nn.Module:
    """Make a sparse model faster at inference on few tokens.

    Exact unless a predictor is asked for: a block whose activation gives zeros (ReLU, Top-k,
    thresholds) reads only the rows of its second matrix that matter, a gated one also only those
    rows of its up matrix. More than a few tokens at once (prefill) run dense as before.

    Parameters
    ----------
    model : nn.Module
        In evaluation mode, float32 or bfloat16.
    data : as for `profile`
        Real inputs: activations on them decide what is worth skipping.
    backend : {"auto", "torch", "numba", "triton"}
        "auto" times all that run here, dense included.
    layers : list of str, optional
        Only these blocks, by the path of their first matrix (as `profile` names them).
    predictor_rank, tolerance : int, float
        Skip the first matrix as well, by a predictor of this rank, where the output error of the
        block on held-out tokens stays below ``tolerance``. No longer exact.
    force : bool
        Take the sparse path even where dense is faster (for tests and benchmarks).
    inplace : bool
        Change ``model`` itself; otherwise a deep copy is returned.
    screen : bool
        Allow the first matrix of a ReLU block to be kept a second time in eight bits (a byte for
        each of its weights) where that is faster: it proves for most neurons that they are
        inactive, so that their rows in full precision are not read. Still exact.

    Returns
    -------
    nn.Module
        :func:`acceleration_of` tells what was done to it; :func:`restore` undoes it.

    Raises
    ------
    UsageError
        Training mode, a dtype or back end that is not supported, unknown ``layers``, a predictor
        without tolerance.
    AnalysisError
        No MLP block was found.
    """
    _check(model, backend, predictor_rank, tolerance)
    example = examples(data, model, 1)[0]
    if not inplace:
        model = inherit_report(model, copy.deepcopy(model))
    restore(model)
    with torch.no_grad():
        blocks, _ = find_blocks(model, example)
        _known(layers, blocks)
        before = output_of(example.run(model)).float().clone()
        chosen = []
        names = backends.available(device_of(model)) if backend == "auto" else [backend]
        for name in names:
            backends.load(name)
        plans = plan_blocks(model, blocks, names, layers, predictor_rank, tolerance)
        for plan in plans:
            plan.screen = screen and plan.may_screen()
        timings = time_blocks(plans)
        for plan, timing in zip(plans, timings):
            way, choice = _choose(plan, timing, force)
            chosen.append(choice)
            if way != "dense":
                union = _ALWAYS if force else union_costs(plan, way)
                _install(model, plan, way, union)
        after = output_of(example.run(model)).float()
        error = float((after - before).norm() / before.norm().clamp(min=1e-30))
        ratio = _whole(model, example)
        notes = []
        if backend == "auto" and names == ["torch"] and device_of(model).type == "cpu":
            notes.append(
                "numba is not installed: install [sparse] to skip by compiled loops "
                f"({install_command('sparse')})"
            )
        if copied := sum(b.m * b.d for b, c in zip(blocks, chosen) if c.scope == "screened block"):
            notes.append(f"screens keep {copied / 2**20:.1f} MiB of first matrices in eight bits")
        if ratio > 1.03 and not force:
            restore(model)
            notes = [
                f"undone: the whole model took {ratio:.2f} times its dense time on the data given"
            ]
            chosen = [_dense(choice, "the whole model was slower") for choice in chosen]
            ratio, error = 1.0, 0.0
    exact = all(choice.predictor is None for choice in chosen)
    _REPORTS[model] = Acceleration(tuple(chosen), exact, ratio, error, tuple(notes))
    return model


def acceleration_of(model: nn.Module) -> Acceleration:
    """What :func:`accelerate` did to this model: choices, times, and the whole model's check.

    Parameters
    ----------
    model : nn.Module
        As :func:`accelerate` returned it, in this process.

    Raises
    ------
    UsageError
        It did not, or the model was copied or restored since.
    """
    found = _REPORTS.get(model)
    if found is None:
        raise UsageError(
            f"Nothing is known of an acceleration of this {type(model).__name__}.",
            "Ask for the very model that accelerate returned, not for a copy of it.",
        )
    return found


def restore(model: nn.Module) -> nn.Module:
    """Undo :func:`accelerate`, in place: every module gets its own forward back.

    Parameters
    ----------
    model : nn.Module

    Returns
    -------
    nn.Module
        The same.
    """
    _REPORTS.pop(model, None)
    for module in model.modules():
        if isinstance(module.__dict__.get("forward"), (SkipBlock, SkipLinear, FastLinear)):
            del module.__dict__["forward"]
        if _KEPT in vars(module):
            module.__dict__[_FUSED] = module.__dict__.pop(_KEPT)
    return model


def _check(model: nn.Module, backend: str, rank: int | None, tolerance: float | None) -> None:
    if model.training:
        raise UsageError("The model is in training mode.", "Call model.eval() first.")
    if backend not in ("auto", "torch", "numba", "triton"):
        raise UsageError(
            f"There is no back end {backend!r}.", "Choose auto, torch, numba or triton."
        )
    device = device_of(model)
    if backend != "auto" and backend not in ("torch",) and device.type != _DEVICE[backend]:
        raise UsageError(
            f"The back end {backend!r} does not run on {device.type}.",
            "Use backend='auto', or move the model.",
        )
    if (rank is None) != (tolerance is None):
        raise UsageError(
            "A predictor needs both predictor_rank and tolerance.",
            "Pass e.g. predictor_rank=64, tolerance=0.01, or neither (exact).",
        )
    if tolerance is not None and not 0 < tolerance < 1:
        raise UsageError(f"tolerance = {tolerance} is not in (0, 1).", "Pass e.g. 0.01.")
    if rank is not None and rank < 1:
        raise UsageError(f"predictor_rank = {rank} is not positive.", "Pass e.g. 64.")


def _known(layers: list[str] | None, blocks: list[Block]) -> None:
    unknown = sorted(set(layers or ()) - {block.name for block in blocks})
    if unknown:
        raise UsageError(
            f"No MLP block begins at {', '.join(map(repr, unknown))}.",
            f"The blocks are: {', '.join(block.name for block in blocks)}.",
        )


def _choose(plan: BlockPlan, timing: Timing, force: bool) -> tuple[str, BlockChoice]:
    """The fastest way, and what the report says of it."""
    best = min(timing.sparse, key=lambda n: timing.sparse[n]) if timing.sparse else "dense"
    reason = plan.reason
    if best != "dense" and timing.sparse[best] > 0.95 * timing.dense and not force:
        reason, best = "dense is as fast or faster", "dense"
    scope = "" if best == "dense" else "block" if plan.block.whole else "second matrix"
    if best.endswith(SCREENED):
        scope = "screened block"
    return best, BlockChoice(
        plan.block.name,
        plan.block.kind,
        best.removesuffix(SCREENED),
        scope,
        plan.active,
        timing.dense,
        timing.dense if best == "dense" else timing.sparse[best],
        reason,
        None if best == "dense" else plan.predictor,
    )


def _dense(choice: BlockChoice, reason: str) -> BlockChoice:
    return BlockChoice(
        choice.name,
        choice.kind,
        "dense",
        "",
        choice.active,
        choice.dense_seconds,
        choice.dense_seconds,
        reason,
    )


def _install(model: nn.Module, plan: BlockPlan, way: str, costs: UnionCosts) -> None:
    forward = plan.forward(way)
    forward.costs = costs
    forward.module.__dict__["forward"] = forward
    parts = plan.block.down.path.split(".")
    for depth in range(len(parts)):
        module = model.get_submodule(".".join(parts[:depth]))
        if _FUSED in vars(module):
            # torch's fused encoder layer would read the weights past our forward
            module.__dict__.setdefault(_KEPT, vars(module)[_FUSED])
            module.__dict__[_FUSED] = 0
    if not plan.block.whole and way == "numba":
        for matrix in (plan.block.first, plan.block.up):
            if matrix is not None and matrix.columns is None and matrix.rows().is_contiguous():
                matrix.module.__dict__["forward"] = FastLinear(matrix, way)


def _whole(model: nn.Module, example: Example, rounds: int = 7) -> float:
    """Fastest accelerated call over fastest dense call, rounds alternating.

    1 if the example holds so many tokens that no block skips anything on it.
    """
    swapped = {
        module: module.__dict__["forward"]
        for module in model.modules()
        if isinstance(module.__dict__.get("forward"), (SkipBlock, SkipLinear, FastLinear))
    }
    if not _skips(model, example, list(swapped.values())):
        return 1.0

    def call() -> float:
        start = time.perf_counter()
        example.run(model)
        if device_of(model).type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    fast, dense = [], []
    call()
    # more rounds before a verdict against: load on the machine only adds time
    while len(fast) < rounds or (len(fast) < 4 * rounds and min(fast) > min(dense)):
        fast.append(call())
        for module in swapped:
            del module.__dict__["forward"]
        dense.append(call())
        for module, forward in swapped.items():
            module.__dict__["forward"] = forward
    return min(fast) / min(dense)


def _skips(model: nn.Module, example: Example, forwards: list[Any]) -> bool:
    """Whether any of these takes its sparse path when the model runs on the example."""
    before = [forward.skipped for forward in forwards]
    example.run(model)
    return [forward.skipped for forward in forwards] != before
