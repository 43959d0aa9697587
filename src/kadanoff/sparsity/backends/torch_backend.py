"""Row skipping with torch alone: ``embedding_bag`` sums the active rows without copying them."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

__all__ = [
    "combine",
    "combine_union",
    "matvec",
    "matvec_rows",
    "nonzero",
]

name = "torch"


def matvec(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    # as one row of a matrix: the same kernel, hence the same bits, as the dense block's
    return F.linear(x.unsqueeze(0), weight, bias).squeeze(0)


def matvec_rows(weight: Tensor, bias: Tensor | None, x: Tensor, rows: Tensor) -> Tensor:
    picked = None if bias is None else bias.index_select(0, rows)
    return F.linear(x, weight.index_select(0, rows), picked)


def nonzero(a: Tensor) -> tuple[Tensor, Tensor]:
    rows = a.nonzero().squeeze(1)
    return rows, a.index_select(0, rows)


def combine(table: Tensor, rows: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    if rows.numel() == 0:
        return table.new_zeros(table.shape[1]) if bias is None else bias.clone()
    total = F.embedding_bag(
        rows.unsqueeze(0), table, per_sample_weights=values.unsqueeze(0), mode="sum"
    ).squeeze(0)
    return total if bias is None else total + bias


def combine_union(table: Tensor, rows: Tensor, a: Tensor, bias: Tensor | None) -> Tensor:
    """(T, d): the same for T tokens whose active sets have the union ``rows``; ``a`` is (T, m)."""
    total = a.index_select(1, rows) @ table.index_select(0, rows)
    return total if bias is None else total + bias
