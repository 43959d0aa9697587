"""Walking over strips of a Gram matrix: inner products, maps, and the mirror image, in cache."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

__all__ = ["allocate", "fill", "single_threaded", "strips", "workers"]

# rows of a strip, and columns of it that are multiplied at once: wide products run near the
# speed of one large product, and the result stays in the shared cache
_ROWS, _SPAN = 256, 4096
# elements handed to a map: its buffers stay in a core's own cache, and torch does not split
# operations of this size over threads
_BLOCK = 32768
# the same on a GPU, where only the number of launches counts
_ROWS_CUDA, _SPAN_CUDA, _BLOCK_CUDA = 4096, 16384, 1 << 26
_MIRROR = 512

Map = Callable[[slice, slice, Tensor, Tensor], None]


def workers() -> int:
    """Threads to use: as many as torch may use, and no more than this process has cores."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    return max(1, min(torch.get_num_threads(), available))


@contextmanager
def single_threaded() -> Iterator[int]:
    """Torch on one thread inside (each worker is one), restored afterwards; yields the count."""
    threads, count = torch.get_num_threads(), workers()
    torch.set_num_threads(1)
    try:
        yield count
    finally:
        torch.set_num_threads(threads)


def allocate(rows: int, columns: int, like: Tensor) -> Tensor:
    """An empty matrix; NumPy's allocator asks for huge pages, which saves most page faults.

    Parameters
    ----------
    rows, columns : int
    like : Tensor
        Whose dtype and device it has.
    """
    if like.device.type != "cpu":
        return like.new_empty(rows, columns)
    return torch.from_numpy(np.empty((rows, columns), dtype=str(like.dtype).split(".")[-1]))


def strips(
    rows: int, columns: int, symmetric: bool, height: int, span: int
) -> list[tuple[slice, slice]]:
    """Strips that cover a matrix, or its lower triangle with whole squares on the diagonal.

    The largest come first, so that no worker is left with one at the end.

    Parameters
    ----------
    rows, columns : int
        Of the matrix.
    symmetric : bool
        Cover the lower triangle only.
    height, span : int
        Rows and columns of a strip.
    """
    found = []
    for i in range(0, rows, height):
        stop = min(i + height, rows)
        # the square on the diagonal is never cut: its upper half is a copy of the lower one
        starts = range(0, max(i, 1) if symmetric else columns, span)
        ends = [*starts[1:], stop if symmetric else columns]
        found += [(slice(i, stop), slice(j, k)) for j, k in zip(starts, ends)]
    return sorted(found, key=lambda job: job[1].start - job[1].stop)


def fill(
    left: Tensor,
    right: Tensor,
    outputs: list[Tensor],
    evaluate: Map,
    *,
    symmetric: bool = False,
    progress: Callable[..., None] | None = None,
) -> None:
    """Fill ``outputs``, each (N1, N2), with maps of the inner products ``left rightᵀ``.

    Parameters
    ----------
    left, right : Tensor (N1, d), (N2, d)
    evaluate : callable
        ``evaluate(rows, columns, s, out)``: ``s`` holds the inner products of a block (and may be
        overwritten), ``out`` (P, rows, columns) receives its maps. Both are contiguous.
    symmetric : bool
        Compute the lower triangle and mirror it.
    """
    cuda = left.is_cuda
    count = 1 if cuda else workers()
    height, span, size = (
        (_ROWS, _SPAN, _BLOCK) if not cuda else (_ROWS_CUDA, _SPAN_CUDA, _BLOCK_CUDA)
    )
    height = max(32, min(height, -(-len(left) // (4 * count))))
    jobs = strips(len(left), len(right), symmetric, height, span)
    local = threading.local()

    def work(job: tuple[slice, slice]) -> None:
        rows, columns = job
        r, c = rows.stop - rows.start, columns.stop - columns.start
        if not hasattr(local, "products"):
            local.products = left.new_empty(height * (span + height))
            local.maps = left.new_empty(len(outputs) * max(size, span + height))
        s = local.products[: r * c].view(r, c)
        torch.mm(left[rows], right[columns].T, out=s)
        step = max(1, size // c)
        for i in range(0, r, step):
            part = slice(i, min(i + step, r))
            n = part.stop - i
            where = slice(rows.start + i, rows.start + part.stop)
            found = local.maps[: len(outputs) * n * c].view(-1, n, c)
            evaluate(where, columns, s[part], found)
            for out, block in zip(outputs, found):
                out[where, columns] = block
        if symmetric:
            for j in range(columns.start, min(columns.stop, rows.start), _MIRROR):
                across = slice(j, min(j + _MIRROR, columns.stop, rows.start))
                for out in outputs:
                    out[across, rows] = out[rows, across].T
            if columns.stop == rows.stop:
                for out in outputs:
                    square = out[rows, rows]
                    square.copy_(square.tril() + square.tril(-1).T)

    done = 0
    with torch.no_grad(), single_threaded():
        if count == 1 or len(jobs) == 1:
            for job in jobs:
                work(job)
                done += 1
                if progress:
                    progress(done, len(jobs))
            return
        with ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for _ in pool.map(work, jobs):
                done += 1
                if progress:
                    progress(done, len(jobs))
