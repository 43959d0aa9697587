r"""How large the gradient of each parameter is, and how that scales with width or depth.

SGD moves a loss by :math:`\lambda \sum g^2` over a group's entries, sign-like steps (Adam) by
:math:`\lambda \sum |g|`, so that rates which give each group its share follow from
:math:`E\,g^2` of an entry and its power of the width. Both come from random networks without
weights; one network's own gradients would carry its spread (tens of per cent at width 128).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kadanoff.errors import UsageError
from kadanoff.program.result import Quantity
from kadanoff.program.run import Model, module_ensemble

__all__ = [
    "GradientPower",
    "GradientSize",
    "PowerFit",
    "gradient_powers",
    "gradient_sizes",
    "power_fit",
]


@dataclass(frozen=True)
class GradientSize:
    """The gradient of one parameter over random networks.

    Attributes
    ----------
    name : str
    entries : int
    mean_square : Quantity
        E g² of an entry: mean over networks, its error, its spread from seed to seed.
    """

    name: str
    entries: int
    mean_square: Quantity

    @property
    def rms(self) -> float:
        """Root mean square of an entry."""
        return math.sqrt(self.mean_square.value)

    @property
    def total_square(self) -> float:
        """Σ g²: what SGD at unit rate moves the loss by."""
        return self.entries * self.mean_square.value

    @property
    def total_absolute(self) -> float:
        """Σ |g|, as of normal entries: what sign steps of unit size move the loss by."""
        return self.entries * math.sqrt(2 / math.pi) * self.rms


def gradient_sizes(
    model: Model,
    batch: Any,
    loss: Callable[..., Tensor] | None = None,
    *,
    n_networks: int = 8,
    **options: Any,
) -> dict[str, GradientSize]:
    """E g² of every parameter that the loss depends on, over random networks of the model.

    Parameters
    ----------
    model : nn.Module, or callable without arguments that returns one
        On any device, the meta device included.
    batch, loss
        As of :func:`kadanoff.ensemble`.
    n_networks : int
    **options
        Further options of :func:`kadanoff.program.module_ensemble`: ``targets``, ``laws``,
        ``seed``, ``limit``, …

    Returns
    -------
    dict of str to GradientSize
        By parameter name.

    Examples
    --------
    >>> import torch, kadanoff as kd
    >>> net = torch.nn.Sequential(torch.nn.Linear(30, 99), torch.nn.ReLU(), torch.nn.Linear(99, 2))
    >>> sizes = kd.program.gradient_sizes(net, (torch.randn(8, 30), torch.arange(8) % 2))
    >>> sizes["0.weight"].entries, sizes["0.weight"].rms > 0
    (2970, True)
    """
    ens = module_ensemble(model, batch, n_networks, loss=loss, probes=0, **options)
    counts = _entries(model)
    return {name: GradientSize(name, counts[name], q) for name, q in ens.gradients.items()}


def _entries(model: Model) -> dict[str, int]:
    if not isinstance(model, nn.Module):
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            model = model()
    return {name: p.numel() for name, p in model.named_parameters()}


@dataclass(frozen=True)
class PowerFit:
    """value ∝ n^power (1 + κ/n).

    Attributes
    ----------
    power, stderr : float
    kappa : float
        κ; 0 where it was not fitted.
    chi2 : float
        χ² per degree of freedom; NaN where none is left.
    """

    power: float
    stderr: float
    kappa: float
    chi2: float


@dataclass(frozen=True)
class GradientPower:
    """How the gradient of a parameter, or of like parameters of all blocks, scales.

    Attributes
    ----------
    name : str
        A parameter's name, or one with ``*`` for the number of a block.
    entry, total : PowerFit
        Of E g² of an entry, and of Σ g² over all that bear the name.
    """

    name: str
    entry: PowerFit
    total: PowerFit


def gradient_powers(
    factory: Callable[[int], nn.Module],
    batch: Any,
    sizes: Sequence[int],
    loss: Callable[..., Tensor] | None = None,
    *,
    blocks: bool = False,
    n_networks: int = 16,
    correction: bool = True,
    **options: Any,
) -> dict[str, GradientPower]:
    """The power of width, or of depth, in the gradient of every parameter.

    Parameters
    ----------
    factory : callable
        ``factory(size)`` returns the module of that width (or depth).
    batch : Any, or callable
        Of all, or ``batch(size)``.
    sizes : sequence of int
        At least two, three with ``correction``.
    loss : callable, optional
    blocks : bool
        Take parameters whose names differ in numbers alone together (``layers.*.weight``): needed
        along depth, where names come and go.
    n_networks : int
        At each size.
    correction : bool
        Fit a term κ/size beside the power, the next order at finite width.
    **options
        Of :func:`gradient_sizes`.

    Returns
    -------
    dict of str to GradientPower

    Raises
    ------
    UsageError
        Too few sizes.
    """
    if len(set(sizes)) < 2 + correction:
        raise UsageError(f"{2 + correction} different sizes are needed, got {list(sizes)}.")
    found: list[Mapping[str, list[GradientSize]]] = []
    for size in sizes:
        one = gradient_sizes(
            lambda size=size: factory(size),
            batch(size) if callable(batch) else batch,
            loss,
            n_networks=n_networks,
            **options,
        )
        found.append(_together(one.values(), blocks))
    shared = [name for name in found[0] if all(name in one for one in found)]
    return {name: _power(name, sizes, [one[name] for one in found], correction) for name in shared}


def _together(found: Any, blocks: bool) -> dict[str, list[GradientSize]]:
    out: dict[str, list[GradientSize]] = {}
    for size in found:
        name = re.sub(r"(?<![^.])\d+(?![^.])", "*", size.name) if blocks else size.name
        out.setdefault(name, []).append(size)
    return out


def _power(
    name: str, sizes: Sequence[int], found: Sequence[list[GradientSize]], correction: bool
) -> GradientPower:
    total = np.array([sum(s.total_square for s in group) for group in found])
    # blocks of one network move together: their errors add up
    error = np.array([sum(s.entries * s.mean_square.stderr for s in group) for group in found])
    entries = np.array([sum(s.entries for s in group) for group in found])
    return GradientPower(
        name,
        power_fit(sizes, total / entries, error / entries, correction),
        power_fit(sizes, total, error, correction),
    )


def power_fit(
    sizes: Sequence[float] | np.ndarray,
    value: Sequence[float] | np.ndarray,
    stderr: Sequence[float] | np.ndarray,
    correction: bool = True,
) -> PowerFit:
    """Fit value = c n^power (1 + κ/n) to positive numbers by weighted least squares of logarithms.

    Parameters
    ----------
    sizes, value, stderr : array, one length
    correction : bool
        Whether κ is fitted, else 0.

    Examples
    --------
    >>> fit = power_fit([10, 20, 40], [1.0, 0.5, 0.25], [0.01, 0.005, 0.0025], correction=False)
    >>> round(fit.power, 3)
    -1.0
    """
    n, y = np.asarray(sizes, float), np.asarray(value, float)
    relative = np.asarray(stderr, float) / y
    columns = [np.ones(len(n)), np.log(n), *([1 / n] if correction else [])]
    design = np.stack(columns, 1) / relative[:, None]
    covariance = np.linalg.inv(design.T @ design)
    found = covariance @ design.T @ (np.log(y) / relative)
    pulls = np.log(y) / relative - design @ found
    freedom = len(n) - len(columns)
    return PowerFit(
        float(found[1]),
        math.sqrt(covariance[1, 1]),
        float(found[2]) if correction else 0.0,
        float(pulls @ pulls) / freedom if freedom else math.nan,
    )
