"""What each recorded layer is for: input, hidden, readout, embedding, attention, ..."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kadanoff.trace.layers import Call

__all__ = ["roles_of"]

_ATTENTION = re.compile(
    r"(attn|attention)|(^|[._])([qkvo]|query|key|value|c_attn|[qkvo]_proj|in_proj|qkv)([._]|$)"
)
_GATE = re.compile(r"(^|[._])(gate|gate_proj|router)([._]|$)")
_SHORTCUT = re.compile(r"(downsample|shortcut|skip)")

_OF_KIND = {
    "add": "stream",
    "norm": "norm",
    "attention": "attention",
    "softmax": "attention",
    "recurrent": "hidden",
}


def roles_of(calls: Sequence[Call], chain: Sequence[int]) -> list[str | None]:
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
    readout = _readout(linear, chain) if len(linear) > 1 else None
    embedded = any(calls[i].family == "embedding" for i in linear)
    first = linear[0] if linear and not embedded else None
    result: list[str | None] = []
    for index, call in enumerate(calls):
        if call.kind != "linear":
            result.append(_OF_KIND.get(call.kind))
        elif call.family == "embedding":
            result.append("embedding")
        elif index == readout:
            result.append("readout")
        elif index == first:
            result.append("input")
        else:
            result.append(_by_name(call.parameter or call.path))
    return result


def _readout(linear: Sequence[int], chain: Sequence[int]) -> int | None:
    """The last linear layer of the chain, if nothing comes after it on the chain."""
    on_chain = set(chain)
    last = next((i for i in reversed(linear) if i in on_chain), None)
    # a chain that ends in a sum: the last linear layer is part of a block
    return None if last is None or any(i > last for i in on_chain) else last


def _by_name(name: str) -> str:
    if _SHORTCUT.search(name):
        return "shortcut"
    if _ATTENTION.search(name):
        return "attention"
    return "gate" if _GATE.search(name) else "hidden"
