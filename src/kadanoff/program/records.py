"""What is kept of one network: numbers by call and by parameter, each a mean over its samples.

The estimators are those that :mod:`kadanoff.diagnosis` applies to the user's own network, so that
a measured number and the ensemble's are the same function of a forward and a backward pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from kadanoff.ensembles.module import learning_rates
from kadanoff.errors import AnalysisError, UsageError
from kadanoff.trace.hf import main_output
from kadanoff.trace.jacobians import jacobians_along, jacobians_to_output
from kadanoff.trace.layers import Call, Layers
from kadanoff.trace.losses import default_loss
from kadanoff.trace.recorder import Recorder
from kadanoff.trace.statistics import Statistics, reduce

__all__ = ["FIELDS", "NTK", "OUTPUT", "Host", "NetworkRecord", "Task", "call_keys", "measure"]

FIELDS = (
    "second_moment",
    "mean",
    "kurtosis",
    "correlation",
    "sample_correlation",
    "position_correlation",
    "jacobian",
    "jacobian_to_output",
    "zeros",
    "near_zeros",
    "saturated",
    "dead",
)
OUTPUT = "output"
NTK = "ntk"
_KINDS = ("linear", "add", "recurrent", "norm", "activation", "attention", "matmul")
_CARRIERS = ("linear", "add", "recurrent")


class Host(Protocol):
    """A network that can be run backward: undrawn, or a real module."""

    def backward(self, record: bool) -> AbstractContextManager[None]:
        """A new backward pass."""
        ...

    def gradients(self) -> dict[str, Tensor]:
        """|∂𝓛/∂θ|² by parameter."""
        ...

    def tangent(self, outputs: Tensor, rates: Callable[[str, Tensor], float]) -> Tensor:
        """Σ λ ∂f_k/∂θ ∂f_l/∂θ between numbers of one forward pass."""
        ...


@dataclass
class Task:
    """What every network is asked: the batch, the loss, how many random probes.

    Attributes
    ----------
    args, kwargs
        Of the model's call.
    targets : optional
    loss : callable, optional
        ``loss(output, targets)``, or ``loss(output)`` without targets.
    probes : int
        Random cotangents for each Jacobian norm; 0 measures none.
    samples : int
    ntk : bool
        Measure the NTK between samples, for one random direction of the output.
    """

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    targets: Any = None
    loss: Callable[..., Tensor] | None = None
    probes: int = 2
    samples: int = 1
    ntk: bool = False


@dataclass
class NetworkRecord:
    """One network's numbers.

    Attributes
    ----------
    values : dict
        ``(call, field)`` to a float.
    gradients : dict of str to float
        Mean over entries of (∂𝓛/∂θ)².
    loss : float
    chain : list of str
        Calls that carry the whole signal.
    """

    values: dict[tuple[str, str], float] = field(default_factory=dict)
    gradients: dict[str, float] = field(default_factory=dict)
    loss: float = float("nan")
    chain: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)


def call_keys(calls: list[Call]) -> list[str]:
    """A name for each call that is the same in every network: path, operation, which of them.

    ``"layers.3.mlp.fc1:linear"``; the second call of that operation there ends in ``"#1"``.
    """
    seen: Counter[str] = Counter()
    out = []
    for call in calls:
        name = f"{call.path}:{call.op}"
        out.append(name if not seen[name] else f"{name}#{seen[name]}")
        seen[name] += 1
    return out


def measure(
    model: nn.Module,
    host: Host,
    task: Task,
    generator: torch.Generator,
    sizes: dict[str, int],
) -> NetworkRecord:
    """Forward and backward of one network, and what is kept of it.

    Parameters
    ----------
    model : nn.Module
        Run inside the host's own context.
    host : Host
    task : Task
    generator : torch.Generator
        On the CPU, for probes.
    sizes : dict of str to int
        Entries of each parameter.
    """
    correlations: list[tuple[float, float]] = []
    normed: dict[int, Statistics] = {}

    def observe(call: Call, _args: tuple, _kwargs: dict, output: Any) -> None:
        correlations.append(_two_correlations(output, call, task.samples))
        if call.kind in ("norm", "attention") and isinstance(output, Tensor) and output.ndim > 1:
            normed[len(correlations) - 1] = reduce(output, call.channel)

    layers = Layers(graph=task.probes > 0, adds=True, observe=observe)
    with torch.enable_grad():
        with Recorder(model, layers):
            output = model(*task.args, **task.kwargs)
        main = main_output(output)
        if main is None:
            raise UsageError(
                f"The model returned {type(output).__name__} without a floating tensor.",
                "Return the output tensor, or a tuple or dict that holds it.",
            )
        calls, keys = layers.calls, call_keys(layers.calls)
        record = NetworkRecord(order=keys)
        for i, (call, key, pair) in enumerate(zip(calls, keys, correlations)):
            _statistics(record, call, key, pair, call.statistics or normed.get(i))
        _of_output(record, main)
        value = objective(output, main, task, generator)
        record.loss = float(value.detach())
        if value.requires_grad:
            with host.backward(record=True):
                value.backward(retain_graph=task.probes > 0 or task.ntk)
            for name, square in host.gradients().items():
                record.gradients[name] = float(square) / sizes[name]
        if task.probes and main.requires_grad:
            chain = layers.complete(main)
            _jacobians(record, calls, keys, chain, main, host, task, generator)
        if task.ntk and main.requires_grad:
            _tangent(record, main, host, generator)
    return record


def _tangent(record: NetworkRecord, main: Tensor, host: Host, generator: torch.Generator) -> None:
    """Θ between samples, averaged over outputs by one random direction v: f_a = v·z_a/√n_out."""
    z = main.reshape(main.shape[0], -1)
    v = _normal(z.shape[1:], z, generator) / z.shape[1] ** 0.5
    theta = host.tangent(z @ v, learning_rates)
    for a in range(len(theta)):
        for b in range(a + 1):
            record.values[NTK, f"{b},{a}"] = float(theta[a, b])


def objective(output: Any, main: Tensor, task: Task, generator: torch.Generator) -> Tensor:
    """The loss: the caller's, the model's own, one that goes with the targets, or a projection."""
    targets = task.targets
    if task.loss is not None:
        name = getattr(task.loss, "__name__", type(task.loss).__name__)
        try:
            value = task.loss(main, targets) if targets is not None else task.loss(output)
        except Exception as error:
            raise UsageError(
                f"The loss {name} failed: {type(error).__name__}: {str(error)[:160]}.",
                "It is called as loss(output, targets), or loss(output) without targets.",
            ) from error
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise UsageError(f"The loss {name} must return one number.")
        return value.reshape(())
    value = default_loss(output, targets)
    if value is not None:
        return value
    probe = _normal(main.shape, main, generator)
    rows = main.shape[0] if main.ndim else 1
    return (main * probe).sum() / (rows * (main.numel() / rows) ** 0.5)


def _normal(shape: Any, like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator).to(like.device, like.dtype)


def _statistics(
    record: NetworkRecord, call: Call, key: str, pair: tuple[float, float], found: Statistics | None
) -> None:
    if call.kind not in _KINDS:
        return
    if found is not None:
        for name in ("second_moment", "mean", "kurtosis", "correlation"):
            values = getattr(found, name)
            if values.numel():
                record.values[key, name] = float(values.double().mean())
        for name, value in zip(("sample_correlation", "position_correlation"), pair):
            if value == value:
                record.values[key, name] = value
    if call.units is not None:
        for name in ("zeros", "near_zeros", "saturated", "dead"):
            value = float(getattr(call.units, name).double().mean())
            if value == value:
                record.values[key, name] = value


def _of_output(record: NetworkRecord, main: Tensor) -> None:
    """The output itself (logits): its mean, mean square, and spread among its own entries."""
    z = main.detach().double()
    record.values[OUTPUT, "second_moment"] = float(z.square().mean())
    record.values[OUTPUT, "mean"] = float(z.mean())
    if z.ndim > 1 and z.shape[-1] > 1:
        record.values[OUTPUT, "variance"] = float(z.var(-1).mean())


def _two_correlations(output: Any, call: Call, samples: int) -> tuple[float, float]:
    """Mean cosine between samples at the same position, and between positions of one sample."""
    nan = float("nan")
    z = output[0] if isinstance(output, (tuple, list)) and output else output
    if call.statistics is None or not isinstance(z, Tensor) or z.ndim < 2:
        return nan, nan
    with torch.no_grad():
        z = z.detach()
        z = z.movedim(1, -1) if call.channel == 1 and z.ndim > 2 else z
        if z.shape[0] != samples:
            return nan, nan
        z = z.reshape(samples, -1, z.shape[-1]).to(torch.promote_types(z.dtype, torch.float32))
        if z.shape[1] > 256:
            z = z[:, :: z.shape[1] // 256 | 1]
        unit = z / torch.linalg.vector_norm(z, dim=-1, keepdim=True).clamp_min(1e-30)
        B, T = unit.shape[:2]
        own = unit.square().sum()
        between, within = nan, nan
        if B > 1:
            between = float((unit.sum(0).square().sum() - own) / (B * (B - 1) * T))
        if T > 1:
            within = float((unit.sum(1).square().sum() - own) / (B * T * (T - 1)))
        return between, within


def _jacobians(
    record: NetworkRecord,
    calls: list[Call],
    keys: list[str],
    chain: list[int],
    main: Tensor,
    host: Host,
    task: Task,
    generator: torch.Generator,
) -> None:
    useful = [i for i, c in enumerate(calls) if c.edge is not None and c.kind in _CARRIERS]
    edges = [calls[i].edge for i in useful]
    samples = task.samples
    if main.numel() % samples:
        samples = main.shape[0] if main.ndim else 1
    with host.backward(record=False):
        back = jacobians_to_output(main, edges, samples, task.probes, generator)
    for i, value in zip(useful, back):
        if value is not None:
            record.values[keys[i], "jacobian_to_output"] = float(value.mean())
    record.chain = [keys[i] for i in chain]
    links = [calls[i] for i in chain]
    shapes = [call.statistics.shape for call in links if call.statistics is not None]
    if len(shapes) < 2 or len(shapes) != len(links):
        return
    dtypes = [call.dtype or main.dtype for call in links]
    with host.backward(record=False):
        along = jacobians_along(
            [c.edge for c in links], shapes, dtypes, main.device, samples, task.probes, generator
        )
    for i, value in zip(chain, along):
        if value is not None:
            record.values[keys[i], "jacobian"] = float(value.mean())


def channels(record: NetworkRecord) -> Iterator[tuple[str, float]]:
    """Every number of a record under one flat name."""
    for (key, name), value in record.values.items():
        yield f"{key}|{name}", value
    for name, value in record.gradients.items():
        yield f"{name}|gradient", value
    yield "|loss", record.loss


def refuse_infinite(record: NetworkRecord, index: int) -> None:
    """Refuse a network whose loss is not a number.

    Raises
    ------
    AnalysisError
    """
    bad = [key for key, value in channels(record) if value != value or abs(value) == float("inf")]
    if bad:
        raise AnalysisError(
            f"Network {index} has values that are not finite, first at {bad[0]!r}.",
            "A model whose signal overflows its type has no statistics: compute in a wider type "
            "(model.double()), or look at the layer named.",
        )
