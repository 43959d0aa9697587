"""From what a tensor stands for to a node with a kernel, position by position."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kadanoff.activations import activation
from kadanoff.errors import KadanoffError
from kadanoff.kernels.traced.expressions import Expression
from kadanoff.kernels.traced.layout import Layout
from kadanoff.kernels.traced.nodes import Activated, Inputs, Mixture, Node, Scaled, Table
from kadanoff.kernels.traced.positions import Gathered
from kadanoff.kernels.traced.symbols import Data, Opaque, Open, ParameterView, Random

if TYPE_CHECKING:
    from kadanoff.activations import Activation
    from kadanoff.kernels.traced.mode import Trace

__all__ = ["distributed", "gathered", "rows_of", "settle", "table", "vector"]

_KNOWN: dict[tuple, Activation] = {}


def distributed(node: Node, make: Callable[[Node], Node]) -> Node:
    """``make`` of a node; of a mixture of channels, of each part."""
    if isinstance(node, Mixture):
        parts = [distributed(part, make) for part in node.inputs]
        return Mixture(parts, parts[0].positions)
    return make(node)


def settle(trace: Trace, r: Any, shape: tuple[int, ...], channels: tuple[int, ...]) -> Random:
    """A random tensor whose entries are those of a node.

    Parameters
    ----------
    trace : Trace
    r : Random or Opaque
    shape : tuple of int
        Of the user's tensor.
    channels : tuple of int
        The axes that what comes next takes for channels.

    Raises
    ------
    Open
        It is not random.
    """
    if isinstance(r, Opaque):
        return trace.sampled(r, shape, channels)
    if not isinstance(r, Random):
        raise Open("it is no random tensor")
    if r.function is None and r.scale == 1:
        return r
    key = (r.node, r.key, r.scale)
    if key not in trace.settled:
        try:
            trace.settled[key] = _node(r)
        except Open as reason:
            if not trace.sampling:
                raise
            return trace.sampled(Opaque(r.expression, str(reason)), shape, channels)
    return Random(r.expression, trace.settled[key], r.ids, layout=r.layout)


def _node(r: Random) -> Node:
    node = r.node
    if r.function is not None:
        act = _activation(r)
        node = distributed(node, lambda part: _activated(part, act))
    if r.scale != 1:
        node = distributed(node, lambda part: Scaled(part, r.scale))
    return node


def _activated(node: Node, act: Activation) -> Node:
    if not node.gaussian:
        raise Open("an activation of what is not Gaussian")
    return Activated(node, act)


def _activation(r: Random) -> Activation:
    if r.key not in _KNOWN:
        assert r.function is not None
        try:
            _KNOWN[r.key] = activation(r.function)
        except KadanoffError as error:
            raise Open(str(error)) from error
    return _KNOWN[r.key]


def rows_of(trace: Trace, r: Random, layout: Layout | None = None) -> tuple[Tensor, Tensor]:
    """Position of each row of a sample (R,), and channel of each entry (F,).

    Parameters
    ----------
    trace : Trace
    r : Random
        Settled.
    layout : Layout, optional
        Which axes count as channels; default: those along which channels vary.

    Raises
    ------
    Open
        A row takes several positions, or rows differ in their channels.
    """
    layout = layout or trace.layout(r)
    rows = layout.to_rows(r.ids, trace.batch)
    P, C = r.node.positions, r.node.channels
    first = rows[0]
    if layout.sample is not None:
        step = torch.arange(len(rows))[:, None, None] * (P * C)
        if not torch.equal(rows, torch.where(first >= 0, first + step, first)):
            raise Open("samples are treated differently from each other")
    hole = first < 0
    if bool((hole.any(1) != hole.all(1)).any()):
        raise Open("some channels are zeros")
    p = torch.div(first, C, rounding_mode="floor").masked_fill(hole, -1)
    c = first % C
    whole = ~hole.all(1)
    channel = c[whole][0] if bool(whole.any()) else c[0]
    if bool((p != p[:, :1]).any()) or bool((c[whole] != channel).any()):
        raise Open("an axis mixes positions and channels")
    return p[:, 0], channel


def gathered(r: Random, positions: Tensor, channel: Tensor) -> Node:
    """The node at these positions, and of these channels.

    Parameters
    ----------
    r : Random
    positions : Tensor of int
    channel : Tensor of int
        The channels that are kept.
    """
    node, count = r.node, len(channel)
    whole = count == node.channels
    if whole and torch.equal(positions, torch.arange(node.positions)):
        return node
    mask = 0
    if not whole:
        for c in channel.tolist():
            mask |= 1 << int(c)
    return (
        distributed(node, lambda part: Gathered(part, positions, count, mask))
        if whole
        else Gathered(node, positions, count, mask)
    )


def vector(trace: Trace, value: Tensor, shape: torch.Size, layout: Layout) -> Inputs:
    """Numbers, of data or the same for all samples, broadcast to a tensor of that layout.

    Parameters
    ----------
    trace : Trace
    value : Tensor
    shape : torch.Size
        What it is broadcast to.
    layout : Layout
        Of that.
    """
    symbol = trace.symbol(value)
    if symbol is not None and not isinstance(symbol, Data):
        raise Open("it is no number")
    if symbol is None:
        expression = Expression(leaf=value.detach().double())
    else:
        expression = symbol.expression
    while value.ndim < len(shape):
        value = value.detach()[None]
    per_sample = layout.sample is not None and value.shape[layout.sample] != 1
    width = 1
    for d in layout.channels:
        width *= shape[d]
    total = 1
    for n in shape:
        total *= n
    samples = trace.batch if layout.sample is not None else 1
    rows = Layout(tuple(shape), layout.sample, layout.inner, layout.channels, layout.outer)
    if not per_sample and layout.sample is not None:
        # one sample of it, whichever
        one = list(shape)
        one[layout.sample] = 1
        if layout.inner * layout.outer > 1:
            raise Open("numbers that samples share, on an axis merged with them")
        kept = tuple(one)
        rows = Layout(kept, None, 1, layout.channels)
    return Inputs(expression, rows, total // (samples * width), width)


def table(
    trace: Trace, view: ParameterView, shape: tuple[int, ...], layout: Layout
) -> tuple[Table, Tensor]:
    """Entries of a random parameter beside a tensor of that layout: node and its first entries.

    Parameters
    ----------
    trace : Trace
    view : ParameterView
    shape : tuple of int
    layout : Layout
        Of the tensor it meets.
    """
    parameter = view.parameter
    if parameter.mean:
        raise Open(f"{parameter.name} has a mean")
    ids = view.ids.expand(shape)
    rows = layout.to_rows(ids, trace.batch)
    if not torch.equal(rows, rows[:1].expand_as(rows)):
        raise Open(f"samples see different entries of {parameter.name}")
    first = rows[0]
    order = torch.sort(first, 1).values
    if first.shape[1] > 1 and bool((order[:, 1:] == order[:, :-1]).any()):
        raise Open(f"channels share an entry of {parameter.name}")
    factor = view.factor**2
    node = Table(first[:, 0], first.shape[1], parameter.variance * factor, parameter.rate * factor)
    node.path = trace.here
    return node, first
