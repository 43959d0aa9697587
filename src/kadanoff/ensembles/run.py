"""Running an ensemble: blocks with their own seeds, merged in order, on any number of workers."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from kadanoff import devices
from kadanoff.ensembles import checkpoint as store
from kadanoff.ensembles.moments import Measured, Moments
from kadanoff.ensembles.plan import Plan, collect
from kadanoff.ensembles.reference import Reference, reference
from kadanoff.ensembles.result import Ensemble
from kadanoff.ensembles.statistics import NAMES, RANKS, observables
from kadanoff.errors import AnalysisError, UsageError

__all__ = ["ensemble", "estimates", "stream"]

_TRIES = 4  # a worker may be killed this often before we give up


def ensemble(
    arch: Any,
    X: Any,
    n_networks: int = 10_000,
    method: str = "exact",
    *,
    seed: int = 0,
    observables: Iterable[str] | None = None,
    layers: Iterable[int] | None = None,
    rtol: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
    progress: Callable[..., None] | None = None,
    device: str = "cpu",
    rows: int = 4,
    batch: int | None = None,
    **module_options: Any,
) -> Ensemble:
    """Statistics of an ensemble of random networks by simulation, with standard errors.

    Parameters
    ----------
    arch : Network, or callable
        A description (:func:`kadanoff.MLP`, :func:`kadanoff.Residual`), or a factory
        ``factory(seed) -> torch.nn.Module`` that builds one network of your own; see
        :mod:`kadanoff.ensembles.module` for its options.
    X : array, shape (N, n_0)
    n_networks : int
        How many networks; the most if ``rtol`` is given.
    method : {"exact", "weights"}
        "exact" draws activations and gradients from their joint law and no weights, at a cost
        linear in the width: Gaussian and orthogonal weights, with or without skips and two-layer
        blocks. "weights" draws the networks themselves, uniform weights too.
    seed : int
        The result is a function of it, bit for bit, whatever ``n_jobs`` and ``batch`` are.
    observables : names, optional
        Default: all that exist. Fewer are faster, P … U above all.
    layers : numbers, optional
        Layers to measure, 1 … L; default all. Cost of NTK observables grows with their number.
    rtol : float, optional
        Stop when every standard error is below ``rtol`` times the largest component of its
        observable at that layer.
    checkpoint : path, optional
        Written after every block and read at the start: a killed run goes on where it was and
        gives bitwise what an uninterrupted one gives.
    n_jobs : int, optional
        Workers, one thread each. Default: in this process, unless
        ``joblib.parallel_config(backend=..., n_jobs=...)`` says otherwise (loky, ray, dask).
    progress : callable, optional
        ``progress(done, total, relative_error=...)`` after every block, networks done and asked
        for, and the current largest relative standard error.
    device : str
        "cuda" runs the blocks batched on the GPU.
    rows : int
        Rows of the next map that probe the NTK of each network, at least 2.
    batch : int, optional
        Blocks handed to the workers at a time. Changes nothing but memory and latency.

    Returns
    -------
    Ensemble

    Raises
    ------
    UsageError
        Unknown method, observable or layer; a method that the architecture does not allow.
    AnalysisError
        Workers kept dying.

    Examples
    --------
    >>> import torch, kadanoff as kd
    >>> arch = kd.MLP(n_in=2, widths=[32, 32], n_out=1, activation="relu", C_W=2.0)
    >>> ens = kd.ensemble(arch, torch.ones(1, 2), 2000, observables=["V"])
    >>> abs(float(ens.V.value[1]) - 20.0) < 4 * float(ens.V.stderr[1])
    True
    """
    n_networks = _count("n_networks", n_networks, 2)
    if rtol is not None and not 0 < rtol < 1:
        raise UsageError(f"rtol must lie between 0 and 1, got {rtol!r}.", "Try rtol=0.02.")
    seed = _count("seed", seed, 0)
    if not hasattr(arch, "activations"):
        from kadanoff.ensembles.module import module_ensemble

        return module_ensemble(
            arch, X, n_networks, seed=seed, observables=observables, rtol=rtol,
            checkpoint=checkpoint, n_jobs=n_jobs, progress=progress, batch=batch,
            **module_options,
        )  # fmt: skip
    if module_options:
        raise UsageError(f"Unknown argument {next(iter(module_options))!r} for an architecture.")
    start = time.perf_counter()
    plan, undefined = make_plan(arch, X, method, seed, observables, layers, rows, device)

    def estimate(moments: Moments) -> dict[str, Measured]:
        return estimates(plan, moments)

    moments, converged = stream(
        plan, n_networks, estimate, rtol=rtol, checkpoint=checkpoint, n_jobs=n_jobs,
        progress=progress, batch=batch,
    )  # fmt: skip
    values = estimate(moments)
    return Ensemble(
        arch, plan.X, moments.n, method, seed, values, undefined,
        time.perf_counter() - start, converged,
    )  # fmt: skip


def _count(name: str, value: Any, least: int) -> int:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or int(value) != value or value < least:
        raise UsageError(f"{name} must be a whole number >= {least}, got {value!r}.")
    return int(value)


def wanted_names(spec: Iterable[str] | None, undefined: dict[str, str]) -> frozenset[str]:
    """The observables asked for, without those that ``undefined`` explains away by default."""
    if spec is None:
        return frozenset(NAMES) - set(undefined)
    names = [spec] if isinstance(spec, str) else list(spec)
    names = ["K" if name == "G" else name for name in names]
    for name in names:
        if name not in RANKS:
            raise UsageError(f"No observable is called {name!r}.", f"There are {', '.join(NAMES)}.")
        if name in undefined:
            raise UsageError(f"{name} cannot be measured here: {undefined[name]}.")
    return frozenset(names)


def make_plan(
    arch: Any, X: Any, method: str, seed: int, observables, layers, rows: int, device: str
) -> tuple[Plan, dict[str, str]]:
    """Check a request and say what will be measured, and what cannot be and why."""
    if method not in ("exact", "weights"):
        raise UsageError(f"method must be 'exact' or 'weights', got {method!r}.")
    inputs = arch.inputs(X)
    plain = not arch.residual and arch.block == "single"
    if method == "exact" and arch.init == "uniform":
        raise UsageError(
            "method='exact' needs a law of the weights that no rotation changes, Gaussian or "
            "orthogonal, got init='uniform'.",
            "Use method='weights'.",
        )
    if rows < 2:
        raise UsageError(f"rows must be at least 2, got {rows!r}: covariances need pairs.")
    devices.chosen(device)
    sampler = method
    if not plain or arch.init == "orthogonal":
        sampler = "direct" if method == "weights" else "probed"
    undefined: dict[str, str] = {}
    if len(inputs) > 1:
        undefined["U6"] = "the six-point vertex is measured for one input"
    for name in "PQRSTU":
        if not all(act.smooth for act in arch.activations):
            undefined[name] = (
                "the second derivative of a kinked activation is a delta function, which no "
                "sample of networks sees"
            )
    names = wanted_names(observables, undefined)
    chosen = range(1, arch.L + 1) if layers is None else list(layers)
    for l in chosen:
        if l not in range(1, arch.L + 1):
            raise UsageError(f"There is no layer {l!r}.", f"Layers are 1 … {arch.L}.")
    whole = sampler in ("direct", "probed")
    if whole and arch.init != "orthogonal" and arch.n[-1] < 16:
        # more outputs leave the law of the others as it is, and give pairs of them
        arch = dataclasses.replace(arch, n=(*arch.n[:-1], 16))
    first = (0,) if whole else ()
    indices = frozenset(l - 1 for l in chosen if l > 1 or l - 1 in first)
    ref = _reference(arch, inputs)
    plan = Plan(arch, inputs, ref, names, indices, sampler, rows, seed, device)
    return plan, undefined


def _reference(arch: Any, X: Tensor) -> Reference:
    return reference(arch, X)


def estimates(plan: Plan, moments: Moments) -> dict[str, Measured]:
    """Observables and their errors from the sums so far."""
    widths = torch.tensor(plan.arch.n[:-1], dtype=torch.float64)
    names = set(plan.names)
    found = moments.estimate(
        lambda means: observables(means, plan.ref.K, plan.ref.Theta, widths, names)
    )
    return {name: _cleared(m) for name, m in found.items()}


def _cleared(m: Measured) -> Measured:
    """Zero where nothing but rounding is left: the same for every network."""
    rounding = (m.value.abs() < 1e-12) & (m.stderr < 1e-12)
    return Measured(m.value.masked_fill(rounding, 0.0), m.stderr.masked_fill(m.stderr < 1e-14, 0.0))


def relative_error(values: dict[str, Measured]) -> float:
    """Largest standard error over the largest component, by observable and layer."""
    worst = 0.0
    for m in values.values():
        value, stderr = (t.reshape(len(t), -1) for t in (m.value, m.stderr))
        scale, error = value.abs().amax(1), stderr.amax(1)
        moving = (error > 0) & torch.isfinite(error)
        if moving.any():
            worst = max(worst, float((error[moving] / scale[moving]).max()))
    return worst


def stream(
    plan: Any,
    n_networks: int,
    estimate: Callable[[Moments], dict[str, Measured]],
    *,
    rtol: float | None,
    checkpoint: str | os.PathLike[str] | None,
    n_jobs: int | None,
    progress: Callable[..., None] | None,
    batch: int | None,
) -> tuple[Moments, bool | None]:
    """Run blocks and merge them in order; ``plan`` offers block, run(i, size), fingerprint()."""
    fingerprint = plan.fingerprint() if checkpoint is not None else ""
    done, moments = (
        store.load(checkpoint, fingerprint) if checkpoint is not None else (0, Moments())
    )
    sizes = [min(plan.block, n_networks - at) for at in range(0, n_networks, plan.block)]
    if done > len(sizes) or (done == len(sizes) and sizes[-1] < plan.block):
        raise UsageError(
            f"The checkpoint already holds {moments.n} networks, {n_networks} were asked for.",
            "Ask for as many or more, or name another file.",
        )
    error = math.inf
    converged = None if rtol is None else False
    if done and (rtol is not None or progress is not None):
        error = relative_error(estimate(moments))
        if rtol is not None and error <= rtol and _checked(done):
            return moments, True
    rest = list(enumerate(sizes))[done:]
    with contextlib.closing(_results(plan, rest, n_jobs, batch)) as results:
        for (block, size), pieces in zip(rest, results, strict=False):
            collect(moments, pieces)
            if checkpoint is not None and size == plan.block:
                store.save(checkpoint, fingerprint, block + 1, moments)
            # the schedule depends on the block's number alone, or the answer would depend on
            # who asked
            due = _checked(block + 1) or block + 1 == len(sizes)
            if due and (rtol is not None or progress is not None):
                error = relative_error(estimate(moments))
            if progress is not None:
                progress(moments.n, n_networks, relative_error=error)
            if rtol is not None and due and error <= rtol:
                converged = True
                break
    return moments, converged


def _checked(blocks: int) -> bool:
    """Whether precision is looked at after this many blocks: 1 … 8, then every eighth more."""
    step = 1
    while blocks > 8 * step:
        step *= 2
    return blocks % step == 0


def _results(
    plan: Any, todo: Sequence[tuple[int, int]], n_jobs: int | None, batch: int | None
) -> Generator[list, None, None]:
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


def _window(plan: Any, todo: Sequence[tuple[int, int]], n_jobs: int | None) -> Any:
    import joblib

    # a pool of processes dies with one of its workers; blocks are pure, so they are just redone
    for attempt in range(1, _TRIES + 1):
        try:
            return joblib.Parallel(n_jobs=n_jobs)(
                joblib.delayed(_task)(plan, block, size) for block, size in todo
            )
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


def _task(plan: Any, block: int, size: int) -> list:
    """One block on one thread: more threads are slower here and change the order of sums."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.no_grad():
            return plan.run(block, size)
    finally:
        torch.set_num_threads(threads)
