"""See every layer a model really calls: a torch function mode plus a stack of modules.

Hooks keyed by module name miss functional calls and reused modules. Here each torch function is
seen as it is called, wherever it is called from, and module hooks only say *who* called it.
"""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kadanoff.trace.ops import ACTIVATION_MODULE, COMPOSITE, NORM_MODULE, canonical, kind_of
from kadanoff.trace.sandbox import untouched
from kadanoff.trace.statistics import Statistics, Units, reduce
from kadanoff.trace.units import count_units

__all__ = ["Call", "Recorder", "record", "unwrap"]

# functions of these names also serve as arithmetic (rotary embeddings); they count as activations
# only where they act on something that depends on parameters
_ARITHMETIC = {"sin", "cos", "abs", "erf"}


@dataclass
class Call:
    """One call of a layer-like function, in the order of the forward pass.

    Attributes
    ----------
    order : int
        Place among all recorded calls.
    path : str
        Qualified name of the innermost module that made the call, ``""`` for the model itself.
    module : str
        Class name of that module.
    op : str
        Canonical name: ``"linear"``, ``"addmm"``, ``"conv2d"``, ``"relu"``, ``"layer_norm"``, ...
    kind : str
        ``"linear"``, ``"activation"``, ``"norm"``, ``"softmax"``, ``"attention"``, ``"matmul"``,
        ``"add"``, ``"recurrent"``.
    call_index : int
        How often this path has made this kind of call before.
    parameter : str or None
        Qualified name of the weight used.
    fan_in, fan_out : int
        For linear calls: inputs of one output neuron, number of output neurons or channels.
    channel : int
        Axis of the neurons: 1 for convolutions, −1 otherwise.
    in_place : bool
    statistics : Statistics or None
        Reductions of the output (of preactivations for linear calls).
    units : Units or None
        For activations: zeros, near-zeros, saturated, dead.
    input_shape : tuple of int or None
    edge : object or None
        Gradient edge of the output, if the recorder was asked to keep the graph.
    dtype : torch.dtype or None
        Of the output.
    input, output : Tensor or None
        Detached copies, if the recorder was asked to keep them.
    """

    order: int
    path: str
    module: str
    op: str
    kind: str
    call_index: int
    parameter: str | None = None
    fan_in: int = 0
    fan_out: int = 0
    channel: int = -1
    in_place: bool = False
    statistics: Statistics | None = None
    units: Units | None = None
    input_shape: tuple[int, ...] | None = None
    edge: Any = None
    dtype: torch.dtype | None = None
    input: Tensor | None = None
    output: Tensor | None = None


def unwrap(model: nn.Module) -> tuple[nn.Module, str]:
    """The module inside ``torch.compile`` or data-parallel wrappers, and what was peeled off."""
    notes = []
    while True:
        inner = getattr(model, "_orig_mod", None)
        if isinstance(inner, nn.Module):
            model, note = inner, "the compiled model was unwrapped and run eagerly"
        elif isinstance(model, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model, note = model.module, "the data-parallel wrapper was removed"
        else:
            return model, "; ".join(notes)
        notes.append(note)


class Recorder(TorchFunctionMode):
    """Context manager that lists the layer-like calls of a model run inside it.

    Parameters
    ----------
    model : nn.Module
        Never changed; hooks are removed on exit, also after an exception.
    keep : bool
        Keep detached copies of input and output of each call (memory!).
    graph : bool
        Keep the gradient edge of each output, for Jacobians.
    adds : bool
        Record sums of two equally shaped activations (residual streams) too.
    observe : callable, optional
        ``observe(call, args, kwargs, output)`` after each call, for reductions of your own.

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    >>> with Recorder(model) as recorder:
    ...     _ = model(torch.ones(2, 3))
    >>> [call.op for call in recorder.calls]
    ['linear', 'relu']
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        keep: bool = False,
        graph: bool = False,
        adds: bool = False,
        observe: Callable[[Call, tuple, dict, Any], None] | None = None,
    ) -> None:
        super().__init__()
        self.calls: list[Call] = []
        self.last_path = ""
        self._model, self._keep, self._graph, self._adds = model, keep, graph, adds
        self._observe = observe
        self._stack: list[tuple[str, nn.Module, int]] = []
        self._handles: list[Any] = []
        self._seen: Counter[tuple[str, str]] = Counter()
        self._weights: dict[int, str] = {}
        self._depth = 0

    # -- entering and leaving ------------------------------------------------------------------

    def __enter__(self) -> Recorder:
        if self._depth == 0:
            for name, parameter in self._model.named_parameters():
                self._weights.setdefault(_storage(parameter), name)
            try:
                for name, module in self._model.named_modules():
                    push, pop = partial(self._push, name), self._pop
                    self._handles.append(module.register_forward_pre_hook(push, prepend=True))
                    self._handles.append(module.register_forward_hook(pop, always_call=True))
            except BaseException:
                self._remove()
                raise
        self._depth += 1
        super().__enter__()
        return self

    def __exit__(self, *exc: Any) -> None:
        self._depth -= 1
        try:
            super().__exit__(*exc)
        finally:
            if self._depth == 0:
                self._remove()

    def _remove(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._stack.clear()

    # -- the stack of modules ------------------------------------------------------------------

    def _push(self, name: str, module: nn.Module, _args: Any) -> None:
        self._stack.append((name, module, len(self.calls)))
        self.last_path = name

    def _pop(self, module: nn.Module, _args: Any, output: Any) -> None:
        # an exception in a hook of the user's may skip a pop: unwind to the module that ends here
        while self._stack:
            name, top, start = self._stack.pop()
            if top is module:
                break
        else:
            return
        if isinstance(output, Tensor) and output.is_floating_point():
            self._leaf(name, module, start, output)

    def _leaf(self, name: str, module: nn.Module, start: int, output: Tensor) -> None:
        """Modules that compute an activation or a norm by hand count as one call of it."""
        if next(module.children(), None) is not None:
            return
        title, inside = type(module).__name__, self.calls[start:]
        if any(call.kind in ("linear", "matmul") for call in inside):
            return
        if NORM_MODULE.search(title) and not any(c.kind == "norm" for c in inside):
            op = "rms_norm" if "rms" in title.lower() else "norm"
            self._add(Call(0, name, title, op, "norm", 0), (), {}, output)
        elif ACTIVATION_MODULE.search(title) and next(module.parameters(), None) is None:
            found = [call for call in inside if call.kind == "activation"]
            if len(found) == 1 and found[0].op in ("tanh", "sigmoid", "erf"):
                # a hand-written GELU or Swish: what leaves the module is the activation
                op = _named(title, found[0].op)
                if op != found[0].op:
                    found[0].op = op
                    found[0].statistics = reduce(output)
                    found[0].units = count_units(op, output, None)

    # -- the function mode ---------------------------------------------------------------------

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = canonical(func)
        if name in COMPOSITE and isinstance(func, _FUNCTION):
            with self:
                return _opened(func)(*args, **kwargs)
        kind = kind_of(name)
        if kind is None or not self._wanted(kind, name, args, kwargs):
            return func(*args, **kwargs)
        call = self._describe(func, name, kind, args, kwargs)
        source = _first(args, kwargs)
        if source is not None:
            call.input_shape = tuple(source.shape)
            if self._keep:
                call.input = source.detach().clone()
        before = None
        if kind == "activation" and source is not None and name == "erf":
            before = source.detach().clone() if call.in_place else source.detach()
        output = func(*args, **kwargs)
        result = output[0] if isinstance(output, (tuple, list)) and output else output
        if isinstance(result, Tensor) and result.is_floating_point():
            self._add(call, args, kwargs, result, output, before)
        return output

    def _wanted(self, kind: str, name: str, args: tuple, kwargs: dict) -> bool:
        tensors = [a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)]
        if kind == "add":
            return (
                self._adds
                and len(tensors) == 2
                and tensors[0].shape == tensors[1].shape
                and tensors[0].ndim > 1
                and all(t.grad_fn is not None for t in tensors)
            )
        if name in _ARITHMETIC:
            return bool(tensors) and (tensors[0].requires_grad or self._inside_activation())
        if kind == "matmul":
            return any(_storage(t) in self._weights for t in tensors)
        return bool(tensors)

    def _inside_activation(self) -> bool:
        return bool(self._stack) and ACTIVATION_MODULE.search(
            type(self._stack[-1][1]).__name__
        ) is not None  # fmt: skip

    def _describe(self, func: Any, name: str, kind: str, args: tuple, kwargs: dict) -> Call:
        path, module = (self._stack[-1][0], self._stack[-1][1]) if self._stack else ("", None)
        title = type(module).__name__ if module is not None else type(self._model).__name__
        call = Call(0, path, title, name, kind, 0)
        raw = getattr(func, "__name__", "")
        call.in_place = bool(kwargs.get("inplace", False)) or (
            raw.endswith("_") and not raw.endswith("__")
        )
        if kind in ("linear", "matmul"):
            call.kind = "linear"
            weight = _weight(name, args, kwargs, self._weights)
            if weight is not None:
                call.parameter = self._weights.get(_storage(weight))
                call.fan_in, call.fan_out = _fans(name, weight, args, kwargs)
            if name.startswith("conv"):
                call.channel = 1
        elif module is not None and isinstance(module, nn.modules.batchnorm._NormBase):
            call.channel = 1
        return call

    def _add(
        self,
        call: Call,
        args: tuple,
        kwargs: dict,
        result: Tensor,
        output: Any = None,
        before: Tensor | None = None,
    ) -> None:
        call.order, call.dtype = len(self.calls), result.dtype
        key = (call.path, call.kind)
        call.call_index = self._seen[key]
        self._seen[key] += 1
        if call.kind in ("activation", "add", "norm") and result.ndim == 4:
            call.channel = 1  # (B, C, H, W) by convention of torch
        if call.kind in ("linear", "add", "recurrent"):
            call.statistics = reduce(result, call.channel)
        if call.kind == "activation":
            call.units = count_units(call.op, result, before, call.channel)
        if self._keep:
            call.output = result.detach().clone()
        if self._graph and result.requires_grad:
            call.edge = torch.autograd.graph.get_gradient_edge(result)
        self.calls.append(call)
        if self._observe is not None:
            self._observe(call, args, kwargs, result if output is None else output)


_FUNCTION = types.FunctionType


def _opened(func: Any) -> Any:
    """A copy of a Python function of torch that does not hand itself to the function mode.

    The layers inside it are then seen one by one, as they are called.
    """
    names = {**func.__globals__, "has_torch_function": lambda *_: False}
    copy = _FUNCTION(func.__code__, names, func.__name__, func.__defaults__, func.__closure__)
    copy.__kwdefaults__ = func.__kwdefaults__
    return copy


def _storage(tensor: Tensor) -> int:
    try:
        return tensor.untyped_storage().data_ptr()
    except (RuntimeError, NotImplementedError):  # sparse, fake and wrapper tensors have none
        return id(tensor)


def _first(args: tuple, kwargs: dict) -> Tensor | None:
    for value in (*args, *kwargs.values()):
        if isinstance(value, Tensor):
            return value
    return None


def _weight(name: str, args: tuple, kwargs: dict, known: dict[int, str]) -> Tensor | None:
    if "weight" in kwargs:
        return kwargs["weight"]
    position = {"addmm": 2, "bilinear": 2}.get(name, 1)
    if name == "embedding" and args and isinstance(args[0], Tensor) and args[0].is_floating_point():
        position = 0  # aten's order
    if kind_of(name) == "matmul" or name == "addmm":
        tensors = [a for a in _flat(args) if isinstance(a, Tensor)]
        matches = [t for t in tensors if t.ndim > 1 and _storage(t) in known]
        if matches:
            return matches[-1]
    return args[position] if len(args) > position and isinstance(args[position], Tensor) else None


def _flat(args: tuple) -> list[Any]:
    return [x for a in args for x in (a if isinstance(a, (list, tuple)) else (a,))]


def _fans(name: str, weight: Tensor, args: tuple, kwargs: dict) -> tuple[int, int]:
    """Inputs of one output neuron and number of outputs: by operation, not by class of module."""
    if weight.ndim < 2:
        return 0, 0
    if name in ("linear", "bilinear"):
        return weight[0].numel(), weight.shape[0]
    if name.startswith("embedding"):
        return 1, weight.shape[-1]
    if name.startswith("conv"):
        if name.startswith("conv_transpose"):
            groups = kwargs.get("groups", args[6] if len(args) > 6 else 1)
            return weight.shape[0] // groups * weight[0, 0].numel(), weight.shape[1] * groups
        return weight[0].numel(), weight.shape[0]
    # addmm, matmul: (in, out) as HF's Conv1D and x @ W have it; W @ x is (out, in)
    tensors = [a for a in _flat(args) if isinstance(a, Tensor)]
    if name not in ("addmm", "einsum") and tensors and tensors[0] is weight:
        return weight.shape[-1], weight.shape[-2]
    return weight.shape[-2], weight.shape[-1]


def _named(title: str, default: str) -> str:
    title = title.lower()
    for word, op in (("gelu", "gelu"), ("silu", "silu"), ("swish", "silu"), ("mish", "mish")):
        if word in title:
            return op
    return default


def record(model: nn.Module, *args: Any, **kwargs: Any) -> list[Call]:
    """Run a model as its user does and list the layers it really called.

    Nothing is left behind on the model: hooks, gradients, buffers, flags and random state.

    Parameters
    ----------
    model : nn.Module
    *args, **kwargs
        What the model is called with.

    Returns
    -------
    list of Call
    """
    model, _ = unwrap(model)
    with untouched(model), Recorder(model) as recorder:
        model(*args, **kwargs)
    return recorder.calls
