"""What each recorded layer is for: input, hidden, readout, embedding, attention, ..."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kadanoff.trace.layers import Call

__all__ = ["roles"]

_ATTENTION = re.compile(
    r"(attn|attention)|(^|[._])([qkvo]|query|key|value|c_attn|[qkvo]_proj|in_proj|qkv)([._]|$)"
)
_GATE = re.compile(r"(^|[._])(gate|gate_proj|router)([._]|$)")
_SHORTCUT = re.compile(r"(downsample|shortcut|skip)")


def roles(calls: Sequence[Call], chain: Sequence[int]) -> list[str | None]:
    """Role of each call, None for calls that are no layer.

    Parameters
    ----------
    calls : sequence of Call
        In the order of the forward pass.
    chain : sequence of int
        Positions of the calls on the main chain (see :func:`kadanoff.trace.graph.main_chain`).

    Returns
    -------
    list of str or None
        ``"input"`` (first linear layer that is no embedding, if no embedding comes first),
        ``"readout"`` (last linear layer of the chain), ``"embedding"``, ``"attention"``,
        ``"gate"``, ``"shortcut"``, ``"stream"`` (a residual sum), ``"norm"``, ``"hidden"``.
    """
    linear = [i for i, call in enumerate(calls) if call.kind == "linear"]
    on_chain = set(chain)
    last = next((i for i in reversed(linear) if i in on_chain), None)
    if last is not None and any(j > last for j in on_chain):
        last = None  # the chain ends in a sum: the last linear layer is part of a block
    embedded = any(calls[i].op.startswith("embedding") for i in linear)
    result: list[str | None] = []
    for index, call in enumerate(calls):
        name = call.parameter or call.path
        if call.kind == "add":
            result.append("stream")
        elif call.kind == "norm":
            result.append("norm")
        elif call.kind in ("attention", "softmax"):
            result.append("attention")
        elif call.kind == "recurrent":
            result.append("hidden")
        elif call.kind != "linear":
            result.append(None)
        elif call.op.startswith("embedding"):
            result.append("embedding")
        elif index == last and len(linear) > 1:
            result.append("readout")
        elif linear and index == linear[0] and not embedded:
            result.append("input")
        elif _SHORTCUT.search(name):
            result.append("shortcut")
        elif _ATTENTION.search(name):
            result.append("attention")
        elif _GATE.search(name):
            result.append("gate")
        else:
            result.append("hidden")
    return result
