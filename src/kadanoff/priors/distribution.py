"""The exact prior of a finite network's output at one input, in the manner of scipy.stats."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from fractions import Fraction
from functools import wraps
from typing import Any

import numpy as np
import torch
from scipy.special import gammaln
from torch import Tensor

from kadanoff.activations import activation as find_activation
from kadanoff.architecture import Network
from kadanoff.errors import DomainError, UsageError
from kadanoff.priors.contours import Inversion
from kadanoff.priors.mellin import LogMoment, cumulants_of

__all__ = ["ExactPrior", "exact", "of_network"]


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
    UsageError
        Another activation, or widths that are no whole numbers >= 1.
    DomainError
        ``kappa`` is not finite and positive.

    Notes
    -----
    The law depends on the input only through its norm. Weights of layer ℓ have standard
    deviation σ_ℓ: kappa = σ_1 … σ_d ‖x‖; :func:`of_network` works it out for a description.

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
    # a set or a dict has no order of layers
    if isinstance(widths, (str, Mapping, Set)) or not isinstance(widths, Iterable):
        raise UsageError(f"widths must be a sequence of hidden widths, got {widths!r}.")
    widths = tuple(widths)
    for n in (*widths, n_out):
        number = isinstance(n, (int, float)) and math.isfinite(n)
        if not number or int(n) != n or n < 1:
            raise UsageError(f"Widths must be whole numbers >= 1, got {n!r}.")
    slope = act.slopes[0] / act.slopes[1]
    if kappa is not None and not (math.isfinite(kappa) and kappa > 0):
        raise DomainError(f"kappa must be finite and > 0, got {kappa}.")
    gain = (1 + slope**2) / 2
    hidden = tuple(int(n) for n in widths)
    unit = 1 / math.sqrt(math.prod(n * gain for n in hidden))
    return ExactPrior(hidden, int(n_out), slope, unit if kappa is None else kappa)


def of_network(arch: Network, x: Any) -> ExactPrior:
    """The exact prior of the output of a described network at one input.

    Parameters
    ----------
    arch : MLP
        Without biases, skips; one homogeneous activation; Gaussian weights.
    x : array, shape (n_0,) or (1, n_0)

    Raises
    ------
    UsageError
        The network has no exact prior, or there are several inputs; the message says why.
    """
    X = arch.inputs(x)
    reason = ""
    if len(X) != 1:
        reason = f"one input is wanted, got {len(X)}"
    elif arch.residual or arch.block != "single" or arch.init != "gaussian":
        reason = "it needs Gaussian weights and no skips"
    elif any(arch.C_b):
        reason = "it needs C_b = 0 in every layer"
    elif len(set(arch.activations)) > 1:
        reason = "it needs one activation in all layers"
    elif not bool(X.any()):
        reason = "the input is zero"
    if reason:
        raise UsageError(f"This network has no exact prior: {reason}.", "Use ensemble().")
    hidden = arch.widths
    act = arch.activations[0] if hidden else find_activation("linear")
    scale = act.slopes[1] if act.slopes else 1.0
    log_kappa = 0.5 * (
        math.log(float(arch.metric(X)[0, 0]))
        + sum(math.log(c) for c in arch.C_W)
        - sum(math.log(n) for n in hidden)
    )
    kappa = math.exp(log_kappa) * scale ** len(hidden)
    return exact(hidden, act, n_out=arch.n_out, kappa=kappa)


def _elementwise(method: Callable[..., Tensor]) -> Callable[..., Any]:
    """Arrays in, arrays out; a tensor gives a tensor that can be differentiated."""

    @wraps(method)
    def both(self: ExactPrior, h: Any, *args: Any, **kwargs: Any) -> Any:
        if isinstance(h, Tensor):
            return method(self, h.double(), *args, **kwargs)
        with torch.no_grad():
            value = torch.from_numpy(np.array(h, dtype=float))
            return method(self, value, *args, **kwargs).numpy()

    return both


class ExactPrior:
    """See :func:`exact`. The methods are those of a frozen ``scipy.stats`` distribution.

    For n_out > 1 the density is that of the vector h ∈ R^n_out; ``cdf``, ``sf``, ``ppf`` and
    ``isf`` are those of its norm. The law is ``atom`` at h = 0 (all units of some ReLU layer off)
    plus a density. Given tensors, ``pdf``, ``logpdf``, ``cdf``, ``logcdf``, ``sf`` and ``logsf``
    return tensors that can be differentiated.
    """

    def __init__(self, widths: tuple[int, ...], m: int, slope: float, kappa: float) -> None:
        self.widths, self.m, self.slope, self.kappa = widths, m, slope, kappa
        self._inversion = Inversion(LogMoment(widths, m, slope))

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

    def support(self) -> tuple[float, float]:
        """(−∞, ∞), or (0, ∞) for the norm of several outputs."""
        return (-math.inf if self.m == 1 else 0.0), math.inf

    # -- density -----------------------------------------------------------------------------

    def _norm(self, h: Tensor, radial: bool) -> Tensor:
        if self.m == 1 or radial:
            return h.abs()
        if h.ndim == 0 or h.shape[-1] != self.m:
            raise UsageError(
                f"Points of {self.m} outputs have shape (..., {self.m}), got {tuple(h.shape)}.",
                "Pass radial=True if these are norms.",
            )
        return h.norm(dim=-1)

    @_elementwise
    def logpdf(
        self, h: Tensor, kappa: Tensor | float | None = None, *, radial: bool = False
    ) -> Tensor:
        """ln of the density at h (the continuous part; see ``atom``), to 1e-10 in the far tails.

        Parameters
        ----------
        h : array or Tensor, shape (...) for one output, (..., n_out) for several
        kappa : float or Tensor, optional
            Overrides the scale; the result can be differentiated with respect to it.
        radial : bool
            ``h`` holds norms, shape (...): the density at any vector so long.
        """
        scale = torch.as_tensor(self.kappa if kappa is None else kappa, dtype=torch.float64)
        r = self._norm(h, radial)
        good = (r > 0) & torch.isfinite(r)
        x = (r[good] / scale).log()
        shell = math.log(2) + 0.5 * self.m * math.log(math.pi) - float(gammaln(self.m / 2))
        value = self._inversion.log_density(x) - self.m * x - shell - self.m * scale.log()
        out = torch.full_like(r, math.nan, requires_grad=False)
        out = out.masked_fill(torch.isinf(r), -math.inf)
        at_zero = self._at_zero() + self.m * (math.log(self.kappa) - scale.log())
        out = torch.where(r == 0, at_zero, out)
        return out.masked_scatter(good, value)

    log_prob = logpdf

    def _at_zero(self) -> float:
        """ln p(0) = ln E[(2π κ² Πχ²)^(−m/2)], where that exists."""
        if self.widths and (self.slope == 0 or min(self.widths) <= self.m):
            return math.inf
        moment = self._inversion.moment
        inverse = sum(float(moment.layer(n, np.array(-self.m + 0j)).real) for n in self.widths)
        return inverse - 0.5 * self.m * math.log(2 * math.pi) - self.m * math.log(self.kappa)

    @_elementwise
    def pdf(
        self, h: Tensor, kappa: Tensor | float | None = None, *, radial: bool = False
    ) -> Tensor:
        """Density at h of the continuous part; arguments as for :meth:`logpdf`.

        Parameters
        ----------
        h : Tensor
            Outputs, or their norms if ``radial``.
        kappa : Tensor or float, optional
            Scale of the outputs, see :meth:`logpdf`.
        radial : bool
            Whether ``h`` is a norm.
        """
        return self.logpdf(h, kappa, radial=radial).exp()

    # -- distribution ------------------------------------------------------------------------

    def _log_tail(self, r: Tensor) -> Tensor:
        """ln P(‖h‖ > r) for r ≥ 0, relatively accurate."""
        return self._split(r, self._inversion.log_above, self._inversion.log_below, True)

    def _log_head(self, r: Tensor) -> Tensor:
        """ln P(0 < ‖h‖ ≤ r), relatively accurate."""
        return self._split(r, self._inversion.log_below, self._inversion.log_above, False)

    def _split(self, r: Tensor, own: Any, other: Any, above: bool) -> Tensor:
        """One tail directly on its side of the centre, as what the other leaves beyond it."""
        out = torch.full_like(r, math.nan, requires_grad=False)
        full = math.log1p(-self.atom)
        out = out.masked_fill(r == (0 if above else math.inf), full)
        out = out.masked_fill(r == (math.inf if above else 0), -math.inf)
        good = (r > 0) & torch.isfinite(r)
        x = (r[good] / self.kappa).log()
        near = x > self._inversion.centre if above else x <= self._inversion.centre
        value = torch.empty_like(x)
        value[near] = own(x[near])
        value[~near] = (1 - self.atom - other(x[~near]).exp()).log()
        return out.masked_scatter(good, value)

    @_elementwise
    def logsf(self, h: Tensor) -> Tensor:
        """ln of :meth:`sf`, for tails beyond floating point."""
        if self.m > 1:
            return torch.where(h < 0, 0.0, self._log_tail(h.abs()))
        half = self._log_tail(h.abs()) - math.log(2)
        return torch.where(h < 0, torch.log1p(-half.exp()), half)

    @_elementwise
    def sf(self, h: Tensor) -> Tensor:
        """P(h > value) for one output, P(‖h‖ > value) for several; accurate in the tail."""
        return self.logsf(h).exp()

    @_elementwise
    def cdf(self, h: Tensor) -> Tensor:
        """P(h ≤ value) for one output, the atom included; P(‖h‖ ≤ value) for several."""
        if self.m > 1:
            return torch.where(h < 0, 0.0, self._log_head(h.abs()).exp() + self.atom)
        half = self._log_tail(h.abs()).exp() / 2
        return torch.where(h < 0, half, 1 - half)

    @_elementwise
    def logcdf(self, h: Tensor) -> Tensor:
        """ln of :meth:`cdf`."""
        if self.m > 1:
            return self.cdf(h).log()
        return self.logsf(-h) if self.atom == 0 else self.cdf(h).log()

    def ppf(self, q: Any) -> np.ndarray:
        """Quantile of :meth:`cdf`; 0 on the stretch that the atom covers.

        Raises
        ------
        DomainError
            q outside [0, 1].
        """
        q = _probabilities(q)
        if self.m > 1:
            return self._norm_with(1 - q, q - self.atom)
        upper = q > 0.5
        above = 2 * np.where(upper, 1 - q, q)
        return np.where(upper, 1, -1) * self._norm_with(above, 2 * np.abs(q - 0.5) - self.atom)

    def isf(self, q: Any) -> np.ndarray:
        """Inverse of :meth:`sf`, accurate for the smallest q."""
        q = _probabilities(q)
        if self.m > 1:
            return self._norm_with(q, 1 - q - self.atom)
        lower = q > 0.5
        above = 2 * np.where(lower, 1 - q, q)
        return np.where(lower, -1, 1) * self._norm_with(above, 2 * np.abs(q - 0.5) - self.atom)

    def _norm_with(self, above: np.ndarray, below: np.ndarray) -> np.ndarray:
        """r with P(‖h‖ > r) = above, P(0 < ‖h‖ ≤ r) = below, whichever is smaller is used."""
        above, below = np.broadcast_arrays(above, below)
        out = np.zeros(above.shape)
        out[above <= 0] = math.inf
        with torch.no_grad():
            for take, tail, target in (
                ((above > 0) & (below > 0) & (above <= below), self._log_tail, above),
                ((above > 0) & (below > 0) & (above > below), self._log_head, below),
            ):
                if take.any():
                    out[take] = np.exp(self._solve(tail, np.log(target[take])))
        return out

    def _solve(self, tail: Any, target: np.ndarray) -> np.ndarray:
        """ln r where the log of a tail is ``target``: Newton's method, guarded by bisection."""
        want = torch.from_numpy(target)
        x = torch.full_like(want, self._inversion.centre + math.log(self.kappa))
        rising = tail == self._log_head
        low, high = torch.full_like(x, -math.inf), torch.full_like(x, math.inf)
        for _ in range(200):
            value = tail(x.exp())
            miss = value - want
            short = (miss < 0) == rising  # the root lies further right
            low, high = torch.where(short, x, low), torch.where(short, high, x)
            slope = (self._inversion.log_density(x - math.log(self.kappa)) - value).exp()
            step = (-miss / (slope if rising else -slope)).clamp(-3, 3)
            step = torch.where(torch.isfinite(step), step, torch.where(short, 1.0, -1.0))
            new = x + step
            outside = (new <= low) | (new >= high)
            new = torch.where(outside & torch.isfinite(low + high), (low + high) / 2, new)
            done = (new - x).abs() <= 4e-16 * (1 + x.abs()) + 1e-14
            x = new
            if bool(done.all()):
                break
        return x.numpy()

    def median(self) -> float:
        """0 for one output; the median norm for several."""
        return float(self.ppf(0.5))

    def interval(self, confidence: float) -> tuple[float, float]:
        """Ends of the central interval that holds this probability."""
        low, high = self.ppf([(1 - confidence) / 2, (1 + confidence) / 2])
        return float(low), float(high)

    def rvs(
        self, size: int | tuple[int, ...] = 1, random_state: int | np.random.Generator | None = None
    ) -> np.ndarray:
        """Exact samples of shape ``size`` (and n_out): d numbers each, no matrices."""
        rng = np.random.default_rng(random_state)
        shape = (size,) if isinstance(size, int) else tuple(size)
        squared = np.ones(shape)
        for n in self.widths:
            if self.slope == 1:
                squared *= rng.chisquare(n, shape)
                continue
            k = rng.binomial(n, 0.5, shape)
            # numpy refuses zero degrees of freedom; those samples vanish
            on = np.where(k > 0, rng.chisquare(np.maximum(k, 1)), 0.0)
            if self.slope:
                off = np.where(n - k > 0, rng.chisquare(np.maximum(n - k, 1)), 0.0)
                on = on + self.slope**2 * off
            squared *= on
        z = rng.standard_normal((*shape, self.m))
        h = self.kappa * np.sqrt(squared)[..., None] * z
        return h[..., 0] if self.m == 1 else h

    # -- moments of one output ---------------------------------------------------------------

    def moment(self, order: int) -> float:
        """E[h^order] of one output component (0 for odd orders); rational arithmetic inside.

        Raises
        ------
        DomainError
            The order is no whole number >= 0.
        """
        if order < 0 or int(order) != order:
            raise DomainError(f"The order of a moment must be a whole number >= 0, got {order}.")
        if order % 2:
            return 0.0
        j = int(order) // 2
        even = self._inversion.moment.even_moments(j)[j]
        return float(even * math.prod(range(1, 2 * j, 2))) * self.kappa**order

    def cumulant(self, order: int) -> float:
        """Cumulant of one output component, any order >= 1 (0 for odd orders)."""
        return self.cumulants(order)[-1] if order > 0 else 0.0

    def cumulants(self, order: int = 8) -> list[float]:
        """Cumulants 1 … order of one output component: exact, without cancellation."""
        even = self._inversion.moment.even_moments(order // 2)
        raw = [
            Fraction(0) if k % 2 else even[k // 2] * math.prod(range(1, k, 2))
            for k in range(order + 1)
        ]
        return [float(c) * self.kappa ** (k + 1) for k, c in enumerate(cumulants_of(raw))]

    def mean(self) -> float:
        """0, by symmetry."""
        return 0.0

    def var(self) -> float:
        """Variance of one output component."""
        return self.moment(2)

    def std(self) -> float:
        """Standard deviation of one output component."""
        return math.sqrt(self.var())

    def stats(self, moments: str = "mv") -> tuple[float, ...]:
        """Mean, variance, skewness and excess kurtosis of one component, as letters of "mvsk"."""
        kurtosis = self.cumulant(4) / self.var() ** 2 if "k" in moments else math.nan
        table = {"m": 0.0, "v": self.var(), "s": 0.0, "k": kurtosis}
        return tuple(table[letter] for letter in moments)

    def expect(self, function: Callable[[np.ndarray], np.ndarray]) -> float:
        """E[function(h)] for one output, E[function(‖h‖)] for several, the atom included.

        Trapezoidal rule in ln‖h‖, which converges geometrically for smooth functions.
        """
        ends = self._norm_with(np.array([1 - self.atom, 1e-18]), np.array([1e-18, 1.0]))
        low, high = np.log(ends)
        x = np.linspace(low, high, 2001)
        with torch.no_grad():
            ln_density = self._inversion.log_density(torch.from_numpy(x - math.log(self.kappa)))
        w, r = np.exp(ln_density.numpy()) * (x[1] - x[0]), np.exp(x)
        value = function(r) if self.m > 1 else 0.5 * (function(r) + function(-r))
        total = float((w * value).sum())
        return total + (self.atom * float(function(np.zeros(1))[0]) if self.atom else 0.0)

    def entropy(self) -> float:
        """Differential entropy −E ln p of the output.

        Raises
        ------
        UsageError
            The law has an atom, hence no density.
        """
        if self.atom:
            raise UsageError(f"With an atom of {self.atom:g} at zero the entropy is not defined.")
        return self.expect(lambda r: -self.logpdf(r, radial=True))

    def cf(self, q: Any) -> np.ndarray:
        """Characteristic function E[exp(i q·h)], a real function of ‖q‖."""
        q = np.abs(np.asarray(q, dtype=float))
        flat = q.reshape(-1)
        # P = Πχ²: E[exp(−κ²q²P/2)] by a Mellin integral over u on 0 < Re u < ½ min(n, 1)
        moment = self._inversion.moment
        lowest = min(self.widths, default=2)
        c = 0.25 * min(lowest if self.slope != 0 else 1, 2)
        from scipy.special import loggamma

        step = 2 * math.pi * c / 38.0
        t = step * np.arange(math.ceil(130 / step))
        u = c + 1j * t
        layers = sum((moment.layer(n, -2 * u) for n in self.widths), 0j * u)
        w = np.exp(loggamma(u) + layers) * step / math.pi
        w[0] /= 2
        out = np.ones(flat.shape)
        good = flat > 0
        x = np.log(0.5 * (self.kappa * flat[good]) ** 2)
        out[good] = (np.exp(-np.outer(x, u)) @ w).real + self.atom
        return out.reshape(q.shape)


def _probabilities(q: Any) -> np.ndarray:
    q = np.asarray(q, dtype=float)
    if np.any((q < 0) | (q > 1) | np.isnan(q)):
        raise DomainError("Quantiles need probabilities between 0 and 1.")
    return q
