"""Runs the order-1/n recursions over the layers, for all replicas of the averages side by side."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.devices import check_room
from kadanoff.errors import AnalysisError, KadanoffError, UsageError
from kadanoff.gaussian.replicas import Replicas, least_accurate
from kadanoff.rgflow import averages as tb
from kadanoff.rgflow.averages import Tables
from kadanoff.rgflow.differential import Differential, differential_step
from kadanoff.rgflow.kernel import Step, kernels, steps
from kadanoff.rgflow.kinks import is_bend
from kadanoff.rgflow.observables import DIFFERENTIAL, ROUGH, SMOOTH, TANGENT
from kadanoff.rgflow.residual import residual_flow, residual_replicas
from kadanoff.rgflow.statistics import STRATEGY, LastLayer, OrderOne
from kadanoff.rgflow.tangent import Tangent, tangent_step
from kadanoff.rgflow.vertex import first_vertex, six_point

__all__ = [
    "Keep",
    "default_tolerance",
    "last_layer",
    "order_one",
]

Keep = Literal["all", "last"]

# tensors of a step in passing, and the averages of four samples of one layer
_PASSING, _AVERAGES = 4, 6


@dataclass(frozen=True)
class _State:
    """All tensors of one layer from one replica; no ``differential`` where it was not asked for."""

    tangent: Tangent
    differential: Differential | None

    def next(self, step: Step, t: Tables, Theta: Tensor) -> _State:
        """Those of the next layer."""
        old = self.tangent
        new = tangent_step(step, t, Theta, old)
        if self.differential is None:
            return _State(new, None)
        deep = differential_step(step, t, Theta, old.B, old.F, new.F, self.differential)
        return _State(new, deep)

    def __getitem__(self, name: str) -> Tensor:
        return getattr(self.tangent if name in TANGENT else self.differential, name)


@dataclass
class _Store:
    """Values and errors of the layers that are kept."""

    rule: Replicas
    names: tuple[str, ...]
    layers: int
    tensors: dict[str, Tensor] = field(default_factory=dict)
    error: dict[str, Tensor] = field(default_factory=dict)

    def put(self, at: int, states: Sequence[_State]) -> None:
        """The replicas of one layer, into row ``at``."""
        for name in self.names:
            results = [state[name] for state in states]
            if name not in self.tensors:
                shape = (self.layers, *results[0].shape)
                self.tensors[name] = results[0].new_zeros(shape)
                self.error[name] = results[0].new_zeros(shape)
            self.tensors[name][at] = self.rule.value(results)
            self.error[name][at] = self.rule.spread(results)

    def finish(self) -> None:
        """What the replicas share is relative to the largest entry of all layers."""
        for name, error in self.error.items():
            error += self.rule.shared * float(self.tensors[name].abs().max())


def default_tolerance(inputs: int) -> float:
    """Aim of the relative error of the averages, for so many distinct inputs."""
    if inputs <= 4:
        return 1e-10
    return 1e-6 if inputs <= 16 else 1e-5


def order_one(
    arch: Network,
    X: Tensor,
    K: Sequence[Tensor],
    Theta: Sequence[Tensor],
    tolerance: float,
    *,
    names: Sequence[str] | None = None,
    keep: Keep = "all",
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> OrderOne:
    """Every 1/n observable at every layer.

    Parameters
    ----------
    arch : Network
    X : Tensor, shape (N, n_0)
        Distinct inputs; only uniform weights of the first map see more of them than their products.
    K, Theta : list of Tensor, each (N, N)
        Infinite-width kernel and NTK at layers 1 ... L.
    tolerance : float
        Aim of the error of the averages, relative to the norms of their factors.
    names : sequence of str, optional
        Observables wanted; by default all. What no other needs is not computed.
    keep : {"all", "last"}
        Layers wanted.
    device : str
        Where averages of more than ten inputs are taken; tensors come back to the CPU.
    progress : callable, optional
        ``progress(done, total)`` after every step.

    Raises
    ------
    UsageError
        The tensors do not fit into memory.
    """
    if not _plain(arch):
        return _selected(residual_flow(arch, X, K, Theta, tolerance), names, keep)
    _check_room(arch, len(X), names, keep, UsageError)
    run = _Run(arch, K, Theta, tolerance, names, device, progress)
    store = _Store(run.rule, run.names, arch.L if keep == "all" else 1)
    for l, states in enumerate(run.layers()):
        if keep == "all":
            store.put(l, states)
        elif l == arch.L - 1:
            store.put(0, states)
    store.finish()
    tensors, error, undefined = store.tensors, store.error, dict(run.undefined)
    if len(K[0]) == 1 and arch.init == "gaussian" and names is None and keep == "all":
        tensors["U6"] = _six_points(run.plan, K, tensors["V"])
        error["U6"] = 1e-12 * tensors["U6"].abs()
    else:
        undefined["U6"] = "the six-point vertex is given at one input of a plain Gaussian network."
    return OrderOne(tensors, error, STRATEGY[run.rule.kind], undefined)


def last_layer(
    arch: Network,
    X: Tensor,
    names: Sequence[str],
    *,
    tolerance: float | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Replicas, list[LastLayer]]:
    """The output layer from every replica of the averages, to carry what follows through each.

    What is made of the tensors may magnify their errors, by an ill-conditioned NTK for instance.
    Its own error is that of the rule: ``rule.value`` and ``rule.error`` of the replicas' results.

    Parameters
    ----------
    arch : Network
    X : Tensor, shape (N, n_0)
    names : sequence of str
        Observables of order 1/n; see :class:`kadanoff.rgflow.Flow`.
    tolerance, device, progress
        As in :func:`kadanoff.flow`.

    Returns
    -------
    rule : Replicas
    replicas : list of LastLayer

    Raises
    ------
    UsageError
        An observable does not exist for this architecture, or memory does not suffice.
    """
    X = arch.inputs(X)
    K, Theta = kernels(arch, arch.metric(X))
    tolerance = tolerance or default_tolerance(len(X))
    if not _plain(arch):
        found = residual_replicas(arch, X, K, Theta, tolerance)
        _require(names, found.runs[0], found.undefined)
        each = [{name: run[name][-1] for name in names} for run in found.runs]
        return found.rule, [LastLayer(K[-1], Theta[-1], **tensors) for tensors in each]
    _check_room(arch, len(X), names, "last", AnalysisError)
    run = _Run(arch, K, Theta, tolerance, names, device, progress)
    _require(names, run.names, run.undefined)
    states: list[_State] = []
    for layer in run.layers():
        states = layer
    each = [{name: state[name] for name in names} for state in states]
    return run.rule, [LastLayer(K[-1], Theta[-1], **tensors) for tensors in each]


class _Run:
    """A plain network: the averages of its layers, and the recursions over them."""

    def __init__(
        self,
        arch: Network,
        K: Sequence[Tensor],
        Theta: Sequence[Tensor],
        tolerance: float,
        names: Sequence[str] | None,
        device: str,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        self.arch, self.K, self.Theta, self.progress = arch, K, Theta, progress
        self.plan = steps(arch)
        # σ' is continuous, σ'' may jump: all tensors exist
        self.whole = all(is_bend(step.activation) for step in self.plan)
        every = (*TANGENT, *(DIFFERENTIAL if self.whole else ROUGH))
        self.names = every if names is None else tuple(n for n in every if n in names)
        self.deep = any(name in DIFFERENTIAL for name in self.names)
        patterns = tb.TANGENT
        if self.deep:
            patterns = tb.SMOOTH if self.whole else tb.DIFFERENTIAL
        self.undefined = {} if self.whole else dict.fromkeys(SMOOTH, tb.KINKED)
        rules = [Replicas("lattice", 2)]
        self.tables: list[Sequence[Tables]] = []
        for step in self.plan:
            kernel = K[step.layer - 1]
            rule, tables = tb.tables(step.activation, kernel, patterns, tolerance, device)
            rules.append(rule)
            self.tables.append(tables)
            self._tell(step.layer)
        self.rule = least_accurate(rules)

    def layers(self) -> Iterator[list[_State]]:
        """The replicas of layers 1 ... L in turn."""
        first = Tangent.first_layer(self.K[0], first_vertex(self.arch, self.K[0]))
        deep = Differential.first_layer(self.K[0], self.whole) if self.deep else None
        states = [_State(first, deep)] * self.rule.count
        yield states
        for step, tables in zip(self.plan, self.tables, strict=True):
            states = list(states)
            for r, state in enumerate(states):
                averages = tables[r % len(tables)]
                states[r] = state.next(step, averages, self.Theta[step.layer - 1])
                del averages
            self._tell(len(self.plan) + step.layer)
            yield states

    def _tell(self, done: int) -> None:
        if self.progress is not None:
            self.progress(done, 2 * len(self.plan))


def _plain(arch: Network) -> bool:
    return not arch.residual and arch.block == "single" and arch.init != "uniform"


def _require(names: Sequence[str], available: Container[str], undefined: Mapping[str, str]) -> None:
    for name in names:
        if name not in available:
            raise UsageError(f"{name} is not available here: {undefined[name]}")


def _selected(found: OrderOne, names: Sequence[str] | None, keep: Keep) -> OrderOne:
    """The observables and layers that were asked for."""
    wanted = found.tensors if names is None else [n for n in names if n in found.tensors]
    rows = slice(None) if keep == "all" else slice(-1, None)
    tensors = {name: found.tensors[name][rows] for name in wanted}
    error = {name: found.error[name][rows] for name in wanted}
    return OrderOne(tensors, error, found.strategy, found.undefined)


def _check_room(
    arch: Network,
    inputs: int,
    names: Sequence[str] | None,
    keep: Keep,
    refuse: type[KadanoffError],
) -> None:
    """Refuse what does not fit: tensors and errors kept, those of a step, and averages."""
    wanted = (*TANGENT, *DIFFERENTIAL) if names is None else names
    deep = any(name in DIFFERENTIAL for name in wanted)
    smooth = all(step.activation.smooth for step in steps(arch))
    four = sum(name not in ("G1", "H1") for name in wanted)
    kept = 2 * four * (arch.L if keep == "all" else 1)
    state = len(DIFFERENTIAL) + 5 if deep else 5
    replicas = 2 if smooth or inputs <= 3 else 8
    held = kept + (replicas + 1) * state + _PASSING + _AVERAGES
    if inputs <= 10 or not smooth:  # the averages of all replicas and layers are held at a time
        held += _AVERAGES * replicas * (arch.L - 1)
    check_room(
        8 * inputs**4 * held,
        f"order=1 for {inputs} inputs and {arch.L} layers",
        "Use fewer inputs, ask for some observables alone, or for the last layer.",
        refuse,
    )


def _six_points(plan: list[Step], K: Sequence[Tensor], V: Tensor) -> Tensor:
    U6 = [K[0].new_zeros(())]
    for step in plan:
        l = step.layer - 1
        U6.append(six_point(step, K[l], V[l], U6[-1]))
    return torch.stack(U6)
