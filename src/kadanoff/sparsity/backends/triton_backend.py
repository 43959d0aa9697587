"""Row skipping on CUDA by Triton: one program reads a tile of some active rows, then adds it in.

Splitting over the active rows keeps the whole device busy at batch 1; partial sums meet in
float32 atomics, so two runs may differ in the last bits of float32.
"""

# Triton compiles these functions from their source; the checker cannot follow.
# pyright: basic, reportIndexIssue=false, reportGeneralTypeIssues=false, reportCallIssue=false
# pyright: reportAttributeAccessIssue=false
from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from torch import Tensor

from kadanoff.sparsity.backends.torch_backend import combine_union, nonzero

__all__ = [
    "combine",
    "combine_union",
    "matvec",
    "matvec_rows",
    "nonzero",
]

name = "triton"

ROWS, COLUMNS = 16, 256


@triton.jit
def _combine(table, rows, values, out, count, d, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    q = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    j = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    kept = q < count
    row = tl.load(rows + q, mask=kept, other=0)
    value = tl.load(values + q, mask=kept, other=0.0).to(tl.float32)
    tile = tl.load(
        table + row[:, None] * d + j[None, :], mask=kept[:, None] & (j < d)[None, :], other=0.0
    )
    tl.atomic_add(out + j, tl.sum(tile.to(tl.float32) * value[:, None], axis=0), mask=j < d)


@triton.jit
def _rows(weight, bias, x, rows, z, count, d, HAS_BIAS: tl.constexpr, COLUMNS: tl.constexpr):
    q = tl.program_id(0)
    row = tl.load(rows + q)
    total = tl.zeros((COLUMNS,), tl.float32)
    for start in range(0, d, COLUMNS):
        j = start + tl.arange(0, COLUMNS)
        w = tl.load(weight + row * d + j, mask=j < d, other=0.0).to(tl.float32)
        total += w * tl.load(x + j, mask=j < d, other=0.0).to(tl.float32)
    value = tl.sum(total, axis=0)
    if HAS_BIAS:
        value += tl.load(bias + row).to(tl.float32)
    tl.store(z + q, value)


def matvec(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """z = weight x + bias for one token, shape (m,).

    Parameters
    ----------
    weight : Tensor, shape (m, d)
        A neuron a contiguous row.
    bias : Tensor (m,) or None
    x : Tensor (d,)
    """
    return F.linear(x, weight, bias)


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
    z = torch.empty(len(rows), dtype=x.dtype, device=x.device)
    if len(rows):
        kernel: Any = _rows  # Triton turns plain numbers into its constexpr itself
        kernel[(len(rows),)](
            weight,
            weight if bias is None else bias,
            x.contiguous(),
            rows,
            z,
            len(rows),
            weight.shape[1],
            HAS_BIAS=bias is not None,
            COLUMNS=1024,
        )
    return z


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
    d = table.shape[1]
    zeros = torch.zeros(d, dtype=torch.float32, device=table.device)
    out = zeros if bias is None else zeros + bias
    if len(rows):
        grid = (triton.cdiv(len(rows), ROWS), triton.cdiv(d, COLUMNS))
        kernel: Any = _combine
        kernel[grid](table, rows, values, out, len(rows), d, ROWS=ROWS, COLUMNS=COLUMNS)
    return out.to(table.dtype)
