"""The table: what each torch function does to kernels.

A handler gets ``(trace, func, name, args, kwargs, given)``, ``given`` being the arguments by name,
and returns a stand-in; it raises :class:`Open` where kernels alone do not tell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from kadanoff.kernels.traced import attention, maps, moves, norms, pointwise
from kadanoff.kernels.traced.symbols import Call, Open, ParameterView
from kadanoff.trace.operations import TABLE

if TYPE_CHECKING:
    from kadanoff.kernels.traced.mode import Trace

__all__ = ["HANDLERS", "SHAPES"]

Handler = Callable[..., Any]

SHAPES: dict[str, Handler] = dict.fromkeys(moves.MOVES, moves.moved)


def product(trace: Trace, call: Call) -> Tensor:
    """x @ y: a dense layer, or the products of attention."""
    if len(call.args) < 2:
        raise Open("a product of another form")
    x, y = call.args[:2]
    if call.reversed:
        x, y = y, x
    if maps.is_weight(trace, y):
        return maps.product_with_weight(trace, x, y)
    if maps.is_weight(trace, x) and y.ndim == 2:
        with trace:
            return y.mT @ x.mT
    return attention.product(trace, call, x, y)


HANDLERS: dict[str, Handler] = {
    "linear": maps.linear,
    "addmm": maps.addmm,
    "conv1d": maps.convolution,
    "conv2d": maps.convolution,
    "conv3d": maps.convolution,
    "embedding": maps.embedding,
    "matmul": product,
    "mm": product,
    "bmm": product,
    "softmax": attention.softmax,
    "scaled_dot_product_attention": attention.scaled_dot_product,
    "cat": moves.concatenated,
    "concat": moves.concatenated,
    "stack": moves.stacked,
    "add": pointwise.add,
    "sub": pointwise.subtract,
    "mul": pointwise.multiply,
    "div": pointwise.divide,
    "masked_fill": pointwise.masked,
    "layer_norm": norms.layer_norm,
    "rms_norm": norms.layer_norm,
    "group_norm": norms.group_norm,
    "batch_norm": norms.batch_norm,
    "dropout": norms.dropout,
    "alpha_dropout": norms.dropout,
    "feature_alpha_dropout": norms.dropout,
    "dropout1d": norms.dropout,
    "dropout2d": norms.dropout,
    "dropout3d": norms.dropout,
    "mean": norms.mean,
    "sum": norms.mean,
    "var": norms.variance,
    "std": norms.variance,
    "avg_pool1d": norms.pooling,
    "avg_pool2d": norms.pooling,
    "avg_pool3d": norms.pooling,
    "adaptive_avg_pool1d": norms.pooling,
    "adaptive_avg_pool2d": norms.pooling,
    "adaptive_avg_pool3d": norms.pooling,
    "interpolate": norms.pooling,
    "upsample": norms.pooling,
}
for _name, _operation in TABLE.items():
    if _operation.family in ("activation", "elementwise", "arithmetic"):
        HANDLERS.setdefault(_name, pointwise.entrywise)
HANDLERS.pop("glu", None)
HANDLERS.pop("prelu", None)


def _gated(trace: Trace, call: Call) -> Tensor:
    """F.glu: one half times the sigmoid of the other."""
    x, dim = call.given["input"], call.argument("dim", 1, -1)
    with trace:
        value, gate = x.chunk(2, dim)
        return value * gate.sigmoid()


def _prelu(trace: Trace, call: Call) -> Tensor:
    """F.prelu: a leaky ReLU of its initial slope (its one slope's own gradient left out)."""
    view = trace.symbol(call.given["weight"])
    slope = view.parameter.uniform() if isinstance(view, ParameterView) else None
    if slope is None:
        raise Open("its slopes differ")
    return pointwise.leaky(trace, call.given["input"], slope)


HANDLERS["glu"] = _gated
HANDLERS["prelu"] = _prelu
