"""The MLP blocks of a model as data: their matrices, the function between, and who calls them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.errors import AnalysisError
from kadanoff.sparsity.inputs import Example
from kadanoff.sparsity.keep import keep_threshold, keep_topk, threshold, topk
from kadanoff.sparsity.structure import DataStep, Hidden, HiddenFinder, find_hidden, sample_rows

__all__ = [
    "Block",
    "LinearMap",
    "Program",
    "SkipRecipe",
    "after_relu",
    "common_path",
    "find_blocks",
    "program_of",
    "recipe_of",
]


@dataclass
class LinearMap:
    """A linear map of the model: ``module`` (its path) and how to read its rows."""

    path: str
    module: nn.Module
    transposed: bool  # the weight is (in, out), as in GPT-2
    columns: tuple[int, int] | None = None  # of its outputs, if only a slice is meant

    def rows(self) -> Tensor:
        """(out, in) weight, a view of the parameter."""
        weight: Any = self.module.weight
        weight = weight.detach().t() if self.transposed else weight.detach()
        return weight if self.columns is None else weight[slice(*self.columns)]

    def bias(self) -> Tensor | None:
        bias: Any = getattr(self.module, "bias", None)
        if bias is None:
            return None
        return bias.detach() if self.columns is None else bias.detach()[slice(*self.columns)]


@dataclass
class _Slot:
    index: int


@dataclass
class Program:
    """The recorded elementwise function, free of tensors of the run that showed it."""

    steps: list[tuple[Any, tuple[Any, ...], dict[str, Any]]]
    names: list[str]
    pointwise: bool = True  # each entry depends on its own preactivation alone (no Top-k)

    def __call__(self, z: Tensor) -> Tensor:
        values = [z]
        for func, args, kwargs in self.steps:
            given = [_filled(argument, values) for argument in args]
            named = {key: _filled(argument, values) for key, argument in kwargs.items()}
            values.append(func(*given, **named))
        return values[-1]


def _filled(argument: Any, values: list[Tensor]) -> Any:
    return values[argument.index] if isinstance(argument, _Slot) else argument


def program_of(value: DataStep, finder: HiddenFinder) -> Program | None:
    """Replayable form of everything between a value and its one linear map.

    None if a step uses a tensor that is neither that map's output nor a parameter: replaying it
    would repeat one run's numbers.
    """
    place: dict[int, int] = {id(root): 0 for root in value.roots()}
    if len(place) != 1:
        return None
    steps, names = [], []
    for step in value.below():
        args, kwargs = [], {}
        for index, argument in enumerate(step.args):
            source = step.sources.get(index)
            args.append(_Slot(place[id(source)]) if source is not None else argument)
        for key, argument in step.kwargs.items():
            source = step.sources.get({"input": -1, "other": -2}.get(key, -3))
            kwargs[key] = _Slot(place[id(source)]) if source is not None else argument
        for argument in (*args, *kwargs.values()):
            constant = isinstance(argument, Tensor) and argument.numel() > 1
            if constant and not finder.name_of(argument):
                return None
        kwargs.pop("inplace", None)
        steps.append((step.func, tuple(args), kwargs))
        names.append(step.op)
        place[id(step)] = len(steps)
    return Program(steps, names, not {"topk", "keep_topk"} & set(names))


@dataclass(frozen=True)
class SkipRecipe:
    """A program as σ, then Top-k (``k`` = 0: none), then a magnitude threshold ``tau``.

    ``head``: σ as a program, None if it is the plain ReLU.
    """

    head: Program | None
    k: int = 0
    tau: float = 0.0


def recipe_of(program: Program) -> SkipRecipe:
    """Take Top-k and thresholds out of a program, so that a back end may do them itself."""
    steps, names = program.steps, program.names
    func, args, kwargs = steps[-1]
    last = args[0] if args else None
    ends = func in (topk, threshold) and isinstance(last, _Slot) and last.index == len(steps) - 1
    first, begins_with, first_kwargs = steps[0]
    begins = first in (keep_topk, keep_threshold) and _on_first(steps[1:])
    if ends and not kwargs:
        steps, names = steps[:-1], names[:-1]
    elif begins and not first_kwargs:
        # σ(z kept) = σ(z) kept, as sparsify has made sure that σ(0) = 0
        func, args = first, begins_with
        steps, names = [_earlier(step) for step in steps[1:]], names[1:]
    k, tau = 0, 0.0
    if func in (topk, keep_topk):
        if not isinstance(args[1], int):
            return SkipRecipe(program)
        k = args[1]
    elif func in (threshold, keep_threshold):
        tau = float(args[1])
    if names == ["relu"]:
        return SkipRecipe(None, k, tau)
    return SkipRecipe(Program(steps, names, not {"topk", "keep_topk"} & set(names)), k, tau)


def _earlier(step: tuple[Any, tuple[Any, ...], dict[str, Any]]) -> tuple[Any, tuple, dict]:
    """The same step of a program that has lost its first one."""
    func, args, kwargs = step
    moved = (_Slot(a.index - 1) if isinstance(a, _Slot) else a for a in args)
    return func, tuple(moved), kwargs


def after_relu(program: Program) -> bool:
    """Whether it is a ReLU and then a function of that alone, which is 0 at 0."""
    if program.names[0] != "relu" or not (len(program.steps) == 1 or _on_first(program.steps[1:])):
        return False
    return not bool(program(torch.zeros(1)).any())


def _on_first(steps: list[Any]) -> bool:
    """Whether no step reads the preactivation itself, only what was made of it."""
    for _, args, kwargs in steps:
        if any(isinstance(argument, _Slot) for argument in kwargs.values()):
            return False
        if any(isinstance(argument, _Slot) and argument.index < 1 for argument in args):
            return False
    return bool(steps)


@dataclass
class Block:
    """One MLP block: σ(first x) [⊙ up x], then down. ``d`` in, ``m`` hidden, ``n_out`` out."""

    kind: str
    first: LinearMap
    down: LinearMap
    program: Program | None
    up: LinearMap | None = None
    exact: bool = False
    inputs: Tensor | None = None  # some tokens that entered it
    owner: str = ""
    whole: bool = False  # the owner's forward is this block and nothing else
    hidden: Tensor | None = None  # some of the skippable activations
    product: Tensor | None = None
    notes: list[str] = field(default_factory=list)
    activation_path: str | None = None  # module that is the activation, if one is

    @property
    def name(self) -> str:
        return self.first.path

    @property
    def matrices(self) -> list[LinearMap]:
        """Its linear maps: first, down, and up if it is gated."""
        return [self.first, self.down] + ([] if self.up is None else [self.up])

    @property
    def d(self) -> int:
        return self.first.rows().shape[1]

    @property
    def m(self) -> int:
        return self.first.rows().shape[0]

    @property
    def n_out(self) -> int:
        return self.down.rows().shape[0]

    @property
    def dtype(self) -> torch.dtype:
        return self.first.rows().dtype

    def compute(self, x: Tensor) -> Tensor:
        """The dense block, from its parts."""
        linear = torch.nn.functional.linear
        a = linear(x, self.first.rows(), self.first.bias())
        a = a if self.program is None else self.program(a)
        if self.up is not None:
            a = a * linear(x, self.up.rows(), self.up.bias())
        return linear(a, self.down.rows(), self.down.bias())


def common_path(paths: list[str]) -> str:
    """Deepest module that holds all of ``paths``."""
    parts = [path.split(".")[:-1] for path in paths]
    shared = []
    for level in zip(*parts):
        if len(set(level)) > 1:
            break
        shared.append(level[0])
    return ".".join(shared)


def _matrix(step: DataStep | None, finder: HiddenFinder, model: nn.Module) -> LinearMap | None:
    if step is None:
        return None
    source = step.whole
    name = finder.name_of(source.weight)
    if source.kind != "linear" or name is None or not name.endswith("weight"):
        return None
    path = name[: -len(".weight")] if "." in name else ""
    module = model.get_submodule(path)
    stored: Any = getattr(module, "weight", None)
    if not isinstance(stored, Tensor) or source.weight is None:
        return None
    # x @ W.T reads the same memory as F.linear(x, W)
    transposed = source.transposed and stored.shape == source.weight.shape
    if transposed and stored.stride() != source.weight.stride():
        transposed = False
    return LinearMap(path, module, transposed, step.columns)


@torch.no_grad()
def find_blocks(
    model: nn.Module, example: Example, tokens: int = 64
) -> tuple[list[Block], HiddenFinder]:
    """MLP blocks met in one call of the model, in order, with some tokens of their traffic.

    Parameters
    ----------
    model : nn.Module
    example : Example
        The call.
    tokens : int
        How many tokens of each block's inputs and activations to keep.

    Raises
    ------
    AnalysisError
        There is no block.
    """
    collected = _Collected(model, tokens)
    finder = find_hidden(model, lambda: example.run(model), collected.add, keep=tokens)
    blocks = collected.blocks
    if not blocks:
        raise AnalysisError(
            f"No MLP block was found in {type(model).__name__}.",
            "A block is linear → activation (→ product with a second linear) → linear; "
            "activations of convolutions can be measured (profile), not skipped.",
        )
    _check_owners(model, example, blocks)
    return blocks, finder


class _Collected:
    """The blocks among the hidden activations that are met."""

    def __init__(self, model: nn.Module, tokens: int) -> None:
        self.blocks: list[Block] = []
        self._model, self._tokens = model, tokens

    def add(self, hidden: Hidden, finder: HiddenFinder) -> None:
        """Make a block of a hidden activation, if it stands between two matrices of the model."""
        if hidden.kind not in ("mlp", "gated") or hidden.consumer is None:
            return
        gate = hidden.gate or hidden.step
        roots = gate.roots()
        first = _matrix(roots[0], finder, self._model) if len(roots) == 1 else None
        down = _matrix(hidden.consumer, finder, self._model)
        if first is None or down is None or self._met_before(first):
            return
        up, notes = None, []
        if hidden.kind == "gated" and hidden.up is not None:
            if hidden.up.kind in ("linear", "part"):
                up = _matrix(hidden.up, finder, self._model)
            if up is None:
                notes.append("the second branch is not a plain linear map")
        block = Block(
            hidden.kind,
            first,
            down,
            program_of(gate, finder),
            up,
            hidden.exact_zeros,
            roots[0].whole.tokens,
            notes=notes,
            hidden=sample_rows(hidden.skippable, self._tokens),
            product=sample_rows(hidden.product, self._tokens),
        )
        block.owner = common_path([matrix.path for matrix in block.matrices])
        block.activation_path = _activation_path(gate, block.owner)
        self.blocks.append(block)

    def _met_before(self, first: LinearMap) -> bool:
        found = [block for block in self.blocks if block.first.path == first.path]
        for block in found:
            block.notes.append("used more than once in a pass")
        return bool(found)


def _activation_path(gate: DataStep, owner: str) -> str | None:
    """The module that computes the activation and nothing else of the block."""
    maps = [step for step in gate.below() if step.kind == "map"]
    homes = {step.path for step in maps if step.op != "keep_threshold"}
    alone = len(homes) == 1 and owner not in homes and "" not in homes
    return homes.pop() if alone else None


def _check_owners(model: nn.Module, example: Example, blocks: list[Block]) -> None:
    """Mark the blocks whose owner computes the block and nothing else."""
    owners = Counter(block.owner for block in blocks)
    handles = []
    for block in blocks:
        owner = model.get_submodule(block.owner)
        ours = set()
        for matrix in block.matrices:
            ours |= {id(p) for p in matrix.module.parameters()}
        alone = owners[block.owner] == 1 and {id(p) for p in owner.parameters()} == ours
        if block.program is None or block.notes or not alone:
            continue

        def check(_module, args, kwargs, output, block=block) -> None:
            if len(args) == 1 and not kwargs:
                block.whole = _computes(block, args[0], output)

        handles.append(owner.register_forward_hook(check, with_kwargs=True))
    try:
        example.run(model)
    finally:
        for handle in handles:
            handle.remove()


def _computes(block: Block, x: Any, y: Any) -> bool:
    """Whether ``y`` is what the block makes of ``x``, on some of the tokens."""
    if not isinstance(x, Tensor) or not isinstance(y, Tensor) or x.shape[-1] != block.d:
        return False
    if x.ndim > 1:
        x, y = x[..., :64, :], y[..., :64, :]
    mine = block.compute(x)
    if mine.shape != y.shape:
        return False
    error = (mine.float() - y.float()).norm()
    limit = 1e-4 if y.dtype == torch.float32 else 3e-2
    return bool(error <= limit * y.float().norm() + 1e-12)
