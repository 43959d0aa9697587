"""Entropy and mutual information of neurons at order 1/n, and what they say of depth and width.

All formulas are for m neurons of one layer at one input, with v = Var Ĝ / (E Ĝ)² = V/(n G²).
Roberts, Yaida & Hanin (2022), appendices A and B; the coefficients were derived anew and are
held against numerical integration in the tests.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from kadanoff.architecture import Network
from kadanoff.critical import criticality
from kadanoff.errors import UsageError

__all__ = [
    "Aspect",
    "aspect",
    "entropy",
    "mutual_information",
    "optimal_aspect_ratio",
    "optimal_gamma",
]

# below a tenth of the information optimum features hardly form: the kernel regime
_KERNEL_SHARE = 0.1
# Var Ĝ = (E Ĝ)²: the network's own scale is as uncertain as it is large
_CHAOTIC = 1.0


def entropy(m: int, G: float, v: float) -> float:
    """Entropy of m neurons in nats: (m/2) ln(2πe G) − m(m + 2)/16 v² + O(v³).

    Parameters
    ----------
    m : int
        Neurons of one layer.
    G : float
        Mean metric.
    v : float
        V/(n G²).
    """
    return 0.5 * m * math.log(2 * math.pi * math.e * G) - m * (m + 2) / 16 * v**2


def mutual_information(m1: int, m2: int, v: float) -> float:
    """Information in nats between m1 and m2 neurons: (m1 m2/8) v² [1 − v((m1+m2)/2 + 10/3)].

    Valid for small v; the six-point vertex drops out at this order.

    Parameters
    ----------
    m1, m2 : int
        Neurons of two sets of one layer.
    v : float
        V/(n G²).
    """
    return m1 * m2 / 8 * v**2 * (1 - v * ((m1 + m2) / 2 + 10 / 3))


def _best_v(n_out: int) -> float:
    """The v at which the information between n_out neurons is largest: 4/(20 + 3 n_out)."""
    if n_out < 1:
        raise UsageError(f"n_out must be at least 1, got {n_out}.")
    return 4 / (20 + 3 * n_out)


def optimal_aspect_ratio(activation: Any, n_out: int = 1) -> float:
    """r* = L/n at which outputs share the most information: 4/((20 + 3 n_out) ν).

    Parameters
    ----------
    activation : name, callable or Activation
        With a universal ν: scale-invariant or K* = 0 (smooth) at criticality.
    n_out : int
        Number of outputs.

    Raises
    ------
    UsageError
        The activation has no depth-independent ν.

    Examples
    --------
    >>> round(optimal_aspect_ratio("relu", 1), 4)
    0.0348
    """
    nu = criticality(activation).nu
    if not nu > 0:
        raise UsageError(
            f"The activation {criticality(activation).activation} has no universal nu.",
            "aspect(arch) works from its vertex V at the actual depth instead.",
        )
    return _best_v(n_out) / nu


def optimal_gamma(activation: Any, n: int, L: int, n_out: int = 1) -> float:
    """Strength γ of the skip at which a residual net of depth L and width n has ν(γ) L/n = v*.

    Solves ν(γ) = (4/(20 + 3 n_out)) n/L with ν(γ) = (2/3)(1 − γ⁴) at K* = 0 and
    (1 − γ²)[(1 − γ²) ν + 4γ²] for scale-invariant activations (exact for the linear one; an
    activation that is not odd grows an odd vertex beside it, see ``flow``).

    Returns 0 where even without a skip the net is shallower than the optimum.

    Parameters
    ----------
    activation : name, callable or Activation
    n, L : int
        Width and depth.
    n_out : int
        Outputs.

    Raises
    ------
    UsageError
    """
    point = criticality(activation)
    if not point.nu > 0:
        raise UsageError(f"The activation {point.activation} has no universal nu.")
    if n < 1 or L < 1:
        raise UsageError(f"Width and depth must be >= 1, got n = {n}, L = {L}.")
    wanted = _best_v(n_out) * n / L
    if wanted >= point.nu:
        return 0.0
    if point.universality_class == "K*=0":
        return (1 - 1.5 * wanted) ** 0.25
    # with y = 1 − γ²: y (ν y + 4 (1 − y)) = wanted
    a, b = point.nu - 4, 4.0
    y = wanted / b if abs(a) < 1e-12 else (-b + math.sqrt(b * b + 4 * a * wanted)) / (2 * a)
    return math.sqrt(1 - y)


@dataclass(frozen=True)
class Aspect:
    """In which regime a network is, by its depth-to-width ratio.

    Attributes
    ----------
    r : float
        Σ 1/n over the hidden layers: L/n.
    v : float
        V/(n G²) at the output, for one typical input: relative variance of the output's variance.
    v_star : float
        The v at which the outputs share the most information.
    nu : float
        v/r: growth per layer and width, at this initialisation.
    r_star : float
        r at which this network would have v_star.
    width : int
        Hidden width that this depth wants.
    regime : {"kernel regime", "effectively deep", "chaotic"}
    seed_spread : float
        Relative standard deviation of the squared output between seeds beyond a wide net's, √v.
    """

    r: float
    v: float
    v_star: float
    nu: float
    r_star: float
    width: int
    regime: str
    seed_spread: float

    def __str__(self) -> str:
        return (
            f"{self.regime}: L/n = {self.r:.3g}, V/(nK²) = {self.v:.3g} "
            f"(optimum {self.v_star:.3g}); "
            f"at this initialisation its depth wants width {self.width}"
        )


def aspect(arch: Network, x: Any = None) -> Aspect:
    """How deep a network effectively is, and what width its depth wants.

    Parameters
    ----------
    arch : MLP or Residual
    x : array, shape (n_0,) or (1, n_0), optional
        A typical input; default has mean square 1.

    Notes
    -----
    Leading order in 1/n: v = V/(n_{L−1} K²) at the output. v < v*/10 is called the kernel regime
    (frozen features), v ≥ 1 chaotic (the expansion has failed; seeds decide), between them the
    net is effectively deep.
    """
    from kadanoff.rgflow.run import flow
    from kadanoff.rgflow.single import moment_series

    X = torch.ones(1, arch.n_in, dtype=torch.float64) if x is None else arch.inputs(x)[:1]
    if arch.L < 2:
        v = 0.0
    elif not arch.residual and arch.block == "single" and arch.init == "gaussian":
        series = moment_series(arch, X, order=1)
        K = float(series.K[-1])
        v = float(series.cumulant_series(2)[-1, 1]) / arch.n[1] / K**2 if K > 0 else math.inf
    else:
        result = flow(arch, X, order=1)
        v = float(result.require("V")[-1, 0, 0, 0, 0] / result.K[-1, 0, 0] ** 2) / arch.n[-2]
    v_star, r = _best_v(arch.n_out), arch.ratio
    nu = v / r if r else 0.0
    if v >= _CHAOTIC:
        regime = "chaotic"
    elif v < _KERNEL_SHARE * v_star:
        regime = "kernel regime"
    else:
        regime = "effectively deep"
    depth = len(arch.widths)
    width = max(1, math.ceil(nu * depth / v_star - 1e-9)) if math.isfinite(nu) else 0
    r_star = v_star / nu if nu > 0 else math.inf
    return Aspect(r, v, v_star, nu, r_star, width, regime, math.sqrt(max(v, 0.0)))
