"""Inversion of E[rᵃ] along tilted contours: densities and tails that keep relative accuracy.

The density of ln r and both of its tails are Mellin–Barnes integrals over Re a = const. Near the
saddle point L'(a) = ln r the integrand is a bell and the trapezoidal rule converges
geometrically; a contour serves all points whose saddle is near it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from kadanoff.errors import DomainError
from kadanoff.priors.mellin import LogMoment

__all__ = ["Inversion"]

# ln of the smallest weight kept on the contour, and bounds of its step: both errors below 1e-16
_CUT, _POLE, _GAUSS = 41.0, 38.0, 0.55
# furthest tilt: beyond, rounding of L itself leaves nothing
_FURTHEST = 1e9
_CHUNK = 4_000_000
# the tail integrals have a pole at a = 0 of their own
_OFF_ZERO = 0.3


class Inversion:
    """Densities and tails of x = ln r from L(a) = ln E[rᵃ].

    Parameters
    ----------
    moment : LogMoment
    """

    def __init__(self, moment: LogMoment) -> None:
        self.moment = moment
        self._contours: dict[tuple[float, int], tuple[float, Tensor, Tensor]] = {}

    def log_density(self, x: Tensor) -> Tensor:
        """ln of the density of x, differentiable; shape (M,)."""
        return self._invert(x, 0)

    def log_above(self, x: Tensor) -> Tensor:
        """ln P(ln r > x), differentiable; for x above the centre."""
        return self._invert(x, 1)

    def log_below(self, x: Tensor) -> Tensor:
        """ln P(ln r ≤ x), r > 0, differentiable; for x below the centre."""
        return self._invert(x, -1)

    @cached_property
    def centre(self) -> float:
        """L'(0): the mean of ln r."""
        return float(self.moment.slope_at(np.zeros(1))[0])

    # -- saddle points -----------------------------------------------------------------------

    @cached_property
    def _saddle(self):
        """ln(a − lowest) as a function of ln r."""
        from scipy.interpolate import PchipInterpolator

        gap = np.geomspace(1e-3, _FURTHEST, 110)
        slope = self.moment.slope_at(self.moment.lowest + gap)
        return PchipInterpolator(slope, np.log(gap)), float(slope[0]), float(slope[-1])

    def _tilts(self, x: np.ndarray, side: int) -> np.ndarray:
        """A tilt near the saddle of each x, from a grid as fine as the bells are wide."""
        curve, least, most = self._saddle
        gap = np.exp(curve(np.clip(x, least, most)))
        d = len(self.moment.widths) + 1
        # the bell has width √(2a/d) far out, and a fraction of the distance to the pole near it
        near = np.exp(0.35 * np.round(np.log(gap) / 0.35))
        step = 1 / math.sqrt(d)
        far = (1 + step * np.round((np.sqrt(gap) - 1) / step)) ** 2
        a = self.moment.lowest + np.where(gap < 1, near, far)
        if side > 0:
            a = np.maximum(a, _OFF_ZERO)
        if side < 0:
            a = np.minimum(a, -min(_OFF_ZERO, -self.moment.lowest / 2))
        return a

    # -- contours ----------------------------------------------------------------------------

    def _contour(self, a: float, side: int) -> tuple[float, Tensor, Tensor]:
        """L(a), heights t, and weights (Δ/π) exp(L(a + it) − L(a)), over ±(a + it) for tails."""
        if (a, side) in self._contours:
            return self._contours[a, side]
        gap = a - self.moment.lowest
        if side:
            gap = min(gap, abs(a))
        # the tilts are near saddles, where the second derivative sets the width
        curvature = float(self.moment.slopes(np.array([a]))[1][0])
        step = min(2 * math.pi * gap / _POLE, _GAUSS / math.sqrt(curvature))
        ahead = np.unique((16 * 1.25 ** np.arange(54)).astype(int))
        heights = self.moment(a + 1j * step * np.concatenate([[0], ahead])).real
        base = float(heights[0])
        far = np.nonzero(base - heights[1:] > _CUT)[0]
        if not len(far):
            raise DomainError(f"The contour at tilt {a:g} does not decay.")
        reach = int(ahead[far[0]])
        t = step * np.arange(reach + 1)
        # in pieces: a ReLU layer takes one number a unit for each height
        pieces = np.array_split(a + 1j * t, 1 + reach // 4096)
        w = np.concatenate([np.exp(self.moment(z) - base) for z in pieces]) * (step / math.pi)
        if side:
            w = w / (side * (a + 1j * t))
        w[0] /= 2
        self._contours[a, side] = base, torch.from_numpy(t), torch.from_numpy(w)
        return self._contours[a, side]

    def _groups(self, x: Tensor, side: int) -> Iterator[tuple[Tensor, float]]:
        tilts, where = np.unique(self._tilts(x.detach().numpy(), side), return_inverse=True)
        for i, a in enumerate(tilts):
            yield torch.from_numpy(np.nonzero(where == i)[0]), float(a)

    def _invert(self, x: Tensor, side: int) -> Tensor:
        out = torch.empty_like(x)
        for points, a in self._groups(x, side):
            base, t, w = self._contour(a, side)
            rows = max(1, _CHUNK // len(t))
            for part in points.split(rows):
                y = x[part]
                phase = y[:, None] * t
                value = torch.cos(phase) @ w.real.contiguous()
                value = value + torch.sin(phase) @ w.imag.contiguous()
                out[part] = value.log() + base - a * y
        return out
