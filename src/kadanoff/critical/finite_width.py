"""Depth scales of networks of finite width: the 1/n shifts of ξ_q, ξ_c and of the edge of chaos.

At width n the metric is a Markov chain. A depth scale is −1/ln λ(n), with λ(n) the eigenvalue of
its transition operator that starts at the infinite-width slope. Two averages must be told apart,
and their corrections have opposite sign for tanh: the *annealed* one follows E|δz|², which a few
networks with large gain dominate; the *typical* one follows E ln|δz|², which is what one drawn
network shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

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
    table = _single_input(act, K, C_W)
    parallel, perp, typical, slope, V, K1 = _closed_forms(K, **table)
    # at the stable correlation of the chaotic phase; c* = 1 has the closed form
    rate, shift = table["p0"], perp
    if at.c_star < 1 - 1e-9:
        rate, shift = correlation_mode(act, C_W, K, at.c_star)
    return FiniteWidthScales(
        K, at.c_star, table["f1"], parallel, table["p0"], perp, typical, rate, shift, slope, V, K1
    )


def _single_input(act: Activation, K: float, C_W: float) -> dict[str, float]:
    d1 = act.derivative(1)

    def mean(function, r: int = 0) -> float:
        """∂ʳ⟨function⟩/∂Kʳ, no derivative of the activation taken."""
        weighted = lambda z: function(z) * even_hermite(z, K, r)  # noqa: E731
        return float(one(weighted, K, act.kinks).value)

    def s(z):
        return C_W * act(z) ** 2

    def g(z):
        return C_W * d1(z) ** 2

    f = [mean(s, r) for r in range(4)]
    square = [mean(lambda z: s(z) ** 2, r) for r in range(2)]
    p = [mean(g, r) for r in range(3)]
    return {
        "f1": f[1],
        "f2": f[2],
        "f3": f[3],
        "f0": f[0],
        "v0": square[0] - f[0] ** 2,
        "v1": square[1] - 2 * f[0] * f[1],
        "p0": p[0],
        "p1": p[1],
        "p2": p[2],
        "sg": mean(lambda z: s(z) * g(z)),
        "gg": mean(lambda z: g(z) ** 2),
        "gz": mean(lambda z: g(z) * z * z),
        "C_W": C_W,
    }


def _closed_forms(K, f0, f1, f2, f3, v0, v1, p0, p1, p2, sg, gg, gz, C_W) -> tuple[float, ...]:
    chi = f1
    # λ∥: cubic perturbation theory of the one-dimensional chain
    a = f2 / (2 * chi * (1 - chi))
    b = (f3 / 6 + a * chi * f2) / (chi * (1 - chi**2))
    parallel = a * v1 + 3 * chi * b * v0
    # λ⊥: the multiplier χ⊥(Ĝ) along the chain, correlated with the noise of the metric
    alpha = p1 / (p0 * (1 - chi))
    beta = (0.5 * alpha * f2 + alpha * chi * p1 / p0 + p2 / (2 * p0)) / (1 - chi**2)
    w0 = sg - f0 * p0
    # δz has a part along z, which changes the metric at first order and comes back
    along = sg / (p0 - chi**2) * (gz / K - p0) / K
    perp = beta * v0 * p0 + alpha * w0 + along
    V = v0 / (1 - chi**2)
    K1 = 0.5 * f2 * V / (1 - chi)
    typical = (
        p1 / p0 * K1
        + 0.5 * (p2 / p0 - (p1 / p0) ** 2) * V
        + along / p0
        - 0.5 * (3 * gg - p0**2) / p0**2
    )
    slope = p0 / C_W + p1 * (f0 / C_W) / (1 - chi)
    return parallel, perp, typical, slope, V, K1
