"""Checkpoints of an ensemble: the sums after a whole number of blocks, written atomically."""

from __future__ import annotations

import io
import os
from pathlib import Path

import torch

from kadanoff.ensembles.moments import Moments
from kadanoff.errors import StorageError, UsageError
from kadanoff.files import atomic_write

__all__ = ["load", "save"]


def save(path: str | os.PathLike[str], fingerprint: str, blocks: int, moments: Moments) -> None:
    """Write the state after ``blocks`` full blocks; a reader never sees half of it.

    Parameters
    ----------
    path : path
    fingerprint : str
        Of the plan; another plan refuses the file.
    blocks : int
        Whole blocks done.
    moments : Moments
    """
    buffer = io.BytesIO()
    torch.save(
        {
            "fingerprint": fingerprint,
            "blocks": blocks,
            "counts": moments.counts,
            "sums": moments.sums,
            "pieces": moments.pieces,
        },
        buffer,
    )
    atomic_write(path, buffer.getvalue())


def load(path: str | os.PathLike[str], fingerprint: str) -> tuple[int, Moments]:
    """Blocks done and their sums; (0, empty) if there is no file yet.

    Raises
    ------
    StorageError
        The file cannot be read.
    UsageError
        It belongs to another ensemble.
    """
    moments = Moments()
    if not Path(path).exists():
        return 0, moments
    try:
        state = torch.load(path, weights_only=True)
        found = state["fingerprint"]
        moments.counts, moments.sums = state["counts"], state["sums"]
        moments.pieces, blocks = state["pieces"], state["blocks"]
    except Exception as error:
        raise StorageError(
            f"The checkpoint {str(path)!r} cannot be read ({type(error).__name__}: {error}).",
            "Delete it to start again, or name another file.",
        ) from error
    if found != fingerprint:
        raise UsageError(
            f"The checkpoint {str(path)!r} belongs to another ensemble: architecture, inputs, "
            "seed, method, observables or layers differ.",
            "Repeat the call that wrote it, or name another file.",
        )
    return blocks, moments
