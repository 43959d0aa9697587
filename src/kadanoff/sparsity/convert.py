"""Turn a trained model into one whose hidden activations are mostly exact zeros."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from kadanoff.errors import UsageError
from kadanoff.sparsity.blocks import Block, Program, find_blocks
from kadanoff.sparsity.inputs import Example, examples, output_of
from kadanoff.sparsity.keep import keep_columns, keep_threshold, keep_topk
from kadanoff.style.numbers import percent, short
from kadanoff.trace.losses import default_loss

__all__ = [
    "Keep",
    "LayerChange",
    "Sparsification",
    "inherit_report",
    "relufy",
    "sparsification_of",
    "sparsify",
]

# reports by model: a user's module is not ours to hang attributes on
_REPORTS: WeakKeyDictionary[nn.Module, Sparsification] = WeakKeyDictionary()


@dataclass(frozen=True)
class LayerChange:
    """One block: what was set (``k`` or ``threshold``) and the active fraction before and after."""

    name: str
    k: int | None
    threshold: float | None
    before: float
    after: float


@dataclass(frozen=True)
class Sparsification:
    """Report of :func:`sparsify`.

    ``loss_before`` and ``loss_after`` are None without targets; ``output_error`` is the relative
    change of the outputs, ‖Δy‖/‖y‖, on the data given.
    """

    method: str
    target: float
    layers: tuple[LayerChange, ...]
    loss_before: float | None
    loss_after: float | None
    output_error: float

    def __str__(self) -> str:
        loss = ""
        if self.loss_before is not None and self.loss_after is not None:
            loss = f"the loss went from {short(self.loss_before)} to {short(self.loss_after)}, "
        head = f"{self.method}, target {percent(self.target)} zeros: {loss}the outputs changed by "
        rows = [
            f"  {x.name}: {percent(x.before)} active before, {percent(x.after)} now"
            + ("" if x.k is None else f" (k = {x.k})")
            for x in self.layers
        ]
        return "\n".join([head + percent(self.output_error), *rows])

    @property
    def loss_change(self) -> float | None:
        if self.loss_before is None or self.loss_after is None:
            return None
        return self.loss_after - self.loss_before


class Keep:
    """Forward hook of a block's first linear map: zeroes what its activation would make small.

    ``k`` may change while training (see ``anneal``).
    """

    def __init__(self, program: Program, columns: tuple[int, int] | None) -> None:
        self.program, self.columns = program, columns
        self.k: int | None = None
        self.tau: float | None = None
        self.start: int | None = None
        self.steps, self.step = 0, 0

    def _current(self) -> int | None:
        if self.k is None or self.start is None:
            return self.k
        done = min(1.0, self.step / self.steps)
        return max(1, round(self.start * (self.k / self.start) ** done))

    def __call__(self, module: nn.Module, args: Any, z: Tensor) -> Tensor:
        if module.training and self.start is not None:
            self.step += 1
        k = self._current()
        if k is None and self.tau is None:
            return z
        function: Any = keep_threshold if k is None else keep_topk
        options = (self.tau if k is None else k, self.program)
        if self.columns is None:
            return function(z, *options)
        return keep_columns(z, *self.columns, function, *options)


def sparsify(
    model: nn.Module,
    method: str = "topk",
    target: float = 0.95,
    data: Any = None,
    layers: list[str] | None = None,
    anneal_from: float | None = None,
    anneal_steps: int = 0,
    inplace: bool = False,
    progress: Callable[..., None] | None = None,
) -> nn.Module:
    """Convert the MLP blocks of ``model`` so that a fraction ``target`` of the neurons is zero.

    Parameters
    ----------
    model : nn.Module
    method : {"topk", "threshold", "relufy"}
        "topk": per token the k = (1 - target) m largest activations stay; train on for quality.
        "threshold": activations below a magnitude calibrated on ``data``, the ``target`` quantile
        of each layer, become zero (TEAL, CATS: free of training; for a gated block the gate's).
        "relufy": every activation module becomes a ReLU; ``target`` is not used, train on.
    target : float
        Fraction of zeros, 0 <= target < 1.
    data : as for `profile`
        Calibration inputs; with targets the loss change is reported.
    layers : list of str, optional
        Only the blocks that begin at these modules.
    anneal_from, anneal_steps
        "topk" only: begin at this target and approach ``target`` geometrically in k over so many
        training steps.
    inplace : bool
        Change ``model`` itself; otherwise a deep copy.

    Returns
    -------
    nn.Module
        :func:`sparsification_of` tells what was done to it. The parameters and their names are
        unchanged.

    Raises
    ------
    UsageError
        Unknown method or layer, a target outside [0, 1), no data, or an activation with σ(0) ≠ 0
        (zeroing its input would not silence it).
    AnalysisError
        No MLP block was found.
    """
    _check(method, target, data, anneal_from, anneal_steps)
    calls = examples(data, model)
    if not inplace:
        model = copy.deepcopy(model)
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            blocks = _chosen(model, calls[0], layers)
            before = _outcome(model, calls)
            fractions = [_active(block) for block in blocks]
            if method == "relufy":
                relufy(model, calls[0], blocks)
                changes = [(None, None)] * len(blocks)
            else:
                changes = [
                    _attach(block, method, target, anneal_from, anneal_steps) for block in blocks
                ]
                if method == "threshold":
                    changes = _refine(model, calls, blocks, target, progress)
            after = _outcome(model, calls)
            again = {b.name: b for b in find_blocks(model, calls[0], 512)[0]}
    finally:
        for module, mode in modes.items():
            module.training = mode
    rows = tuple(
        LayerChange(block.name, k, tau, fraction, _active(again[block.name]))
        for block, (k, tau), fraction in zip(blocks, changes, fractions)
    )
    norm = sum(float(y.norm() ** 2) for y in before[1])
    change = sum(float((y - x).norm() ** 2) for x, y in zip(before[1], after[1]))
    _REPORTS[model] = Sparsification(
        method, target, rows, before[0], after[0], math.sqrt(change / max(norm, 1e-30))
    )
    return model


def sparsification_of(model: nn.Module) -> Sparsification:
    """What :func:`sparsify` did to this model, and what it changed.

    Parameters
    ----------
    model : nn.Module
        As :func:`sparsify`, or :func:`kadanoff.sparsity.accelerate` after it, returned it, in this
        process.

    Raises
    ------
    UsageError
        It did not, or the model was copied since.
    """
    found = _REPORTS.get(model)
    if found is None:
        raise UsageError(
            f"Nothing is known of a sparsification of this {type(model).__name__}.",
            "Ask for the very model that sparsify returned, not for a copy of it.",
        )
    return found


def inherit_report(model: nn.Module, copied: nn.Module) -> nn.Module:
    """Let a copy have the report of the model it was made from; returns the copy."""
    if model in _REPORTS:
        _REPORTS[copied] = _REPORTS[model]
    return copied


def _check(
    method: str, target: float, data: Any, anneal_from: float | None, anneal_steps: int
) -> None:
    if method not in ("topk", "threshold", "relufy"):
        raise UsageError(f"There is no method {method!r}.", "Choose topk, threshold or relufy.")
    if not isinstance(target, (int, float)) or not 0.0 <= target < 1.0:
        raise UsageError(f"target = {target!r} is not in [0, 1).", "Pass e.g. 0.95.")
    if anneal_from is not None and not (0.0 <= anneal_from <= target and anneal_steps >= 1):
        raise UsageError(
            f"anneal_from = {anneal_from} with anneal_steps = {anneal_steps} does not approach "
            f"target = {target}.",
            "Pass 0 <= anneal_from <= target and anneal_steps >= 1.",
        )
    if data is None:
        raise UsageError("No data were given.", "Pass inputs of the model as data=.")


def _chosen(model: nn.Module, example: Example, layers: list[str] | None) -> list[Block]:
    blocks, _ = find_blocks(model, example, 512)
    unknown = sorted(set(layers or ()) - {block.name for block in blocks})
    if unknown:
        raise UsageError(
            f"No MLP block begins at {', '.join(map(repr, unknown))}.",
            f"The blocks are: {', '.join(block.name for block in blocks)}.",
        )
    return [block for block in blocks if layers is None or block.name in layers]


def _active(block: Block) -> float:
    assert block.hidden is not None  # find_blocks has kept some
    return float((block.hidden != 0).double().mean())


def _outcome(model: nn.Module, calls: list[Example]) -> tuple[float | None, list[Tensor]]:
    outputs, losses = [], []
    for call in calls:
        output = call.run(model)
        outputs.append(output_of(output).float())
        if call.targets is not None:
            loss = default_loss(output, call.targets)
            assert loss is not None  # targets that fit no loss have raised
            losses.append(float(loss))
    return (sum(losses) / len(losses) if len(losses) == len(calls) else None), outputs


def _attach(
    block: Block, method: str, target: float, anneal_from: float | None, anneal_steps: int
) -> tuple[int | None, float | None]:
    """Hook the block's first linear map; returns (k, threshold)."""
    if block.program is None:
        raise UsageError(
            f"The activation of the block at {block.name!r} uses tensors of one run and cannot be "
            "repeated.",
            "Leave that block out with layers=.",
        )
    probe = torch.zeros(block.m, dtype=block.dtype, device=block.first.rows().device)
    if block.program.pointwise and bool((block.program(probe) != 0).any()):
        raise UsageError(
            f"The activation {' → '.join(block.program.names)} at {block.name!r} is not 0 at 0, "
            "so that zeroed neurons would not be silent.",
            "Replace it (ReLU, GELU, SiLU ...) or leave that block out with layers=.",
        )
    for hook in list(block.first.module._forward_hooks.values()):
        if isinstance(hook, Keep) and hook.columns == block.first.columns:
            raise UsageError(
                f"The block at {block.name!r} has been sparsified already.",
                "Sparsify the original model.",
            )
    keep = Keep(block.program, block.first.columns)
    if method == "topk":
        keep.k = max(1, round((1 - target) * block.m))
        if anneal_from is not None:
            keep.start, keep.steps = max(1, round((1 - anneal_from) * block.m)), anneal_steps
    else:
        assert block.hidden is not None  # find_blocks has kept some
        keep.tau = _quantile(block.hidden, target)
    block.first.module.register_forward_hook(keep)
    return keep.k, keep.tau


def _quantile(hidden: Tensor, target: float) -> float:
    size = hidden.detach().abs().float().flatten()
    if target == 0.0:
        return 0.0
    rank = min(size.numel(), max(1, math.ceil(target * size.numel())))
    # just above the entry that is the last to go
    edge = float(size.kthvalue(rank).values)
    return float(torch.nextafter(torch.tensor(edge), torch.tensor(math.inf)))


def _refine(
    model: nn.Module,
    calls: list[Example],
    blocks: list[Block],
    target: float,
    progress: Callable[..., None] | None,
) -> list[tuple[int | None, float | None]]:
    """Set the thresholds from input to output, each on what the layers before now let through."""
    keeps = []
    for block in blocks:
        hooks = block.first.module._forward_hooks.values()
        keeps.append(next(h for h in hooks if isinstance(h, Keep)))
    for keep in keeps:
        keep.tau = None
    for index, (block, keep) in enumerate(zip(blocks, keeps)):
        seen = []
        for call in calls[:8]:
            found = {b.name: b for b in find_blocks(model, call, 512)[0]}
            seen.append(found[block.name].hidden)
        keep.tau = _quantile(torch.cat(seen), target)
        if progress is not None:
            progress(index + 1, len(blocks))
    return [(None, keep.tau) for keep in keeps]


def relufy(model: nn.Module, example: Any, blocks: list[Block] | None = None) -> nn.Module:
    """Replace, in place, the activation modules of the MLP blocks by ReLU.

    Parameters
    ----------
    model : nn.Module
    example : as for `profile`
        A call of the model, by which its blocks are found.
    blocks : list of Block, optional
        Only these, already found.

    Raises
    ------
    UsageError
        A block calls its activation as a function, which cannot be replaced from outside.
    """
    call = examples(example, model, 1)[0]
    if blocks is None:
        blocks, _ = find_blocks(model, call)
    stuck = []
    for block in blocks:
        if block.program is not None and block.program.names == ["relu"]:
            continue
        owner = model.get_submodule(block.owner)
        if isinstance(owner, (nn.TransformerEncoderLayer, nn.TransformerDecoderLayer)):
            owner.activation = torch.nn.functional.relu
            owner.activation_relu_or_gelu = 1  # type: ignore[assignment]
            continue
        path = block.activation_path
        if path is None or next(model.get_submodule(path).parameters(), None) is not None:
            stuck.append(block.name)
            continue
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, nn.ReLU())
    if stuck:
        raise UsageError(
            f"The blocks at {', '.join(map(repr, stuck))} call their activation as a function.",
            "Give the model its activation as a module, or use method='threshold'.",
        )
    return model
