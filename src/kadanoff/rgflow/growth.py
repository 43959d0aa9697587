"""How single-input observables grow with depth at criticality, per universality class.

Roberts, Yaida & Hanin (2022), chapters 5, 8, 9 and 11; the coefficients beyond V, G1 and Θ were
derived anew. ``compare_asymptotics`` sets each beside the numerical recursion.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from kadanoff.activations import activation
from kadanoff.architecture import MLP
from kadanoff.critical import criticality
from kadanoff.errors import UsageError

__all__ = ["Growth", "asymptotics", "compare_asymptotics", "scale_invariant_solution"]


@dataclass(frozen=True)
class Growth:
    """An observable ratio that tends to ``coefficient · ℓ^exponent``.

    ``predicted`` and ``measured`` are slopes over the last half of the layers, filled in by
    :func:`compare_asymptotics`.
    """

    ratio: str
    exponent: float
    coefficient: float
    measured: float = math.nan


def scale_invariant_solution(
    spec: Any, layers: int, K: float = 1.0, lambda_b: float = 1.0, lambda_W: float = 1.0
) -> dict[str, list[float]]:
    """Exact V, Θ, B, F, D, A, Q at one input, for each layer 1 … ``layers`` at criticality.

    With equal widths and layer-independent λ; c = λ_b + λ_W A₂ K, w = λ_W A₂ K, β = A₄/A₂²,
    ν = 3β − 1 as in the book: Θ = c ℓ, V = ν (ℓ − 1) K², B = β c² (ℓ−1)ℓ(2ℓ−1)/6, …

    Parameters
    ----------
    spec : name, callable or Activation
    layers : int
    K : float
        Kernel of the input at layer 1.
    lambda_b, lambda_W : float
        Learning rates of biases, and of weights over fan-in.

    Raises
    ------
    UsageError
        The activation is not scale-invariant.
    """
    act = activation(spec)
    if act.slopes is None:
        raise UsageError(f"The activation {act.name} is not scale-invariant.")
    A2 = (act.slopes[0] ** 2 + act.slopes[1] ** 2) / 2
    A4 = (act.slopes[0] ** 4 + act.slopes[1] ** 4) / 2
    beta = A4 / A2**2
    nu, alpha = 3 * beta - 1, beta - 1
    w = lambda_W * A2 * K
    c = lambda_b + w
    solution: dict[str, Callable[[int], float]] = {
        "Theta": lambda l: c * l,
        "V": lambda l: nu * (l - 1) * K**2,
        "B": lambda l: beta * c**2 * (l - 1) * l * (2 * l - 1) / 6,
        "F": lambda l: beta * K * c * l * (l - 1) / 2,
        "D": lambda l: K * (nu * w + alpha * c) * l * (l - 1) / 2,
        "A": lambda l: (
            (nu * w**2 + 2 * alpha * w * c) * l * (l - 1) / 2
            + alpha * c**2 * (l - 1) * l * (2 * l - 1) / 6
            + w * (nu * w + alpha * c) * (l - 2) * (l - 1) * l / 3
        ),
        "Q": lambda l: lambda_W * A2 * beta * K * c * (l - 1) * l * (l + 1) / 6,
    }
    return {name: [f(l) for l in range(1, layers + 1)] for name, f in solution.items()}


def asymptotics(spec: Any, lambda_b: float = 1.0, lambda_W: float = 1.0) -> list[Growth]:
    """Leading growth with depth at criticality, with the book's learning-rate scaling.

    Learning rates: λ_b/L, λ_W/L for scale-invariant activations; λ_b ℓ^(−p⊥) L^(p⊥−1) and
    λ_W (L/ℓ)^(p⊥−1) at K* = 0, so that each layer contributes equally to Θ.

    Parameters
    ----------
    spec : name, callable or Activation
    lambda_b, lambda_W : float
        Learning rates before the scaling with depth.

    Raises
    ------
    UsageError
        Half-stable and non-critical activations have no universal power laws.
    """
    act, point = activation(spec), criticality(spec)
    if point.universality_class == "scale-invariant":
        beta = (point.nu + 1) / 3
        return [
            Growth("V/K²", 1, point.nu),
            Growth("B/Θ²", 1, beta / 3),
            Growth("F/(KΘ)", 1, beta / 2),
        ]
    if point.universality_class != "K*=0" or math.isnan(point.a1):
        raise UsageError(
            f"{act.name} ({point.universality_class}) has no universal power laws with depth.",
            "Run flow(arch, X, order=1) at the depth you need.",
        )
    slope = float(act.derivative(1)(_zero()))
    theta = lambda_b + lambda_W * slope**2 / (-point.a1)
    u = lambda_b / theta
    laws = [
        Growth("K", -1, 1 / (-point.a1)),
        Growth("V/K²", 1, 2 / 3),
        Growth("G1/K", 1, -1 / 3),
        Growth("Θ", 0, theta),
        Growth("B/Θ²", 1, 1 / 3),
        Growth("F/(KΘ)", 1, 1 / (5 - point.p_perp)),
    ]
    if act.odd:
        laws += [
            Growth("D/(KΘ)", 1, -(2 / 9) * u),
            Growth("A/Θ²", 1, (4 / 27) * u**2),
            Growth("H1/Θ", 1, 5 * u / 18 - 1 / 4),
            Growth("P/Θ²", 1, -1 / 12),
            Growth("Q/Θ²", 1, -u / 16),
            Growth("R·K/Θ³", 1, -(1 / 16 + (1 - u) / 48)),
            Growth("S·K/Θ³", 1, (1 - u) / 12),
            Growth("T·K/Θ³", 1, u**2 / 32),
        ]
    return laws


def _zero():
    import torch

    return torch.zeros(1, dtype=torch.float64)


_RATIOS: dict[str, Callable[[Any, int], float]] = {
    "K": lambda f, l: f("K", l),
    "Θ": lambda f, l: f("Theta", l),
    "V/K²": lambda f, l: f("V", l) / f("K", l) ** 2,
    "G1/K": lambda f, l: f("G1", l) / f("K", l),
    "B/Θ²": lambda f, l: f("B", l) / f("Theta", l) ** 2,
    "A/Θ²": lambda f, l: f("A", l) / f("Theta", l) ** 2,
    "F/(KΘ)": lambda f, l: f("F", l) / f("K", l) / f("Theta", l),
    "D/(KΘ)": lambda f, l: f("D", l) / f("K", l) / f("Theta", l),
    "H1/Θ": lambda f, l: f("H1", l) / f("Theta", l),
    "P/Θ²": lambda f, l: f("P", l) / f("Theta", l) ** 2,
    "Q/Θ²": lambda f, l: f("Q", l) / f("Theta", l) ** 2,
    "R·K/Θ³": lambda f, l: f("R", l) * f("K", l) / f("Theta", l) ** 3,
    "S·K/Θ³": lambda f, l: f("S", l) * f("K", l) / f("Theta", l) ** 3,
    "T·K/Θ³": lambda f, l: f("T", l) * f("K", l) / f("Theta", l) ** 3,
}


def compare_asymptotics(
    spec: Any, depth: int = 128, lambda_b: float = 1.0, lambda_W: float = 1.0, K: float = 1.0
) -> list[Growth]:
    """The laws of :func:`asymptotics` with what the numerical recursion does at finite depth.

    ``measured`` is the slope of the ratio between ℓ = depth/2 and depth (for exponent 1), or its
    value times ℓ^(−exponent) at the last layer. Corrections fall like ln ℓ/ℓ.

    Parameters
    ----------
    spec : name, callable or Activation
    depth : int
        Layers of the recursion.
    lambda_b, lambda_W : float
    K : float
        Kernel at layer 1.
    """
    from kadanoff.rgflow.run import flow

    laws = asymptotics(spec, lambda_b, lambda_W)
    point = criticality(spec)
    p = 1.0 if point.universality_class == "scale-invariant" else point.p_perp
    layers = range(1, depth + 1)
    if point.universality_class == "scale-invariant":
        rates_b = [lambda_b / depth] * depth
        rates_W = [lambda_W / depth] * depth
    else:
        rates_b = [lambda_b * l**-p * depth ** (p - 1) for l in layers]
        rates_W = [lambda_W * (depth / l) ** (p - 1) for l in layers]
    arch = MLP(1, [100] * (depth - 1), 1, spec, C_W=point.C_W, lambda_b=rates_b, lambda_W=rates_W)
    # C_W multiplies the input too: the first kernel is K
    result = flow(arch, [[math.sqrt(K / point.C_W)]], order=1)

    def read(name: str, layer: int) -> float:
        return float(result.require(name)[layer - 1].reshape(-1)[0])

    half, found = depth // 2, []
    for law in laws:
        ratio = _RATIOS[law.ratio]
        if law.exponent == 1:
            measured = (ratio(read, depth) - ratio(read, half)) / (depth - half)
        else:
            measured = ratio(read, depth) * depth**-law.exponent
        found.append(Growth(law.ratio, law.exponent, law.coefficient, measured))
    return found
