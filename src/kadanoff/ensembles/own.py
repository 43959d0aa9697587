"""Observables of one's own: any function of preactivations and NTKs, with errors.

``ensemble(arch, X, observables={"name": function})`` measures them; :func:`sample` yields the drawn
networks themselves.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from kadanoff import devices
from kadanoff.architecture import Network
from kadanoff.ensembles.blocks import stream
from kadanoff.ensembles.direct import drawn_layers
from kadanoff.ensembles.moments import BINS, Measured, Moments, measured_jointly
from kadanoff.ensembles.normals import Normals
from kadanoff.errors import UsageError
from kadanoff.results import Result, Table

__all__ = ["Drawn", "Observed", "observe", "sample"]

OwnObservable = Callable[..., Tensor]

# networks drawn at a time, and pieces of a block that go to bins of their own
_PIECE_NUMBERS = 2**21
_PIECES = 16
_MOST = 256


@dataclass(frozen=True)
class Drawn:
    """Drawn networks on the inputs.

    Attributes
    ----------
    z : list of Tensor, shape (S, N, n_ℓ)
        Preactivations of S networks; ``z[0]`` is layer 1, ``z[-1]`` the output.
    ntk : list of Tensor, shape (S, N, N, n_ℓ, n_ℓ), or None
        Ĥ_{ij;ab} of each layer, with slots [a, b, i, j], in the book's learning-rate tensor.
    """

    z: list[Tensor]
    ntk: list[Tensor] | None = None


@dataclass(frozen=True, repr=False)
class Observed(Result):
    """Measured means of observables of one's own, with their joint distribution.

    Each name is an attribute too, a :class:`Measured` with ``.value`` and ``.stderr``.

    Attributes
    ----------
    arch : Network
    X : Tensor, shape (N, n_0)
    n_networks : int
    seed : int
    values : dict of str to Measured
    counts : Tensor, shape (64,)
        Networks in each of the bins that the errors come from.
    sums : dict of str to Tensor, shape (64, …)
        Sums over the networks of each bin.
    seconds : float
    converged : bool or None
        Whether ``rtol`` was reached; None if it was not asked for.
    """

    arch: Network
    X: Tensor
    n_networks: int
    seed: int
    values: dict[str, Measured]
    counts: Tensor
    sums: dict[str, Tensor] = field(default_factory=dict)
    seconds: float = 0.0
    converged: bool | None = None

    @property
    def network(self) -> Network:
        """The architecture."""
        return self.arch

    def __getattr__(self, name: str) -> Measured:
        values = self.__dict__.get("values", {})
        if name in values:
            return values[name]
        raise AttributeError(name)

    def names(self) -> list[str]:
        """The observables, in the order given."""
        return list(self.values)

    def of(self, function: Callable[[dict[str, Tensor]], Tensor]) -> Measured:
        """Any function of the means, with its standard error, correlations included.

        Parameters
        ----------
        function : callable
            From a dict of name to mean to a tensor: ``lambda m: m["A"] + 2 * m["B"]``.

        Notes
        -----
        Jackknife over the bins: the function is evaluated with each of them left out.

        Raises
        ------
        UsageError
            It does not return a tensor or a number.
        """
        moments = Moments()
        moments.counts, moments.sums = self.counts, self.sums
        values, joint = moments.jackknife(dict)
        return measured_jointly(values, joint, function)

    def covariance(self) -> Tensor:
        """Covariance matrix of the means, all components flattened one after the other, (M, M)."""
        used = torch.nonzero(self.counts).squeeze(1)
        counts = self.counts[used]
        flat = torch.cat([value[used].reshape(len(used), -1) for value in self.sums.values()], 1)
        mean = flat.sum(0) / counts.sum()
        apart = flat / counts[:, None] - mean
        # bins of unequal size: variance of one network from each, then of the mean
        variance = torch.einsum("b,bi,bj->ij", counts, apart, apart) / (len(used) - 1)
        return variance / counts.sum()

    def headline(self) -> str:
        """Networks, architecture and names in a few words."""
        return f"{self.n_networks} networks (seed {self.seed}), {self.arch!r}, " + ", ".join(
            self.values
        )

    def table(self) -> Table:
        """A row for each component, with its standard error."""
        rows: list[tuple[Any, ...]] = []
        for name, m in self.values.items():
            numbers = zip(m.value.flatten().tolist(), m.stderr.flatten().tolist(), strict=True)
            rows += [(name, i, value, stderr) for i, (value, stderr) in enumerate(numbers)]
        return Table(("observable", "component", "value", "stderr"), rows, self.headline())


@dataclass(frozen=True)
class _OwnPlan:
    """The sampling of one architecture with functions of its own; sends itself to workers."""

    arch: Network
    X: Tensor
    functions: dict[str, OwnObservable]
    ntk: bool
    seed: int
    device: str = "cpu"

    @property
    def piece(self) -> int:
        """Networks drawn at a time."""
        n, N = max(self.arch.n), len(self.X)
        size = n * (n + N) * (N * N if self.ntk else 1)
        return max(1, min(_MOST, _PIECE_NUMBERS // size))

    @property
    def block(self) -> int:
        """Networks in a block: the unit of seed, dispatch and checkpoint."""
        return _PIECES * self.piece

    def run(self, block: int, size: int) -> list[tuple[int, dict[str, Tensor]]]:
        """Sums over the networks of block number ``block``, piece by piece."""
        # a short block has more pieces, made smaller, so that the error bar is itself certain
        per = max(1, min(self.piece, -(-size // (BINS if size < self.block else _PIECES))))
        normals = Normals(self.seed, block, self.device)
        X = self.X.to(self.device)
        pieces: list[tuple[int, dict[str, Tensor]]] = []
        for start in range(0, size, per):
            count = min(per, size - start)
            drawn = _draw(self.arch, X, count, normals, self.ntk)
            sums = {
                name: _called(name, function, drawn).sum(0).double().cpu()
                for name, function in self.functions.items()
            }
            pieces.append((count, sums))
        return pieces

    def fingerprint(self) -> str:
        """Changes with the architecture, inputs, names, functions' code, seed and device."""
        arch = dataclasses.replace(self.arch, activations=())
        stream_of = (self.seed, self.device.split(":")[0], self.block, self.ntk)
        digest = hashlib.sha256(repr((arch, stream_of)).encode())
        for act in self.arch.activations:
            digest.update(act.fingerprint())
        digest.update(self.X.numpy().tobytes())
        for name, function in self.functions.items():
            code: Any = getattr(function, "__code__", None)
            body = (code.co_code, repr(code.co_consts), code.co_names) if code else repr(function)
            digest.update(repr((name, body)).encode())
        return digest.hexdigest()


def observe(
    arch: Network,
    X: ArrayLike,
    n_networks: int,
    observables: Mapping[str, OwnObservable],
    *,
    seed: int,
    device: str,
    **streamed: Any,
) -> Observed:
    """Measure functions of drawn networks; what :func:`ensemble` does with a dict of observables.

    Parameters
    ----------
    arch : Network
    X : array, shape (N, n_0)
    n_networks : int
    observables : dict of str to callable
        ``function(z)`` or ``function(z, ntk)``: lists by layer as in :class:`Drawn`. Returns a
        tensor whose first axis is the network, S of them; the rest is free.
    seed : int
    device : str
    **streamed
        rtol, checkpoint, n_jobs, progress, batch, as :func:`ensemble` takes them.

    Raises
    ------
    UsageError
        No function, one that cannot be called on the networks, or that returns another shape.
    """
    start = time.perf_counter()
    functions = dict(observables)
    for name, function in functions.items():
        if not isinstance(name, str) or not name.isidentifier() or not callable(function):
            raise UsageError(
                f"observables={{{name!r}: {function!r}}} is no name with a function.",
                "Pass {'name': function(z) or function(z, ntk)}.",
            )
    if not functions:
        raise UsageError("observables is empty.", "Pass {'name': function(z, ntk)}.")
    devices.chosen(device)
    ntk = any(_takes_ntk(function) for function in functions.values())
    plan = _OwnPlan(arch, arch.inputs(X), functions, ntk, seed, device)

    def estimate(moments: Moments) -> dict[str, Measured]:
        return moments.estimate(dict)

    moments, converged = stream(plan, n_networks, estimate, **streamed)
    return Observed(
        arch=arch,
        X=plan.X,
        n_networks=moments.n,
        seed=seed,
        values=estimate(moments),
        counts=moments.counts,
        sums=moments.sums,
        seconds=time.perf_counter() - start,
        converged=converged,
    )


def sample(
    arch: Network,
    X: ArrayLike,
    n_networks: int,
    *,
    seed: int = 0,
    ntk: bool = False,
    at_a_time: int = 64,
    device: str = "cpu",
) -> Iterator[Drawn]:
    """Drawn networks on inputs: preactivations, and NTKs, of every layer.

    Parameters
    ----------
    arch : Network
    X : array, shape (N, n_0)
    n_networks : int
    seed : int
        The networks are a function of it and of ``at_a_time``.
    ntk : bool
        Whether the NTK of every layer comes too, N² n_ℓ² numbers a network.
    at_a_time : int
        Networks in each :class:`Drawn`; the last may have fewer.
    device : str

    Yields
    ------
    Drawn

    Raises
    ------
    UsageError
        A number below 1, or no such device.

    Examples
    --------
    >>> import torch, kadanoff as kd
    >>> arch = kd.MLP(2, [32, 32], 1, "relu", C_W=2.0)
    >>> drawn = next(sample(arch, torch.ones(1, 2), 10, ntk=True))
    >>> drawn.z[1].shape, drawn.ntk[-1].shape
    (torch.Size([10, 1, 32]), torch.Size([10, 1, 1, 1, 1]))
    """
    for name, value in (("n_networks", n_networks), ("at_a_time", at_a_time)):
        if not isinstance(value, int) or value < 1:
            raise UsageError(f"{name} must be a whole number >= 1, got {value!r}.")
    devices.chosen(device)
    inputs = arch.inputs(X).to(device)
    for block, start in enumerate(range(0, n_networks, at_a_time)):
        normals = Normals(seed, block, device)
        yield _draw(arch, inputs, min(at_a_time, n_networks - start), normals, ntk)


def _draw(arch: Network, X: Tensor, count: int, normals: Normals, ntk: bool) -> Drawn:
    with torch.no_grad():
        layers = list(drawn_layers(arch, X, count, normals, ntk))
    kernels = [H for _, H in layers if H is not None]
    return Drawn([z for z, _ in layers], kernels if ntk else None)


def _takes_ntk(function: OwnObservable) -> bool:
    """Whether a function takes a second argument."""
    try:
        parameters: Sequence[inspect.Parameter] = list(
            inspect.signature(function).parameters.values()
        )
    except (TypeError, ValueError):
        return False
    positional = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    needed = [p for p in parameters if p.kind in positional and p.default is p.empty]
    return len(needed) > 1


def _called(name: str, function: OwnObservable, drawn: Drawn) -> Tensor:
    count = len(drawn.z[0])
    try:
        found = function(drawn.z, drawn.ntk) if _takes_ntk(function) else function(drawn.z)
    except Exception as error:
        raise UsageError(
            f"The observable {name!r} failed on {count} networks: {type(error).__name__}: {error}.",
            "It is called as function(z) or function(z, ntk), lists by layer of tensors "
            "(networks, inputs, neurons) and (networks, inputs, inputs, neurons, neurons).",
        ) from error
    if not isinstance(found, Tensor) or not found.ndim or len(found) != count:
        got = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise UsageError(
            f"The observable {name!r} gave {got} for {count} networks.",
            "It must give a tensor whose first axis is the network: do not average over it.",
        )
    if found.is_complex():
        raise UsageError(f"The observable {name!r} is complex.", "Return real and imaginary parts.")
    return found
