"""Running a model on kernels: a function mode that sees every torch function its forward calls.

Inputs are ordinary numbers, of a few samples. Where random weights enter, the result is a stand-in
of the right shape, and the mode keeps a note of what it stands for. What an operation does to
kernels is in the table :data:`kadanoff.kernels.traced.operations.HANDLERS`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from kadanoff.errors import UsageError
from kadanoff.kernels.traced.attention import Scores, by_hand, has_scores, scores
from kadanoff.kernels.traced.expressions import Expression, constant, pick
from kadanoff.kernels.traced.laws import Parameter
from kadanoff.kernels.traced.layout import Layout, layout_of, sample_split
from kadanoff.kernels.traced.nodes import Node
from kadanoff.kernels.traced.operations import HANDLERS, SHAPES
from kadanoff.kernels.traced.sampled import Leaf, Sampled, owners
from kadanoff.kernels.traced.symbols import Call, Data, Opaque, Open, ParameterView, Random, Symbol
from kadanoff.trace.operations import COMPOSITE, canonical, operation_of
from kadanoff.trace.recorder import opened

__all__ = ["Refused", "Trace"]

_CASTS = {
    "to",
    "float",
    "double",
    "half",
    "bfloat16",
    "type_as",
    "type",
    "cpu",
    "contiguous",
    "clone",
    "detach",
    "alias",
    "requires_grad_",
}
_METADATA = {
    "size",
    "dim",
    "numel",
    "ndimension",
    "is_floating_point",
    "is_complex",
    "stride",
    "is_contiguous",
    "element_size",
    "nelement",
    "len",
    "get_device",
    "data_ptr",
    "has_names",
    "is_same_size",
    "register_hook",
    "result_type",
    "requires_grad",
    "storage_offset",
    "hash",
    "repr",
    "format",
    "can_cast",
}
_NUMBERS = {
    "item",
    "tolist",
    "numpy",
    "bool",
    "int",
    "float_",
    "index",
    "array",
    "nonzero",
    "unique",
    "equal",
    "allclose",
    "any_",
    "is_nonzero",
}
_FACTORIES = {"zeros", "ones", "full", "empty", "arange", "rand", "randn", "eye", "linspace"}
_LIKE = {
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
    "new_zeros",
    "new_ones",
    "new_full",
    "new_empty",
}


class Refused(Exception):
    """The model does not run on kernels: where, and why."""

    def __init__(self, path: str, operation: str, reason: str) -> None:
        super().__init__(reason)
        self.path, self.operation, self.reason = path, operation, reason

    @property
    def where(self) -> str:
        """In words."""
        return f"{self.operation} in {self.path or 'the model'}"


class Trace(TorchFunctionMode):
    """Context manager: the model's forward inside it is noted as a graph of kernels.

    Parameters
    ----------
    model : nn.Module
    parameters : mapping of str to Parameter
        By name, tied parameters once.
    batch : int
        Samples in the trace.
    sampling : bool
        Whether operations that do not close may be sampled; else they are refused.
    heads : {"real", "infinite"}
        The head dimension of softmax attention.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: Mapping[str, Parameter],
        batch: int,
        sampling: bool = True,
        heads: str = "real",
    ) -> None:
        super().__init__()
        self.model, self.batch, self.sampling = model, batch, sampling
        self.heads = heads
        self.symbols: dict[int, tuple[Tensor, Symbol]] = {}
        self.spans: dict[str, list[tuple[int, int]]] = {}  # entries used as a linear map
        self.settled: dict[tuple, Node] = {}
        self.path: list[str] = []
        self.example: dict[str, Tensor] = {}  # the data of the trace
        self.dtype = torch.get_default_dtype()
        for name, tensor in model.named_parameters():
            parameter = parameters[name]
            ids = torch.arange(tensor.numel()).view(tensor.shape)
            self.symbols[id(tensor)] = (
                tensor,
                ParameterView(Expression(leaf=parameter), parameter, ids),
            )
            if tensor.is_floating_point():
                self.dtype = tensor.dtype

    @contextlib.contextmanager
    def running(self) -> Iterator[Trace]:
        """The mode, with the path of the module that runs at hand."""
        hooks = []
        for name, module in self.model.named_modules():
            hooks.append(module.register_forward_pre_hook(self._entered(name)))
            hooks.append(module.register_forward_hook(self._left, always_call=True))
        try:
            with torch.enable_grad(), self:
                yield self
        finally:
            for hook in hooks:
                hook.remove()

    def _entered(self, name: str) -> Callable[..., None]:
        return lambda *_: self.path.append(name)

    def _left(self, *_: Any) -> None:
        if self.path:
            self.path.pop()

    # -- symbols -------------------------------------------------------------------------------

    def symbol(self, item: Any) -> Symbol | None:
        """What a tensor stands for, None for plain ones."""
        found = self.symbols.get(id(item)) if isinstance(item, Tensor) else None
        return None if found is None else found[1]

    def register(self, token: Tensor, symbol: Symbol) -> Tensor:
        """``token`` stands for ``symbol`` from now on."""
        self.symbols[id(token)] = (token, symbol)
        return token

    def stand_in(self, shape: Any, symbol: Symbol) -> Tensor:
        """A new tensor of that shape that stands for ``symbol``."""
        with torch._C.DisableTorchFunction():
            token = torch.zeros((), dtype=self.dtype).expand(tuple(shape))
        return self.register(token, symbol)

    def fresh(self, node: Node, ids: Tensor, layout: Layout) -> Random:
        """A new origin of randomness; samples of it may be drawn.

        Parameters
        ----------
        node : Node
        ids : Tensor
            Its entries in the user's shape.
        layout : Layout
        """
        node.path = self.path[-1] if self.path else ""
        return Random(Expression(leaf=Leaf(node, layout)), node, ids, layout=layout)

    def layout(self, r: Random, channel_axes: tuple[int, ...] = ()) -> Layout:
        """The axes of a random tensor."""
        if r.layout is None or channel_axes:
            found = layout_of(r.ids, r.node.positions, r.node.channels, self.batch, channel_axes)
            if found is None:
                raise Open("an axis mixes samples, positions and channels")
            if channel_axes:
                return found
            r.layout = found
        return r.layout

    def sampled(self, symbol: Symbol, shape: tuple[int, ...], channels: tuple[int, ...]) -> Random:
        """A node for what is only known by sampling, as a linear map wants it.

        Parameters
        ----------
        symbol : Symbol
        shape : tuple of int
            Of the user's tensor.
        channels : tuple of int
            Axes that are averaged over.
        """
        owner = owners(symbol.expression, self.batch, self.example)
        if owner is None:
            self.refuse("sampling", "it mixes the samples of a batch")
        axes = [
            d
            for d in range(owner.ndim)
            if d not in channels
            and bool((owner.amax(d) > owner.masked_fill(owner < 0, 1 << 30).amin(d)).any())
        ]
        split = sample_split(owner, axes[0], self.batch) if len(axes) == 1 else None
        if split is None:
            self.refuse("sampling", "the samples are not on an axis of their own")
        layout = Layout(shape, axes[0], split[1], channels, split[0])
        width = 1
        for d in channels:
            width *= shape[d]
        total = 1
        for n in shape:
            total *= n
        positions = total // (self.batch * width)
        key = (id(symbol.expression), shape, channels)
        if key not in self.settled:
            why = symbol.reason if isinstance(symbol, Opaque) else "a function of no Gaussian"
            node = Sampled(symbol.expression, layout, positions, width, self.batch, why)
            self._check_leaves(node)
            node.path = self.here
            self.settled[key] = node
        node = self.settled[key]
        rows = torch.arange(total).view(self.batch, positions, width)
        ids = layout.from_rows(rows, self.batch)
        return Random(symbol.expression, node, ids, layout=layout)

    def _check_leaves(self, node: Sampled) -> None:
        for leaf in node.slots:
            if not leaf.gaussian:
                raise Refused(self.here, "sampling", f"the output of {leaf.path} is not Gaussian")

    def refuse(self, operation: str, reason: str) -> NoReturn:
        """Stop: neither kernels nor draws of channels tell."""
        raise Refused(self.here, operation, reason)

    @property
    def here(self) -> str:
        """Path of the module that runs."""
        return self.path[-1] if self.path else ""

    # -- expressions ---------------------------------------------------------------------------

    def noted(self, item: Any) -> Any:
        """Arguments with an Expression for each symbol among them; constants in float64."""
        if isinstance(item, Tensor):
            found = self.symbol(item)
            if found is not None:
                return found.expression
            return item.double() if item.is_floating_point() else item
        if isinstance(item, (list, tuple)):
            items = [self.noted(one) for one in item]
            return items if isinstance(item, list) else tuple(items)
        if isinstance(item, dict):
            return {key: self.noted(one) for key, one in item.items()}
        return item

    def call(self, call: Call) -> Expression:
        """The expression of a call."""
        func, name, args, kwargs = call.func, call.name, call.args, call.kwargs
        if name in _CASTS:
            return self.noted(args[0])
        kwargs = {
            k: v
            for k, v in kwargs.items()
            if not (
                k == "dtype" and v in (torch.float32, torch.float64, torch.float16, torch.bfloat16)
            )
        }
        if name == "view":
            # memory may be laid out otherwise when the calls are repeated
            func = Tensor.reshape
        if name == "scaled_dot_product_attention":
            # torch's fused kernels know no forward-mode derivative
            func = by_hand
        return Expression(func, name, self.noted(args), self.noted(kwargs))

    # -- the mode ------------------------------------------------------------------------------

    def __torch_function__(
        self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if name in ("__set__", "__delete__") or (name == "__get__" and not _shape_property(func)):
            return func(*args, **kwargs)
        raw, name = name, canonical(func)
        if raw == "__get__":
            owner = getattr(func, "__self__", None)
            name = getattr(owner, "__name__", "")
        met = self._met((args, kwargs))
        if not met:
            return self._plain(func, name, args, kwargs)
        if name in _METADATA:
            return func(*args, **kwargs)
        if name in COMPOSITE and hasattr(func, "__code__"):
            with self:
                return opened(func)(*args, **kwargs)
        if name in _CASTS and args and self.symbol(args[0]) is None:
            # given numbers, of the type of something else
            return args[0].to(self.dtype) if args[0].is_floating_point() else args[0]
        if all(isinstance(s, Data) for s in met):
            return self._data(func, raw, name, args, kwargs)
        return self._operation(func, raw, name, args, kwargs, met)

    def _met(self, item: Any) -> list[Symbol]:
        if isinstance(item, Tensor):
            found = self.symbol(item)
            return [] if found is None else [found]
        if isinstance(item, (list, tuple)):
            return [s for one in item for s in self._met(one)]
        if isinstance(item, dict):
            return [s for one in item.values() for s in self._met(one)]
        return []

    def _plain(self, func: Callable, name: str, args: tuple, kwargs: dict) -> Any:
        found = func(*args, **kwargs)
        made = name in _FACTORIES and isinstance(found, Tensor)
        if made and any(n and n % self.batch == 0 for n in found.shape):
            # it holds the number of samples
            self.register(found, Data(Expression(func, name, args, kwargs)))
        return found

    def _data(self, func: Callable, raw: str, name: str, args: tuple, kwargs: dict) -> Any:
        expression = Expression(func, name, self._exact(args), self._exact(kwargs))
        found = func(*args, **kwargs)
        source = self.symbol(args[0]) if args else None
        floats = all(isinstance(t, Tensor) and t.is_floating_point() for t in (found, *args[:1]))
        if source is not None and name in _CASTS and floats:
            # numbers stay in float64, whatever type the model works in
            expression = source.expression
        if raw == "__setitem__":
            self.register(args[0], Data(expression))
            return found
        return self._each(found, lambda e: Data(e), expression)

    def _exact(self, item: Any) -> Any:
        if isinstance(item, Tensor):
            found = self.symbol(item)
            if found is None:
                return constant(item.double() if item.is_floating_point() else item)
            return found.expression
        if isinstance(item, (list, tuple)):
            items = [self._exact(one) for one in item]
            return items if isinstance(item, list) else tuple(items)
        if isinstance(item, dict):
            return {key: self._exact(one) for key, one in item.items()}
        return item

    def _each(self, found: Any, make: Callable, expression: Expression) -> Any:
        if isinstance(found, Tensor):
            return self.register(found, make(expression))
        if isinstance(found, (list, tuple)):
            for k, one in enumerate(found):
                if isinstance(one, Tensor):
                    self.register(one, make(Expression(pick, "pick", (expression, k))))
        return found

    def _operation(
        self, func: Callable, raw: str, name: str, args: tuple, kwargs: dict, met: list[Symbol]
    ) -> Any:
        if name in _NUMBERS:
            raise Refused(self.here, name, "the forward pass decides on random numbers")
        if name in _LIKE:
            with torch._C.DisableTorchFunction():
                found = func(*args, **kwargs)
            return found
        in_place = (raw.endswith("_") and not raw.endswith("__")) or raw in _IN_PLACE
        try:
            found = self._closed(func, name, args, kwargs, met)
        except Open as reason:
            found = self._sample(func, raw, name, args, kwargs, str(reason))
        if in_place and isinstance(found, Tensor) and args and isinstance(args[0], Tensor):
            symbol = self.symbol(found)
            if symbol is not None and tuple(found.shape) == tuple(args[0].shape):
                return self.register(args[0], symbol)
        return found

    def _closed(
        self, func: Callable, name: str, args: tuple, kwargs: dict, met: list[Symbol]
    ) -> Any:
        first = self.symbol(args[0]) if args else None
        if name in _CASTS and isinstance(first, Random):
            return self.stand_in(args[0].shape, first)
        if name in _CASTS and isinstance(first, (ParameterView, Opaque, Scores)):
            return self.stand_in(args[0].shape, first)
        if name in SHAPES and isinstance(first, (Random, ParameterView)) and len(met) == 1:
            return SHAPES[name](self, Call(func, name, args, kwargs))
        if has_scores(self, Call(func, name, args, kwargs)):
            return scores(self, Call(func, name, args, kwargs))
        handler = HANDLERS.get(name)
        if handler is not None:
            return handler(self, Call(func, name, args, kwargs))
        if isinstance(first, ParameterView) and all(isinstance(s, ParameterView) for s in met):
            numbers = [first.parameter.values()] if len(met) == 1 else [None]
            if numbers[0] is not None:
                value = numbers[0].reshape(-1)[first.ids] * first.factor
                return func(value.to(self.dtype), *args[1:], **kwargs)
        operation = operation_of(func)
        raise Open("it does not close on kernels" if operation is not None else "it is not known")

    def _sample(
        self, func: Callable, raw: str, name: str, args: tuple, kwargs: dict, reason: str
    ) -> Any:
        """The operation on draws."""
        operation = operation_of(func)
        if operation is None and name not in _SAMPLED:
            raise Refused(self.here, name, reason)
        if operation is not None and operation.family in ("recurrent", "loss"):
            raise Refused(self.here, name, "a recurrent layer keeps no kernel closed")
        if operation is not None and operation.family == "embedding":
            raise Refused(self.here, name, reason)
        if name in ("dropout", "batch_norm", "rand_like", "randn_like", "bernoulli"):
            raise Refused(self.here, name, reason)
        if not self.sampling:
            raise Refused(self.here, name, reason)
        self._check_maps(name, "" if operation is None else operation.family, args, kwargs)
        expression = self.call(Call(func, name, args, kwargs))
        with torch._C.DisableTorchFunction():
            try:
                found = func(*self._writable(args), **self._writable(kwargs))
            except RuntimeError as error:
                raise UsageError(
                    f"The model failed at {name} in {self.here or 'the model'}: "
                    f"{str(error).splitlines()[0]}.",
                    "Check that model(X) runs by itself.",
                ) from error
        first = [s.reason for s in self._met((args, kwargs)) if isinstance(s, Opaque)]
        reason = first[0] if first else f"{name}: {reason}"
        return self._each(_detached(found), lambda e: Opaque(e, reason), expression)

    def _check_maps(self, name: str, family: str, args: tuple, kwargs: dict) -> None:
        """A random matrix must not be drawn at finite width where it would average."""
        if family not in ("linear", "convolution", "product"):
            return
        for symbol in self._met((args, kwargs)):
            if not isinstance(symbol, ParameterView) or not symbol.parameter.law.random:
                continue
            if len(symbol.parameter.shape) > 1:
                self.refuse(name, "its weight is used in a way of its own")

    def _writable(self, item: Any) -> Any:
        if isinstance(item, Tensor):
            return item.detach().clone() if self.symbol(item) is not None else item
        if isinstance(item, (list, tuple)):
            items = [self._writable(one) for one in item]
            return items if isinstance(item, list) else tuple(items)
        if isinstance(item, dict):
            return {key: self._writable(one) for key, one in item.items()}
        return item


_IN_PLACE = {"__iadd__", "__isub__", "__imul__", "__itruediv__", "__setitem__"}
# operations beyond the table that replay as they are
_SAMPLED = {"pick", "relu_", "rsub", "square", "var_mean", "softmax", "type_as", "rfloordiv"}


def _detached(found: Any) -> Any:
    if isinstance(found, Tensor):
        return found.detach()
    if isinstance(found, (list, tuple)):
        return [one.detach() if isinstance(one, Tensor) else one for one in found]
    return found


def _shape_property(func: Callable) -> bool:
    owner = getattr(func, "__self__", None)
    return getattr(owner, "__name__", "") in ("T", "mT", "H", "mH")
