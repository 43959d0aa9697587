"""Finding hidden activations by data flow: no module's name or class is looked at.

While a forward pass runs, every torch call is seen by a function mode. A linear map whose input
came from another linear map through elementwise functions reads a hidden activation; if that
input is a product of two such branches, the block is gated.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kadanoff.errors import UsageError

__all__ = ["Hidden", "Node", "Recorder", "record", "sample_rows"]

# a function that is an activation by itself, wherever it stands (a power is part of a norm, say)
_ACTIVATIONS = frozenset(
    [
        "relu",
        "relu6",
        "gelu",
        "silu",
        "sigmoid",
        "tanh",
        "elu",
        "selu",
        "celu",
        "leaky_relu",
        "prelu",
        "softplus",
        "hardswish",
        "hardtanh",
        "mish",
        "threshold",
        "topk",
        "keep_topk",
        "keep_threshold",
        "logsigmoid",
        "softsign",
    ]
)
_NONLINEAR = _ACTIVATIONS | {
    "rrelu",
    "hardsigmoid",
    "pow",
    "square",
    "exp",
    "erf",
    "abs",
    "clamp",
    "clamp_min",
    "clamp_max",
    "maximum",
    "minimum",
    "where",
    "sin",
    "cos",
    "sqrt",
    "gt",
    "ge",
    "lt",
    "le",
    "sign",
}
_ARITHMETIC = frozenset(["add", "sub", "mul", "div", "truediv", "neg", "multiply", "subtract"])
_CASTS = frozenset(["to", "float", "bfloat16", "half", "double", "type_as", "type"])
_SAME = frozenset(
    [
        "dropout",
        "alpha_dropout",
        "feature_alpha_dropout",
        "view",
        "reshape",
        "contiguous",
        "clone",
        "detach",
        "flatten",
        "squeeze",
        "unsqueeze",
        "view_as",
    ]
)
_CONV = frozenset(
    [
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "batch_norm",
        "instance_norm",
        "group_norm",
        "max_pool2d",
        "avg_pool2d",
        "boolean_dispatch",
    ]
)
_LINEAR = frozenset(["linear", "addmm", "matmul", "mm"])
_SPLIT = frozenset(["chunk", "split", "tensor_split"])


@dataclass(eq=False)
class Node:
    """One recorded call. ``kind``: linear, part (slice of a linear's output), conv, map."""

    kind: str
    op: str
    func: Any = None
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    sources: dict[int, Node] = field(default_factory=dict)
    path: str = ""
    weight: Tensor | None = None
    bias: Tensor | None = None
    transposed: bool = False
    columns: tuple[int, int] | None = None
    parent: Node | None = None
    tokens: Tensor | None = None  # some of its inputs, if the recorder keeps them
    channel: bool = False
    used: bool = False
    kept: tuple[Any, ...] = ()  # (start, stop, function, options ...) of keep_columns

    @property
    def nonlinear(self) -> bool:
        return self.kind == "map" and self.op in _NONLINEAR

    def roots(self) -> list[Node]:
        """The linear maps this value was made from by elementwise functions."""
        if self.kind in ("linear", "part", "conv"):
            return [self]
        found: list[Node] = []
        for source in self.sources.values():
            found += [r for r in source.roots() if r not in found]
        return found

    def below(self) -> list[Node]:
        """All maps from here down to the roots, each once, sources first."""
        if self.kind in ("linear", "part", "conv"):
            return []
        found: list[Node] = []
        for source in self.sources.values():
            found += [n for n in source.below() if n not in found]
        return [*found, self]

    def curved(self) -> bool:
        """Whether anything but sums and copies lies between here and the roots."""
        return any(
            n.nonlinear or (n.op in ("mul", "multiply") and len(n.sources) == 2)
            for n in self.below()
        )


@dataclass(eq=False)
class Hidden:
    """One hidden activation, met while the model runs.

    ``kind``: "mlp" (one linear map, a function, a linear map), "gated" (function of one linear
    map times another), "conv" (channels are the neurons), or "mixed" (several linear maps enter).
    ``skippable``: the tensor whose zeros can be skipped, the gate's for a gated block.
    """

    kind: str
    node: Node
    skippable: Tensor
    product: Tensor
    gate: Node | None = None  # node whose value is `skippable`
    up: Node | None = None
    consumer: Node | None = None

    @property
    def ops(self) -> list[str]:
        node = self.gate or self.node
        return [n.op for n in node.below() if n.kind == "map"]

    @property
    def exact_zeros(self) -> bool:
        """Whether the function yields exact zeros (ReLU-like) rather than small values."""
        zeroing = {"relu", "relu6", "threshold", "topk", "keep_topk", "keep_threshold"}
        clamped = {"clamp", "clamp_min", "hardtanh", "maximum"}
        return bool(zeroing & set(self.ops)) or bool(clamped & set(self.ops))


class Recorder(TorchFunctionMode):
    """Function mode that calls ``report(hidden, self)`` for every hidden activation, in order.

    The tensors handed over are the model's own: read them, at once.
    """

    def __init__(
        self, model: nn.Module, report: Callable[[Hidden, Recorder], None], keep: int = 0
    ) -> None:
        super().__init__()
        self.keep = keep
        self.report = report
        self.nodes: dict[int, tuple[Any, Node]] = {}
        self.pending: list[tuple[Node, Tensor]] = []
        self.stack: list[str] = [""]
        self.names: dict[int, str] = {}
        self.linears: list[Node] = []
        for path, module in model.named_modules():
            # one walk over the modules; parameters before buffers, as named_parameters has them
            for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
                if tensor is not None and tensor.numel():
                    name = f"{path}.{name}" if path else name
                    self.names.setdefault(tensor.untyped_storage().data_ptr(), name)

    def name_of(self, tensor: Tensor | None) -> str | None:
        """Name of the parameter or buffer whose memory ``tensor`` shares."""
        if tensor is None:
            return None
        try:
            return self.names.get(tensor.untyped_storage().data_ptr())
        except (RuntimeError, NotImplementedError):
            return None

    def node_of(self, value: Any) -> Node | None:
        if not isinstance(value, Tensor):
            return None
        entry = self.nodes.get(id(value))
        return entry[1] if entry is not None and entry[0]() is value else None

    def _put(self, tensor: Tensor, node: Node) -> None:
        key = id(tensor)
        nodes = self.nodes

        def forget(reference: Any) -> None:
            if key in nodes and nodes[key][0] is reference:
                del nodes[key]

        nodes[key] = (weakref.ref(tensor, forget), node)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = _plain(getattr(func, "__name__", ""))
        if name in _LINEAR:
            return self._linear(name, func, args, kwargs)
        sources = (
            {i: n for i, a in enumerate(args) if (n := self.node_of(a)) is not None}
            if name in _KNOWN
            else {}
        )
        for key in ("input", "other"):
            if name in _KNOWN and (n := self.node_of(kwargs.get(key))) is not None:
                sources[-1 if key == "input" else -2] = n
        result = func(*args, **kwargs)
        if name in _CONV and isinstance(result, Tensor):
            weight = args[1] if len(args) > 1 else kwargs.get("weight")
            weight = weight if isinstance(weight, Tensor) and self.name_of(weight) else None
            self._put(result, Node("conv", name, path=self.stack[-1], weight=weight, channel=True))
        elif sources:
            self._elementwise(name, func, args, kwargs, sources, result)
        return result

    def _elementwise(self, name, func, args, kwargs, sources, result) -> None:
        first = next(iter(sources.values()))
        if name in _SPLIT:
            if first.kind == "linear" and isinstance(result, (tuple, list)):
                self._split(first, result, args, kwargs)
            return
        if not isinstance(result, Tensor):
            return
        if name == "keep_columns":
            if first.kind == "linear":
                self._put(result, replace(first, kept=tuple(args[1:])))
            return
        source = args[0] if args else kwargs.get("input")
        if name in _SAME or (name in _CASTS and result is source):
            if isinstance(source, Tensor) and source.shape[-1:] == result.shape[-1:]:
                self._put(result, first)
            return
        if isinstance(source, Tensor) and result.shape[-1:] != source.shape[-1:]:
            return
        node = Node(
            "map", name, func, tuple(args), dict(kwargs), sources, self.stack[-1],
            channel=any(n.channel for n in sources.values()),
        )  # fmt: skip
        self._put(result, node)
        if node.nonlinear:
            if node.channel and result.ndim >= 3 and name in _ACTIVATIONS:
                if not any(n.nonlinear for n in node.below()[:-1]):
                    self.report(Hidden("conv", node, result, result), self)
            elif name in _ACTIVATIONS:
                self.pending.append((node, result))

    def _split(self, linear: Node, parts, args, kwargs) -> None:
        dim = kwargs.get("dim", args[2] if len(args) > 2 else 0)
        if not parts or dim not in (-1, parts[0].ndim - 1):
            return
        start = 0
        for part in parts:
            stop = start + part.shape[-1]
            node = Node("part", "part", parent=linear, columns=(start, stop))
            if linear.kept[:2] == (start, stop):
                function, *options = linear.kept[2:]
                arguments = (part, *options)
                node = Node("map", function.__name__, function, arguments, sources={0: node})
            self._put(part, node)
            start = stop

    def _linear(self, name, func, args, kwargs):
        arguments = dict(zip(_ARGUMENTS[name], args)) | kwargs
        x = arguments.get("input", arguments.get("mat1"))
        weight = arguments.get("weight", arguments.get("mat2", arguments.get("other")))
        bias = arguments.get("bias")
        source = self.node_of(x)
        known = isinstance(weight, Tensor) and weight.ndim == 2 and self.name_of(weight) is not None
        node = Node(
            "linear", name, path=self.stack[-1], weight=weight, bias=bias,
            transposed=name != "linear",
            tokens=sample_rows(x, self.keep) if self.keep and known else None,
        )  # fmt: skip
        if known:
            self.linears.append(node)
            if source is not None and not source.channel and source.curved():
                self._hidden(source, x, node)
        result = func(*args, **kwargs)
        if known:
            self._put(result, node)
        return result

    def _hidden(self, node: Node, value: Tensor, consumer: Node) -> None:
        for n in node.below():
            n.used = True
        self.pending = [(n, v) for n, v in self.pending if not n.used]
        hidden = Hidden("mixed", node, value, value, consumer=consumer)
        if node.op in ("mul", "multiply") and len(node.sources) == 2:
            (i, left), (j, right) = sorted(node.sources.items(), reverse=True)
            left_roots, right_roots = left.roots(), right.roots()
            if not set(left_roots) & set(right_roots):
                if not left.curved():
                    i, left, j, right = j, right, i, left
                if left.curved():
                    hidden = Hidden("gated", node, _argument(node, i), value, left, right, consumer)
                self.report(hidden, self)
                return
        if len(node.roots()) == 1:
            hidden.kind = "mlp"
        self.report(hidden, self)

    def finish(self) -> None:
        """Report the activations that no linear map read (before pooling, say)."""
        for node, value in self.pending:
            if not node.used and node.roots():
                kind = "mlp" if len(node.roots()) == 1 else "mixed"
                self.report(Hidden(kind, node, value, value), self)
        self.pending, self.nodes = [], {}


_KNOWN = frozenset(["keep_columns"]) | _NONLINEAR | _ARITHMETIC | _CASTS | _SAME | _SPLIT
_ARGUMENTS = {
    "linear": ("input", "weight", "bias"),
    "addmm": ("bias", "mat1", "mat2"),
    "matmul": ("input", "other"),
    "mm": ("input", "mat2"),
}


def _argument(node: Node, position: int) -> Tensor:
    if position >= 0:
        return node.args[position]
    return node.kwargs["input" if position == -1 else "other"]


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


def _plain(name: str) -> str:
    name = name.strip("_")
    if name in ("radd", "rmul", "rsub", "rtruediv", "rdiv", "iadd", "imul", "isub", "rmatmul"):
        name = name[1:]
    return name


def record(
    model: nn.Module,
    run: Callable[[], Any],
    report: Callable[[Hidden, Recorder], None],
    keep: int = 0,
    paths: bool = True,
) -> Recorder:
    """Call ``run()`` (which calls ``model``) and ``report(hidden, recorder)`` each one met.

    Parameters
    ----------
    keep : int
        Copy so many rows of every linear map's input to its node's ``tokens``.
    paths : bool
        Note which module made each call (``Node.path``); costs two hooks a module.

    Raises
    ------
    UsageError
        The model is scripted or compiled: its calls cannot be seen.
    """
    if isinstance(model, torch.jit.ScriptModule):
        raise UsageError(
            "A TorchScript model hides its calls.", "Pass the Python nn.Module it was made from."
        )
    recorder = Recorder(model, report, keep)
    handles = []
    for path, module in model.named_modules() if paths else ():

        def enter(_module, _args, path=path):
            recorder.stack.append(path)

        def leave(_module, _args, _output):
            recorder.stack.pop()

        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave, always_call=True))
    try:
        with recorder:
            run()
        recorder.finish()
    finally:
        for handle in handles:
            handle.remove()
    return recorder
