"""Blocks of networks with their own seeds, merged in order, on any number of workers."""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from kadanoff.ensembles import checkpoint as store
from kadanoff.ensembles.moments import Measured, Moments, ready
from kadanoff.errors import AnalysisError, UsageError

__all__ = ["relative_error", "stream"]

Piece = tuple[int, dict[str, Tensor]]
"""How many networks, and the sums of their channels."""

_TRIES = 4  # a worker may be killed this often before we give up


def relative_error(values: dict[str, Measured]) -> float:
    """Largest standard error over the largest component, by observable and layer."""
    worst = 0.0
    for m in values.values():
        # one number alone is its own layer
        rows = len(m.value) if m.value.ndim else 1
        value, stderr = (t.reshape(rows, -1) for t in (m.value, m.stderr))
        scale, error = value.abs().amax(1), stderr.amax(1)
        moving = (error > 0) & torch.isfinite(error)
        if moving.any():
            worst = max(worst, float((error[moving] / scale[moving]).max()))
    return worst


class Sampling(Protocol):
    """What is sampled, block by block; sends itself to workers."""

    @property
    def block(self) -> int:
        """Networks in a block."""
        ...

    def run(self, block: int, size: int) -> list[Piece]:
        """Sums over the networks of a block, piece by piece."""
        ...

    def fingerprint(self) -> str:
        """Changes with anything that changes the numbers."""
        ...


class _Precision:
    """When the relative error is looked at, and whether it is small enough."""

    def __init__(
        self,
        estimate: Callable[[Moments], dict[str, Measured]],
        rtol: float | None,
        watched: bool,
    ) -> None:
        self.estimate, self.rtol = estimate, rtol
        self.wanted = rtol is not None or watched
        self.error = math.inf

    def look(self, moments: Moments) -> None:
        if self.wanted:
            self.error = relative_error(self.estimate(moments))

    @property
    def reached(self) -> bool:
        return self.rtol is not None and self.error <= self.rtol


def stream(
    plan: Sampling,
    n_networks: int,
    estimate: Callable[[Moments], dict[str, Measured]],
    *,
    rtol: float | None,
    checkpoint: str | os.PathLike[str] | None,
    n_jobs: int | None,
    progress: Callable[..., None] | None,
    batch: int | None,
) -> tuple[Moments, bool | None]:
    """Run blocks and merge them in order; ``plan`` offers block, run(i, size), fingerprint().

    Parameters
    ----------
    plan : EnsemblePlan, FactoryPlan or ModulePlan
        What is sampled.
    n_networks : int
        How many; the most if ``rtol`` is given.
    estimate : callable
        From :class:`Moments` to observables with errors.
    rtol : float or None
        Stop at this relative standard error.
    checkpoint : path or None
    n_jobs : int or None
        Workers; None asks joblib's configuration.
    progress : callable or None
        ``progress(done, total, relative_error=...)``.
    batch : int or None
        Blocks handed out at a time.
    """
    ready()
    fingerprint, done, moments = "", 0, Moments()
    if checkpoint is not None:
        fingerprint = plan.fingerprint()
        done, moments = store.load(checkpoint, fingerprint)
    sizes = [min(plan.block, n_networks - at) for at in range(0, n_networks, plan.block)]
    if done > len(sizes) or (done == len(sizes) and sizes[-1] < plan.block):
        raise UsageError(
            f"The checkpoint already holds {moments.n} networks, {n_networks} were asked for.",
            "Ask for as many or more, or name another file.",
        )
    precision = _Precision(estimate, rtol, progress is not None)
    if done:
        precision.look(moments)
        if precision.reached and _checked(done):
            return moments, True
    rest = list(enumerate(sizes))[done:]
    with contextlib.closing(_results(plan, rest, n_jobs, batch)) as results:
        for (block, size), pieces in zip(rest, results, strict=False):
            for count, sums in pieces:
                moments.add(count, sums)
            if checkpoint is not None and size == plan.block:
                store.save(checkpoint, fingerprint, block + 1, moments)
            # the schedule depends on the block's number alone, or the answer would depend on
            # who asked
            due = _checked(block + 1) or block + 1 == len(sizes)
            if due:
                precision.look(moments)
            if progress is not None:
                progress(moments.n, n_networks, relative_error=precision.error)
            if due and precision.reached:
                return moments, True
    return moments, None if rtol is None else False


def _checked(blocks: int) -> bool:
    """Whether precision is looked at after this many blocks: 1 … 8, then every eighth more."""
    step = 1
    while blocks > 8 * step:
        step *= 2
    return blocks % step == 0


def _results(
    plan: Sampling, todo: Sequence[tuple[int, int]], n_jobs: int | None, batch: int | None
) -> Generator[list[Piece], None, None]:
    import joblib

    configured: Any = joblib.parallel.get_active_backend()[1]
    alone = n_jobs == 1 or (n_jobs is None and configured in (None, 1))
    if alone:
        for block, size in todo:
            yield _task(plan, block, size)
        return
    wanted: Any = configured if n_jobs is None else n_jobs
    workers = joblib.effective_n_jobs(wanted)
    window = max(1, batch if batch is not None else 4 * workers)
    for at in range(0, len(todo), window):
        yield from _window(plan, todo[at : at + window], n_jobs)


def _window(
    plan: Sampling, todo: Sequence[tuple[int, int]], n_jobs: int | None
) -> list[list[Piece]]:
    import joblib

    # a pool of processes dies with one of its workers; blocks are pure, so they are just redone
    for attempt in range(1, _TRIES + 1):
        try:
            pieces: Any = joblib.Parallel(n_jobs=n_jobs)(
                joblib.delayed(_task)(plan, block, size) for block, size in todo
            )
            return list(pieces)
        except Exception as error:
            if not _worker_died(error):
                raise
            if attempt == _TRIES:
                raise AnalysisError(
                    f"Workers died {_TRIES} times in a row ({type(error).__name__}: {error}).",
                    "Often too little memory: use fewer workers (n_jobs=).",
                ) from error
    raise AssertionError("unreachable")


def _worker_died(error: Exception) -> bool:
    """Whether a process went away, by loky's, Dask's or Ray's name for it."""
    names = " ".join(kind.__name__ for kind in type(error).__mro__)
    lost = any(word in names for word in ("TerminatedWorker", "KilledWorker", "ActorError"))
    return lost or "WorkerCrashed" in names or isinstance(error, BrokenPipeError)


def _task(plan: Sampling, block: int, size: int) -> list[Piece]:
    """One block on one thread: more threads are slower here and change the order of sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            return plan.run(block, size)
    finally:
        torch.set_num_threads(threads)
