"""The layers of a forward pass, in order: what each computed, and what stands around it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from kadanoff.trace.fans import fans_of, find_weight
from kadanoff.trace.graph import main_chain
from kadanoff.trace.operations import (
    ACTIVATION_MODULE,
    NORM_MODULE,
    Family,
    Operation,
)
from kadanoff.trace.origins import Origins
from kadanoff.trace.recorder import Frame, FunctionCall, Observer, Recorder, unwrap
from kadanoff.trace.roles import roles_of
from kadanoff.trace.sandbox import untouched
from kadanoff.trace.statistics import Statistics, Units, reduce
from kadanoff.trace.units import count_units

__all__ = ["Call", "Layers", "record"]

# families of which calls are listed, under the kind that counts them
_KINDS: dict[Family, str] = {
    "linear": "linear",
    "convolution": "linear",
    "embedding": "linear",
    "product": "linear",
    "recurrent": "recurrent",
    "norm": "norm",
    "activation": "activation",
    "softmax": "softmax",
    "attention": "attention",
}


@dataclass(eq=False)
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
        ``"linear"`` (also convolutions, embeddings and products with a parameter),
        ``"activation"``, ``"norm"``, ``"softmax"``, ``"attention"``, ``"add"``, ``"recurrent"``.
    family : str
        The finer word of the table of operations (:mod:`kadanoff.trace.operations`).
    call_index : int
        How often this path has made this kind of call before.
    parameter : str or None
        Qualified name of the weight of a linear call; of the largest parameter that the weight
        was made from, if it is made in the forward pass (``derived``).
    parameters : tuple of str
        Qualified names of all parameters used, in the order of the arguments.
    derived : bool
        The weight is no parameter itself, but computed from parameters (weight norm, say).
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
    shape : tuple of int
        Of the output.
    input, output : Tensor or None
        Detached copies, if the recorder was asked to keep them.
    sources : tuple of Call
        The calls this one's data come from, with no recorded call between.
    after : Call or None
        The activation applied after it, before the next linear, recurrent or attention call.
    before : Call or None
        The last activation, linear, recurrent or attention call before it.
    normalised : bool
        A norm stands between the previous linear or recurrent call and this one, or right after.
    on_chain : bool
        The output carries all of the signal (see :func:`kadanoff.trace.graph.main_chain`).
    role : str or None
        What the layer is for (see :func:`kadanoff.trace.roles.roles_of`). This and ``on_chain`` are
        known once :meth:`Layers.complete` has seen the output.
    """

    order: int
    path: str
    module: str
    op: str
    kind: str
    call_index: int
    family: str = ""
    parameter: str | None = None
    parameters: tuple[str, ...] = ()
    derived: bool = False
    fan_in: int = 0
    fan_out: int = 0
    channel: int = -1
    in_place: bool = False
    statistics: Statistics | None = None
    units: Units | None = None
    input_shape: tuple[int, ...] | None = None
    edge: Any = None
    dtype: torch.dtype | None = None
    shape: tuple[int, ...] = ()
    input: Tensor | None = None
    output: Tensor | None = None
    sources: tuple[Call, ...] = field(default=(), repr=False)
    after: Call | None = field(default=None, repr=False)
    before: Call | None = field(default=None, repr=False)
    normalised: bool = False
    on_chain: bool = False
    role: str | None = None

    @property
    def activation(self) -> str | None:
        """Canonical name of the activation applied to the output, None if there is none."""
        return None if self.after is None else self.after.op


class Layers(Observer):
    """Lists the layer-like calls of a forward pass.

    Parameters
    ----------
    keep : bool
        Keep detached copies of input and output of each call (memory!).
    graph : bool
        Keep the gradient edge of each output, for Jacobians and the main chain.
    adds : bool
        Record sums of two equally shaped activations (residual streams) too.
    observe : callable, optional
        ``observe(call, args, kwargs, output)`` after each call, for reductions of your own.

    Attributes
    ----------
    calls : list of Call

    Examples
    --------
    >>> model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU())
    >>> with Recorder(model, layers := Layers()):
    ...     _ = model(torch.ones(2, 3))
    >>> [(call.op, call.path, call.activation) for call in layers.calls]
    [('linear', '0', 'relu'), ('relu', '1', None)]
    """

    def __init__(
        self,
        *,
        keep: bool = False,
        graph: bool = False,
        adds: bool = False,
        observe: Callable[[Call, tuple, dict, Any], None] | None = None,
    ) -> None:
        self.calls: list[Call] = []
        self._keep, self._graph, self._adds = keep, graph, adds
        self._observe = observe
        self._seen: Counter[tuple[str, str]] = Counter()
        self._starts: dict[Frame, int] = {}
        self._open: Call | None = None
        self._input: Tensor | None = None
        self._surroundings = _Surroundings()

    def begin(self, recorder: Recorder) -> None:
        super().begin(recorder)
        self._origins = Origins(recorder)

    def finish(self) -> None:
        self._origins.clear()
        self._starts.clear()

    def complete(self, output: Tensor) -> list[int]:
        """Find the main chain and the role of every call, once the output is known.

        Parameters
        ----------
        output : Tensor
            What the model returned, attached to its graph (``graph=True``).

        Returns
        -------
        list of int
            Positions in ``calls`` of the linear, recurrent and add calls on the main chain.
        """
        positions = [
            position
            for position, call in enumerate(self.calls)
            if call.edge is not None and call.kind in ("linear", "add", "recurrent")
        ]
        edges = [self.calls[position].edge for position in positions]
        chain = [positions[index] for index in main_chain(output, edges)]
        for call in self.calls:
            call.on_chain = False
        for position in chain:
            self.calls[position].on_chain = True
        for call, role in zip(self.calls, roles_of(self.calls, chain)):
            call.role = role
        return chain

    # -- modules -------------------------------------------------------------------------------

    def started(self, frame: Frame) -> None:
        self._starts[frame] = len(self.calls)

    def ended(self, frame: Frame, output: Any) -> None:
        """Modules that compute an activation or a norm by hand count as one call of it."""
        start = self._starts.pop(frame, None)
        if start is None or not isinstance(output, Tensor) or not output.is_floating_point():
            return
        # what norms a weight, not an activation, is no layer
        made_of_parameters = bool(self._origins.of(output).parameters)
        inside = self.calls[start:]
        if made_of_parameters or any(call.kind == "linear" for call in inside):
            return
        if next(frame.module.children(), None) is not None:
            return
        title = type(frame.module).__name__
        if NORM_MODULE.search(title):
            if not any(call.kind == "norm" for call in inside):
                self._norm_by_hand(frame, title, output)
        elif ACTIVATION_MODULE.search(title) and next(frame.module.parameters(), None) is None:
            found = [call for call in inside if call.kind == "activation"]
            if len(found) == 1:
                self._activation_by_hand(found[0], title, output)

    def _norm_by_hand(self, frame: Frame, title: str, output: Tensor) -> None:
        op = "rms_norm" if "rms" in title.lower() else "norm"
        call = Call(0, frame.path, title, op, "norm", 0, "norm")
        call.parameters = tuple(_names(self.recorder, frame.module.parameters(recurse=False)))
        call.sources = self._origins.of(output).calls
        self._add(call, (), {}, output, output)
        self._origins.put(output, call)

    def _activation_by_hand(self, call: Call, title: str, output: Tensor) -> None:
        """A hand-written GELU or Swish: what leaves the module is the activation."""
        op = _named(title, call.op) if call.op in ("tanh", "sigmoid", "erf") else call.op
        if op != call.op:
            call.op = op
            call.statistics = reduce(output)
            call.units = count_units(op, output, None)
            self._origins.put(output, call)

    # -- functions -----------------------------------------------------------------------------

    def before(self, call: FunctionCall) -> None:
        self._open = self._input = None
        operation = call.operation
        kind = None if operation is None else _kind_of(operation)
        if operation is None or kind is None or not self._wanted(operation, kind, call):
            return
        found = self._describe(operation, kind, call)
        source = next(iter(call.tensors()), None)
        if source is not None:
            found.input_shape = tuple(source.shape)
            if self._keep:
                found.input = source.detach().clone()
            if operation.name == "erf":
                self._input = source.detach().clone() if found.in_place else source.detach()
        self._open = found

    def after(self, call: FunctionCall, output: Any) -> None:
        found = self._open
        result = output[0] if isinstance(output, (tuple, list)) and output else output
        if found is None or not isinstance(result, Tensor) or not result.is_floating_point():
            self._origins.follow(call, output)
            return
        found.sources = self._origins.enters(call).calls
        self._add(found, call.args, call.kwargs, result, output)
        for tensor in output if isinstance(output, (tuple, list)) else (output,):
            self._origins.put(tensor, found)

    def _wanted(self, operation: Operation, kind: str, call: FunctionCall) -> bool:
        tensors = [t for t in (*call.args, *call.kwargs.values()) if isinstance(t, Tensor)]
        if kind == "add":
            return (
                self._adds
                and len(tensors) == 2
                and tensors[0].shape == tensors[1].shape
                and tensors[0].ndim > 1
                and all(t.grad_fn is not None for t in tensors)
            )
        if operation.doubtful:
            inside = call.module is not None and ACTIVATION_MODULE.search(
                type(call.module).__name__
            )
            return bool(tensors) and (tensors[0].requires_grad or bool(inside))
        if operation.family == "product":
            return any(self._is_weight(t) for t in call.tensors())
        return bool(tensors)

    def _is_weight(self, tensor: Tensor) -> bool:
        """Whether a tensor is a parameter, or made of parameters alone."""
        if self.recorder.parameter_of(tensor) is not None:
            return True
        return bool(self._origins.of(tensor).parameters)

    def _describe(self, operation: Operation, kind: str, call: FunctionCall) -> Call:
        title = type(call.module or self.recorder.model).__name__
        found = Call(0, call.path, title, operation.name, kind, 0, operation.family)
        raw = getattr(call.func, "__name__", "")
        found.in_place = bool(call.kwargs.get("inplace", False)) or (
            raw.endswith("_") and not raw.endswith("__")
        )
        found.parameters = tuple(_names(self.recorder, call.tensors()))
        if operation.weighted:
            self._describe_weight(found, operation, call)
        elif isinstance(call.module, nn.modules.batchnorm._NormBase):
            found.channel = 1
        return found

    def _describe_weight(self, found: Call, operation: Operation, call: FunctionCall) -> None:
        found.channel = operation.channel
        weight = find_weight(operation, call.arguments, self._is_weight)
        if weight is None:
            return
        tensor = call.arguments[weight]
        found.parameter = self.recorder.parameter_of(tensor)
        found.fan_in, found.fan_out = fans_of(operation, call.arguments, weight)
        made_of = self._origins.of(tensor).parameters
        if found.parameter is None and made_of:
            sizes = {name: p.numel() for name, p in self.recorder.model.named_parameters()}
            found.parameter = max(made_of, key=lambda name: sizes.get(name, 0))
            found.derived = True
            found.parameters = (*made_of, *found.parameters)

    def _add(self, call: Call, args: tuple, kwargs: dict, result: Tensor, output: Any) -> None:
        call.order, call.dtype, call.shape = len(self.calls), result.dtype, tuple(result.shape)
        key = (call.path, call.kind)
        call.call_index = self._seen[key]
        self._seen[key] += 1
        if call.kind in ("activation", "add", "norm") and result.ndim == 4:
            call.channel = 1  # (B, C, H, W) by convention of torch
        if call.kind in ("linear", "add", "recurrent"):
            call.statistics = reduce(result, call.channel)
        if call.kind == "activation":
            call.units = count_units(call.op, result, self._input, call.channel)
        if self._keep:
            call.output = result.detach().clone()
        if self._graph and result.requires_grad:
            call.edge = torch.autograd.graph.get_gradient_edge(result)
        self._surroundings.place(call)
        self.calls.append(call)
        if self._observe is not None:
            self._observe(call, args, kwargs, output)


class _Surroundings:
    """Fills in, call by call, what stands before and after each."""

    def __init__(self) -> None:
        self._last: Call | None = None  # activation, linear, recurrent or attention call
        self._norm_since = False  # a norm since the last linear or recurrent call
        self._without_activation: list[Call] = []
        self._without_norm: list[Call] = []

    def place(self, call: Call) -> None:
        """``call`` comes after all that have been placed."""
        call.before, call.normalised = self._last, self._norm_since
        if call.kind == "norm":
            self._norm_since = True
            for earlier in self._without_norm:
                earlier.normalised = True
        if call.kind != "add":
            # only sums may stand between a layer and the norm right after it
            self._without_norm.clear()
        self._without_norm.append(call)
        if call.kind == "activation":
            for earlier in self._without_activation:
                earlier.after = call
            self._without_activation.clear()
        elif call.kind in ("linear", "recurrent", "attention"):
            self._without_activation.clear()
        self._without_activation.append(call)
        if call.kind in ("linear", "recurrent"):
            self._norm_since = False
        if call.kind in ("activation", "linear", "recurrent", "attention"):
            self._last = call


def _kind_of(operation: Operation) -> str | None:
    return "add" if operation.name == "add" else _KINDS.get(operation.family)


def _names(recorder: Recorder, tensors: Iterable[Tensor]) -> list[str]:
    names = (recorder.parameter_of(tensor) for tensor in tensors)
    return list(dict.fromkeys(name for name in names if name is not None))


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
    layers = Layers()
    with untouched(model), Recorder(model, layers):
        model(*args, **kwargs)
    return layers.calls
