"""The exact prior of a finite network's output at one input, in the manner of scipy.stats."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.special import gammaln
from torch import Tensor

from kadanoff.activations import activation as find_activation
from kadanoff.errors import DomainError, UsageError
from kadanoff.priors.mellin import LogMoment

__all__ = ["ExactPrior", "exact"]

# ln of the smallest weight kept on the contour, and bounds of its step: both errors below 1e-16
_CUT, _POLE, _GAUSS = 41.0, 38.0, 0.55


def exact(
    widths: Sequence[int],
    activation: Any = "relu",
    *,
    n_out: int = 1,
    kappa: float | None = None,
) -> ExactPrior:
    """The law of the output h ∈ R^n_out of a bias-free network at one input.

    Parameters
    ----------
    widths : sequence of int
        Hidden widths n_1 … n_{d−1}; empty for one linear map.
    activation : name, callable or Activation
        linear, relu or leaky_relu (slope between 0 and 1).
    n_out : int
        Output dimension m.
    kappa : float, optional
        Product of all weight standard deviations and the norm of the input. Default: the value
        that gives each output unit variance.

    Raises
    ------
    UsageError, DomainError

    Examples
    --------
    >>> p = exact([5], "linear")
    >>> round(float(p.pdf(1.0)), 9)
    0.210705356
    """
    act = find_activation(activation)
    if act.slopes is None or act.slopes[1] <= 0 or not 0 <= act.slopes[0] <= act.slopes[1]:
        raise UsageError(
            f"Exact priors exist for linear, relu and leaky_relu, not for {act.name}.",
            "Use ensemble() for other activations.",
        )
    for n in (*widths, n_out):
        if int(n) != n or n < 1:
            raise UsageError(f"Widths must be whole numbers >= 1, got {n}.")
    slope = act.slopes[0] / act.slopes[1]
    if kappa is not None and not (math.isfinite(kappa) and kappa > 0):
        raise DomainError(f"kappa must be finite and > 0, got {kappa}.")
    gain = (1 + slope**2) / 2
    hidden = tuple(int(n) for n in widths)
    unit = 1 / math.sqrt(math.prod(n * gain for n in hidden))
    return ExactPrior(hidden, int(n_out), slope, unit if kappa is None else kappa)


class ExactPrior:
    """See :func:`exact`. For n_out > 1 the density is a function of ‖h‖; pass vectors or norms.

    The law is ``atom`` at h = 0 (all units of some ReLU layer off) plus a density.
    """

    def __init__(self, widths: tuple[int, ...], m: int, slope: float, kappa: float) -> None:
        self.widths, self.m, self.slope, self.kappa = widths, m, slope, kappa
        self._log_moment = LogMoment(widths, m, slope)
        self._contours: dict[int, tuple[np.ndarray, Any]] = {}

    def __repr__(self) -> str:
        return (
            f"ExactPrior(widths={list(self.widths)}, slope={self.slope:g}, n_out={self.m}, "
            f"kappa={self.kappa:.4g})"
        )

    @property
    def atom(self) -> float:
        """P(h = 0): 1 − Π(1 − 2^(−n_ℓ)) for ReLU, 0 otherwise."""
        if self.slope != 0:
            return 0.0
        return -math.expm1(sum(math.log1p(-(2.0**-n)) for n in self.widths))

    # -- contour -----------------------------------------------------------------------------

    @cached_property
    def _tilts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        low = self._log_moment.lowest
        a = low + np.concatenate([[0.3, 0.45, 0.65, 0.9], np.geomspace(1.2, 1e5, 120)])
        return a, *self._log_moment.slopes(a)

    def _contour(self, index: int) -> tuple[np.ndarray, Any]:
        """Heights t and weights (Δ/π) exp(L(a + it) − L(a)) on the contour of a tilt."""
        if index in self._contours:
            return self._contours[index]
        a, spread = float(self._tilts[0][index]), 1 / math.sqrt(float(self._tilts[2][index]))
        step = min(2 * math.pi * (a - self._log_moment.lowest) / _POLE, _GAUSS * spread)
        base = float(self._log_moment(np.array([a]))[0].real)
        reach = 64
        while base - float(self._log_moment(np.array([a + 1j * step * reach]))[0].real) < _CUT:
            reach = math.ceil(reach * 1.3)
            if reach > 200_000:
                raise DomainError(f"The contour of {self!r} does not decay.")
        t = step * np.arange(reach + 1)
        w = np.exp(self._log_moment(a + 1j * t) - base) * step / math.pi
        w[0] /= 2
        self._contours[index] = t, w
        return t, w

    def _groups(self, ln_r: np.ndarray, tilts: np.ndarray | None = None):
        """(indices of points, tilt) so that each point's tilt is nearest its saddle."""
        a, slope, _ = self._tilts
        allowed = np.arange(len(a)) if tilts is None else tilts
        nearest = allowed[np.abs(slope[allowed] - ln_r[:, None]).argmin(1)]
        for index in np.unique(nearest):
            yield np.nonzero(nearest == index)[0], int(index)

    # -- density -----------------------------------------------------------------------------

    def _norm(self, h: Any) -> np.ndarray:
        h = np.asarray(h, dtype=float)
        if self.m > 1 and h.ndim and h.shape[-1] == self.m:
            h = np.linalg.norm(h, axis=-1)
        return np.abs(h) / self.kappa

    def logpdf(self, h: Any) -> np.ndarray:
        """ln of the density at h (the continuous part; see ``atom``), to 1e-10 in the far tails.

        Parameters
        ----------
        h : array, shape (...) for n_out = 1 or of norms; (..., n_out) for vectors
        """
        r = self._norm(h)
        flat = r.reshape(-1)
        out = np.full(flat.shape, math.nan)
        out[flat == 0] = self._at_zero()
        out[np.isinf(flat)] = -math.inf
        good = np.nonzero((flat > 0) & np.isfinite(flat))[0]
        ln_r = np.log(flat[good])
        shell = math.log(2) + 0.5 * self.m * math.log(math.pi) - gammaln(self.m / 2)
        for points, index in self._groups(ln_r):
            t, w = self._contour(index)
            a = float(self._tilts[0][index])
            x = ln_r[points]
            integral = (np.exp(-1j * np.outer(x, t)) @ w).real
            base = float(self._log_moment(np.array([a]))[0].real)
            with np.errstate(divide="ignore"):
                out[good[points]] = np.log(integral) + base - (a + self.m) * x
        out[good] -= shell + self.m * math.log(self.kappa)
        return out.reshape(r.shape)

    def _at_zero(self) -> float:
        """ln p(0): finite only where the density is, (1/Γ(m/2)-weighted) E[Πχ^(−m)]."""
        if (
            self._log_moment.lowest >= -self.m
            and self.widths
            and (self.slope == 0 or min(self.widths) <= self.m)
        ):
            return math.inf
        inverse = float(self._log_moment(np.array([-self.m + 1e-9]))[0].real)
        # near its pole Γ((m + a)/2) ≈ 2/(m + a); the rest is E[(Πχ)^(−m)]
        gaussian = -0.5 * self.m * math.log(2) + math.log(2 / 1e-9) - gammaln(self.m / 2)
        scale = -0.5 * self.m * math.log(2 * math.pi) - self.m * math.log(self.kappa)
        return inverse - gaussian + scale

    def pdf(self, h: Any) -> np.ndarray:
        """Density at h of the continuous part."""
        return np.exp(self.logpdf(h))

    def log_prob(self, h: Tensor, kappa: Tensor | float | None = None) -> Tensor:
        """``logpdf`` as a torch function, differentiable in ``h`` and ``kappa``.

        Parameters
        ----------
        h : Tensor, shape (...) or (..., n_out)
        kappa : Tensor, optional
            Overrides the scale.
        """
        scale = torch.as_tensor(self.kappa if kappa is None else kappa, dtype=torch.float64)
        r = h.double()
        r = r.norm(dim=-1) if self.m > 1 and r.ndim and r.shape[-1] == self.m else r.abs()
        ln_r = (r / scale).log().reshape(-1)
        pieces, order = [], []
        for points, index in self._groups(ln_r.detach().numpy()):
            t, w = (torch.from_numpy(v) for v in self._contour(index))
            a = float(self._tilts[0][index])
            base = float(self._log_moment(np.array([a]))[0].real)
            x = ln_r[torch.from_numpy(points)]
            phase = x[:, None] * t
            integral = (
                torch.cos(phase) @ w.real.contiguous() + torch.sin(phase) @ w.imag.contiguous()
            )
            pieces.append(integral.log() + base - (a + self.m) * x)
            order.append(points)
        shell = math.log(2) + 0.5 * self.m * math.log(math.pi) - float(gammaln(self.m / 2))
        back = torch.from_numpy(np.argsort(np.concatenate(order)))
        value = torch.cat(pieces)[back].reshape(r.shape)
        return value - shell - self.m * scale.log()

    # -- distribution ------------------------------------------------------------------------

    def sf_norm(self, r: Any) -> np.ndarray:
        """P(‖h‖ > r), relatively accurate in the tail."""
        return self._tail(np.asarray(r, dtype=float) / self.kappa)

    def _tail(self, r: np.ndarray) -> np.ndarray:
        """P(‖h‖/κ > r)."""
        flat = r.reshape(-1)
        out = np.where(flat > 0, 0.0, 1 - self.atom)
        good = np.nonzero(flat > 0)[0]
        a_all = self._tilts[0]
        # 1/a has a pole at 0: contours to the right of it give P(> r)
        side = np.nonzero(a_all > 0.2)[0]
        ln_r = np.log(flat[good])
        for points, index in self._groups(ln_r, side):
            a = float(a_all[index])
            # the pole of 1/a is nearer than that of L: a finer step keeps the trapezoid exact
            out[good[points]] = self._integral_over_a(a, ln_r[points])
        return out.reshape(r.shape)

    def _integral_over_a(self, a: float, ln_r: np.ndarray) -> np.ndarray:
        gap = min(a - self._log_moment.lowest, abs(a))
        t, _ = self._contour(int(np.abs(self._tilts[0] - a).argmin()))
        step = min(2 * math.pi * gap / _POLE, float(t[1]))
        t = step * np.arange(math.ceil(float(t[-1]) / step) + 1)
        base = float(self._log_moment(np.array([a]))[0].real)
        w = np.exp(self._log_moment(a + 1j * t) - base) / (a + 1j * t) * step / math.pi
        w[0] /= 2
        return (np.exp(-1j * np.outer(ln_r, t)) @ w).real * np.exp(base - a * ln_r)

    def cdf(self, h: Any) -> np.ndarray:
        """P(h ≤ value) for one output, the atom included; P(‖h‖ ≤ value) for several."""
        h = np.asarray(h, dtype=float)
        r = np.abs(h) / self.kappa
        above = self._tail(r)
        if self.m > 1:
            return np.where(h < 0, 0.0, 1 - above)
        return np.where(h < 0, above / 2, 1 - above / 2)

    def ppf(self, q: Any) -> np.ndarray:
        """Quantile of :meth:`cdf`; 0 on the stretch that the atom covers.

        Raises
        ------
        DomainError
            q outside [0, 1].
        """
        from scipy.optimize import brentq

        q = np.asarray(q, dtype=float)
        if np.any((q < 0) | (q > 1) | np.isnan(q)):
            raise DomainError("Quantiles need probabilities between 0 and 1.")

        def tail_quantile(p: float) -> float:
            """r with P(‖h‖/κ > r) = p."""
            if p <= 0:
                return math.inf
            if p >= 1 - self.atom:
                return 0.0

            def gap(x: float) -> float:
                return float(np.log(self._tail(np.array([math.exp(x)])))[0]) - math.log(p)

            low, high = -1.0, 1.0
            while gap(low) < 0:
                low *= 2
            while gap(high) > 0:
                high *= 2
            root: Any = brentq(gap, low, high, xtol=1e-13)
            return math.exp(root)

        def single(p: float) -> float:
            if self.m > 1:
                return self.kappa * tail_quantile(1 - p)
            sign = 1 if p > 0.5 else -1
            return sign * self.kappa * tail_quantile(2 * min(p, 1 - p))

        return np.vectorize(single, otypes=[float])(q)

    def rvs(self, size: int, seed: int | np.random.Generator = 0) -> np.ndarray:
        """Exact samples, shape (size,) or (size, n_out): d numbers each, no matrices."""
        rng = np.random.default_rng(seed)
        squared = np.ones(size)
        for n in self.widths:
            if self.slope == 1:
                squared *= rng.chisquare(n, size)
                continue
            k = rng.binomial(n, 0.5, size)
            # numpy refuses zero degrees of freedom; those samples vanish
            on = np.where(k > 0, rng.chisquare(np.maximum(k, 1)), 0.0)
            if self.slope:
                off = np.where(n - k > 0, rng.chisquare(np.maximum(n - k, 1)), 0.0)
                on = on + self.slope**2 * off
            squared *= on
        z = rng.standard_normal((size, self.m))
        h = self.kappa * np.sqrt(squared)[:, None] * z
        return h[:, 0] if self.m == 1 else h

    def moment(self, order: int) -> float:
        """E[h^order] of one output component (0 for odd orders)."""
        if order < 0 or int(order) != order:
            raise DomainError(f"The order of a moment must be a whole number >= 0, got {order}.")
        if order % 2:
            return 0.0
        one = LogMoment(self.widths, 1, self.slope)
        value = float(np.exp(one(np.array([complex(order)]))[0].real)) * self.kappa**order
        return value + (self.atom if order == 0 else 0.0)

    def cumulant(self, order: int) -> float:
        """Cumulant of one output component, order 2, 4, 6 or 8 (0 for odd orders)."""
        raw = [self.moment(k) for k in range(order + 1)]
        found: list[float] = []
        for j in range(1, order + 1):
            rest = sum(math.comb(j - 1, i - 1) * found[i - 1] * raw[j - i] for i in range(1, j))
            found.append(raw[j] - rest)
        return found[-1] if found else 0.0

    def characteristic(self, q: Any) -> np.ndarray:
        """E[exp(i q·h)] as a function of ‖q‖."""
        q = np.abs(np.asarray(q, dtype=float))
        flat = q.reshape(-1)
        # P = Πχ²: E[exp(−κ²q²P/2)] by a Mellin integral over u on 0 < Re u < ½ min(n, 1)
        lowest = min(*self.widths, 10**9) if self.widths else 2
        c = 0.25 * min(lowest if self.slope != 0 else 1, 2)
        from scipy.special import loggamma

        step = 2 * math.pi * c / _POLE
        t = step * np.arange(math.ceil(2 * (_CUT + 8) / step * 1.3) + 1)
        u = c + 1j * t
        layers = sum((self._log_moment.layer(n, -2 * u) for n in self.widths), 0j * u)
        w = np.exp(loggamma(u) + layers) * step / math.pi
        w[0] /= 2
        out = np.ones(flat.shape)
        good = flat > 0
        x = np.log(0.5 * (self.kappa * flat[good]) ** 2)
        out[good] = (np.exp(-np.outer(x, u)) @ w).real + self.atom
        return out.reshape(q.shape)
