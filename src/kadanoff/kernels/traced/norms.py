"""Normalisation, dropout, pooling and averages over positions or channels."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kadanoff.kernels.traced.layout import Layout, canonical_ids
from kadanoff.kernels.traced.nodes import Dropout, Gained, Mixture, Node, Normalised
from kadanoff.kernels.traced.positions import Mean, Resampled
from kadanoff.kernels.traced.settling import distributed, gathered, rows_of, settle
from kadanoff.kernels.traced.symbols import Call, Moment, Opaque, Open, ParameterView, Random

if TYPE_CHECKING:
    from kadanoff.kernels.traced.mode import Trace

__all__ = ["batch_norm", "dropout", "group_norm", "layer_norm", "mean", "pooling", "variance"]

# channels a group below which a group's statistics fluctuate by themselves
_FEW = 2


def _gain(trace: Trace, weight: Any, value: float) -> tuple[float, float]:
    """The one value of a learnt or given vector, and its rate; ``value`` without one."""
    if weight is None:
        return value, 0.0
    view = trace.symbol(weight)
    if isinstance(view, ParameterView):
        found = view.parameter.uniform()
        if found is None:
            raise Open(f"the entries of {view.parameter.name} differ")
        return found * view.factor, view.parameter.rate * view.factor**2
    if view is not None or not isinstance(weight, Tensor):
        raise Open("its gain is no parameter")
    first = float(weight.reshape(-1)[0])
    if bool((weight != first).any()):
        raise Open("the entries of its gain differ")
    return first, 0.0


def _settled(trace: Trace, x: Tensor, channels: tuple[int, ...]) -> tuple[Node, Layout]:
    r = settle(trace, trace.symbol(x), tuple(x.shape), channels)
    layout = trace.layout(r)
    positions, channel = rows_of(trace, r, layout)
    return gathered(r, positions, channel), layout


def _result(trace: Trace, call: Call, node: Node, layout: Layout, shape: tuple[int, ...]) -> Tensor:
    samples = 1 if layout.sample is None else trace.batch
    ids = layout.from_rows(canonical_ids(samples, node.positions, node.channels), samples)
    return trace.stand_in(shape, Random(trace.call(call), node, ids, layout=layout))


def layer_norm(trace: Trace, call: Call) -> Tensor:
    """F.layer_norm and F.rms_norm, over channels, or channels and positions."""
    given = {"weight": None, "bias": None, "eps": None, **call.given}
    x = given["input"]
    count = len(given["normalized_shape"])
    axes = tuple(range(x.ndim - count, x.ndim))
    epsilon = given["eps"]
    if epsilon is None:
        epsilon = torch.finfo(trace.dtype).eps if call.name == "rms_norm" else 1e-5
    return _normalised(
        trace,
        call,
        x,
        axes,
        float(epsilon),
        call.name == "layer_norm",
        given["weight"],
        given["bias"],
    )


def group_norm(trace: Trace, call: Call) -> Tensor:
    """F.group_norm: all groups alike, with many channels each."""
    given = {"weight": None, "bias": None, "eps": 1e-5, **call.given}
    x, groups = given["input"], int(given["num_groups"])
    if x.shape[1] // groups < _FEW:
        raise Open("a group of one channel: its statistics are over positions alone")
    axes = tuple(range(1, x.ndim))
    return _normalised(
        trace, call, x, axes, float(given["eps"]), True, given["weight"], given["bias"]
    )


def _normalised(
    trace: Trace,
    call: Call,
    x: Tensor,
    axes: tuple[int, ...],
    epsilon: float,
    centre: bool,
    weight: Any,
    bias: Any,
) -> Tensor:
    symbol = trace.symbol(x)
    if isinstance(symbol, Opaque):
        raise Open("a norm of what is known by sampling only")
    gain, rate_g = _gain(trace, weight, 1.0)
    offset, rate_b = _gain(trace, bias, 0.0)
    if offset:
        raise Open("its offset is not zero")
    channels = trace.layout(symbol).channels if isinstance(symbol, Random) else axes
    node, layout = _settled(trace, x, channels)
    if not all(d in axes for d in layout.channels):
        raise Open("it normalises less than all channels")
    whole = any(d not in layout.channels and x.shape[d] > 1 for d in axes)
    covered = all(d in axes or d in layout.channels or d == layout.sample for d in range(x.ndim))
    if whole and not covered:
        raise Open("it normalises over some of the positions")
    if centre and not node.centred():
        raise Open("the mean over channels is not zero before it")
    if isinstance(node, Mixture):
        raise Open("a norm over channels of different kernels")
    found = Normalised(node, epsilon, centre, whole, gain, (rate_g, rate_b))
    return _result(trace, call, found, layout, tuple(x.shape))


def batch_norm(trace: Trace, call: Call) -> Tensor:
    """F.batch_norm with its running statistics: a factor."""
    given = {"weight": None, "bias": None, "training": False, "eps": 1e-5, **call.given}
    x = given["input"]
    symbol = trace.symbol(x)
    if not isinstance(symbol, Random):
        raise Open("it normalises what is not random, or known by sampling only")
    if given["training"] or given.get("running_mean") is None:
        trace.refuse(
            "batch_norm",
            "in training mode its statistics mix the samples of a batch "
            "(call model.eval() for the kernel of the trained mode)",
        )
    mean, _ = _gain(trace, given["running_mean"], 0.0)
    variance, _ = _gain(trace, given["running_var"], 1.0)
    gain, rate_g = _gain(trace, given["weight"], 1.0)
    offset, rate_b = _gain(trace, given["bias"], 0.0)
    if mean or offset:
        raise Open("its running mean or its offset is not zero")
    factor = (variance + float(given["eps"])) ** -0.5
    node, layout = _settled(trace, x, trace.layout(symbol).channels)
    rates = (rate_g * factor**2, rate_b)
    found = distributed(node, lambda n: Gained(n, gain * factor, rates))
    return _result(trace, call, found, layout, tuple(x.shape))


def dropout(trace: Trace, call: Call) -> Tensor:
    """F.dropout: nothing in evaluation, fresh masks in training."""
    given = {"p": 0.5, "training": True, **call.given}
    x = given["input"]
    symbol = trace.symbol(x)
    p = float(given["p"])
    if not given["training"] or p == 0:
        assert symbol is not None
        return trace.stand_in(x.shape, symbol)
    if not isinstance(symbol, Random):
        trace.refuse(call.name, "dropout in what is known by sampling only (call model.eval())")
    if call.name != "dropout":
        trace.refuse(call.name, "masks that channels or positions share (call model.eval())")
    if p >= 1:
        raise Open("it drops everything")
    node, layout = _settled(trace, x, trace.layout(symbol).channels)
    found = distributed(node, lambda n: Dropout(n, 1 - p))
    return _result(trace, call, found, layout, tuple(x.shape))


def pooling(trace: Trace, call: Call) -> Tensor:
    """Average pooling and resizing: a linear map over positions."""
    x = call.args[0]
    symbol = trace.symbol(x)
    node, layout = _settled(trace, x, (1,))
    if layout.channels != (1,) or layout.sample != 0:
        raise Open("axes in another order than samples, channels, positions")
    assert symbol is not None
    if call.name in ("interpolate", "upsample") and call.kwargs.get("mode", "nearest") not in (
        "nearest",
        "linear",
        "bilinear",
        "bicubic",
        "trilinear",
        "area",
        "nearest-exact",
    ):
        raise Open("a resizing that is not linear")
    grid = tuple(x.shape[2:])
    with torch._C.DisableTorchFunction():
        out = tuple(call.func(torch.zeros(1, 1, *grid), *call.args[1:], **call.kwargs).shape[2:])

    def apply(t: Tensor) -> Tensor:
        return call.func(t, *call.args[1:], **call.kwargs)

    shape = (*x.shape[:2], *out)
    after = Layout(shape, 0, 1, (1,))
    total = math.prod(out)
    if total == 1:
        # one position: it is the mean over all where all weigh the same
        weights = apply(torch.eye(math.prod(grid), dtype=torch.float64).view(-1, 1, *grid))
        weights = weights.reshape(-1)
        if bool((weights - weights[0]).abs().max() < 1e-15):
            every = torch.arange(math.prod(grid))[None]
            factor = float(weights[0]) * len(weights)
            found = distributed(node, lambda n: Mean(n, every, factor))
            return _result(trace, call, found, after, shape)
    found = distributed(node, lambda n: Resampled(n, apply, grid, out))
    return _result(trace, call, found, after, shape)


def _axes(call: Call, ndim: int) -> tuple[tuple[int, ...], bool]:
    dim = call.argument("dim", 1, call.kwargs.get("axis"))
    keep = bool(call.argument("keepdim", 2, False))
    if dim is None:
        return tuple(range(ndim)), keep
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    return tuple(int(d) % ndim for d in dims), keep


def mean(trace: Trace, call: Call) -> Tensor:
    """mean and sum: over positions a linear map, over all channels a number."""
    x = call.args[0]
    symbol = trace.symbol(x)
    if not isinstance(symbol, Random):
        raise Open("a mean of what is known by sampling only")
    axes, keep = _axes(call, x.ndim)
    layout = trace.layout(symbol)
    if any(d in layout.channels for d in axes):
        if set(axes) == set(layout.channels) and call.name == "mean":
            return _moment(trace, call, x, symbol, axes, keep)
        raise Open("a sum over channels")
    if layout.sample in axes:
        trace.refuse(call.name, "it mixes the samples of a batch")
    r = settle(trace, symbol, tuple(x.shape), layout.channels)
    if isinstance(trace.symbol(x), Opaque):
        raise Open("a mean of what is known by sampling only")
    rows = layout.to_rows(r.ids, trace.batch)[0]
    positions, channel = rows_of(trace, r, layout)
    source = gathered(r, positions, channel)
    # which rows each of the new rows is the mean of
    shape = [1 if d in axes else n for d, n in enumerate(x.shape)]
    kept = Layout(tuple(shape), layout.sample, layout.inner, layout.channels, layout.outer)
    number = canonical_ids(trace.batch, kept_rows(kept, trace.batch, rows.shape[1]), 1)
    target = kept.from_rows(number.expand(-1, -1, rows.shape[1]).contiguous(), trace.batch)
    into = layout.to_rows(target.expand(x.shape), trace.batch)[0, :, 0]
    order = torch.argsort(into, stable=True)
    count = int(into.max()) + 1
    groups = order.view(count, -1)
    factor = float(groups.shape[1]) if call.name == "sum" else 1.0
    found = distributed(source, lambda n: Mean(n, groups, factor))
    out = tuple(shape) if keep else tuple(n for d, n in enumerate(x.shape) if d not in axes)
    token = _result(trace, call, found, kept, tuple(shape))
    if keep:
        return token
    made = trace.symbol(token)
    assert isinstance(made, Random)
    ids = made.ids.reshape(out)
    return trace.stand_in(out, replace(made, ids=ids, layout=None))


def kept_rows(layout: Layout, batch: int, width: int) -> int:
    """Positions a sample of a layout."""
    total = math.prod(layout.shape)
    return total // (width * (1 if layout.sample is None else batch))


def _moment(
    trace: Trace, call: Call, x: Tensor, symbol: Random, axes: tuple[int, ...], keep: bool
) -> Tensor:
    """A mean over channels: E[f(z)] of a Gaussian z, a number at infinite width."""
    node = symbol.node
    C = node.channels
    places = torch.div(symbol.ids, C, rounding_mode="floor").amin(axes, keepdim=keep)
    if bool((symbol.ids < 0).any()):
        raise Open("a mean over padding")
    expression = trace.call(call)
    scale = symbol.scale
    zero = False
    if symbol.function is None:
        if not node.centred():
            raise Open("the mean over channels of what is not centred")
        zero = True

        def function(v: Tensor) -> Tensor:
            return torch.zeros_like(v)
    elif _is_square(symbol.key):

        def function(v: Tensor) -> Tensor:
            return v * scale * symbol.key[2] ** 2
    else:
        if not node.gaussian:
            raise Open("a mean over channels of what is not Gaussian")
        f = symbol.function

        def function(v: Tensor) -> Tensor:
            x, w = _rule()
            values = f(v.sqrt()[..., None] * x)
            return (values * w).sum(-1) * scale

    found = Moment(expression, node, function, places, zero)
    return trace.stand_in(places.shape, found)


def variance(trace: Trace, call: Call) -> Tensor:
    """var over channels: of a centred node its variance."""
    x = call.args[0]
    symbol = trace.symbol(x)
    if not isinstance(symbol, Random) or symbol.function is not None:
        raise Open("a variance of what is not centred")
    dim = call.argument("dim", 1)
    if not isinstance(dim, (int, tuple, list)):
        raise Open("a variance over everything")
    axes = tuple(int(d) % x.ndim for d in ((dim,) if isinstance(dim, int) else dim))
    if set(axes) != set(trace.layout(symbol).channels) or not symbol.node.centred():
        raise Open("a variance over less than all channels")
    keep = bool(call.kwargs.get("keepdim", False))
    C, scale = symbol.node.channels, symbol.scale
    places = torch.div(symbol.ids, C, rounding_mode="floor").amin(axes, keepdim=keep)
    root = call.name == "std"

    def function(v: Tensor) -> Tensor:
        v = v * scale**2
        return v.sqrt() if root else v

    expression = trace.call(call)
    return trace.stand_in(places.shape, Moment(expression, symbol.node, function, places))


def _is_square(key: tuple) -> bool:
    if not key or key[1] != ():
        return False
    return key[0] == "square" or (key[0] == "pow" and key[-1] in ("2", "2.0"))


def _rule() -> tuple[Tensor, Tensor]:
    x = torch.linspace(-12, 12, 2401, dtype=torch.float64)
    w = torch.exp(-0.5 * x * x)
    return x, w / w.sum()
