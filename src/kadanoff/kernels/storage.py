"""Gram matrices larger than memory: tiles into a memory-mapped file, resumable at any moment."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kadanoff.errors import StorageError, UsageError
from kadanoff.files import write_json

__all__ = ["stream"]

# the compiled kernel of the data set a worker is busy with
_READY: dict[str, Any] = {}


def stream(
    kernel: Any,
    X: Any,
    path: str | os.PathLike[str],
    *,
    get: str = "ntk",
    tile: int = 1024,
    n_jobs: int = 1,
    progress: Callable[..., None] | None = None,
) -> np.memmap:
    """Write the symmetric Gram matrix of ``X`` to a ``.npy`` file, a row of tiles at a time.

    A journal beside the file (``path`` + ``.journal``) notes every finished row of tiles, after
    its data. Calling again with the same arguments goes on where an interrupted run stopped.

    Parameters
    ----------
    kernel : Kernel
    X : array (N, n_0), float32 or float64
        The file has its dtype.
    path : path
        Of the ``.npy`` file, on a disk that all workers share.
    get : {"nngp", "ntk"}
    tile : int
        Rows a block.
    n_jobs : int
        Workers, through joblib: ``joblib.parallel_config(backend="ray")`` or ``"dask"`` moves
        them to a cluster.
    progress : callable, optional
        ``progress(done, total, resumed=...)`` in tiles.

    Returns
    -------
    numpy.memmap, shape (N, N), read-only

    Raises
    ------
    StorageError
        The disk is full (finished blocks stay valid; the message states the bytes), or the file
        belongs to other data.
    """
    X = kernel.check(X)
    if tile < 1:
        raise UsageError(f"tile must be at least 1, got {tile}.")
    target, N = Path(path), len(X)
    token = _token(kernel, X, get, tile)
    starts = list(range(0, N, tile))
    dtype = np.dtype("float32" if X.dtype == torch.float32 else "float64")
    done = _open(target, token, N, dtype)
    todo = [i for i in range(len(starts)) if i not in done]
    total = len(starts) * (len(starts) + 1) // 2
    finished = sum(i + 1 for i in done)
    if progress:
        progress(finished, total, resumed=bool(done))
    try:
        with open(_journal(target), "a", encoding="ascii") as journal:
            for i in map(int, _run(kernel, X, target, get, tile, token, todo, n_jobs)):
                journal.write(f"{i}\n")
                journal.flush()
                os.fsync(journal.fileno())
                finished += i + 1
                if progress:
                    progress(finished, total)
    except OSError as error:
        raise _full(target, N * N * dtype.itemsize, error) from error
    finally:
        _READY.pop(token, None)
    return np.load(target, mmap_mode="r")  # pyright: ignore[reportReturnType]


def _run(
    kernel: Any,
    X: torch.Tensor,
    target: Path,
    get: str,
    tile: int,
    token: str,
    todo: list[int],
    n_jobs: int,
) -> Iterator[Any]:
    if n_jobs == 1 or len(todo) < 2:
        yield from (_block(kernel, X, target, get, tile, token, i) for i in todo)
        return
    from joblib import Parallel, delayed

    tasks = (delayed(_block)(kernel, X, target, get, tile, token, i) for i in todo)
    try:
        yield from Parallel(n_jobs=n_jobs, return_as="generator_unordered")(tasks)
    except (ValueError, NotImplementedError):
        # a backend without generators (Ray): all blocks at once
        tasks = (delayed(_block)(kernel, X, target, get, tile, token, i) for i in todo)
        yield from Parallel(n_jobs=n_jobs)(tasks)


def _block(
    kernel: Any, X: torch.Tensor, target: Path, get: str, tile: int, token: str, i: int
) -> int:
    """Compute and store row ``i`` of tiles with its mirror image; returns ``i``."""
    if token not in _READY:
        _READY[token] = kernel.prepare(X, get)
    ready = _READY[token]
    out = np.load(target, mmap_mode="r+")
    rows = slice(i * tile, min((i + 1) * tile, len(X)))
    for j in range(i + 1):
        columns = slice(j * tile, min((j + 1) * tile, len(X)))
        block = ready.block(rows, columns).cpu().numpy()
        out[rows, columns] = block
        if i != j:
            out[columns, rows] = block.T
    out.flush()
    return i


def _token(kernel: Any, X: torch.Tensor, get: str, tile: int) -> str:
    if hasattr(kernel, "fingerprint"):
        digest = hashlib.sha256(repr((kernel.fingerprint(), tuple(X.shape), get, tile)).encode())
        digest.update(np.ascontiguousarray(X.cpu().numpy()).data)
        return digest.hexdigest()
    arch = kernel.arch
    numbers = (arch.C_b, arch.C_W, arch.lambda_b, arch.lambda_W, arch.gamma, arch.block)
    text = repr((arch, [a.name for a in arch.activations], numbers, tuple(X.shape), get, tile))
    digest = hashlib.sha256(text.encode())
    digest.update(np.ascontiguousarray(X.cpu().numpy()).data)
    return digest.hexdigest()


def _journal(target: Path) -> Path:
    return target.with_name(target.name + ".journal")


def _open(target: Path, token: str, N: int, dtype: np.dtype) -> set[int]:
    """Create the file and its header, or read which rows of tiles are done."""
    header = target.with_name(target.name + ".header")
    if target.exists():
        try:
            found = json.loads(header.read_text())["token"]
        except (OSError, ValueError, KeyError):
            found = None
        if found != token:
            raise StorageError(
                f"{str(target)!r} exists and belongs to another kernel or data set.",
                "Choose another path, or remove the file and its .header and .journal.",
            )
        try:
            lines = _journal(target).read_text().split("\n")[:-1]
        except OSError:
            lines = []
        return {int(line) for line in lines if line.isdigit()}
    size = N * N * dtype.itemsize
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(target.parent).free
        if free < size:
            raise OSError(errno.ENOSPC, "No space left on device")
        # a sparse file on a full disk would die of SIGBUS half way: claim every byte now
        partial = target.with_name(target.name + ".partial")
        try:
            np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=(N, N)).flush()
            with open(partial, "r+b") as stream_:
                os.posix_fallocate(stream_.fileno(), 0, os.path.getsize(partial))
            _journal(target).unlink(missing_ok=True)
            write_json(header, {"token": token, "N": N, "dtype": dtype.name})
            os.replace(partial, target)
        finally:
            partial.unlink(missing_ok=True)
    except OSError as error:
        raise _full(target, size, error) from error
    return set()


def _full(target: Path, size: int, error: OSError) -> StorageError:
    if isinstance(error, StorageError):
        return error
    try:
        free = shutil.disk_usage(target.parent).free
    except OSError:
        free = 0
    return StorageError(
        f"Could not write {str(target)!r} ({error.strerror or error}): the matrix takes {size:,} "
        f"bytes and {free:,} are free.",
        "Free space and call again: finished blocks are kept.",
    )
