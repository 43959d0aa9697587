"""The statistics of a module's ensemble: keyed by the path of the module and the call."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from kadanoff.ensembles.moments import Moments
from kadanoff.errors import UsageError
from kadanoff.results import Result, Table

__all__ = ["ModuleEnsemble", "Quantity", "quantities"]


@dataclass(frozen=True)
class Quantity:
    """One number of a random network: its mean over networks and its spread.

    Attributes
    ----------
    value, stderr : float
        Mean over networks and its standard error.
    spread, spread_stderr : float
        Standard deviation from one network to the next, and its standard error.
    log_value, log_spread : float
        Mean and standard deviation of the logarithm, for what is positive in every network; NaN
        otherwise. The scale to read heavy tails on: where ``spread`` exceeds a third of
        ``value``.
    n : int
        Networks that have this number.
    """

    value: float
    stderr: float
    spread: float
    spread_stderr: float
    log_value: float = math.nan
    log_spread: float = math.nan
    n: int = 0

    def __str__(self) -> str:
        return f"{self.value:.4g} ± {self.spread:.2g}"

    def z(self, measured: float) -> float:
        """How many spreads a network's number lies off the mean: logarithms where tails are heavy.

        The error of the ensemble's own mean is part of the spread.
        """
        if self.log_spread > 0.3 and measured > 0:
            scale = self.log_spread * math.sqrt(1 + 1 / max(self.n, 1))
            return (math.log(measured) - self.log_value) / scale
        scale = self.spread * math.sqrt(1 + 1 / max(self.n, 1))
        # what does not vary still carries rounding
        scale = max(scale, 1e-6 * max(abs(self.value), abs(measured)), 1e-30)
        return (measured - self.value) / scale


@dataclass(frozen=True, repr=False)
class ModuleEnsemble(Result):
    """What a random network of a module does on a batch: mean, error and spread of every number.

    ``ensemble["layers.0.fc1"]`` is the first call there (a dict of field to :class:`Quantity`),
    ``ensemble["layers.0.fc1:linear#1"]`` the second one.

    Attributes
    ----------
    calls : dict
        By call (``"path:operation"``, ``"#1"`` for the second of them), in the order of the
        forward pass, ``"output"`` last: ``second_moment``, ``mean``, ``kurtosis``,
        ``correlation`` (between rows), ``sample_correlation``, ``position_correlation``,
        ``jacobian`` (to the next cut of the main chain), ``jacobian_to_output``; of activations
        ``zeros``, ``near_zeros``, ``saturated``, ``dead``.
    gradients : dict
        By parameter: mean over its entries of (∂𝓛/∂θ)².
    loss : Quantity
    chain : list of str
        Calls that carry the whole signal.
    laws : dict of str to str
        Of each parameter, in words.
    drawn : dict of str to str
        Random matrices that were drawn, and why.
    not_self_averaging : list of str
        What stays random at infinite width, in words.
    n_networks : int
    method : str
    limit : bool
    seed : int
    seconds : float
    converged : bool or None
    notes : list of str
        What else to know: layers that are the same in every network, say.
    """

    calls: dict[str, dict[str, Quantity]]
    gradients: dict[str, Quantity]
    loss: Quantity
    chain: list[str]
    laws: dict[str, str]
    drawn: dict[str, str]
    not_self_averaging: list[str]
    n_networks: int
    method: str
    limit: bool
    seed: int
    seconds: float = 0.0
    converged: bool | None = None
    notes: list[str] = field(default_factory=list)

    def __getitem__(self, key: str) -> dict[str, Quantity]:
        if key in self.calls:
            return self.calls[key]
        found = [name for name in self.calls if name.partition(":")[0] == key]
        if not found:
            raise UsageError(
                f"There is no call {key!r} in this ensemble.",
                f"There are {', '.join(list(self.calls)[:6])}, ...",
            )
        return self.calls[found[0]]

    def items(self) -> Iterator[tuple[str, str, Quantity]]:
        """Every number: call or parameter, field, quantity."""
        for key, fields in self.calls.items():
            for name, quantity in fields.items():
                yield key, name, quantity
        for name, quantity in self.gradients.items():
            yield name, "gradient", quantity
        yield "", "loss", self.loss

    def headline(self) -> str:
        """Networks, method and size in a few words."""
        return (
            f"{self.n_networks} networks ({self.method}, seed {self.seed}), {len(self.calls)} "
            f"calls, {len(self.gradients)} gradients"
        )

    def table(self) -> Table:
        """A row for each number: mean, its standard error, spread between networks."""
        columns = ("call", "quantity", "value", "stderr", "spread", "spread_stderr")
        rows = [
            (key, name, q.value, q.stderr, q.spread, q.spread_stderr)
            for key, name, q in self.items()
        ]
        return Table(columns, rows, self.headline())

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; :meth:`from_dict` reads them back."""
        return {
            **{k: v for k, v in vars(self).items() if k not in ("calls", "gradients", "loss")},
            "calls": {k: {f: vars(q) for f, q in v.items()} for k, v in self.calls.items()},
            "gradients": {k: vars(q) for k, q in self.gradients.items()},
            "loss": vars(self.loss),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModuleEnsemble:
        """Read what :meth:`to_dict` wrote.

        Raises
        ------
        UsageError
            It is something else.
        """
        try:
            return cls(
                **{
                    **data,
                    "calls": {
                        k: {f: _quantity(q) for f, q in v.items()} for k, v in data["calls"].items()
                    },
                    "gradients": {k: _quantity(q) for k, q in data["gradients"].items()},
                    "loss": _quantity(data["loss"]),
                }
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(
                f"This is no ensemble of a module ({type(error).__name__}: {error})."
            ) from None

    def __str__(self) -> str:
        head = f"{'call':44}{'mean square':>22}{'correlation':>18}{'χ to output':>18}"
        rows = [head]
        for key, fields in self.calls.items():
            cells = [
                _cell(fields.get(n)) for n in ("second_moment", "correlation", "jacobian_to_output")
            ]
            rows.append(f"{key[-44:]:44}{cells[0]:>22}{cells[1]:>18}{cells[2]:>18}")
        rows.append(f"loss {_cell(self.loss)}; {self.n_networks} networks, {self.method}")
        if self.not_self_averaging:
            rows.append("random at any width: " + "; ".join(self.not_self_averaging))
        return "\n".join([*rows, *self.notes])


def _quantity(data: Mapping[str, Any]) -> Quantity:
    numbers = {k: math.nan if v is None else float(v) for k, v in data.items()}
    return Quantity(**{**numbers, "n": int(numbers.get("n", 0))})  # pyright: ignore


def _cell(quantity: Quantity | None) -> str:
    if quantity is None:
        return ""
    return str(quantity)


def quantities(moments: Moments) -> dict[str, Quantity]:
    """Means, errors and spreads of all channels of :func:`kadanoff.program.plan.sums`."""
    names = list(moments.sums)
    if not names:
        return {}
    stacked = Moments()
    stacked.counts, stacked.pieces = moments.counts, moments.pieces
    stacked.sums = {"all": torch.stack([moments.sums[name] for name in names], 1)}
    total = stacked.sums["all"].sum(0)
    found = stacked.estimate(lambda means: _moments(means["all"], moments.n))
    n = total[:, 0]
    log_mean = total[:, 4] / total[:, 3].clamp_min(1)
    log_square = total[:, 5] / total[:, 3].clamp_min(1)
    bessel = n / (n - 1).clamp_min(1)
    log_spread = ((log_square - log_mean.square()).clamp_min(0) * bessel).sqrt()
    everywhere = total[:, 3] == n
    out = {}
    for i, name in enumerate(names):
        out[name] = Quantity(
            float(found["value"].value[i]),
            float(found["value"].stderr[i]),
            float(found["spread"].value[i]),
            float(found["spread"].stderr[i]),
            float(log_mean[i]) if everywhere[i] else math.nan,
            float(log_spread[i]) if everywhere[i] else math.nan,
            int(n[i]),
        )
    return out


def _moments(means: Tensor, total: int) -> dict[str, Tensor]:
    present = means[..., 0].clamp_min(1e-300)
    value = means[..., 1] / present
    n = present * total
    variance = means[..., 2] / present - value.square()
    bessel = n / (n - 1).clamp_min(1e-9)
    return {"value": value, "spread": (variance.clamp_min(0) * bessel).sqrt()}
