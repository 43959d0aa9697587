"""Fresh linear maps: dense layers, convolutions, embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kadanoff.errors import DataError, UsageError
from kadanoff.kernels.traced.expressions import Expression
from kadanoff.kernels.traced.layout import Layout, canonical_ids, layout_of, split_ids
from kadanoff.kernels.traced.nodes import Affine, Embedding, Inputs, Node, Table
from kadanoff.kernels.traced.positions import Convolved
from kadanoff.kernels.traced.settling import gathered, rows_of, settle
from kadanoff.kernels.traced.symbols import Call, Data, Open, ParameterView, Random

if TYPE_CHECKING:
    from kadanoff.kernels.traced.mode import Trace

__all__ = ["addmm", "convolution", "embedding", "is_weight", "linear", "product_with_weight"]

# channels a group below which a convolution's output is no Gaussian
_WIDE = 8


def _weight(trace: Trace, weight: Any) -> ParameterView:
    view = trace.symbol(weight)
    if not isinstance(view, ParameterView):
        raise Open("its weight is no parameter")
    law = view.parameter.law
    if law.random and view.parameter.mean:
        raise Open(f"the weights {view.parameter.name} have a mean")
    if not law.random and view.parameter.uniform() != 0:
        raise Open(f"{view.parameter.name} is the same in every network")
    return view


def _use(trace: Trace, view: ParameterView) -> None:
    """A second use of the same weights is correlated with the first."""
    low, high = int(view.ids.min()), int(view.ids.max())
    name = view.parameter.name
    for at, stop in trace.spans.get(name, []):
        if low <= stop and at <= high:
            trace.refuse("linear", f"the weights {name} are used twice (tied)")
    trace.spans.setdefault(name, []).append((low, high))


def _bias(trace: Trace, bias: Any, shift: list[float]) -> tuple[float, float]:
    """Variance and rate of a bias; a constant one is appended to ``shift``."""
    if bias is None:
        return 0.0, 0.0
    view = trace.symbol(bias)
    if view is None:
        if bool((bias == bias.reshape(-1)[0]).all()):
            shift.append(float(bias.reshape(-1)[0]))
            return 0.0, 0.0
        raise Open("its bias is made of given numbers")
    if not isinstance(view, ParameterView):
        raise Open("its bias is no parameter")
    parameter, factor = view.parameter, view.factor
    if parameter.law.random:
        if parameter.mean:
            shift.append(parameter.mean * factor)
        return parameter.variance * factor**2, parameter.rate * factor**2
    value = parameter.uniform()
    if value is None:
        raise Open(f"the biases {parameter.name} are given numbers that differ")
    if value:
        shift.append(value * factor)
    return 0.0, parameter.rate * factor**2


def _shifted(trace: Trace, r: Random, shape: Any, shift: list[float]) -> Tensor:
    token = trace.stand_in(shape, r)
    if not shift:
        return token
    with trace:
        return token + sum(shift)


def _numbers(view: ParameterView, fan_in: int) -> tuple[float, float]:
    """C_W and λ_W of a weight."""
    factor = view.factor**2 * fan_in
    return view.parameter.variance * factor, view.parameter.rate * factor


def linear(trace: Trace, call: Call) -> Tensor:
    """F.linear."""
    return _dense(
        trace, call.given["input"], _weight(trace, call.given["weight"]), call.given.get("bias"), 1
    )


def addmm(trace: Trace, call: Call) -> Tensor:
    """torch.addmm: bias + x W."""
    if call.kwargs.get("beta", 1) != 1 or call.kwargs.get("alpha", 1) != 1:
        raise Open("it has factors of its own")
    return _dense(
        trace, call.given["mat1"], _weight(trace, call.given["mat2"]), call.given["input"], 0
    )


def product_with_weight(trace: Trace, x: Tensor, weight: Tensor) -> Tensor:
    """x W with a parameter W of two axes.

    Parameters
    ----------
    trace : Trace
    x, weight : Tensor
    """
    view = _weight(trace, weight)
    if view.ids.ndim != 2:
        raise Open("a weight with more than two axes")
    return _dense(trace, x, view, None, 0)


def _dense(trace: Trace, x: Tensor, view: ParameterView, bias: Any, axis: int) -> Tensor:
    """A dense layer on the last axis of x, ``axis`` of its weight."""
    fan_in, width = view.ids.shape[axis], view.ids.shape[1 - axis]
    if x.shape[-1] != fan_in:
        raise UsageError(
            f"The model failed in {trace.here or 'its forward'}: an input of shape "
            f"{tuple(x.shape)} meets a map of {fan_in} features.",
            "Check that model(X) runs by itself on these inputs.",
        )
    shift: list[float] = []
    C_b, rate_b = _bias(trace, bias, shift)
    C_W, rate_W = _numbers(view, fan_in)
    shape = (*x.shape[:-1], width)
    symbol = trace.symbol(x)
    taps, layout = None, None
    if symbol is None or isinstance(symbol, Data):
        source, layout = _data(trace, x, (x.ndim - 1,))
    else:
        r = settle(trace, symbol, tuple(x.shape), (x.ndim - 1,))
        source, taps, layout = _rows(trace, r, x)
    _use(trace, view)
    node = Affine(source, width, C_W, C_b, (rate_W, rate_b), taps, fan_in)
    node.shared = source.shared
    return _shifted(trace, _output(trace, node, layout, shape), shape, shift)


def _output(trace: Trace, node: Node, layout: Layout, shape: tuple[int, ...]) -> Random:
    out = Layout(shape, layout.sample, layout.inner, layout.channels, layout.outer)
    samples = 1 if layout.sample is None else trace.batch
    rows = canonical_ids(samples, node.positions, node.channels)
    return trace.fresh(node, out.from_rows(rows, samples), out)


def _data(trace: Trace, x: Tensor, channels: tuple[int, ...]) -> tuple[Inputs, Layout]:
    """Data as the inputs of a map."""
    symbol = trace.symbol(x)
    shape = tuple(x.shape)
    if not x.is_floating_point():
        raise DataError(
            f"Inputs of type {x.dtype} reach a linear map in {trace.here or 'the model'}, which "
            "takes floating-point numbers.",
            "Pass X.double(); tokens belong into an embedding.",
        )
    if symbol is None:
        layout = Layout(shape, None, 1, channels)
        expression = Expression(leaf=x.detach().double())
    else:
        layout = _where(trace, shape, channels)
        expression = symbol.expression
    width = 1
    for d in channels:
        width *= shape[d]
    total = max(1, x.numel() // width)
    positions = total if layout.sample is None else total // trace.batch
    return Inputs(expression, layout, positions, width), layout


def _where(trace: Trace, shape: tuple[int, ...], channels: tuple[int, ...]) -> Layout:
    """The axes of data."""
    axes = [d for d, n in enumerate(shape) if d not in channels and n and n % trace.batch == 0]
    if len(axes) != 1:
        raise Open("the samples are not on an axis of their own")
    return Layout(shape, axes[0], shape[axes[0]] // trace.batch, channels)


def _rows(trace: Trace, r: Random, x: Tensor) -> tuple[Node, Tensor | None, Layout]:
    """What a dense layer takes: a node, and the positions of each row if there are several."""
    last = x.ndim - 1
    layout = r.layout if r.layout is not None and r.layout.channels == (last,) else None
    if layout is None:
        layout = layout_of(r.ids, r.node.positions, r.node.channels, trace.batch, (last,))
        if layout is None or layout.channels != (last,):
            raise Open("channels on several axes")
    rows = layout.to_rows(r.ids, trace.batch)[0]
    _, p, c = split_ids(rows, r.node.positions, r.node.channels)
    if bool((p == p[:, :1]).all()):
        positions, channel = rows_of(trace, r, layout)
        return gathered(r, positions, channel), None, layout
    if bool((p < 0).any()):
        raise Open("a dense layer on padding")
    if bool((c != c[:1]).any()):
        raise Open("rows that pair channels differently")
    unique, counts = torch.unique(p, dim=1, return_counts=True)
    if bool((counts != counts[0]).any()):
        raise Open("rows that take some positions more often than others")
    return r.node, unique, layout


def convolution(trace: Trace, call: Call) -> Tensor:
    """F.conv1d, F.conv2d, F.conv3d."""
    given = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1, **call.given}
    x, view = given["input"], _weight(trace, given["weight"])
    d = view.ids.ndim - 2
    groups, kernel = int(given["groups"]), tuple(view.ids.shape[2:])
    if x.ndim != d + 2:
        raise Open("a convolution without a batch")
    if x.shape[1] != view.ids.shape[1] * groups:
        raise UsageError(
            f"The model failed in {trace.here or 'its forward'}: an input of shape "
            f"{tuple(x.shape)} meets a convolution of {view.ids.shape[1] * groups} channels.",
            "Check that model(X) runs by itself on these inputs.",
        )
    stride, dilation = _each(given["stride"], d), _each(given["dilation"], d)
    padding = _padding(given["padding"], d, kernel, dilation)
    fan_in = view.ids[0].numel()
    shift: list[float] = []
    C_b, rate_b = _bias(trace, given["bias"], shift)
    C_W, rate_W = _numbers(view, fan_in)
    width = view.ids.shape[0]
    symbol = trace.symbol(x)
    if symbol is None or isinstance(symbol, Data):
        if groups > 1:
            raise Open("groups of channels of the inputs")
        source, layout = _data(trace, x, (1,))
    else:
        r = settle(trace, symbol, tuple(x.shape), (1,))
        layout = trace.layout(r) if r.node.channels > 1 else trace.layout(r, (1,))
        if layout.channels != (1,) or layout.sample != 0 or layout.inner * layout.outer != 1:
            raise Open("axes in another order than samples, channels, positions")
        positions, channel = rows_of(trace, r, layout)
        source = gathered(r, positions, channel)
    _use(trace, view)
    wide = groups == 1 or view.ids.shape[1] >= _WIDE
    node = Convolved(
        source,
        width,
        C_W,
        C_b,
        (rate_W, rate_b),
        tuple(x.shape[2:]),
        kernel,
        stride,
        padding,
        dilation,
        wide,
    )
    node.shared = source.shared
    shape = (x.shape[0], width, *node.out)
    out = Layout(shape, 0, 1, (1,))
    ids = out.from_rows(canonical_ids(trace.batch, node.positions, width), trace.batch)
    return _shifted(trace, trace.fresh(node, ids, out), shape, shift)


def _each(value: Any, d: int) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,) * d
    found = tuple(int(v) for v in value)
    return found * d if len(found) == 1 else found


def _padding(
    value: Any, d: int, kernel: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    if value == "same":
        total = [q * (k - 1) for k, q in zip(kernel, dilation)]
        return tuple((t // 2, t - t // 2) for t in total)
    if value == "valid":
        return ((0, 0),) * d
    return tuple((p, p) for p in _each(value, d))


def embedding(trace: Trace, call: Call) -> Tensor:
    """F.embedding: by tokens of the data, or by given ones."""
    view, tokens = trace.symbol(call.given["weight"]), call.given["input"]
    if not isinstance(view, ParameterView) or view.ids.ndim != 2:
        raise Open("its table is no parameter")
    if call.given.get("max_norm") is not None:
        raise Open("max_norm rescales its rows")
    parameter = view.parameter
    if parameter.mean or not parameter.law.random:
        raise Open(f"the rows of {parameter.name} are not drawn around zero")
    _use(trace, view)
    width = view.ids.shape[1]
    shape = (*tokens.shape, width)
    factor = view.factor**2
    variance, rate = parameter.variance * factor, parameter.rate * factor
    symbol = trace.symbol(tokens)
    channels = (tokens.ndim,)
    if symbol is None:
        node: Node = Table(tokens.reshape(-1), width, variance, rate)
        layout = Layout(shape, None, 1, channels)
    elif isinstance(symbol, Data):
        where = _where(trace, (*tokens.shape, 1), channels)
        zero = tuple(row % view.ids.shape[0] for row in parameter.law.zero_rows)
        expression = Expression(torch.unsqueeze, "unsqueeze", (symbol.expression, -1))
        positions = tokens.numel() // trace.batch
        node = Embedding(expression, where, positions, width, variance, rate, zero)
        layout = Layout(shape, where.sample, where.inner, channels, where.outer)
    else:
        raise Open("its tokens are random")
    return trace.stand_in(shape, _output(trace, node, layout, shape))


def is_weight(trace: Trace, x: Any) -> bool:
    """Whether a tensor is a matrix of random parameters."""
    view = trace.symbol(x)
    return isinstance(view, ParameterView) and view.ids.ndim == 2 and len(view.parameter.shape) > 1
