"""``ensemble``: what is asked for, planned, sampled and estimated."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn

from kadanoff import devices
from kadanoff.architecture import Network
from kadanoff.ensembles.blocks import stream
from kadanoff.ensembles.limit import Reference, reference
from kadanoff.ensembles.moments import BINS, Jackknife, Measured, Moments, each_measured
from kadanoff.ensembles.own import Observed, observe
from kadanoff.ensembles.plan import EnsemblePlan
from kadanoff.ensembles.result import Ensemble
from kadanoff.ensembles.statistics import observables, wanted_names
from kadanoff.errors import UsageError
from kadanoff.rgflow.observables import DIFFERENTIAL, RANK

__all__ = ["ensemble", "estimates", "make_plan"]

# numbers of float64 in 64 MB
_MOST_JOINT = 2**23


def ensemble(
    arch: Network | Callable[[int], nn.Module],
    X: ArrayLike,
    n_networks: int = 10_000,
    method: str = "exact",
    *,
    seed: int = 0,
    observables: Iterable[str] | Mapping[str, Callable[..., Tensor]] | None = None,
    layers: Iterable[int] | None = None,
    rtol: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    n_jobs: int | None = None,
    progress: Callable[..., None] | None = None,
    device: str = "cpu",
    rows: int = 4,
    batch: int | None = None,
    **module_options: Any,
) -> Ensemble | Observed:
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
    observables : names, or dict of name to callable, optional
        Default: all that exist. Fewer are faster, P … U above all. Callables are observables of
        your own: ``function(z)`` or ``function(z, ntk)`` of drawn networks, see
        :func:`kadanoff.ensembles.observe`; the answer is then an :class:`Observed`.
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
    Ensemble, or Observed for observables of your own

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
    streamed: dict[str, Any] = {
        "rtol": rtol,
        "checkpoint": checkpoint,
        "n_jobs": n_jobs,
        "progress": progress,
        "batch": batch,
    }
    if not isinstance(arch, Network):
        from kadanoff.ensembles.module import module_ensemble

        return module_ensemble(
            arch, X, n_networks, seed=seed, observables=observables, **streamed, **module_options
        )
    if isinstance(observables, Mapping):
        return observe(arch, X, n_networks, observables, seed=seed, device=device, **streamed)
    if module_options:
        raise UsageError(f"Unknown argument {next(iter(module_options))!r} for an architecture.")
    start = time.perf_counter()
    plan, undefined = make_plan(arch, X, method, seed, observables, layers, rows, device)

    def estimate(moments: Moments) -> dict[str, Measured]:
        return estimates(plan, moments)

    moments, converged = stream(plan, n_networks, estimate, **streamed)
    found, joint = moments.jackknife(_observables(plan))
    return Ensemble(
        arch=arch,
        X=plan.X,
        n_networks=moments.n,
        method=method,
        seed=seed,
        values=_each_cleared(found, joint),
        undefined=undefined,
        seconds=time.perf_counter() - start,
        converged=converged,
        joint=joint if _fits(plan) else None,
    )


def _count(name: str, value: Any, least: int) -> int:
    good = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not good or not math.isfinite(value) or int(value) != value or value < least:
        raise UsageError(f"{name} must be a whole number >= {least}, got {value!r}.")
    return int(value)


def make_plan(
    arch: Network,
    X: ArrayLike,
    method: str,
    seed: int,
    observables: Iterable[str] | None,
    layers: Iterable[int] | None,
    rows: int,
    device: str,
) -> tuple[EnsemblePlan, dict[str, str]]:
    """Check a request and say what will be measured, and what cannot be and why.

    Parameters
    ----------
    arch : Network
    X : array, shape (N, n_0)
    method : {"exact", "weights"}
    seed : int
    observables, layers
        As :func:`ensemble` takes them.
    rows : int
        Rows that probe the NTK.
    device : str
    """
    inputs = arch.inputs(X)
    sampler = _sampler(arch, method)
    if rows < 2:
        raise UsageError(f"rows must be at least 2, got {rows!r}: covariances need pairs.")
    devices.chosen(device)
    undefined = _undefined(arch, len(inputs))
    names = wanted_names(observables, undefined)
    chosen = range(1, arch.L + 1) if layers is None else list(layers)
    for l in chosen:
        if l not in range(1, arch.L + 1):
            raise UsageError(f"There is no layer {l!r}.", f"Layers are 1 … {arch.L}.")
    whole = sampler in ("direct", "probed")
    if whole and arch.init != "orthogonal" and arch.n[-1] < 16:
        # more outputs leave the law of the others as it is, and give pairs of them
        arch = dataclasses.replace(arch, n=(*arch.n[:-1], 16))
    # the first layer is Gaussian at any width: only whole layers look at it
    indices = frozenset(l - 1 for l in chosen if l > 1 or whole)
    ref = _reference(arch, inputs)
    plan = EnsemblePlan(arch, inputs, ref, names, indices, sampler, rows, seed, device)
    return plan, undefined


def _sampler(arch: Network, method: str) -> str:
    """exact | weights | probed | direct, see :class:`EnsemblePlan`."""
    if method not in ("exact", "weights"):
        raise UsageError(f"method must be 'exact' or 'weights', got {method!r}.")
    if method == "exact" and arch.init == "uniform":
        raise UsageError(
            "method='exact' needs a law of the weights that no rotation changes, Gaussian or "
            "orthogonal, got init='uniform'.",
            "Use method='weights'.",
        )
    # rows of the last map that are independent, and no neuron of the layer before beside them
    independent = not arch.residual and arch.block == "single" and arch.init != "orthogonal"
    if independent:
        return method
    return "direct" if method == "weights" else "probed"


def _undefined(arch: Network, inputs: int) -> dict[str, str]:
    """Observables that no ensemble of this architecture has, and why."""
    undefined: dict[str, str] = {}
    if inputs > 1:
        undefined["U6"] = "the six-point vertex is measured for one input"
    if not all(act.smooth for act in arch.activations):
        why = (
            "the second derivative of a kinked activation is a delta function, which no "
            "sample of networks sees"
        )
        undefined |= dict.fromkeys(DIFFERENTIAL, why)
    return undefined


def _reference(arch: Network, X: Tensor) -> Reference:
    return reference(arch, X)


def estimates(plan: EnsemblePlan, moments: Moments) -> dict[str, Measured]:
    """Observables and their errors from the sums so far."""
    return _each_cleared(*moments.jackknife(_observables(plan)))


def _observables(plan: EnsemblePlan) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """From mean channels to the observables of a plan."""
    widths = torch.tensor(plan.arch.n[:-1], dtype=torch.float64)
    names = set(plan.names)
    return lambda means: observables(means, plan.ref.K, plan.ref.Theta, widths, names)


def _fits(plan: EnsemblePlan) -> bool:
    """Whether the joint distribution of the observables is small enough to keep."""
    components = sum(plan.arch.L * len(plan.X) ** RANK[name] for name in plan.names)
    return BINS * components <= _MOST_JOINT


def _each_cleared(found: dict[str, Tensor], joint: Jackknife | None) -> dict[str, Measured]:
    return {name: _cleared(m) for name, m in each_measured(found, joint).items()}


def _cleared(m: Measured) -> Measured:
    """Zero where nothing but rounding is left: the same for every network."""
    rounding = (m.value.abs() < 1e-12) & (m.stderr < 1e-12)
    return Measured(m.value.masked_fill(rounding, 0.0), m.stderr.masked_fill(m.stderr < 1e-14, 0.0))
