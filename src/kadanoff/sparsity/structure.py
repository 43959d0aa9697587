"""Finding hidden activations by data flow: no module's name or class is looked at.

While a forward pass runs, every torch call is seen by the recorder. A linear map whose input came
from another linear map through elementwise functions reads a hidden activation; if that input is a
product of two such branches, the block is gated.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.errors import UsageError
from kadanoff.trace.operations import TABLE, Family
from kadanoff.trace.recorder import FunctionCall, Observer, Recorder

__all__ = ["DataStep", "Hidden", "HiddenFinder", "find_hidden", "sample_rows"]


def _names_of(*families: Family) -> frozenset[str]:
    return frozenset(operation.name for operation in TABLE.values() if operation.family in families)


# a function that is an activation by itself, wherever it stands (a power is part of a norm, say)
_ACTIVATIONS = frozenset(
    name
    for name in _names_of("activation", "selection")
    if not TABLE[name].doubtful and name != "glu"  # which halves what it is given
)
_NONLINEAR = _ACTIVATIONS | _names_of("elementwise") | {"sin", "cos", "erf", "abs"}
_SAME = _names_of("dropout", "reshape")
_CASTS = _names_of("cast")
_SPLITS = _names_of("split")
_FOLLOWED = _NONLINEAR | _names_of("arithmetic") | _SAME | _CASTS | _SPLITS | {"keep_columns"}
# their neurons are channels
_CHANNELS = frozenset(
    name for name in _names_of("convolution", "norm", "pooling") if TABLE[name].channel == 1
)

# linear maps by a matrix on the right: the argument it acts on, and the one that is the matrix
_LINEAR = {
    "linear": ("input", "weight"),
    "addmm": ("mat1", "mat2"),
    "matmul": ("input", "other"),
    "mm": ("input", "mat2"),
}


@dataclass(eq=False)
class DataStep:
    """One value on the way through a model: what made it, of what.

    Attributes
    ----------
    kind : str
        ``"linear"``, ``"part"`` (a slice of a linear map's output), ``"conv"`` (the neurons are
        channels), or ``"map"`` (a function entry by entry).
    op : str
        Canonical name of the function.
    func, args, kwargs
        The call itself, so that it can be run again.
    sources : dict of int to DataStep
        Which arguments are values that are followed: by position, -1 for ``input=`` and -2 for
        ``other=``.
    path : str
        Module that made the call.
    weight, bias : Tensor or None
    transposed : bool
        The weight is (in, out).
    columns : (int, int) or None
        Of a part: which outputs of its ``parent``.
    tokens : Tensor or None
        Some of the inputs of a linear map, if they were asked for.
    channel : bool
        The neurons are channels.
    used : bool
        A linear map has read it.
    kept : tuple
        (start, stop, function, options ...) of :func:`kadanoff.sparsity.keep.keep_columns`.
    """

    kind: str
    op: str
    func: Any = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    sources: dict[int, DataStep] = field(default_factory=dict)
    path: str = ""
    weight: Tensor | None = None
    bias: Tensor | None = None
    transposed: bool = False
    columns: tuple[int, int] | None = None
    parent: DataStep | None = None
    tokens: Tensor | None = None
    channel: bool = False
    used: bool = False
    kept: tuple[Any, ...] = ()

    @property
    def nonlinear(self) -> bool:
        return self.kind == "map" and self.op in _NONLINEAR

    @property
    def whole(self) -> DataStep:
        """The linear map itself, where this is a part of its output."""
        return self.parent or self

    def roots(self) -> list[DataStep]:
        """The linear maps this value was made from by elementwise functions."""
        if self.kind in ("linear", "part", "conv"):
            return [self]
        found: list[DataStep] = []
        for source in self.sources.values():
            found += [r for r in source.roots() if r not in found]
        return found

    def below(self) -> list[DataStep]:
        """All maps from here down to the roots, each once, sources first."""
        if self.kind in ("linear", "part", "conv"):
            return []
        found: list[DataStep] = []
        for source in self.sources.values():
            found += [n for n in source.below() if n not in found]
        return [*found, self]

    def curved(self) -> bool:
        """Whether anything but sums and copies lies between here and the roots."""
        return any(n.nonlinear or (n.op == "mul" and len(n.sources) == 2) for n in self.below())


@dataclass(eq=False)
class Hidden:
    """One hidden activation, met while the model runs.

    ``kind``: "mlp" (one linear map, a function, a linear map), "gated" (function of one linear
    map times another), "conv" (channels are the neurons), or "mixed" (several linear maps enter).
    ``skippable``: the tensor whose zeros can be skipped, the gate's for a gated block.
    """

    kind: str
    step: DataStep
    skippable: Tensor
    product: Tensor
    gate: DataStep | None = None  # the step whose value is `skippable`
    up: DataStep | None = None
    consumer: DataStep | None = None

    @property
    def ops(self) -> list[str]:
        step = self.gate or self.step
        return [s.op for s in step.below() if s.kind == "map"]

    @property
    def exact_zeros(self) -> bool:
        """Whether the function yields exact zeros (ReLU-like) rather than small values."""
        zeroing = {"relu", "relu6", "threshold", "topk", "keep_topk", "keep_threshold"}
        clamped = {"clamp", "clamp_min", "hardtanh", "maximum"}
        return bool(zeroing & set(self.ops)) or bool(clamped & set(self.ops))


class HiddenFinder(Observer):
    """Calls ``report(hidden, self)`` for every hidden activation, in order, while a model runs.

    The tensors handed over are the model's own: read them, at once.

    Parameters
    ----------
    report : callable
    keep : int
        Copy so many rows of every linear map's input to its ``tokens``.

    Attributes
    ----------
    linears : list of DataStep
        The linear maps by a parameter, in the order of the forward pass.
    """

    names = _FOLLOWED | _CHANNELS | frozenset(_LINEAR)

    def __init__(self, report: Callable[[Hidden, HiddenFinder], None], keep: int = 0) -> None:
        self.keep = keep
        self.report = report
        self.linears: list[DataStep] = []
        self._steps: dict[int, tuple[Any, DataStep]] = {}
        self._pending: list[tuple[DataStep, Tensor]] = []

    def name_of(self, tensor: Tensor | None) -> str | None:
        """Name of the parameter or buffer whose memory ``tensor`` shares."""
        return self.recorder.parameter_of(tensor) or self.recorder.buffer_of(tensor)

    # -- the values that are followed ----------------------------------------------------------

    def _step_of(self, value: Any) -> DataStep | None:
        if not isinstance(value, Tensor):
            return None
        entry = self._steps.get(id(value))
        return entry[1] if entry is not None and entry[0]() is value else None

    def _put(self, tensor: Tensor, step: DataStep) -> None:
        key = id(tensor)
        steps = self._steps

        def forget(reference: Any) -> None:
            if key in steps and steps[key][0] is reference:
                del steps[key]

        steps[key] = (weakref.ref(tensor, forget), step)

    def _sources(self, call: FunctionCall) -> dict[int, DataStep]:
        places = [*enumerate(call.args)]
        places += [(-1, call.kwargs.get("input")), (-2, call.kwargs.get("other"))]
        found = ((place, self._step_of(value)) for place, value in places)
        return {place: step for place, step in found if step is not None}

    # -- one call after another ----------------------------------------------------------------

    def after(self, call: FunctionCall, output: Any) -> None:
        if call.name in _LINEAR:
            self._linear(call, output)
        elif call.name in _CHANNELS:
            self._convolution(call, output)
        elif call.name in _FOLLOWED:
            sources = self._sources(call)
            if sources:
                self._follow(call, sources, output)

    def _convolution(self, call: FunctionCall, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        # of an affine norm its gain, of another one its running mean
        weight = call.arguments.get("weight")
        named = [weight, *call.tensors()[1:]]
        weight = next((t for t in named if self.name_of(t) is not None), None)
        self._put(output, DataStep("conv", call.name, path=call.path, weight=weight, channel=True))

    def _follow(self, call: FunctionCall, sources: dict[int, DataStep], output: Any) -> None:
        first = next(iter(sources.values()))
        if call.name in _SPLITS:
            if first.kind == "linear" and isinstance(output, (tuple, list)):
                self._split(first, call, output)
            return
        if not isinstance(output, Tensor):
            return
        if call.name == "keep_columns":
            if first.kind == "linear":
                self._put(output, replace(first, kept=tuple(call.args[1:])))
            return
        source = call.args[0] if call.args else call.kwargs.get("input")
        same_width = isinstance(source, Tensor) and source.shape[-1:] == output.shape[-1:]
        if call.name in _SAME or (call.name in _CASTS and output is source):
            if same_width:
                self._put(output, first)
        elif same_width or not isinstance(source, Tensor):
            self._map(call, sources, output)

    def _map(self, call: FunctionCall, sources: dict[int, DataStep], output: Tensor) -> None:
        """A function entry by entry."""
        step = DataStep(
            "map",
            call.name,
            call.func,
            tuple(call.args),
            dict(call.kwargs),
            sources,
            call.path,
            channel=any(source.channel for source in sources.values()),
        )
        self._put(output, step)
        if call.name not in _ACTIVATIONS:
            return
        if step.channel and output.ndim >= 3:
            if not any(earlier.nonlinear for earlier in step.below()[:-1]):
                self.report(Hidden("conv", step, output, output), self)
        else:
            self._pending.append((step, output))

    def _split(self, linear: DataStep, call: FunctionCall, parts: Any) -> None:
        dim = call.kwargs.get("dim", call.args[2] if len(call.args) > 2 else 0)
        if not parts or dim not in (-1, parts[0].ndim - 1):
            return
        start = 0
        for part in parts:
            stop = start + part.shape[-1]
            step = DataStep("part", "part", parent=linear, columns=(start, stop))
            if linear.kept[:2] == (start, stop):
                function, *options = linear.kept[2:]
                arguments = (part, *options)
                step = DataStep("map", function.__name__, function, arguments, sources={0: step})
            self._put(part, step)
            start = stop

    def _linear(self, call: FunctionCall, output: Any) -> None:
        data, matrix = (call.arguments.get(name) for name in _LINEAR[call.name])
        if not isinstance(data, Tensor) or not isinstance(matrix, Tensor):
            return
        if matrix.ndim != 2 or self.name_of(matrix) is None:
            return
        operation = TABLE[call.name]
        step = DataStep(
            "linear",
            call.name,
            path=call.path,
            weight=matrix,
            bias=call.arguments.get(operation.bias or ""),
            transposed=call.name != "linear",
            tokens=sample_rows(data, self.keep) if self.keep else None,
        )
        self.linears.append(step)
        source = self._step_of(data)
        if source is not None and not source.channel and source.curved():
            self._hidden(source, data, step)
        self._put(output, step)

    # -- what is reported ----------------------------------------------------------------------

    def _hidden(self, step: DataStep, value: Tensor, consumer: DataStep) -> None:
        for earlier in step.below():
            earlier.used = True
        self._pending = [(s, v) for s, v in self._pending if not s.used]
        hidden = Hidden("mixed", step, value, value, consumer=consumer)
        if step.op == "mul" and len(step.sources) == 2:
            (i, left), (j, right) = sorted(step.sources.items(), reverse=True)
            if not set(left.roots()) & set(right.roots()):
                if not left.curved():
                    i, left, j, right = j, right, i, left
                if left.curved():
                    skippable = _argument(step, i)
                    hidden = Hidden("gated", step, skippable, value, left, right, consumer)
                self.report(hidden, self)
                return
        if len(step.roots()) == 1:
            hidden.kind = "mlp"
        self.report(hidden, self)

    def finish(self) -> None:
        """Report the activations that no linear map read (before pooling, say)."""
        for step, value in self._pending:
            roots = step.roots()
            if not step.used and roots:
                kind = "mlp" if len(roots) == 1 else "mixed"
                self.report(Hidden(kind, step, value, value), self)
        self._pending, self._steps = [], {}


def _argument(step: DataStep, position: int) -> Tensor:
    if position >= 0:
        return step.args[position]
    return step.kwargs["input" if position == -1 else "other"]


def sample_rows(x: Tensor, count: int) -> Tensor:
    """Copy of ``count`` rows of the last axis, evenly spread."""
    x = x.detach()
    if x.ndim == 1 or x.is_contiguous():
        flat = x.reshape(-1, x.shape[-1])
        return flat[:: max(1, len(flat) // count)][:count].clone()
    # flattening would copy all of it
    total = x[..., 0].numel()
    rows = torch.arange(0, total, max(1, total // count), device=x.device)[:count]
    return x[torch.unravel_index(rows, x.shape[:-1])]


def find_hidden(
    model: nn.Module,
    run: Callable[[], Any],
    report: Callable[[Hidden, HiddenFinder], None],
    keep: int = 0,
    paths: bool = True,
) -> HiddenFinder:
    """Call ``run()`` (which calls ``model``) and ``report(hidden, finder)`` each hidden one met.

    Parameters
    ----------
    model : nn.Module
    run : callable
    report : callable
    keep : int
        Copy so many rows of every linear map's input to its step's ``tokens``.
    paths : bool
        Note which module made each call (``DataStep.path``); costs two hooks a module.

    Raises
    ------
    UsageError
        The model is scripted or compiled: its calls cannot be seen.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise UsageError(
            "A TorchScript model hides its calls.", "Pass the Python nn.Module it was made from."
        )
    finder = HiddenFinder(report, keep)
    with Recorder(model, finder, paths=paths):
        run()
    return finder
