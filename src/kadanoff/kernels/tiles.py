"""Walking over the tiles of a Gram matrix: inner products, maps, and the mirror image, in cache."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

__all__ = ["TILE", "fill", "single_threaded", "tiles", "workers"]

TILE = 256
# elements of a block handed to a map: its buffers stay in a core's own cache, and torch does
# not split operations of this size over threads
_BLOCK = 16384

Map = Callable[[slice, slice, Tensor, list[Tensor]], None]


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


def tiles(rows: int, columns: int, symmetric: bool, size: int = TILE) -> list[tuple[slice, slice]]:
    """Tiles that cover a matrix, or its lower triangle with the diagonal tiles."""
    return [
        (slice(i, min(i + size, rows)), slice(j, min(j + size, columns)))
        for i in range(0, rows, size)
        for j in range(0, columns, size)
        if not symmetric or j <= i
    ]


def fill(
    A: Tensor,
    B: Tensor | None,
    outputs: list[Tensor],
    inner: Callable[[slice, slice], Tensor],
    evaluate: Map,
    progress: Callable[..., None] | None = None,
) -> None:
    """Fill ``outputs`` (each (N1, N2)) with the map of A Bᵀ; B None means A and symmetric.

    Parameters
    ----------
    inner : callable
        (rows, columns) -> the tile of inner products, which ``evaluate`` may overwrite.
    evaluate : callable
        (rows, columns, tile, results) writes one tile a result.
    """
    symmetric = B is None
    jobs = tiles(len(A), len(A) if B is None else len(B), symmetric)
    done = 0

    def work(job: tuple[slice, slice]) -> None:
        rows, columns = job
        tile = inner(rows, columns)
        results = [tile.new_empty(tile.shape) for _ in outputs]
        step = max(1, _BLOCK // tile.shape[1])
        for i in range(0, tile.shape[0], step):
            part = slice(i, min(i + step, tile.shape[0]))
            where = slice(rows.start + part.start, rows.start + part.stop)
            evaluate(where, columns, tile[part], [r[part] for r in results])
        for out, result in zip(outputs, results):
            out[rows, columns] = result
            if symmetric and rows != columns:
                out[columns, rows] = result.T

    with torch.no_grad(), single_threaded() as count:
        if count == 1 or len(jobs) == 1 or A.is_cuda:
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
