"""Ensembles at several widths, extrapolated to infinite width at fixed depth."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.ensembles.fits import fit_widths
from kadanoff.ensembles.moments import Measured
from kadanoff.ensembles.result import Ensemble
from kadanoff.errors import UsageError

if TYPE_CHECKING:
    from kadanoff.rgflow.run import Flow

__all__ = ["Scaling", "extrapolate", "scaling", "with_width"]


@dataclass(frozen=True)
class Scaling:
    """Observables at several widths and their limits n → ∞ at fixed depth.

    Attributes
    ----------
    widths : tuple of int
        Width of the first hidden layer of each ensemble.
    ensembles : tuple of Ensemble
    degree : int
        Of the fit in 1/n.
    limit, slope : dict of str to Measured
        Constant and linear term of the weighted least-squares fit limit + slope / n + ….
    chi2 : dict of str to float
        χ² per degree of freedom of the fit; NaN where none is left.
    remainder : dict of str to Tensor
        Size of the first power of 1/n that was not fitted, as the limit feels it: the last
        coefficient times the ratio of the first two, times 1/n at the narrowest widths. A
        systematic error.
    """

    widths: tuple[int, ...]
    ensembles: tuple[Ensemble, ...]
    limit: dict[str, Measured]
    slope: dict[str, Measured]
    chi2: dict[str, float]
    remainder: dict[str, Tensor]
    degree: int = 1

    def plot(self, path: str | os.PathLike[str], flow: Flow | None = None) -> None:
        """Write ``path``: fluctuations against 1/n, and against depth, with the predictions."""
        from kadanoff.ensembles.plots import scaling_figure
        from kadanoff.style.figures import write

        write(scaling_figure(self, flow), path)


def with_width(arch: Network, width: int) -> Network:
    """``arch`` with its first hidden layer of ``width`` and the other hidden layers in proportion.

    Raises
    ------
    UsageError
        There is no hidden layer, or a width would vanish.
    """
    if arch.L < 2:
        raise UsageError("A network without hidden layers has no width to scale.")
    factor = width / arch.n[1]
    hidden = tuple(round(n * factor) for n in arch.n[1:-1])
    if min(hidden) < 1:
        raise UsageError(f"Width {width} leaves a hidden layer without neurons.")
    inner = None if arch.hidden is None else max(1, round(arch.hidden * factor))
    return dataclasses.replace(arch, n=(arch.n[0], *hidden, arch.n[-1]), hidden=inner)


def scaling(
    arch: Network,
    X: ArrayLike,
    widths: Sequence[int],
    n_networks: int | Sequence[int] = 20_000,
    method: str = "exact",
    *,
    seed: int = 0,
    degree: int | None = None,
    progress: Callable[..., None] | None = None,
    **options: Any,
) -> Scaling:
    """Simulate ``arch`` at several widths and extrapolate in 1/n, depth fixed.

    Parameters
    ----------
    arch : Network
        Hidden layers keep their proportions.
    widths : two or more widths of the first hidden layer
    n_networks : int or one per width
    degree : int, optional
        As for :func:`extrapolate`.
    progress : callable, optional
        As for :func:`kadanoff.ensemble`, with ``width=`` besides.
    **options
        Passed to :func:`kadanoff.ensemble`.

    Returns
    -------
    Scaling

    Raises
    ------
    UsageError
        Fewer than two different widths.
    """
    widths = [int(w) for w in widths]
    counts = [n_networks] * len(widths) if isinstance(n_networks, int) else list(n_networks)
    if len(set(widths)) < 2 or len(counts) != len(widths):
        raise UsageError(
            f"Two different widths or more are needed, one n_networks each; got widths {widths} "
            f"and {len(counts)} numbers of networks."
        )
    from kadanoff.ensembles.run import ensemble

    found = []
    for i, (width, count) in enumerate(zip(widths, counts, strict=True)):

        def report(done: int, total: int, width: int = width, **info: Any) -> None:
            if progress is not None:
                progress(done, total, width=width, **info)

        found.append(
            ensemble(
                with_width(arch, width),
                X,
                count,
                method,
                seed=seed + i,
                progress=report if progress else None,
                **options,
            )
        )
    return extrapolate(found, degree=degree)


def extrapolate(ensembles: Sequence[Ensemble], *, degree: int | None = None) -> Scaling:
    """Fit every observable of ensembles of different widths by a polynomial in 1/n.

    Parameters
    ----------
    degree : int, optional
        Of the polynomial. Default: 2, or 1 for two or three widths, so that from three on there is
        a goodness of fit.

    Raises
    ------
    UsageError
        The ensembles differ in depth, inputs or proportions, or have too few widths.
    """
    ensembles = sorted(ensembles, key=lambda e: e.network.n[1])
    widths = tuple(e.network.n[1] for e in ensembles)
    degree = min(2, max(1, len(set(widths)) - 2)) if degree is None else degree
    if degree < 1 or len(set(widths)) < degree + 1:
        raise UsageError(
            f"A fit of degree {degree} in 1/n needs {max(degree, 1) + 1} different widths, got "
            f"{widths}."
        )
    if len({(e.network.L, tuple(e.X.shape)) for e in ensembles}) > 1:
        raise UsageError("Ensembles to extrapolate must share depth and inputs.")
    names = [n for n in ensembles[0].names() if all(n in e.values for e in ensembles)]
    limit, slope, chi2, remainder = {}, {}, {}, {}
    x = torch.tensor([1 / w for w in widths], dtype=torch.float64)
    for name in names:
        y = torch.stack([e.values[name].value for e in ensembles])
        s = torch.stack([e.values[name].stderr for e in ensembles])
        fit = fit_widths(widths, y, s, degree)
        limit[name], slope[name] = fit.coefficients[:2]
        chi2[name] = fit.mean_chi2
        remainder[name] = _remainder([c.value for c in fit.coefficients], x)
    return Scaling(widths, tuple(ensembles), limit, slope, chi2, remainder, degree)


def _remainder(coefficients: list[Tensor], x: Tensor) -> Tensor:
    """What the first power left out is worth at 1/n = 0, from a geometric guess, by layer."""
    if not coefficients[0].ndim:
        # one number, not one a layer
        return _remainder([c[None] for c in coefficients], x)[0]
    sizes = [c.nan_to_num().abs().reshape(len(c), -1).amax(1) for c in coefficients]
    steepest = torch.unique(x).flip(0)
    # at most one: a series that grows faster is bounded by its last term
    growth = torch.minimum(sizes[1] / sizes[0].clamp_min(1e-300), 1 / steepest[0])
    size = sizes[-1] * growth * steepest[: len(sizes)].prod()
    return size.view(-1, *[1] * (coefficients[0].ndim - 1)).expand_as(coefficients[0])
