"""Largest logit and entropy of each attention, fused or written out."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kadanoff.diagnosis.witness import Witness
from kadanoff.trace.recorder import FunctionCall

__all__ = ["AttentionWitness"]

_LOOKED_AT = frozenset({"softmax", "scaled_dot_product_attention"})
_ROWS = 4  # samples


class AttentionWitness(Witness):
    """A witness that looks at attention alone, and keeps the largest logit.

    Attributes
    ----------
    logits : list of Tensor
        Largest magnitude among the scores of each attention, in the order of ``seen.attentions``:
        of those that a mask leaves, where it is written out; of all, where it is fused.
    """

    names = _LOOKED_AT

    def __init__(self, model: Any, samples: int) -> None:
        super().__init__(model, samples)
        self.logits: list[Tensor] = []

    def before(self, call: FunctionCall) -> None:
        """Nothing is prepared."""

    def after(self, call: FunctionCall, output: Any) -> None:
        """Look at one softmax over positions."""
        if call.name not in _LOOKED_AT:
            return
        self.path = call.path
        with torch.no_grad():
            known = len(self.seen.attentions)
            look = self._softmax if call.name == "softmax" else self._fused
            look(call.name, call.args, call.kwargs, output)
            if len(self.seen.attentions) > known:
                self.logits.append(_largest(call))


def _largest(call: FunctionCall) -> Tensor:
    if call.name == "softmax":
        scores = call.args[0] if call.args else call.kwargs["input"]
        kept = scores[:_ROWS].float()
    else:
        query, key = call.args[0][:_ROWS].float(), call.args[1][:_ROWS].float()
        scale = call.kwargs.get("scale")
        if key.ndim > 3 and query.shape[-3] != key.shape[-3]:
            key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        kept = query @ key.mT * (scale if scale is not None else query.shape[-1] ** -0.5)
    # masks are -inf or some large negative number: what is far below every row's best is one
    inside = kept > kept.amax(-1, keepdim=True) - 1e4
    return kept.abs().where(inside & torch.isfinite(kept), kept.new_zeros(())).amax()
