"""Products of random tensors: attention in closed form where there is one.

Without a softmax, Σ_s (q_t·k_s) v_s closes at any head dimension d:
K' = f² d Q_tt' Σ_ss' K_ss' V_ss'. With a softmax it closes as d → ∞ where the scores stop to
fluctuate: for q·k/d, tied (q = k: scores f d K_ts) or not (scores 0). All else is drawn at the real
head dimension.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from kadanoff.kernels.traced.layout import Layout, canonical_ids
from kadanoff.kernels.traced.nodes import Environment, Node, Pair
from kadanoff.kernels.traced.positions import Resampled
from kadanoff.kernels.traced.settling import distributed, gathered, rows_of, settle
from kadanoff.kernels.traced.symbols import Call, Open, Random, Symbol

if TYPE_CHECKING:
    from kadanoff.kernels.traced.mode import Trace

__all__ = [
    "FixedAttention",
    "LinearAttention",
    "Scores",
    "by_hand",
    "has_scores",
    "product",
    "scaled_dot_product",
    "scores",
    "softmax",
]

# operations on scores that keep them scores
_KEPT = ("mul", "div", "add", "sub", "masked_fill", "dropout", "softmax")


@dataclass(eq=False)
class Scores(Symbol):
    """q·k of all pairs of positions, times a number, plus a mask; or their softmax.

    Attributes
    ----------
    query, key : Node
    tied : bool
        Whether both are the same tensor.
    width : int
        Head dimension d.
    factor : float
    mask : Tensor or None
        Added to the scores, the same for all samples, (T, S).
    weights : bool
        Whether the softmax has been taken.
    layout : Layout
        Of the query.
    """

    query: Node
    key: Node
    tied: bool
    width: int
    layout: Layout
    factor: float = 1.0
    mask: Tensor | None = None
    weights: bool = False


class LinearAttention(Node):
    """Σ_s (q_t·k_s) v_s f with independent q, k and v: second moments close at any d."""

    mixes = True

    def __init__(self, query: Node, key: Node, value: Node, strength: float) -> None:
        super().__init__((query, key, value), query.positions, value.channels)
        self.strength = strength

    def centred(self) -> bool:
        return True

    def forward(self, env: Environment) -> Pair:
        (Q, A), (K, B), (V, C) = (env.get(node, True) for node in self.inputs)
        total = _summed(K * V)
        S = self.strength * Q * total
        T = torch.zeros_like(S)
        if env.ntk:
            T = self.strength * (A * total + Q * _summed(B * V + K * C))
        if env.full(self):
            return S, T
        return S.diagonal(dim1=1, dim2=2), T.diagonal(dim1=1, dim2=2)


def _summed(X: Tensor) -> Tensor:
    return X.sum((1, 2), keepdim=True)


class FixedAttention(Node):
    """P V with attention weights P that do not fluctuate: K' = P V Pᵀ, Θ' = P Θ_V Pᵀ."""

    mixes = True

    def __init__(
        self, value: Node, query: Node, strength: float, mask: Tensor | None, positions: int
    ) -> None:
        super().__init__((value, query), positions, value.channels, False, value.sources)
        self.strength, self.mask = strength, mask

    def between(self) -> tuple[Node, ...]:
        return self.inputs[:1]

    def watched(self) -> tuple[Node, ...]:
        return self.inputs[1:] if self.strength else ()

    def watches_all(self) -> bool:
        return True

    def centred(self) -> bool:
        return self.inputs[0].centred()

    def _weights(self, scores: Tensor) -> Tensor:
        scores = scores * self.strength
        if self.mask is not None:
            scores = scores + self.mask
        return scores.softmax(-1)

    def forward(self, env: Environment) -> Pair:
        S, T = env.get(self.inputs[0], True)
        if self.strength:
            one, two = env.matrix(self.inputs[1], self._weights)
        else:
            one = two = self._weights(S.new_zeros(1, self.positions, S.shape[1]))
        S = torch.matmul(one, S) @ two.mT
        T = torch.matmul(one, T) @ two.mT if env.ntk else torch.zeros_like(S)
        if env.full(self):
            return S, T
        return S.diagonal(dim1=1, dim2=2), T.diagonal(dim1=1, dim2=2)


def has_scores(trace: Trace, call: Call) -> bool:
    """Whether an operand is a score."""
    return call.name in _KEPT and any(isinstance(trace.symbol(a), Scores) for a in call.args[:2])


def product(trace: Trace, call: Call, x: Tensor, y: Tensor) -> Tensor:
    """Scores, or their product with values.

    Parameters
    ----------
    trace : Trace
    call : Call
    x, y : Tensor
        The operands.
    """
    first, second = trace.symbol(x), trace.symbol(y)
    if first is None and isinstance(second, Random):
        return _mixed(trace, call, x, second, y)
    if isinstance(first, Scores) and isinstance(second, Random):
        return _applied(trace, call, first, second, x, y)
    if not isinstance(first, Random) or not isinstance(second, Random):
        raise Open("heads are drawn")
    query, layout = _heads(trace, first, tuple(x.shape), x.ndim - 1)
    keys = replace(second, ids=second.ids.mT, layout=None)
    key, _ = _heads(trace, keys, tuple(y.mT.shape), y.ndim - 1)
    tied = first.ids.shape == keys.ids.shape and first.node is second.node
    tied = tied and torch.equal(first.ids, keys.ids)
    if not tied and not _independent(query, key):
        raise Open("scores of queries and keys that depend on each other")
    shape = (*x.shape[:-1], y.shape[-1])
    found = Scores(trace.call(call), query, key, tied, x.shape[-1], layout)
    return trace.stand_in(shape, found)


def _mixed(trace: Trace, call: Call, matrix: Tensor, r: Random, y: Tensor) -> Tensor:
    """A given matrix over positions: A K Aᵀ."""
    r = settle(trace, r, tuple(y.shape), (y.ndim - 1,))
    layout = trace.layout(r)
    plain = layout.sample == 0 and layout.inner * layout.outer == 1 and y.ndim == 3
    if matrix.ndim != 2 or not plain or layout.channels != (2,):
        raise Open("a product with a given matrix of another form")
    positions, channel = rows_of(trace, r, layout)
    source, A = gathered(r, positions, channel), matrix.detach().double()

    def apply(t: Tensor) -> Tensor:
        return t.flatten(1) @ A.mT

    node = distributed(source, lambda n: Resampled(n, apply, (A.shape[1],), (A.shape[0],)))
    shape = (y.shape[0], A.shape[0], y.shape[2])
    out = Layout(shape, 0, 1, (2,))
    ids = canonical_ids(trace.batch, node.positions, node.channels)
    return trace.stand_in(shape, Random(trace.call(call), node, ids, layout=out))


def _independent(one: Node, two: Node) -> bool:
    return not any(mask & two.sources.get(s, 0) for s, mask in one.sources.items())


def _heads(trace: Trace, r: Random, shape: tuple[int, ...], last: int) -> tuple[Node, Layout]:
    """Queries, keys or values as a node over positions; channels are heads and their entries."""
    layout = trace.layout(r)
    if last not in layout.channels:
        raise Open("heads are drawn")
    r = settle(trace, r, shape, layout.channels)
    positions, channel = rows_of(trace, r, layout)
    return gathered(r, positions, channel), layout


def scores(trace: Trace, call: Call) -> Tensor:
    """Scaling, masking, softmax and dropout of scores."""
    x = call.args[0] if isinstance(trace.symbol(call.args[0]), Scores) else call.args[1]
    found = trace.symbol(x)
    assert isinstance(found, Scores)
    expression = trace.call(call)
    if call.name == "dropout":
        if call.given.get("training", True) and float(call.given.get("p", 0.5)) > 0:
            raise Open("dropout of attention weights")
        return trace.stand_in(x.shape, replace(found, expression=expression))
    if call.name == "softmax":
        return softmax(trace, call)
    if found.weights:
        raise Open("attention weights are changed")
    other = call.args[1] if x is call.args[0] else call.args[0]
    if call.name in ("mul", "div") and (call.name == "mul" or x is call.args[0]):
        number = _number(trace, other)
        if number and found.mask is None:
            factor = found.factor * (number if call.name == "mul" else 1 / number)
            return trace.stand_in(x.shape, replace(found, factor=factor, expression=expression))
        raise Open("scores are scaled one by one")
    if call.name == "masked_fill":
        value = float(call.argument("value", 2))
        return _masked(trace, x, found, expression, other, value)
    if call.name == "add" and isinstance(other, Tensor):
        return _masked(trace, x, found, expression, other, None)
    raise Open("scores are changed in a way of their own")


def _number(trace: Trace, item: Any) -> float | None:
    if isinstance(item, (int, float)):
        return float(item)
    if isinstance(item, Tensor) and trace.symbol(item) is None and item.numel() == 1:
        return float(item)
    return None


def _masked(
    trace: Trace, x: Tensor, found: Scores, expression: Any, mask: Any, value: float | None
) -> Tensor:
    if not isinstance(mask, Tensor) or trace.symbol(mask) is not None:
        raise Open("a mask that depends on the sample")
    T, S = x.shape[-2:]
    if mask[..., 0, 0].numel() != 1:
        raise Open("a mask that differs from head to head")
    mask = mask.reshape(mask.shape[-2:]).expand(T, S)
    more = mask.double() if value is None else torch.zeros(T, S).double().masked_fill(mask, value)
    total = more if found.mask is None else found.mask + more
    return trace.stand_in(x.shape, replace(found, mask=total, expression=expression))


def softmax(trace: Trace, call: Call) -> Tensor:
    """Attention weights."""
    x, dim = call.args[0], call.argument("dim", 1, -1)
    found = trace.symbol(x)
    if not isinstance(found, Scores) or dim not in (-1, x.ndim - 1):
        raise Open("heads are drawn")
    return trace.stand_in(x.shape, replace(found, weights=True, expression=trace.call(call)))


def _applied(
    trace: Trace, call: Call, found: Scores, values: Random, x: Tensor, y: Tensor
) -> Tensor:
    """Weights times values."""
    value, layout = _heads(trace, values, tuple(y.shape), y.ndim - 1)
    if value.positions != found.key.positions:
        raise Open("heads are drawn")
    strength = found.factor * found.width
    if not found.weights:
        if found.tied or not _independent(found.query, value) or not _independent(found.key, value):
            raise Open("scores and values that depend on each other")
        if found.mask is not None:
            raise Open("a mask added to scores without a softmax")
        node: Node = LinearAttention(found.query, found.key, value, found.factor**2 * found.width)
    else:
        usual = abs(found.factor * math.sqrt(found.width) - 1) < 1e-3 and found.width > 1
        if trace.heads != "infinite" or usual:
            raise Open("heads are drawn: a softmax at the real head dimension")
        node = FixedAttention(
            value, found.query, strength if found.tied else 0.0, found.mask, x.shape[-2]
        )
    shape = (*x.shape[:-1], y.shape[-1])
    out = Layout(shape, layout.sample, layout.inner, layout.channels, layout.outer)
    rows = canonical_ids(trace.batch, node.positions, node.channels)
    ids = out.from_rows(rows, trace.batch)
    return trace.stand_in(shape, Random(trace.call(call), node, ids, layout=out))


def scaled_dot_product(trace: Trace, call: Call) -> Tensor:
    """F.scaled_dot_product_attention."""
    given = call.given
    if trace.heads != "infinite" or given.get("scale") is None or given.get("enable_gqa"):
        raise Open("heads are drawn: a softmax at the real head dimension")
    with trace:
        query, key, value = given["query"], given["key"], given["value"]
        found = (query @ key.mT) * given["scale"]
        T, S = found.shape[-2:]
        if given.get("is_causal"):
            allowed = torch.ones(T, S, dtype=torch.bool).tril()
            found = found.masked_fill(~allowed, -math.inf)
        mask = given.get("attn_mask")
        if mask is not None:
            if mask.dtype == torch.bool:
                found = found.masked_fill(~mask, -math.inf)
            else:
                found = found + mask
        return found.softmax(-1) @ value


def by_hand(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """F.scaled_dot_product_attention in plain operations, without dropout.

    Parameters
    ----------
    query, key, value : Tensor, shape (…, heads, positions, d)
    attn_mask : Tensor, optional
        Of booleans (true: attend) or numbers to add.
    dropout_p : float
        Left out.
    is_causal : bool
    scale : float, optional
        Default: 1/√d.
    enable_gqa : bool
        Query heads share heads of keys and values.
    """
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (t.repeat_interleave(groups, -3) for t in (key, value))
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = query @ key.mT * factor
    if is_causal:
        allowed = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = scores.masked_fill(~allowed, -math.inf)
    if attn_mask is not None:
        if attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -math.inf)
        else:
            scores = scores + attn_mask
    return scores.softmax(-1) @ value
