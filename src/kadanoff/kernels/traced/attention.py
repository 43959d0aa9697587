"""Products of random tensors: attention, and what does not close."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kadanoff.kernels.traced.symbols import Call, Open

if TYPE_CHECKING:
    from kadanoff.kernels.traced.mode import Trace

__all__ = ["by_hand", "product", "scaled_dot_product", "softmax"]


def product(trace: Trace, call: Call, x: Tensor, y: Tensor) -> Tensor:
    """Scores, or their product with values.

    Parameters
    ----------
    trace : Trace
    call : Call
    x, y : Tensor
        The operands.
    """
    raise Open("heads are drawn")


def softmax(trace: Trace, call: Call) -> Tensor:
    """Probabilities."""
    raise Open("heads are drawn")


def scaled_dot_product(trace: Trace, call: Call) -> Tensor:
    """F.scaled_dot_product_attention."""
    raise Open("heads are drawn")


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
