"""Replicas side by side: each runs the model in a thread of its own, and meets the others at every
product over a wide axis.

S networks whose Gram matrices are averaged are one network of S times the width, at the same head
dimension, number of experts and batch. Threads, because the model's own Python runs between two
meetings; the batch is not tiled, so nothing that mixes samples can mix replicas.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import AnalysisError

__all__ = ["DifferentWays", "together"]

_PATIENCE = 600.0  # seconds a replica waits for the others


class DifferentWays(AnalysisError):
    """Replicas that went different ways through the model and cannot share its products."""


class _Meeting:
    """Where S threads average a tensor; all must come, in the same order."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.slots: list[Any] = [None] * count
        self.barrier = threading.Barrier(count)

    def mean(self, index: int, product: Tensor) -> Tensor:
        self.slots[index] = product
        self.barrier.wait(_PATIENCE)
        slots = list(self.slots)
        self.barrier.wait(_PATIENCE)
        if any(s.shape != slots[0].shape for s in slots):
            raise DifferentWays(
                "The replicas of the infinite-width limit went different ways through the model "
                "(a router sent them different numbers of tokens).",
                "Use limit=False: networks of the model's own width.",
            )
        return torch.stack(slots).mean(0)


def together(run: Callable[[int, Callable[[Tensor], Tensor]], Any], count: int) -> list[Any]:
    """``run(i, pool)`` for i = 0 … count − 1 at once; ``pool`` averages over all of them."""
    meeting = _Meeting(count)
    results: list[Any] = [None] * count
    errors: list[tuple[int, BaseException]] = []

    def one(i: int) -> None:
        try:
            results[i] = run(i, lambda product: meeting.mean(i, product))
        except BaseException as error:
            errors.append((i, error))
            meeting.barrier.abort()

    threads = [threading.Thread(target=one, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    real = [e for _, e in errors if not isinstance(e, threading.BrokenBarrierError)]
    if real:
        raise real[0]
    if errors:
        raise DifferentWays(
            "The replicas of the infinite-width limit did not meet: the model calls other layers "
            "in one than in another.",
            "Use limit=False.",
        )
    return results
