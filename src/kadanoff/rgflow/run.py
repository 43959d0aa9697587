"""``flow``: run the recursions of an architecture over a set of inputs; the result type."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.errors import UsageError
from kadanoff.results import Result, Table, components
from kadanoff.rgflow.kernel import kernels
from kadanoff.rgflow.observables import RANK
from kadanoff.rgflow.recursions import Keep, default_tolerance, order_one
from kadanoff.rgflow.validity import fluctuation, warn_beyond

__all__ = ["Flow", "flow"]


@dataclass(frozen=True, repr=False)
class Flow(Result):
    """Statistics of a random network at every layer.

    The first axis is the layer (``K[0]`` is layer 1), the others are inputs, N of them. What the
    book writes with a power of 1/n in front is stored without it; the width that divides is
    ``arch.n[l-1]`` at layer l. None marks an observable of an order that was not asked for;
    ``undefined`` says why an observable that was asked for does not exist.

    Attributes
    ----------
    arch : MLP or Residual
    X : Tensor, shape (N, n_0)
    K, Theta : Tensor, shape (L, N, N)
        Infinite-width kernel and frozen NTK.
    G1, H1 : Tensor, shape (L, N, N)
        1/n corrections of the mean metric and of the mean NTK.
    V, A : Tensor, shape (L, N, N, N, N)
        Four-point vertex and NTK variance, slots [a, b, c, d] = (ab)(cd).
    D : Tensor
        NTK-metric covariance, slots [z, z, H, H].
    B, F : Tensor
        Slots [1, 3, 2, 4] (the pair of NTK indices split) and [z1, H3, z2, H4].
    P, Q, R : Tensor
        dNTK and first ddNTK, slots [0, 1, 2, 3].
    S, T, U : Tensor
        Second ddNTK, slots [1, 2, 3, 4], [1, 3, 4, 2], [1, 4, 2, 3].
    U6 : Tensor, shape (L,)
        Six-point vertex, for one input; None for several.
    error : dict of str to Tensor
        Absolute error of the Gaussian averages, carried through the layers, for every name.
    strategy : str
        How the four-sample averages were taken.
    undefined : dict of str to str
        Observables that do not exist or are not derived for this architecture, and why.
    """

    arch: Network
    X: Tensor
    K: Tensor
    Theta: Tensor
    G1: Tensor | None = None
    V: Tensor | None = None
    U6: Tensor | None = None
    H1: Tensor | None = None
    A: Tensor | None = None
    B: Tensor | None = None
    D: Tensor | None = None
    F: Tensor | None = None
    P: Tensor | None = None
    Q: Tensor | None = None
    R: Tensor | None = None
    S: Tensor | None = None
    T: Tensor | None = None
    U: Tensor | None = None
    error: dict[str, Tensor] = field(default_factory=dict, repr=False)
    strategy: str = ""
    undefined: dict[str, str] = field(default_factory=dict)

    @property
    def order(self) -> int:
        """0 if only K and Theta were computed, 1 with the 1/n statistics."""
        return 1 if self.error else 0

    def names(self) -> list[str]:
        """Observables present, in a fixed order."""
        return [name for name in RANK if getattr(self, name) is not None]

    def headline(self) -> str:
        """Order, inputs, architecture and observables in a few words."""
        inputs = len(self.X)
        return (
            f"order {self.order}, {inputs} input{'s' if inputs > 1 else ''}, {self.arch!r}, "
            f"{', '.join(self.names())} at layers 1 … {len(self.K)}"
        )

    def table(self) -> Table:
        """A row for each component of each observable at each layer, with its error."""
        rows: list[tuple[Any, ...]] = []
        for name in self.names():
            rows += components(name, self.require(name), self.error.get(name))
        columns = ("observable", "layer", "slots", "value", "error")
        return Table(columns, rows, self.headline())

    def require(self, name: str) -> Tensor:
        """The observable ``name``.

        Raises
        ------
        UsageError
            It is unknown, was not asked for, or does not exist for this architecture.
        """
        if name not in RANK:
            raise UsageError(f"No observable is called {name!r}.", f"There are {', '.join(RANK)}.")
        value = getattr(self, name)
        if value is not None:
            return value
        if name in self.undefined:
            raise UsageError(f"{name} is not available here: {self.undefined[name]}")
        raise UsageError(f"{name} was not computed.", "Call flow(arch, X, order=1).")


def flow(
    arch: Network,
    X: Any,
    order: int = 0,
    *,
    tolerance: float | None = None,
    observables: Sequence[str] | None = None,
    keep: Keep = "all",
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> Flow:
    """Statistics of the ensemble of random networks ``arch`` on the inputs ``X``, layer by layer.

    Parameters
    ----------
    arch : MLP or Residual
        Widths, activation, initialisation and learning-rate tensors.
    X : array, shape (N, n_0)
        Inputs; they enter only through X Xᵀ / n_0. Repeated rows cost nothing.
    order : {0, 1}
        0: infinite width, K and Theta. 1: adds the whole order 1/n.
    tolerance : float, optional
        Aim of the relative error of the Gaussian averages at order 1; ``error`` states what was
        reached. By default 1e-10 up to four inputs, 1e-6 up to 16 and 1e-5 beyond. Up to ten inputs
        every quadruple is an integral of its own, and for any number at a tolerance below 1e-7;
        else one pair of inputs at a time is integrated over and the others expanded given the pair.
    observables : sequence of str, optional
        Names of the statistics of order 1 wanted, by default all: metric and NTK alone (G1, V, H1,
        A, B, D, F) cost less than P to U.
    keep : {"all", "last"}
        Layers kept at order 1. With "last" the first axis of its statistics has length one, and
        memory is that of one layer: with 64 inputs a tensor of one layer is 134 MB.
    device : str
        Where the averages over many inputs are taken; all results are on the CPU.
    progress : callable, optional
        ``progress(done, total)``, called as order 1 of a plain network goes on.

    Returns
    -------
    Flow

    Raises
    ------
    DataError
        X is empty, not finite or of the wrong width.
    UsageError
        ``order`` is neither 0 nor 1; there is no such observable; or the N⁴ components of order 1
        do not fit into memory.
    DomainError
        The kernel overflows.

    Warns
    -----
    ValidityWarning
        At order 1 beyond L/n or V/(nK²) of 0.3: the expansion is not controlled.

    Notes
    -----
    Roberts, Yaida, Hanin, The Principles of Deep Learning Theory (2022), chapters 4, 8, 11 and
    infinity; conventions in the design notes of the documentation.

    Examples
    --------
    >>> import torch, kadanoff as kd
    >>> arch = kd.MLP(n_in=2, widths=[64, 64], n_out=1, activation="relu", C_W=2.0)
    >>> [round(float(k), 6) for k in kd.flow(arch, torch.ones(1, 2)).K[:, 0, 0]]
    [2.0, 2.0, 2.0]
    """
    if order not in (0, 1):
        raise UsageError(
            f"order must be 0 (infinite width) or 1 (adds 1/n), got {order!r}.",
            "Beyond order 1 at one input, use kadanoff.rgflow.single.",
        )
    for name in observables or ():
        if name not in RANK:
            raise UsageError(f"No observable is called {name!r}.", f"There are {', '.join(RANK)}.")
    if keep not in ("all", "last"):
        raise UsageError(f"keep must be 'all' or 'last', got {keep!r}.")
    X = arch.inputs(X)
    unique, where = torch.unique(X, dim=0, return_inverse=True)
    if len(unique) == len(X):
        unique, where = X, torch.arange(len(X))
    metric = unique @ unique.T / X.shape[1]
    K, Theta = kernels(arch, metric)
    found: dict[str, Tensor] = {"K": torch.stack(K), "Theta": torch.stack(Theta)}
    extra: dict[str, Any] = {}
    if order == 1:
        one = order_one(
            arch,
            unique,
            K,
            Theta,
            tolerance or default_tolerance(len(unique)),
            names=observables,
            keep=keep,
            device=device,
            progress=progress,
        )
        found |= one.tensors
        largest = 0.0
        if "V" in one.tensors:
            rows = slice(None) if keep == "all" else slice(-1, None)
            widths = torch.tensor(arch.n[:-1][rows], dtype=torch.float64)
            largest = fluctuation(found["K"][rows], one.tensors["V"], widths)
        warn_beyond("The flow at order 1", arch, largest)
        error = {name: _expand(value, where, RANK[name]) for name, value in one.error.items()}
        extra = {"error": error, "strategy": one.strategy, "undefined": one.undefined}
    expanded = {name: _expand(value, where, RANK[name]) for name, value in found.items()}
    if len(X) > 1:
        # a single number that belongs to one input; repeated rows are still several inputs
        expanded.pop("U6", None)
    return Flow(arch, X, **expanded, **extra)


def _expand(value: Tensor, where: Tensor, rank: int) -> Tensor:
    """Copy from the distinct inputs to all of them, along the last ``rank`` axes."""
    for axis in range(1, rank + 1):
        value = value.index_select(value.ndim - axis, where)
    return value
