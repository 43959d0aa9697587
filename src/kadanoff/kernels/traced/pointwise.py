"""Functions entry by entry: activations, sums, products, factors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kadanoff.kernels.traced.layout import Layout, canonical_ids
from kadanoff.kernels.traced.nodes import Gained, Inputs, Node, Product, Rescaled, Sum, Vector
from kadanoff.kernels.traced.settling import distributed, gathered, rows_of, settle, table, vector
from kadanoff.kernels.traced.symbols import (
    Call,
    Data,
    Function,
    Moment,
    Opaque,
    Open,
    ParameterView,
    Random,
)

if TYPE_CHECKING:
    from kadanoff.kernels.traced.mode import Trace

__all__ = ["add", "divide", "entrywise", "leaky", "masked", "multiply", "subtract"]


def _composed(
    func: Callable, inner: Function | None, scale: float, args: tuple, at: int, kwargs: dict
) -> Function:
    def function(z: Tensor) -> Tensor:
        z = z if inner is None else inner(z)
        z = z if scale == 1 else z * scale
        return func(*args[:at], z, *args[at + 1 :], **kwargs)

    return function


def _words(args: tuple, kwargs: dict) -> tuple:
    return (*(repr(a) for a in args), *(f"{k}={v!r}" for k, v in sorted(kwargs.items())))


def _plain(args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """Uniform tensors as numbers; in-place variants as others."""

    def number(a: Any) -> Any:
        if not isinstance(a, Tensor):
            return a
        value = _uniform(a)
        if value is None:
            raise Open("numbers that differ from entry to entry, in a function of them")
        return value

    kwargs = {k: number(v) for k, v in kwargs.items() if k != "inplace"}
    return tuple(number(a) for a in args), kwargs


def _uniform(a: Tensor) -> float | None:
    if not a.numel():
        return None
    first = a.reshape(-1)[0]
    return float(first) if bool((a == first).all()) else None


def entrywise(trace: Trace, call: Call) -> Tensor:
    """A function of one random tensor and numbers."""
    places = [k for k, a in enumerate(call.args) if trace.symbol(a) is not None]
    if len(places) != 1 or any(trace.symbol(v) is not None for v in call.kwargs.values()):
        return _together(trace, call)
    at = places[0]
    symbol = trace.symbol(call.args[at])
    if isinstance(symbol, Moment):
        others, plain = _plain((*call.args[:at], None, *call.args[at + 1 :]), call.kwargs)
        inner = symbol.function
        found = replace(
            symbol,
            function=lambda v: call.func(*others[:at], inner(v), *others[at + 1 :], **plain),
            zero=False,
            expression=trace.call(call),
        )
        return trace.stand_in(call.args[at].shape, found)
    if not isinstance(symbol, Random):
        raise Open("it is known by sampling only" if isinstance(symbol, Opaque) else "no function")
    if _training(call.name, call.args, call.kwargs):
        raise Open("it draws at random")
    others, plain = _plain((*call.args[:at], None, *call.args[at + 1 :]), call.kwargs)
    func = _OUT_OF_PLACE.get(getattr(call.func, "__name__", ""), call.func)
    key = (call.name, symbol.key, symbol.scale, at, *_words(others, plain))
    function = _composed(func, symbol.function, symbol.scale, others, at, plain)
    found = replace(symbol, function=function, key=key, scale=1.0, expression=trace.call(call))
    return trace.stand_in(call.args[at].shape, found)


def _training(name: str, args: tuple, kwargs: dict) -> bool:
    return name == "rrelu" and bool(kwargs.get("training", len(args) > 3 and args[3]))


_OUT_OF_PLACE = {
    "relu_": torch.relu,
    "tanh_": torch.tanh,
    "sigmoid_": torch.sigmoid,
    "silu_": F.silu,
    "elu_": F.elu,
    "leaky_relu_": F.leaky_relu,
    "clamp_": torch.clamp,
    "hardtanh_": F.hardtanh,
    "pow_": torch.pow,
    "__ipow__": torch.pow,
    "abs_": torch.abs,
    "sin_": torch.sin,
    "cos_": torch.cos,
    "exp_": torch.exp,
    "square_": torch.square,
    "add_": torch.add,
    "mul_": torch.mul,
    "sub_": torch.sub,
    "div_": torch.div,
    "__iadd__": torch.add,
    "__imul__": torch.mul,
    "__isub__": torch.sub,
    "__itruediv__": torch.div,
    "neg_": torch.neg,
    "sqrt_": torch.sqrt,
    "rsqrt_": torch.rsqrt,
    "__add__": torch.add,
    "__radd__": torch.add,
    "__mul__": torch.mul,
}


def _together(trace: Trace, call: Call) -> Tensor:
    """A function of several functions of the same entries."""
    places = [k for k, a in enumerate(call.args) if isinstance(trace.symbol(a), Random)]
    symbols: list[Any] = [trace.symbol(call.args[k]) for k in places]
    same = len(places) > 1 and all(
        isinstance(s, Random)
        and s.node is symbols[0].node
        and s.ids.shape == symbols[0].ids.shape
        and torch.equal(s.ids, symbols[0].ids)
        for s in symbols
    )
    rest = [a for k, a in enumerate(call.args) if k not in places]
    if not same or any(trace.symbol(a) is not None for a in rest):
        raise Open("a function of several random tensors")
    func = _OUT_OF_PLACE.get(getattr(call.func, "__name__", ""), call.func)
    held = tuple(None if k in places else a for k, a in enumerate(call.args))
    others, plain = _plain(held, call.kwargs)
    parts = {k: (s.function, s.scale) for k, s in zip(places, symbols)}

    def function(z: Tensor) -> Tensor:
        values = list(others)
        for k, (inner, scale) in parts.items():
            values[k] = (z if inner is None else inner(z)) * scale
        return func(*values, **plain)

    key = (
        call.name,
        *(s.key for s in symbols),
        *(s.scale for s in symbols),
        *places,
        *_words(others, plain),
    )
    found = replace(symbols[0], function=function, key=key, scale=1.0, expression=trace.call(call))
    return trace.stand_in(call.args[places[0]].shape, found)


# -- two operands ------------------------------------------------------------------------------


def _aligned(trace: Trace, x: Tensor, y: Tensor) -> tuple[Node, Node, tuple[int, ...], Layout]:
    """Both operands as nodes over the same positions and channels."""
    shape = tuple(torch.broadcast_shapes(x.shape, y.shape))
    first, second = trace.symbol(x), trace.symbol(y)
    randoms = [(s, t) for s, t in ((first, x), (second, y)) if isinstance(s, Random)]
    if not randoms or any(isinstance(s, Opaque) for s in (first, second)):
        raise Open("an operand is known by sampling only")
    lead = max(randoms, key=lambda item: item[1].numel())
    layout = _layout(trace, lead[0], shape)
    nodes = [_node(trace, t, s, shape, layout) for s, t in ((first, x), (second, y))]
    return nodes[0], nodes[1], shape, layout


def _layout(trace: Trace, r: Random, shape: tuple[int, ...]) -> Layout:
    own = trace.layout(r)
    up = len(shape) - r.ids.ndim
    sample = None if own.sample is None else own.sample + up
    axes = [d for d, n in enumerate(shape) if n % trace.batch == 0 and n]
    if sample is None and len(axes) == 1:
        sample = axes[0]
        return Layout(
            shape, sample, shape[sample] // trace.batch, tuple(d + up for d in own.channels)
        )
    return Layout(shape, sample, own.inner, tuple(d + up for d in own.channels), own.outer)


def _node(trace: Trace, t: Tensor, symbol: Any, shape: tuple[int, ...], layout: Layout) -> Node:
    if symbol is None or isinstance(symbol, Data):
        return vector(trace, t, torch.Size(shape), layout)
    if isinstance(symbol, ParameterView):
        if symbol.parameter.law.random:
            return table(trace, symbol, shape, layout)[0]
        values = symbol.parameter.values()
        assert values is not None
        return vector(
            trace, values.reshape(-1)[symbol.ids] * symbol.factor, torch.Size(shape), layout
        )
    r = settle(trace, symbol, tuple(t.shape), layout.channels)
    ids = r.ids.expand(shape)
    wide = Random(r.expression, r.node, ids)
    if (
        layout.sample is not None
        and ids.shape[layout.sample] != r.ids.shape[layout.sample - (len(shape) - r.ids.ndim)]
        and layout.inner * layout.outer == 1
    ):
        # one tensor for all samples
        kept = list(shape)
        kept[layout.sample] = 1
        ids = r.ids.expand(kept)
        layout = Layout(tuple(kept), None, 1, layout.channels)
        wide = Random(r.expression, r.node, ids)
    positions, channel = rows_of(trace, wide, layout)
    return gathered(r, positions, channel)


def _independent(one: Node, two: Node) -> bool:
    return not any(mask & two.sources.get(s, 0) for s, mask in one.sources.items())


def _result(
    trace: Trace,
    call: Call,
    node: Node,
    shape: tuple[int, ...],
    layout: Layout,
) -> Tensor:
    samples = 1 if layout.sample is None else trace.batch
    ids = layout.from_rows(canonical_ids(samples, node.positions, node.channels), samples)
    expression = trace.call(call)
    return trace.stand_in(shape, Random(expression, node, ids, layout=layout))


def _same_entries(trace: Trace, x: Any, y: Any) -> bool:
    a, b = trace.symbol(x), trace.symbol(y)
    return (
        isinstance(a, Random)
        and isinstance(b, Random)
        and a.node is b.node
        and a.ids.shape == b.ids.shape
        and torch.equal(a.ids, b.ids)
    )


def _number(trace: Trace, item: Any) -> float | None:
    """A number, or a tensor of one number."""
    if isinstance(item, (int, float)) and not isinstance(item, bool):
        return float(item)
    if isinstance(item, Tensor) and trace.symbol(item) is None:
        return _uniform(item)
    return None


def _learnt(trace: Trace, item: Any) -> tuple[float, float] | None:
    """The one number of a parameter's entries, and its rate."""
    view = trace.symbol(item)
    if not isinstance(view, ParameterView) or view.parameter.law.random:
        return None
    value = view.parameter.uniform()
    return None if value is None else (value * view.factor, view.parameter.rate * view.factor**2)


def _signed(trace: Trace, shape: Any, symbol: Any, sign: float) -> Tensor:
    return trace.stand_in(shape, replace(symbol, scale=symbol.scale * sign))


def _sum(trace: Trace, call: Call, sign: float) -> Tensor:
    x, y = call.args[:2]
    alpha = call.kwargs.get("alpha", 1)
    if alpha != 1:
        with trace:
            return call.func(x, y * alpha)
    if call.reversed:
        x, y = y, x
    if isinstance(trace.symbol(x), Random) and _number(trace, y) == 0:
        return _signed(trace, x.shape, trace.symbol(x), 1.0)
    if isinstance(trace.symbol(y), Random) and _number(trace, x) == 0:
        return _signed(trace, y.shape, trace.symbol(y), sign)
    for one, other in ((x, y), (y, x)):
        moment, r = trace.symbol(one), trace.symbol(other)
        if isinstance(moment, Moment) and moment.zero and isinstance(r, Random):
            return _signed(trace, other.shape, r, sign if one is x else 1.0)
        learnt = _learnt(trace, one)
        if learnt is not None and isinstance(r, Random) and learnt[0] == 0 and one is y:
            r = settle(trace, r, tuple(other.shape), trace.layout(r).channels)
            node = distributed(r.node, lambda n, rate=learnt[1]: Gained(n, 1.0, (0.0, rate)))
            return trace.stand_in(other.shape, replace(r, node=node))
    if _number(trace, x) is not None or _number(trace, y) is not None or _same_entries(trace, x, y):
        return entrywise(trace, call)
    one, two, shape, layout = _aligned(trace, x, y)
    if not _independent(one, two):
        raise Open("a sum of terms that depend on each other")
    node = Sum((one, two), one.positions, one.channels)
    return _result(trace, call, node, shape, layout)


def add(trace: Trace, call: Call) -> Tensor:
    """x + y."""
    return _sum(trace, call, 1.0)


def subtract(trace: Trace, call: Call) -> Tensor:
    """x − y: kernels of independent terms know no sign."""
    return _sum(trace, call, -1.0)


def multiply(trace: Trace, call: Call) -> Tensor:
    """x y."""
    x, y = call.args[:2]
    for one, other in ((x, y), (y, x)):
        factor, symbol = _number(trace, other), trace.symbol(one)
        if factor is not None and isinstance(symbol, Random):
            scaled = replace(symbol, scale=symbol.scale * factor, expression=trace.call(call))
            return trace.stand_in(
                torch.broadcast_shapes(one.shape, getattr(other, "shape", ())), scaled
            )
        if factor is not None and isinstance(symbol, ParameterView):
            scaled = replace(symbol, factor=symbol.factor * factor, expression=trace.call(call))
            return trace.stand_in(one.shape, scaled)
        if isinstance(symbol, Random) and isinstance(trace.symbol(other), Moment):
            return _rescaled(trace, call, one, other, False)
        learnt = _learnt(trace, other)
        if isinstance(symbol, Random) and learnt is not None:
            r = settle(trace, symbol, tuple(one.shape), trace.layout(symbol).channels)
            value, rate = learnt
            node = distributed(r.node, lambda n, v=value, q=rate: Gained(n, v, (q, 0.0)))
            expression = trace.call(call)
            return trace.stand_in(one.shape, replace(r, node=node, expression=expression))
    if isinstance(trace.symbol(x), Moment) or isinstance(trace.symbol(y), Moment):
        return entrywise(trace, call)
    if _same_entries(trace, x, y):
        return entrywise(trace, call)
    one, two, shape, layout = _aligned(trace, x, y)
    for node, other, t in ((one, two, y), (two, one, x)):
        if trace.symbol(t) is None or isinstance(trace.symbol(t), Data):
            uniform = _along(t, layout, shape)
            found = distributed(node, lambda n, o=other, u=uniform: _vector(n, o, u))
            return _result(trace, call, found, shape, layout)
    if not _independent(one, two):
        raise Open("a product of factors that depend on each other")
    return _result(trace, call, Product(one, two), shape, layout)


def _vector(node: Node, factor: Node, uniform: bool) -> Vector:
    assert isinstance(factor, Inputs)
    return Vector(node, factor, uniform)


def _along(t: Tensor, layout: Layout, shape: tuple[int, ...]) -> bool:
    """Whether numbers are the same for all channels."""
    up = len(shape) - t.ndim
    return all(d - up < 0 or t.shape[d - up] == 1 for d in layout.channels)


def divide(trace: Trace, call: Call) -> Tensor:
    """x / y."""
    x, y = call.args[:2]
    if call.kwargs.get("rounding_mode") is not None:
        raise Open("it rounds")
    factor = _number(trace, y)
    if factor is not None and factor != 0 and not call.reversed:
        return multiply(trace, Call(torch.mul, "mul", (x, 1 / factor), {}))
    if isinstance(trace.symbol(x), Random) and isinstance(trace.symbol(y), Moment):
        return _rescaled(trace, call, x, y, True)
    symbol = trace.symbol(y)
    if isinstance(trace.symbol(x), Random) and (symbol is None or isinstance(symbol, Data)):
        with trace:
            return x * (1.0 / y)
    return entrywise(trace, call)


def _rescaled(
    trace: Trace,
    call: Call,
    x: Tensor,
    by: Tensor,
    inverse: bool,
) -> Tensor:
    moment = trace.symbol(by)
    assert isinstance(moment, Moment)
    shape = tuple(x.shape)
    symbol = trace.symbol(x)
    assert isinstance(symbol, Random)
    layout = trace.layout(symbol)
    r = settle(trace, symbol, shape, layout.channels)
    layout = trace.layout(r)
    positions, channel = rows_of(trace, r, layout)
    source = gathered(r, positions, channel)
    places = layout.to_rows(moment.places.expand(shape), trace.batch)[0, :, 0]
    index = places % moment.node.positions
    inner = moment.function
    function = (lambda v: 1 / inner(v)) if inverse else inner
    node = distributed(source, lambda n: Rescaled(n, moment.node, function, index))
    return _result(trace, call, node, shape, layout)


def masked(trace: Trace, call: Call) -> Tensor:
    """masked_fill with 0: positions that count for nothing."""
    x, mask = call.args[0], call.argument("mask", 1)
    value = call.argument("value", 2)
    if not isinstance(trace.symbol(x), Random) or _number(trace, value) != 0:
        raise Open("entries are overwritten")
    if not isinstance(mask, Tensor):
        raise Open("its mask is no tensor")
    with trace:
        return x * (~mask).to(torch.float64)


def leaky(trace: Trace, x: Tensor, slope: float) -> Tensor:
    """A leaky ReLU of that slope.

    Parameters
    ----------
    trace : Trace
    x : Tensor
    slope : float
    """
    with trace:
        return F.leaky_relu(x, slope)
