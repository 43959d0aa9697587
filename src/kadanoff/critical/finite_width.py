"""Depth scales of networks of finite width: the 1/n shifts of ξ_q, ξ_c and of the edge of chaos.

At width n the metric is a Markov chain. A depth scale is −1/ln λ(n), with λ(n) the eigenvalue of
its transition operator that starts at the infinite-width slope. Two averages must be told apart,
and their corrections have opposite sign for tanh: the *annealed* one follows E|δz|², which a few
networks with large gain dominate; the *typical* one follows E ln|δz|², which is what one drawn
network shows.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from kadanoff.activations import Activation, activation
from kadanoff.critical.depth import depth_scales
from kadanoff.critical.modes import correlation_mode
from kadanoff.errors import AnalysisError, UsageError
from kadanoff.gaussian import one
from kadanoff.gaussian.hermite import even_hermite

__all__ = ["FiniteWidthScales", "finite_width_scales"]


@dataclass(frozen=True)
class FiniteWidthScales:
    """Eigenvalues per layer and the coefficients of 1/n in them, equal hidden widths n.

    Attributes
    ----------
    K_star, c_star : float
        Infinite-width fixed point of the magnitude, and the stable correlation.
    chi_parallel, parallel : float
        λ∥(n) = chi_parallel + parallel/n: relaxation of the magnitude.
    chi_perp, perp : float
        λ⊥(n) = chi_perp + perp/n: growth of E|δz|² of two inputs that nearly coincide (annealed).
    typical : float
        (1/ℓ) E ln|δz|² = ln chi_perp + typical/n (quenched).
    chi_angle, angle : float
        λ_c(n) = chi_angle + angle/n: relaxation of the correlation at c_star. Equal to chi_perp
        and perp in the ordered phase.
    slope : float
        ∂χ⊥/∂C_W at fixed C_b, the fixed point moving along.
    V_star, K1_star : float
        Fixed points of the four-point vertex and of the 1/n shift of the mean metric.
    """

    K_star: float
    c_star: float
    chi_parallel: float
    parallel: float
    chi_perp: float
    perp: float
    typical: float
    chi_angle: float
    angle: float
    slope: float
    V_star: float
    K1_star: float

    def xi_magnitude(self, n: float = math.inf) -> float:
        """ξ_q(n) = −1/ln λ∥(n), layers."""
        return _scale(self.chi_parallel + self.parallel / n)

    def xi_angle(self, n: float = math.inf, *, typical: bool = False) -> float:
        """ξ_c(n), layers: annealed at the stable correlation, or typical (ordered phase).

        Raises
        ------
        UsageError
            ``typical`` in the chaotic phase: two inputs that differ stay different in every
            network, and c* fluctuates; only the exponent at c = 1 is defined there.
        """
        if not typical:
            return _scale(self.chi_angle + self.angle / n)
        if self.chi_perp > 1:
            raise UsageError(
                f"The typical xi_angle is defined in the ordered phase, chi_perp = "
                f"{self.chi_perp:.4g} > 1 here.",
                "Use lyapunov(n), the typical exponent of nearby inputs.",
            )
        exponent = 2 * self.lyapunov(n)
        return -1 / exponent if exponent < 0 else math.inf

    def lyapunov(self, n: float = math.inf, *, annealed: bool = False) -> float:
        """Growth per layer of ln|δz| between nearby inputs; positive in the chaotic phase."""
        if annealed:
            return 0.5 * math.log(self.chi_perp + self.perp / n)
        return 0.5 * (math.log(self.chi_perp) + self.typical / n)

    def edge_shift(self, n: float, *, typical: bool = False) -> float:
        """How far in C_W the edge of chaos lies from its infinite-width place, to order 1/n.

        Read off at a point of the line χ⊥ = 1; elsewhere it is a linear extrapolation.
        """
        coefficient = self.typical * self.chi_perp if typical else self.perp
        return -coefficient / (n * self.slope)


def _scale(rate: float) -> float:
    if not 0 < rate < 1:
        return 0.0 if rate <= 0 else math.inf
    return -1 / math.log(rate)


def finite_width_scales(spec: Any, C_b: float, C_W: float) -> FiniteWidthScales:
    """Depth scales at (C_b, C_W) and their corrections at width n, in closed form.

    Parameters
    ----------
    spec : name, callable, torch module or Activation
        Kinks are allowed.
    C_b, C_W : float

    Returns
    -------
    FiniteWidthScales

    Raises
    ------
    UsageError
        C_b or C_W negative.
    AnalysisError
        The signal dies (K* = 0), explodes or has no isolated fixed point, so that there is
        nothing to expand around.

    Notes
    -----
    Derived for this library from the recursions of the metric and its fluctuations; Grosvenor &
    Jefferson (2021) define the loop-corrected correlation length, and their printed formula has
    not been compared. First order in 1/n: near the edge n (1 − χ⊥) must stay large.

    Examples
    --------
    >>> scales = finite_width_scales("tanh", 0.05, 1.5)
    >>> round(scales.perp, 4), round(scales.typical * scales.chi_perp, 4)
    (0.2335, -1.4596)
    """
    act = activation(spec)
    at = depth_scales(act, C_b, C_W)
    K = at.K_star
    if not 0 < K < math.inf or abs(at.chi_parallel - 1) < 1e-9:
        what = "dies" if K == 0 else "explodes" if math.isinf(K) else "has no isolated fixed point"
        raise AnalysisError(
            f"At C_b = {C_b:g}, C_W = {C_W:g} the signal of {act.name} {what}: there is no fixed "
            "point to expand around.",
            "Choose C_b > 0 away from the end of the critical line, or use rgflow's moment series.",
        )
    averages = _averages(act, K, C_W)
    perp = _annealed(averages)
    # at the stable correlation of the chaotic phase; c* = 1 has the closed form
    chi_angle, angle = averages.g[0], perp
    if at.c_star < 1 - 1e-9:
        chi_angle, angle = correlation_mode(act, C_W, K, at.c_star)
    return FiniteWidthScales(
        K_star=K,
        c_star=at.c_star,
        chi_parallel=averages.chi_parallel,
        parallel=_magnitude(averages),
        chi_perp=averages.g[0],
        perp=perp,
        typical=_typical(averages),
        chi_angle=chi_angle,
        angle=angle,
        slope=_slope(averages),
        V_star=_vertex(averages),
        K1_star=_mean_shift(averages),
    )


@dataclass(frozen=True)
class _Averages:
    """Averages over z ~ N(0, K*) of s = C_W σ(z)² and g = C_W σ'(z)².

    Attributes
    ----------
    K, C_W : float
    s : tuple of four float
        ⟨s⟩ and its first three derivatives by K: ⟨s⟩' is χ∥.
    g : tuple of three float
        ⟨g⟩, which is χ⊥, and its first two derivatives by K.
    variance : tuple of two float
        Var s and its derivative by K.
    sg, gg, gzz : float
        ⟨s g⟩, ⟨g²⟩, ⟨g z²⟩.
    """

    K: float
    C_W: float
    s: tuple[float, float, float, float]
    g: tuple[float, float, float]
    variance: tuple[float, float]
    sg: float
    gg: float
    gzz: float

    @property
    def chi_parallel(self) -> float:
        return self.s[1]


def _averages(act: Activation, K: float, C_W: float) -> _Averages:
    slope = act.derivative(1)

    def mean(function: Callable[[Tensor], Tensor], order: int = 0) -> float:
        """∂ʳ⟨function⟩/∂Kʳ, no derivative of the activation taken."""

        def weighted(z: Tensor) -> Tensor:
            return function(z) * even_hermite(z, K, order)

        return float(one(weighted, K, act.kinks).value)

    def s(z: Tensor) -> Tensor:
        return C_W * act(z) ** 2

    def g(z: Tensor) -> Tensor:
        return C_W * slope(z) ** 2

    def square(z: Tensor) -> Tensor:
        return s(z) ** 2

    f0, f1, f2, f3 = (mean(s, order) for order in range(4))
    g0, g1, g2 = (mean(g, order) for order in range(3))
    return _Averages(
        K=K,
        C_W=C_W,
        s=(f0, f1, f2, f3),
        g=(g0, g1, g2),
        variance=(mean(square) - f0**2, mean(square, 1) - 2 * f0 * f1),
        sg=mean(lambda z: s(z) * g(z)),
        gg=mean(lambda z: g(z) ** 2),
        gzz=mean(lambda z: g(z) * z * z),
    )


def _magnitude(at: _Averages) -> float:
    """1/n in λ∥: cubic perturbation theory of the one-dimensional chain of the metric."""
    _, chi, f2, f3 = at.s
    noise, slope_of_noise = at.variance
    # the eigenfunction is δ + a δ² + b δ³ with δ = K − K*
    a = f2 / (2 * chi * (1 - chi))
    b = (f3 / 6 + a * chi * f2) / (chi * (1 - chi**2))
    return a * slope_of_noise + 3 * chi * b * noise


def _return(at: _Averages) -> float:
    """δz has a part along z, which changes the metric at first order and comes back."""
    chi, g0 = at.chi_parallel, at.g[0]
    return at.sg / (g0 - chi**2) * (at.gzz / at.K - g0) / at.K


def _annealed(at: _Averages) -> float:
    """1/n in λ⊥: the multiplier χ⊥(K) along the chain, correlated with the noise of the metric."""
    f0, chi, f2, _ = at.s
    g0, g1, g2 = at.g
    # the eigenfunction is |δz|² (1 + α δ + β δ²) with δ = K − K*
    alpha = g1 / (g0 * (1 - chi))
    beta = (0.5 * alpha * f2 + alpha * chi * g1 / g0 + g2 / (2 * g0)) / (1 - chi**2)
    covariance = at.sg - f0 * g0
    return beta * at.variance[0] * g0 + alpha * covariance + _return(at)


def _vertex(at: _Averages) -> float:
    """Fixed point of V' = Var s + χ∥² V."""
    return at.variance[0] / (1 - at.chi_parallel**2)


def _mean_shift(at: _Averages) -> float:
    """Fixed point of K1' = χ∥ K1 + ½ ⟨s⟩'' V."""
    return 0.5 * at.s[2] * _vertex(at) / (1 - at.chi_parallel)


def _typical(at: _Averages) -> float:
    """1/n in (1/ℓ) E ln|δz|²: ln χ⊥ averaged over the metric, less half the variance of a layer."""
    g0, g1, g2 = at.g
    shift = g1 / g0 * _mean_shift(at)
    spread = 0.5 * (g2 / g0 - (g1 / g0) ** 2) * _vertex(at)
    layer = 0.5 * (3 * at.gg - g0**2) / g0**2
    return shift + spread + _return(at) / g0 - layer


def _slope(at: _Averages) -> float:
    """∂χ⊥/∂C_W at fixed C_b, the fixed point moving along."""
    g0, g1, _ = at.g
    return g0 / at.C_W + g1 * (at.s[0] / at.C_W) / (1 - at.chi_parallel)
