"""The infinite-width recursion on triples (K11, K12, K22), layer after layer.

This is what the compiled maps are made from and held against. All tensors are float64; a triple
starts from the metric of the inputs, x·x'/n_0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kadanoff.activations import Activation
from kadanoff.architecture import Network
from kadanoff.errors import DomainError
from kadanoff.gaussian import averages
from kadanoff.kernels.polynomials import (
    chebyshev_coefficients,
    chebyshev_nodes,
    chebyshev_values,
)
from kadanoff.rgflow.kernel import Step, first_layer, inner_kernel, next_layer, steps

__all__ = [
    "advance",
    "bracket",
    "diagonal",
    "propagate",
    "walk",
    "walk_many",
]

Averages = Callable[[Activation, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(activation, K11, K12, K22) -> (⟨σσ⟩, ⟨σ'σ'⟩)."""

# so many norms are cheaper one by one
_FEW = 64


def advance(
    step: Step, K11: Tensor, K12: Tensor, K22: Tensor, Theta: Tensor, average: Averages = averages
) -> tuple[Tensor, Tensor]:
    """One layer: (K12, Theta12) of the next from the triple of this one.

    Parameters
    ----------
    step : Step
    K11, K12, K22, Theta : Tensor, any one shape
        Kernel of the first input, of both, of the second, and their NTK.
    average : callable
        (activation, K11, K12, K22) -> (⟨σσ⟩, ⟨σ'σ'⟩).
    """
    inner = (inner_kernel(step, K) for K in (K11, K12, K22))
    ss, dd = average(step.activation, *inner)
    return next_layer(step, K12, Theta, ss, dd)


def walk(arch: Network, metric: Tensor) -> list[tuple[Tensor, Tensor]]:
    """(K, Theta) of single inputs at every layer 1 … L, from |x|²/n_0."""
    K, Theta = first_layer(arch, metric)
    out = [(K, Theta)]
    for step in steps(arch):
        K, Theta = advance(step, K, K, K, Theta)
        _check(step.layer + 1, K, Theta)
        out.append((K, Theta))
    return out


def walk_many(
    arch: Network, metric: Tensor, cache: dict | None = None
) -> list[tuple[Tensor, Tensor]]:
    """As :func:`walk` for many inputs: on the CPU in float64, returned on the metric's device.

    Repeated norms are computed once. Where averages are numerical and the norms many, K and Theta
    are interpolated in √K of the first layer, to rounding; ``cache`` keeps the interpolants.

    Parameters
    ----------
    arch : Network
    metric : Tensor, shape (N,)
        |x|²/n_0.
    cache : dict, optional
    """
    unique, inverse = torch.unique(metric.cpu(), return_inverse=True)
    found = None
    if len(unique) > _FEW and not all(_closed(a) for a in arch.activations):
        found = _interpolated(arch, unique, {} if cache is None else cache)
    layers = walk(arch, unique) if found is None else found
    return [(K[inverse].to(metric.device), T[inverse].to(metric.device)) for K, T in layers]


def bracket(low: float, high: float) -> tuple[float, float]:
    """The range rounded outwards to two digits or so, that data sets may share a map of it."""
    step = 2.0 ** (math.frexp(high)[1] - 7)
    return math.floor(low / step) * step, math.ceil(high / step) * step


def _closed(act: Activation) -> bool:
    one = torch.ones((), dtype=torch.float64)
    return act.closed(0, 0, one, one, one) is not None


def _interpolated(arch: Network, metric: Tensor, cache: dict) -> list[tuple[Tensor, Tensor]] | None:
    if arch.C_W[0] == 0:
        return None
    roots = first_layer(arch, metric)[0].sqrt()
    low, high = bracket(float(roots.min()), float(roots.max()))
    centre, half = (low + high) / 2, (high - low) / 2
    key = ("norms", low, high)
    if key not in cache:
        cache[key] = _norm_series(arch, centre, half)
    if cache[key] is None:
        return None
    found = chebyshev_values(cache[key], ((roots - centre) / half).clamp(-1, 1))
    return list(zip(found[::2], found[1::2]))


def _norm_series(arch: Network, centre: float, half: float) -> Tensor | None:
    """Chebyshev coefficients of K and Theta of every layer in √K of the first, (2L, n)."""
    for count in (12, 24, 48):
        nodes = centre + half * chebyshev_nodes(count)
        layers = walk(arch, (nodes**2 - arch.C_b[0]) / arch.C_W[0])
        values = torch.stack([v for pair in layers for v in pair])
        series = chebyshev_coefficients(values)
        tail = series[:, -3:].abs().amax(1) / values.abs().amax(1).clamp_min(1e-300)
        if bool((tail < 1e-13).all()):
            return series
    return None


def diagonal(arch: Network, metric: Tensor, cache: dict | None = None) -> tuple[Tensor, Tensor]:
    """K and Theta of the last layer at coincident inputs, from |x|²/n_0, shape (N,).

    Parameters
    ----------
    arch : Network
    metric : Tensor, shape (N,)
    cache : dict, optional
        Interpolants from one call to the next.
    """
    return walk_many(arch, metric, cache)[-1]


def propagate(arch: Network, m11: Tensor, m12: Tensor, m22: Tensor) -> tuple[Tensor, Tensor]:
    """K12 and Theta12 of the last layer from the metric of pairs of inputs.

    Parameters
    ----------
    arch : Network
    m11, m12, m22 : Tensor, shapes broadcast
        x·x/n_0, x·x'/n_0 and x'·x'/n_0.

    Raises
    ------
    DomainError
        The kernel overflows.
    """
    m11, m12, m22 = torch.broadcast_tensors(m11, m12, m22)
    sizes, (one, two) = torch.unique(torch.stack([m11, m22]), return_inverse=True)
    own = walk(arch, sizes)
    K, Theta = first_layer(arch, m12)
    for l, step in enumerate(steps(arch)):
        K11, K22 = own[l][0][one], own[l][0][two]
        K, Theta = advance(step, K11, K, K22, Theta)
        _check(step.layer + 1, K, Theta)
    return K, Theta


def _check(layer: int, K: Tensor, Theta: Tensor) -> None:
    if not (bool(torch.isfinite(K).all()) and bool(torch.isfinite(Theta).all())):
        raise DomainError(
            f"The kernel of layer {layer} overflows.",
            "Choose C_W nearer to criticality (kadanoff critical), or a smaller depth.",
        )
