"""The statistics of a simulated ensemble, under the names and normalisation of the flow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.ensembles.moments import Jackknife, Measured
from kadanoff.ensembles.statistics import NAMES
from kadanoff.errors import UsageError
from kadanoff.results import Result, Table, components
from kadanoff.rgflow.observables import RANK

__all__ = ["Ensemble"]


@dataclass(frozen=True, repr=False)
class Ensemble(Result):
    """Measured statistics of networks at every layer; each with ``.value`` and ``.stderr``.

    ``K``, ``G1``, ``V``, ``U6``, ``Theta``, ``H1``, ``A``, ``B``, ``D``, ``F``, ``P`` … ``U`` are
    attributes with the shapes, slots and normalisation of :class:`kadanoff.Flow` (first axis the
    layer; powers of 1/n_{ℓ−1} taken out), at the finite width of ``arch``. ``K`` and ``Theta``
    are means *at that width*: they estimate K + G1/n and Theta + H1/n.

    Attributes
    ----------
    arch : Network or None
        None for a user's module.
    X : Tensor, shape (N, n_0)
    n_networks : int
        Networks used; fewer than asked for if ``rtol`` was reached.
    method : {"exact", "weights", "module"}
    seed : int
    values : dict of str to Measured
    undefined : dict of str to str
        Observables that were not measured, and why.
    seconds : float
        Wall time of this call.
    joint : Jackknife or None
        The observables without each of 64 groups of networks, for :meth:`of`; None above 64 MB.
    converged : bool or None
        Whether ``rtol`` was reached; None if it was not asked for.
    """

    arch: Network | None
    X: Tensor
    n_networks: int
    method: str
    seed: int
    values: dict[str, Measured]
    undefined: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    converged: bool | None = None
    joint: Jackknife | None = field(default=None, compare=False)

    def of(self, function: Callable[[dict[str, Tensor]], Tensor]) -> Measured:
        """Any function of the observables, with its standard error, correlations included.

        Parameters
        ----------
        function : callable
            From a dict of name to value, first axis the layer, to a tensor or a number:
            ``lambda m: m["A"] + 2 * m["B"]``, ``lambda m: m["V"][1, 0, 0, 0, 0] / m["K"][1, 0, 0]
            ** 2``.

        Raises
        ------
        UsageError
            It returns something else, or the ensemble was too large to keep its joint
            distribution (or was read from a file without it).
        """
        if self.joint is None:
            raise UsageError(
                "This ensemble does not hold the joint distribution of its observables.",
                "Ask for fewer observables (observables=) or inputs; to_dict leaves it out.",
            )
        return self.joint.of({k: m.value for k, m in self.values.items()}, function)

    def __getattr__(self, name: str) -> Measured:
        if name == "G":
            name = "K"
        if name in RANK:
            return self.require(name)
        raise AttributeError(name)

    @property
    def network(self) -> Network:
        """The architecture.

        Raises
        ------
        UsageError
            The ensemble is one of a user's modules, of which no description is known.
        """
        if self.arch is None:
            raise UsageError(
                "An ensemble of modules has no described architecture, so no widths.",
                "Simulate kd.MLP(...) or kd.Residual(...) instead.",
            )
        return self.arch

    def names(self) -> list[str]:
        """Observables present, in a fixed order."""
        return [name for name in NAMES if name in self.values]

    def require(self, name: str) -> Measured:
        """The observable ``name``.

        Raises
        ------
        UsageError
            It is unknown or was not measured; the message says why.
        """
        if name in self.values:
            return self.values[name]
        if name not in RANK:
            raise UsageError(f"No observable is called {name!r}.", f"There are {', '.join(NAMES)}.")
        why = self.undefined.get(name, "it was not asked for; name it in observables=")
        raise UsageError(f"{name} was not measured: {why}.")

    def headline(self) -> str:
        """Networks, method, architecture and observables in a few words."""
        what = repr(self.arch) if self.arch is not None else "a module"
        return (
            f"{self.n_networks} networks ({self.method}, seed {self.seed}), {what}, "
            f"{', '.join(self.names())}"
        )

    def table(self) -> Table:
        """A row for each component of each observable at each layer, with its standard error."""
        rows: list[tuple[Any, ...]] = []
        for name in self.names():
            rows += components(name, self.values[name].value, self.values[name].stderr)
        columns = ("observable", "layer", "slots", "value", "stderr")
        return Table(columns, rows, self.headline())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; :meth:`from_dict` reads them back."""
        return {
            "method": self.method,
            "seed": self.seed,
            "n_networks": self.n_networks,
            "seconds": self.seconds,
            "converged": self.converged,
            "n": list(self.arch.n) if self.arch is not None else None,
            "arch": _kept(self.arch),
            "X": self.X.tolist(),
            "undefined": self.undefined,
            "observables": {
                name: {"value": m.value.tolist(), "stderr": m.stderr.tolist()}
                for name, m in self.values.items()
            },
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any], arch: Network | None = None) -> Ensemble:
        """Read what :meth:`to_dict` wrote.

        Raises
        ------
        UsageError
            The file holds something else.
        """
        try:
            values = {
                name: Measured(_tensor(item["value"]), _tensor(item["stderr"]))
                for name, item in data["observables"].items()
            }
            if arch is None and data.get("arch") is not None:
                arch = Network.from_dict(data["arch"])
            return cls(
                arch=arch,
                X=_tensor(data["X"]),
                n_networks=data["n_networks"],
                method=data["method"],
                seed=data["seed"],
                values=values,
                undefined=data["undefined"],
                seconds=data["seconds"],
                converged=data["converged"],
            )
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UsageError(
                f"This is no ensemble result ({type(error).__name__}: {error}).",
                "Write one with: kadanoff ensemble ... --json FILE.",
            ) from None


def _kept(arch: Network | None) -> dict[str, Any] | None:
    """The architecture for a file; None if it holds a function that no file can hold."""
    try:
        kept = arch.to_dict() if isinstance(arch, Network) else None
    except UsageError:
        return None
    if kept is None:
        return None
    # when and with what it was written is the envelope's to say: the same call gives the same
    return {name: value for name, value in kept.items() if name not in ("made", "versions")}


def _tensor(value: Any) -> Tensor:
    def numbers(x: Any) -> Any:
        if isinstance(x, list):
            return [numbers(y) for y in x]
        return torch.nan if x is None else float(x)

    return torch.tensor(numbers(value), dtype=torch.float64)
