"""Kinks of a callable: every point where the function or a derivative of it jumps.

What PyTorch runs is read operation by operation (:mod:`kadanoff.activations.regimes`) and each
switch is bisected to the last bit, wherever it lies and however small its jump. What runs outside
PyTorch, or in an operation that is not known, is searched by its values: the rise of a smooth
function halves with the interval, that of a jump stays.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from kadanoff.activations.branches import Regimes, regimes
from kadanoff.activations.derivatives import autodiff
from kadanoff.errors import DomainError

__all__ = ["find_kinks", "one_sided", "significant_jump"]

Function = Callable[[Tensor], Tensor]

# a function is searched on |z| < _DENSE in steps of _STEP, and beyond (and near 0) geometrically
_DENSE, _STEP = 40.0, 1 / 64
_SMALLEST, _LARGEST, _GROWTH = 1e-6, 1e6, 1.02
_MOST = 64
# one-sided limits are extrapolated from 1, 2, 3 and 4 times this distance: error ~ (distance)⁴
_BESIDE, _BESIDE_ZERO = 1e-6, 1e-9
_CUBIC = (4.0, -6.0, 4.0, -1.0)

# where the size of a derivative is looked up, in units of |kink|
_AROUND = (-1.0, -0.3, -0.1, -0.01, -1e-3, 1e-3, 0.01, 0.1, 0.3, 1.0)


def find_kinks(f: Function) -> tuple[float, ...]:
    """Points where ``f`` or one of its first three derivatives jumps, sorted.

    Raises
    ------
    DomainError
        More than 64 of them.
    """
    points = _grid()
    seen = regimes(f, points)
    found = _bisected(f, points, seen)
    if seen.opaque:
        found += [z for k in range(3) for z in _jumps_by_value(autodiff(f, k))]
    places = _distinct(found)
    return tuple(z for z in places if _matters(f, z, places))


def one_sided(g: Function, kink: float, others: tuple[float, ...] = ()) -> tuple[float, float]:
    """Limits of ``g`` from below and from above at ``kink``, by cubic extrapolation.

    Parameters
    ----------
    g : callable
        Elementwise function of a float64 tensor, smooth on either side of the kink.
    kink : float
    others : tuple of float
        Further kinks; no value is taken beyond one of them.
    """
    step = max(_BESIDE * abs(kink), _BESIDE_ZERO)
    gaps = [abs(kink - other) for other in others if other != kink]
    step = min([step, *(gap / 16 for gap in gaps)])
    distances = step * torch.arange(1, 5, dtype=torch.float64)
    weights = torch.tensor(_CUBIC, dtype=torch.float64)
    below = float(weights @ g(kink - distances).double())
    above = float(weights @ g(kink + distances).double())
    return below, above


def _grid() -> Tensor:
    # an odd offset keeps the grid off round numbers, where kinks like to sit
    dense = torch.arange(-_DENSE, _DENSE, _STEP, dtype=torch.float64) + 0.37 * _STEP
    steps = torch.log(torch.tensor(_LARGEST / _SMALLEST)) / torch.log(torch.tensor(_GROWTH))
    far = _SMALLEST * 1.0137 * _GROWTH ** torch.arange(int(steps), dtype=torch.float64)
    return torch.cat([dense, far, -far, torch.zeros(1, dtype=torch.float64)]).unique()


def _bisected(f: Function, points: Tensor, seen: Regimes) -> list[float]:
    """The switches between neighbouring points, to the last bit."""
    changed = (seen.sides[:, 1:] != seen.sides[:, :-1]).any(0)
    low, high = points[:-1][changed], points[1:][changed]
    brackets: list[tuple[float, float]] = []
    while len(low):
        if len(low) > 8 * _MOST:
            raise _too_many()
        middle = (low + high) / 2
        # a switch at zero is reached at once, not through a thousand halvings
        middle = torch.where((low < 0) & (high > 0), torch.zeros_like(middle), middle)
        sides = regimes(f, torch.cat([low, middle, high])).sides
        at_low, at_middle, at_high = sides.split(len(low), dim=1)
        narrow = _narrow(low, high)
        brackets += zip(low[narrow].tolist(), high[narrow].tolist(), strict=True)
        left = (at_low != at_middle).any(0) & ~narrow
        right = (at_middle != at_high).any(0) & ~narrow
        low, high = (
            torch.cat([low[left], middle[right]]),
            torch.cat([middle[left], high[right]]),
        )
    return [_meant(*bracket) for bracket in _joined(brackets)]


def _narrow(low: Tensor, high: Tensor) -> Tensor:
    """Whether two points are neighbours among the floating-point numbers."""
    size = torch.maximum(low.abs(), high.abs())
    return (high - low) <= torch.clamp(2.3e-16 * size, min=1e-22)


def _joined(brackets: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Brackets that touch are one switch: below it, on it, above it."""
    joined: list[tuple[float, float]] = []
    for low, high in sorted(brackets):
        if joined and low - joined[-1][1] <= max(2e-15 * abs(low), 1e-21):
            joined[-1] = (joined[-1][0], max(high, joined[-1][1]))
        else:
            joined.append((low, high))
    return joined


def _meant(low: float, high: float) -> float:
    """Of the floats in a bracket, the one with the fewest digits; else the middle one."""
    if low <= 0 <= high:
        return 0.0
    inside = [low]
    while inside[-1] < high and len(inside) < 32:
        inside.append(math.nextafter(inside[-1], math.inf))
    middle = (low + high) / 2
    return min(inside, key=lambda z: (len(repr(z)), abs(z - middle)))


def _distinct(places: list[float]) -> tuple[float, ...]:
    kept: list[float] = []
    for place in sorted(places):
        if not kept or place - kept[-1] > max(4e-15 * abs(place), 1e-21):
            kept.append(place)
    if len(kept) > _MOST:
        raise _too_many()
    return tuple(kept)


def _too_many() -> DomainError:
    return DomainError(
        f"The activation has more than {_MOST} kinks in |z| < {_LARGEST:g}.",
        "Such a function cannot be integrated accurately; use a smoother one.",
    )


def _matters(f: Function, kink: float, others: tuple[float, ...]) -> bool:
    """Whether the function or a derivative up to the third really jumps there."""
    return any(significant_jump(autodiff(f, k), kink, others) for k in range(4))


def significant_jump(g: Function, kink: float, others: tuple[float, ...] = ()) -> float:
    """g(kink + 0) − g(kink − 0), and 0 where it is only the rounding of the two limits.

    Parameters
    ----------
    g : callable
        The function, or one of its derivatives.
    kink : float
        Where it may jump.
    others : tuple of float
        Further kinks, which the limits keep away from.
    """
    below, above = one_sided(g, kink, others)
    around = kink + max(abs(kink), 1e-3) * torch.tensor(_AROUND, dtype=torch.float64)
    values = g(around).abs()
    scale = float(values[torch.isfinite(values)].max()) if torch.isfinite(values).any() else 1.0
    jump = above - below
    return jump if abs(jump) > 1e-9 * (abs(above) + abs(below)) + 1e-11 * scale else 0.0


def _jumps_by_value(g: Function) -> list[float]:
    """Jumps of ``g`` on |z| < 40, by cutting the intervals whose rise does not shrink."""
    grid = torch.arange(-_DENSE, _DENSE, _STEP, dtype=torch.float64) + 0.37 * _STEP
    low, high = grid[:-1], grid[1:]
    rise = (g(high) - g(low)).abs()
    finite = rise[torch.isfinite(rise)]
    floor = 1e-6 * (1 + float(finite.max())) if len(finite) else 1e-6
    for _ in range(66):
        keep = rise > floor
        low, high, rise = low[keep], high[keep], rise[keep]
        if not len(low):
            return []
        # an irrational cut does not fall on the kink, where autograd takes the mean of both sides
        middle = low + 0.5531 * (high - low)
        at = g(middle)
        left, right = (at - g(low)).abs(), (g(high) - at).abs()
        use_left = left >= right
        part = torch.where(use_left, left, right)
        low, high = torch.where(use_left, low, middle), torch.where(use_left, middle, high)
        # the rise of a smooth function shrinks with the interval; that of a jump stays
        smooth = (part < 0.75 * rise) & (high - low < 1e-5)
        rise = torch.where(smooth, torch.zeros_like(part), part)
    return _decimal(((low + high) / 2).tolist())


def _decimal(places: list[float]) -> list[float]:
    """Where a float lies within rounding of a short decimal, the decimal was meant."""
    return [
        round(place, 9) + 0.0
        if abs(place - round(place, 9)) < 2e-15 * max(1, abs(place))
        else place
        for place in places
    ]
