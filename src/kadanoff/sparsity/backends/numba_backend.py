"""Row skipping by compiled loops on the CPU.

Threads: as many as torch may use (``torch.set_num_threads``), and only where each has enough
bytes to read to pay for waking it. They come from a plain pool; numba's own parallel layers are
not used, as they would set a second OpenMP (or a non-reentrant) runtime beside torch's.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kadanoff.sparsity.backends import numba_kernels as kernels
from kadanoff.sparsity.screen import Screen

__all__ = [
    "Fused",
    "Screened",
    "combine",
    "combine_union",
    "matvec",
    "matvec_rows",
    "nonzero",
]

name = "numba"

# weight and bias
Pair = tuple[Tensor, Tensor | None]

# a thread takes some 20-40 µs to wake; two megabytes take some 100 µs to read
BYTES_PER_THREAD = 2 << 20

_pool: ThreadPoolExecutor | None = None
_pool_pid = 0
_lock = threading.Lock()
_zeros: dict[int, Any] = {}


def _workers() -> ThreadPoolExecutor:
    global _pool, _pool_pid
    with _lock:
        # threads do not survive a fork
        if _pool is None or _pool_pid != os.getpid():
            _pool = ThreadPoolExecutor(max(1, (os.cpu_count() or 2) - 1), "kadanoff-sparse")
            _pool_pid = os.getpid()
        return _pool


def _parts(rows: int, row_bytes: int) -> list[tuple[int, int]]:
    count = min(torch.get_num_threads(), rows * row_bytes // BYTES_PER_THREAD)
    if count <= 1:
        return [(0, rows)]
    edges = [rows * part // count for part in range(count + 1)]
    return list(itertools.pairwise(edges))


def _spread(parts: list[tuple[int, int]], work: Callable[[int, int, int], None]) -> None:
    """Run ``work(part, start, stop)`` for each part, the first one in this thread."""
    futures = [
        _workers().submit(work, index, *part) for index, part in enumerate(parts) if index > 0
    ]
    work(0, *parts[0])
    for future in futures:
        future.result()


def _array(tensor: Tensor) -> Any:
    """The tensor's memory as numpy sees it; bfloat16 as uint16 (numpy has no such type)."""
    if tensor.dtype == torch.bfloat16:
        return tensor.detach().view(torch.uint16).numpy()
    return tensor.detach().numpy()


def _float(tensor: Tensor) -> Any:
    tensor = tensor.detach()
    if tensor.dtype != torch.float32 or not tensor.is_contiguous():
        tensor = tensor.float().contiguous()
    return tensor.numpy()


def _bias(bias: Tensor | None, count: int) -> Any:
    if bias is not None:
        return _float(bias)
    if count not in _zeros:
        _zeros[count] = np.zeros(count, np.float32)
    return _zeros[count]


def matvec(weight: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """z = weight x + bias for one token, shape (m,).

    Parameters
    ----------
    weight : Tensor, shape (m, d)
        A neuron a contiguous row.
    bias : Tensor (m,) or None
    x : Tensor (d,)
    """
    m, d = weight.shape
    z = np.empty(m, np.float32)
    w, b, v, rounded = _array(weight), _bias(bias, m), _float(x), x.dtype == torch.bfloat16
    parts = _parts(m, d * weight.element_size())
    if len(parts) == 1:
        kernels.matvec(w, b, v, z, 0, m, rounded)
    else:
        _spread(parts, lambda _, start, stop: kernels.matvec(w, b, v, z, start, stop, rounded))
    return torch.from_numpy(z).to(x.dtype)


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
    m, d = weight.shape
    z = np.empty(len(rows), np.float32)
    w, b, v, r = _array(weight), _bias(bias, m), _float(x), rows.numpy()
    rounded = x.dtype == torch.bfloat16
    parts = _parts(len(r), d * weight.element_size())
    if len(parts) == 1:
        kernels.matvec_rows(w, b, v, r, z, 0, len(r), rounded)
    else:
        _spread(
            parts,
            lambda _, start, stop: kernels.matvec_rows(w, b, v, r, z, start, stop, rounded),
        )
    return torch.from_numpy(z).to(x.dtype)


def nonzero(a: Tensor) -> tuple[Tensor, Tensor]:
    """Indices (r,) of the active neurons among ``a`` (m,), and their values."""
    rows = np.empty(len(a) + 1, np.int64)
    values = np.empty(len(a) + 1, np.float32)
    count = kernels.compact(_float(a), np.float32(0.0), rows, values)
    return torch.from_numpy(rows[:count]), torch.from_numpy(values[:count]).to(a.dtype)


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
    t, r, v = _array(table), rows.numpy(), _float(values)
    parts = _parts(len(r), d * table.element_size())
    if len(parts) == 1:
        y = np.zeros(d, np.float32) if bias is None else _float(bias).copy()
        kernels.accumulate(t, r, v, y, 0, len(r))
    else:
        partial = np.zeros((len(parts), d), np.float32)
        _spread(
            parts,
            lambda part, start, stop: kernels.accumulate(t, r, v, partial[part], start, stop),
        )
        y = partial.sum(0) + _bias(bias, d)
    return torch.from_numpy(y).to(table.dtype)


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
    d = table.shape[1]
    t, r, v = _array(table), rows.numpy(), _float(a)
    parts = _parts(len(r), d * table.element_size())
    partial = np.zeros((len(parts), len(v), d), np.float32)
    _spread(
        parts,
        lambda part, start, stop: kernels.union_accumulate(t, r, v, partial[part], start, stop),
    )
    return torch.from_numpy(partial.sum(0) + _bias(bias, d)).to(table.dtype)


class Screened:
    """The neurons that may be active at an input, by a `Screen` of the first matrix."""

    def __init__(self, screen: Screen, k: int, tau: float) -> None:
        tensors = screen.codes, screen.scale, screen.loose, screen.norm, screen.bias
        self.codes, *rest = (tensor.numpy() for tensor in tensors)
        self.bounds = tuple(rest)
        self.levels, self.margin = screen.levels, screen.margin
        self.select = k, np.float32(tau), np.float64(screen.margin)

    def rows(self, x: Tensor) -> Tensor:
        """Their indices, ascending, at the input ``x`` (d,)."""
        level, *sizes = kernels.codes_of(_float(x), self.levels)
        m, d = self.codes.shape
        dots = np.empty(m, np.int32)
        _spread(
            _parts(m, d),
            lambda _, start, stop: kernels.codes_dot(self.codes, level, dots, start, stop),
        )
        rows = np.empty(m + 1, np.int64)
        arguments: Any = (dots, *self.bounds, *sizes, *self.select, rows)
        count = kernels.possible(*arguments)
        return torch.from_numpy(rows[:count])


class Fused:
    """A whole block, or all that follows its activations, as one compiled call on one token.

    Holds the matrices as numpy sees them, not copied (bfloat16 biases are).

    Parameters
    ----------
    first, up : (weight, bias) or None
        Without ``first``, calls get activations and do what comes after.
    down : (table, bias)
        The table is (m, n_out).
    k, tau
        Keep the k largest activations (0: all), and those of size at least tau.
    screened : Screened, optional
        Of ``first``, read only the rows that may be active.
    """

    def __init__(
        self,
        first: Pair | None,
        up: Pair | None,
        down: Pair,
        k: int,
        tau: float,
        screened: Screened | None = None,
    ) -> None:
        pairs = [pair for pair in (first, up, down) if pair is not None]
        self.bytes = sum(weight.numel() * weight.element_size() for weight, _ in pairs)
        arrays = [(_array(weight), _bias(bias, len(weight))) for weight, bias in pairs[:-1]]
        self.rounded = down[0].dtype == torch.bfloat16
        self.table, self.start = _array(down[0]), _bias(down[1], down[0].shape[1])
        self.first: Any = arrays[0] if first is not None else None
        # a block without an up matrix hands over something of the same type, which is not read
        second = (self.table, self.start) if up is None else arrays[-1]
        self.select = (k, np.float32(tau), up is not None, *second)
        self.screen: Any = None
        if screened is not None:
            bounds = screened.codes, *screened.bounds
            self.screen = (*bounds, screened.levels, np.float64(screened.margin))

    def alone(self) -> bool:
        """Whether one thread is enough: more are allowed, but only large blocks pay for them."""
        return torch.get_num_threads() == 1 or self.bytes < 2 * BYTES_PER_THREAD

    def __call__(self, x: Tensor, a: Tensor | None = None) -> Tensor:
        """Output for the token ``x`` (d,); from its activations ``a`` (m,) if these are given."""
        y = self.start.copy()
        v = _float(x)
        end: Any = (*self.select, v, self.table, y, self.rounded)
        if a is None:
            if self.screen is None:
                kernels.relu_block(*self.first, *end)
            else:
                kernels.screened_block(*self.first, *self.screen, *end)
        else:
            kernels.finish(v if x is a else _float(a), *end)
        out = torch.from_numpy(y)
        return out.bfloat16() if self.rounded else out
