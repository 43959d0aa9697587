"""Functions that move entries: they act on the ids as they act on the tensor."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kadanoff.kernels.traced.expressions import Expression, pick
from kadanoff.kernels.traced.layout import Layout, canonical_ids
from kadanoff.kernels.traced.nodes import Mixture, Node
from kadanoff.kernels.traced.positions import Joined
from kadanoff.kernels.traced.settling import gathered, rows_of, settle, table
from kadanoff.kernels.traced.symbols import Call, Open, ParameterView, Random

if TYPE_CHECKING:
    from kadanoff.kernels.traced.mode import Trace

__all__ = ["MOVES", "concatenated", "moved", "stacked"]

MOVES = {
    "view",
    "reshape",
    "flatten",
    "unflatten",
    "squeeze",
    "unsqueeze",
    "view_as",
    "unbind",
    "transpose",
    "permute",
    "swapaxes",
    "swapdims",
    "movedim",
    "moveaxis",
    "t",
    "T",
    "mT",
    "expand",
    "expand_as",
    "repeat",
    "repeat_interleave",
    "getitem",
    "select",
    "narrow",
    "index_select",
    "gather",
    "take_along_dim",
    "roll",
    "flip",
    "pad",
    "chunk",
    "split",
    "tensor_split",
    "unsafe_chunk",
    "unsafe_split",
    "broadcast_to",
    "tile",
    "diagonal",
    "unfold",
    "pixel_shuffle",
    "pixel_unshuffle",
    "channel_shuffle",
    "contiguous",
    "identity",
    "rot90",
    "atleast_2d",
    "atleast_3d",
    "ravel",
    "as_strided",
}


def moved(trace: Trace, call: Call) -> Any:
    """The same function on the ids."""
    first = trace.symbol(call.args[0])
    assert isinstance(first, (Random, ParameterView))
    ids = first.ids
    with torch._C.DisableTorchFunction():
        if call.name == "pad":
            found = _padded(call.func, first, call.args, call.kwargs)
        elif call.func is torch.nn.functional.unfold:
            found = call.func((ids + 1).double(), *call.args[1:], **call.kwargs).round().long() - 1
        elif call.name == "view":
            found = ids.reshape(*call.args[1:], **call.kwargs) if _sizes(call.args[1:]) else ids
        else:
            found = call.func(ids, *call.args[1:], **call.kwargs)
    expression = trace.call(call)
    if isinstance(found, Tensor):
        return trace.stand_in(found.shape, _with(first, found, expression))
    tokens = [
        trace.stand_in(one.shape, _with(first, one, Expression(pick, "pick", (expression, k))))
        for k, one in enumerate(found)
    ]
    return type(found)(tokens) if type(found) in (list, tuple) else tuple(tokens)


def _sizes(args: tuple) -> bool:
    return not (args and isinstance(args[0], torch.dtype))


def _with(first: Random | ParameterView, ids: Tensor, expression: Expression):
    if isinstance(first, Random):
        return replace(first, ids=ids, expression=expression, layout=None)
    return replace(first, ids=ids, expression=expression)


def _padded(func: Callable, first: Random | ParameterView, args: tuple, kwargs: dict) -> Tensor:
    mode = kwargs.get("mode", args[2] if len(args) > 2 else "constant")
    value = kwargs.get("value", args[3] if len(args) > 3 else 0)
    if mode == "constant" and value not in (None, 0, 0.0):
        raise Open("padding by another number than 0")
    if isinstance(first, Random) and first.function is not None and mode == "constant":
        at_zero = first.function(torch.zeros(1, dtype=torch.float64))
        if float(at_zero) != 0:
            raise Open("padding after an activation that is not 0 at 0")
    # circular and reflecting padding take no integers
    return func((first.ids + 1).double(), *args[1:], **kwargs).round().long() - 1


def concatenated(trace: Trace, call: Call) -> Tensor:
    """torch.cat along positions or along channels."""
    items = list(call.args[0] if call.args else call.kwargs["tensors"])
    dim = call.argument("dim", 1, call.kwargs.get("axis", 0))
    return _cat(trace, call, items, int(dim) % items[0].ndim)


def stacked(trace: Trace, call: Call) -> Tensor:
    """torch.stack: along a new axis of positions."""
    items = list(call.args[0] if call.args else call.kwargs["tensors"])
    dim = call.argument("dim", 1, 0)
    dim = int(dim) % (items[0].ndim + 1)
    with trace:
        return torch.cat([item.unsqueeze(dim) for item in items], dim)


def _cat(trace: Trace, call: Call, items: list, dim: int) -> Tensor:
    symbols = [trace.symbol(item) for item in items]
    randoms = [s for s in symbols if isinstance(s, Random)]
    if not randoms:
        if symbols and all(isinstance(s, ParameterView) for s in symbols):
            raise Open("parameters joined to one another")
        raise Open("joined to what is not random")
    expression = trace.call(call)
    if all(
        isinstance(s, Random)
        and s.node is randoms[0].node
        and s.key == randoms[0].key
        and s.scale == randoms[0].scale
        for s in symbols
    ):
        ids = torch.cat([s.ids for s in randoms], dim)
        return trace.stand_in(
            ids.shape, replace(randoms[0], ids=ids, expression=expression, layout=None)
        )
    layout = trace.layout(randoms[0])
    if dim == layout.sample:
        raise Open("joined along the samples")
    nodes: list[Node] = []
    channel = None
    for item, symbol in zip(items, symbols):
        node, mine = _piece(trace, item, symbol, layout)
        nodes.append(node)
        channel = mine if channel is None else channel
    shape = list(items[0].shape)
    shape[dim] = sum(item.shape[dim] for item in items)
    out = Layout(tuple(shape), layout.sample, layout.inner, layout.channels, layout.outer)
    whole: Node
    if dim in layout.channels:
        if len(layout.channels) > 1:
            raise Open("joined along one of several axes of channels")
        whole = Mixture(nodes, nodes[0].positions)
        ids = out.from_rows(
            canonical_ids(trace.batch, whole.positions, whole.channels), trace.batch
        )
        return trace.stand_in(shape, Random(expression, whole, ids, layout=out))
    whole = Joined(nodes, nodes[0].channels)
    _apart(nodes)
    pieces, at = [], 0
    for item, node in zip(items, nodes):
        ids = canonical_ids(trace.batch, whole.positions, whole.channels)
        part = ids[:, at : at + node.positions]
        mine = Layout(tuple(item.shape), layout.sample, layout.inner, layout.channels, layout.outer)
        pieces.append(mine.from_rows(part, trace.batch))
        at += node.positions
    ids = torch.cat(pieces, dim)
    return trace.stand_in(shape, Random(expression, whole, ids))


def _apart(nodes: list[Node]) -> None:
    for k, one in enumerate(nodes):
        for other in nodes[:k]:
            if any(one.sources[s] & other.sources.get(s, 0) for s in one.sources):
                raise Open("joined to positions that depend on it")


def _piece(trace: Trace, item: Tensor, symbol: Any, like: Layout) -> tuple[Node, Tensor]:
    shape = tuple(item.shape)
    layout = Layout(shape, like.sample, like.inner, like.channels, like.outer)
    if isinstance(symbol, ParameterView):
        if symbol.parameter.law.random:
            node, first = table(trace, symbol, shape, layout)
            return node, first[0]
        raise Open("joined to constants")
    r = settle(trace, symbol, shape, like.channels)
    positions, channel = rows_of(trace, r, layout if r.layout is None else None)
    return gathered(r, positions, channel), channel
