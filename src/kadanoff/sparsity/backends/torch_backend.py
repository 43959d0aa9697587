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
    """z = weight x + bias for one token, shape (m,).

    Parameters
    ----------
    weight : Tensor, shape (m, d)
        A neuron a contiguous row.
    bias : Tensor (m,) or None
    x : Tensor (d,)
    """
    return F.linear(x.unsqueeze(0), weight, bias).squeeze(0)


def matvec_rows(weight: Tensor, bias: Tensor | None, x: Tensor, rows: Tensor) -> Tensor:
    """The entries ``rows`` of z = weight x + bias; no other row is read.

    Parameters
    ----------
    weight : Tensor, shape (m, d)
        A neuron a contiguous row.
    bias : Tensor (m,) or None
    x : Tensor (d,)
    rows : Tensor (r,) of int64
    """
    picked = None if bias is None else bias.index_select(0, rows)
    return F.linear(x, weight.index_select(0, rows), picked)


def nonzero(a: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (r,) of the active neurons among ``a`` (m,), and their values."""
    rows = a.nonzero().squeeze(1)
    return rows, a.index_select(0, rows)


def combine(table: Tensor, rows: Tensor, values: Tensor, bias: Tensor | None) -> Tensor:
    """bias + Σ_q values_q table[rows_q], shape (d,): the active rows alone are read.

    Parameters
    ----------
    table : Tensor, shape (m, d)
        What each active neuron adds to the output: a contiguous row.
    rows : Tensor (r,) of int64
    values : Tensor (r,)
    bias : Tensor (d,) or None
    """
    if rows.numel() == 0:
        return table.new_zeros(table.shape[1]) if bias is None else bias.clone()
    total = F.embedding_bag(
        rows.unsqueeze(0), table, per_sample_weights=values.unsqueeze(0), mode="sum"
    ).squeeze(0)
    return total if bias is None else total + bias


def combine_union(table: Tensor, rows: Tensor, a: Tensor, bias: Tensor | None) -> Tensor:
    """The same for T tokens whose active sets have a union, shape (T, d).

    Parameters
    ----------
    table : Tensor, shape (m, d)
        What each active neuron adds to the output: a contiguous row.
    rows : Tensor (r,) of int64
        The union.
    a : Tensor, shape (T, m)
        Activations.
    bias : Tensor (d,) or None
    """
    total = a.index_select(1, rows) @ table.index_select(0, rows)
    return total if bias is None else total + bias
