"""Ensembles of any module: run on the law of its weights, with errors and spreads."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from kadanoff import devices
from kadanoff.ensembles.moments import Measured, Moments
from kadanoff.ensembles.run import stream
from kadanoff.errors import UsageError
from kadanoff.program.bare import skeleton
from kadanoff.program.batch import task as task_of
from kadanoff.program.finite import kept_as_it_is, not_self_averaging
from kadanoff.program.initial import build
from kadanoff.program.initial import laws as laws_of
from kadanoff.program.law import Law
from kadanoff.program.mode import refuse
from kadanoff.program.plan import ModulePlan, Notes
from kadanoff.program.pool import DifferentWays
from kadanoff.program.records import OUTPUT, NetworkRecord, Task
from kadanoff.program.result import ModuleEnsemble, Quantity, quantities
from kadanoff.trace.hf import tensors_in
from kadanoff.trace.recorder import unwrap
from kadanoff.trace.scripted import eager

__all__ = ["METHODS", "expect", "module_ensemble"]

METHODS = ("exact", "undrawn", "drawn", "instances")
_REPLICAS = 8
_LARGE = 1 << 28  # parameters: more than fit beside what else is in memory

Model = nn.Module | Callable[..., nn.Module]


def module_ensemble(
    model: Model,
    batch: Any,
    n_networks: int = 64,
    *,
    loss: Callable[..., Tensor] | None = None,
    targets: Any = None,
    rtol: float | None = None,
    limit: bool = False,
    method: str = "exact",
    laws: Mapping[str, Law] | None = None,
    probes: int = 2,
    ntk: bool = False,
    seed: int = 0,
    device: Any = None,
    n_jobs: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[..., None] | None = None,
    replicas: int = _REPLICAS,
    limit_bytes: int | None = None,
) -> ModuleEnsemble:
    """Signal, gradients and their spread in random networks of any module, without their weights.

    Parameters
    ----------
    model : nn.Module, or callable without arguments that returns one
        On any device, the meta device included. It is run in the mode it is in, dropout off; its
        own weights are not read, unless their law is to be taken from them.
    batch : tensor, mapping, or (inputs, targets)
        The same batch for every network.
    n_networks : int
        How many networks; the most if ``rtol`` is given.
    loss : callable, optional
        ``loss(output, targets)``, for gradients. Default: the model's own, or one that goes with
        the targets, else a random projection of the output.
    targets : optional
        If they are not in ``batch``.
    rtol : float, optional
        Stop when the standard error of every second moment, Jacobian and gradient is below
        ``rtol`` times its mean.
    limit : bool
        The infinite-width limit: ``replicas`` networks share their Gram matrices, which makes
        them one network of that many times the width, at fixed head dimension. At least two such
        pools are run; errors and spreads are those between pools. Experts, which a router sends
        other rows in each replica, stay at their own width; ``notes`` says so.
    method : {"exact", "undrawn", "drawn", "instances"}
        "exact" answers each linear map by its law where that is cheaper than drawing the weight;
        "undrawn" wherever there is a law; "drawn" draws every weight from its law; "instances"
        lets a factory build every network.
    laws : mapping of str to Law, optional
        Overrides, by parameter name, what :func:`kadanoff.program.laws` finds.
    probes : int
        Random cotangents for each Jacobian; 0 leaves Jacobians out.
    ntk : bool
        Measure the NTK between samples too, averaged over outputs: a backward pass a sample,
        ``ensemble.calls["ntk"]["0,1"]``. λ is 1/fan-in of matrices, 1 of vectors.
    seed : int
        The result is a function of it, bit for bit, whatever ``n_jobs`` is.
    device : optional
        Where to compute. Default: where the batch is.
    n_jobs : int, optional
        Workers; default: in this process, or what ``joblib.parallel_config`` says.
    checkpoint : path, optional
        Written after every block of networks and read at the start.
    progress : callable, optional
        ``progress(done, total, relative_error=...)``.
    replicas : int
        With ``limit=True``: networks side by side.
    limit_bytes : int, optional
        Refuse to draw a larger parameter than this.

    Returns
    -------
    ModuleEnsemble

    Raises
    ------
    UsageError, DataError
        The call is wrong; the message says what to do.
    AnalysisError
        The model fails on the batch, or memory does not suffice.

    Notes
    -----
    Exact at any width for normal weights. Uniform and truncated weights are drawn where they are
    small or where their excess kurtosis shows; their sums over a wide fan-in are taken as normal.

    Examples
    --------
    >>> import torch, kadanoff as kd
    >>> layer = torch.nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    >>> ens = kd.ensemble(layer, torch.randn(2, 5, 64), 16)
    >>> ens["linear1"]["second_moment"].spread > 0
    True
    """
    start = time.perf_counter()
    plan, words = make_plan(
        model,
        batch,
        loss=loss,
        targets=targets,
        limit=limit,
        method=method,
        laws=laws,
        probes=probes,
        seed=seed,
        device=device,
        replicas=replicas,
        limit_bytes=limit_bytes,
    )
    plan = replace(plan, task=replace(plan.task, ntk=ntk))
    n_networks = _whole("n_networks", n_networks, 2)
    if limit:
        n_networks = max(2, n_networks // plan.replicas) * plan.replicas
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as workers do: more would change the order of sums
    try:
        with torch.enable_grad():
            plan, done, notes = _first(plan, limit)
    finally:
        torch.set_num_threads(threads)
    plan = replace(plan, first=tuple(done))
    moments, converged = stream(
        plan,
        n_networks,
        _judged,
        rtol=rtol,
        checkpoint=checkpoint,
        n_jobs=n_jobs,
        progress=progress,
        batch=None,
    )
    return _result(plan, moments, notes, words, limit, converged, time.perf_counter() - start)


def _first(plan: ModulePlan, limit: bool) -> tuple[ModulePlan, list[NetworkRecord], Notes]:
    """The first network, or the first replicas; with what replicas cannot share found out."""
    if not limit:
        record, notes = plan.network(0)
        return plan, [record], notes
    try:
        return plan, *plan.pooled(0, plan.replicas)
    except DifferentWays:
        plan = replace(plan, apart=plan.different_ways())
        if not plan.apart:
            raise
    return plan, *plan.pooled(0, plan.replicas)


def make_plan(
    model: Model,
    batch: Any,
    *,
    loss: Callable[..., Tensor] | None,
    targets: Any,
    limit: bool,
    method: str,
    laws: Mapping[str, Law] | None,
    probes: int,
    seed: int,
    device: Any,
    replicas: int,
    limit_bytes: int | None,
) -> tuple[ModulePlan, dict[str, str]]:
    """Check a request and prepare what workers need; and the laws in words."""
    seed, replicas = _whole("seed", seed, 0), _whole("replicas", replicas, 2)
    factory = None if isinstance(model, nn.Module) else _factory(model)
    _check_method(method, limit, factory)
    where = _place(batch, device)
    source: Any = model if factory is None else factory
    if isinstance(source, nn.Module):
        source, _ = unwrap(source)
        if isinstance(source, torch.jit.ScriptModule):
            plain = task_of(batch, targets, loss, probes, where, torch.get_default_dtype())
            source = eager(source, plain.args, plain.kwargs)
        for name, parameter in source.named_parameters():
            refuse(name, parameter)
    bones = skeleton(source, where)
    found = _laws(source, bones, laws)
    floating = [p for p in bones.parameters() if p.is_floating_point()]
    if not floating:
        raise UsageError(
            f"The model {type(bones).__name__} has no floating parameters: nothing is random."
        )
    asked: Task = task_of(batch, targets, loss, probes, where, floating[0].dtype)
    names = dict(bones.named_parameters())
    unknown = [n for n in names if n not in found]
    if unknown:
        raise UsageError(f"There is no law for the parameter {unknown[0]}.", "Pass it in laws=.")
    sizes = {n: max(p.numel(), 1) for n, p in names.items()}
    plan = ModulePlan(
        bones,
        factory,
        {n: found[n] for n in names},
        asked,
        method,
        seed,
        where,
        replicas if limit else 1,
        limit_bytes,
        replicas if limit else 4,
        sizes,
    )
    return plan, {n: _in_words(found[n]) for n in names}


def _check_method(method: str, limit: bool, factory: Callable[[], nn.Module] | None) -> None:
    if method not in METHODS:
        raise UsageError(f"method must be one of {', '.join(METHODS)}, got {method!r}.")
    if limit and method != "exact":
        raise UsageError(f"limit=True goes with method='exact', got {method!r}.")
    if method == "instances" and factory is None:
        raise UsageError(
            "method='instances' builds every network anew, but got one instance.",
            "Pass the factory, or use method='drawn', which draws every weight from its law.",
        )


def _place(batch: Any, device: Any) -> torch.device:
    """The device asked for, else that of the batch."""
    where = devices.chosen(device, torch.float32)
    if where is not None:
        return where
    first = next(tensors_in(batch if not isinstance(batch, dict) else list(batch.values())), None)
    return first.device if isinstance(first, Tensor) else torch.device("cpu")


def _factory(model: Any) -> Callable[[], nn.Module]:
    if not callable(model):
        raise UsageError(
            f"Expected a torch.nn.Module or a function that builds one, got {type(model).__name__}."
        )
    return cast("Callable[[], nn.Module]", model)


def _laws(model: Any, bones: nn.Module, override: Mapping[str, Law] | None) -> dict[str, Law]:
    """The law of every parameter; a factory of something large is not run in numbers."""
    large = sum(p.numel() for p in bones.parameters()) > _LARGE
    if not isinstance(model, nn.Module) and large:
        return dict(build(model, meta=True).laws.override(override or {}))
    return dict(laws_of(model, override=override))


def _in_words(law: Law) -> str:
    if not law.random:
        return "constant" if not law.source else f"constant ({law.source})"
    text = f"{law.kind}, std {law.std:.4g}"
    text += f" ± {law.std_error:.1g}" if law.std_error else ""
    text += f", mean {law.mean:.4g}" if law.mean else ""
    return f"{text} ({law.source})" if law.source else text


def _whole(name: str, value: Any, least: int) -> int:
    good = isinstance(value, int) and not isinstance(value, bool)
    if not good or value < least:
        raise UsageError(f"{name} must be a whole number >= {least}, got {value!r}.")
    return value


def _judged(moments: Moments) -> dict[str, Measured]:
    """What ``rtol`` looks at: numbers that are positive by construction."""
    found = quantities(moments)
    wanted = ("second_moment", "jacobian", "jacobian_to_output", "gradient")
    kept = [q for name, q in found.items() if name.rpartition("|")[2] in wanted and q.value > 0]
    value = torch.tensor([q.value for q in kept], dtype=torch.float64)
    return {"all": Measured(value, torch.tensor([q.stderr for q in kept], dtype=torch.float64))}


def _result(
    plan: ModulePlan,
    moments: Moments,
    notes: Notes,
    words: dict[str, str],
    limit: bool,
    converged: bool | None,
    seconds: float,
) -> ModuleEnsemble:
    found = quantities(moments)
    met: dict[str, dict[str, Quantity]] = {}
    for name, q in found.items():
        key, _, field = name.rpartition("|")
        if key and field != "gradient":
            met.setdefault(key, {})[field] = q
    order = dict.fromkeys((*notes.order, *(key for key in met if key != OUTPUT), OUTPUT))
    calls = {key: met[key] for key in order if key in met}
    gradients = {
        name: found[f"{name}|gradient"] for name in plan.sizes if f"{name}|gradient" in found
    }
    return ModuleEnsemble(
        calls,
        gradients,
        found["|loss"],
        list(notes.chain),
        words,
        notes.drawn,
        not_self_averaging(plan.model),
        moments.n,
        plan.method,
        limit,
        plan.seed,
        seconds,
        converged,
        [*kept_as_it_is(plan.model), *_uncertain(plan.laws), *_apart(plan.apart)],
    )


def _apart(names: frozenset[str]) -> list[str]:
    """What the infinite-width limit left at its own width."""
    if not names:
        return []
    return [
        f"{', '.join(sorted(names)[:3])}{', …' if len(names) > 3 else ''} see other rows in each "
        "replica (a router chooses them), which therefore do not share them: these maps are at "
        "the model's own width, all others at infinite width"
    ]


def _uncertain(laws: Mapping[str, Law]) -> list[str]:
    """Parameters whose law was measured on so few entries that the results feel it."""
    return [
        f"the law of {name} was measured: its std is known to {law.std_error / law.std:.1%}, which "
        "is in the spreads, and a part of the means' errors that more networks do not lower "
        "(laws= states it exactly)"
        for name, law in laws.items()
        if law.std > 0 and law.std_error > 0.005 * law.std
    ]


def expect(
    model: Model,
    batch: Any,
    loss: Callable[..., Tensor] | None = None,
    *,
    n_networks: int = 8,
    **options: Any,
) -> ModuleEnsemble:
    """What theory expects of one network of this model on this batch, with its spread.

    For callers that measure a network of their own and set its numbers beside; the same as
    :func:`kadanoff.ensemble` with few networks. See :meth:`Quantity.z`.

    Parameters
    ----------
    model : nn.Module, or callable
        Or a factory without arguments.
    batch
        Inputs, a mapping of them, or (inputs, targets).
    loss : callable, optional
        ``loss(output, targets)``; default: the model's own, or by its targets.
    n_networks : int
    **options
        As :func:`kadanoff.program.module_ensemble` takes them.
    """
    return module_ensemble(model, batch, n_networks, loss=loss, **options)


def takes_nothing(factory: Any) -> bool:
    """Whether a callable can be called without arguments."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return True
    return all(
        p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters
    )
