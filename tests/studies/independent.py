"""What the studies' numbers must be, from closed forms and plain quadrature: none of our code.

A study decides its claims itself. Here each number that something independent also gives is held
against it, and the verdict against the number, in the quick runs and in the kept full ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import erf, expit

__all__ = ["EXPECTED", "hold_against"]

_NODES, _WEIGHTS = np.polynomial.hermite_e.hermegauss(200)
_WEIGHTS = _WEIGHTS / math.sqrt(2 * math.pi)
Function = Callable[[np.ndarray], np.ndarray]


def mean(function: Function, K: float) -> float:
    """⟨f(z)⟩ for z ~ N(0, K), by Gauss–Hermite quadrature."""
    return float(_WEIGHTS @ function(math.sqrt(K) * _NODES))


def edge_of_chaos(C_b: float) -> float:
    """C_W at which tanh networks have C_W ⟨σ'²⟩ = 1 at the fixed point K = C_b + C_W ⟨σ²⟩."""

    def excess(C_W: float) -> float:
        K = brentq(lambda k: C_b + C_W * mean(lambda z: np.tanh(z) ** 2, k) - k, 1e-9, 50)
        return C_W * mean(lambda z: np.cosh(z) ** -4, K) - 1

    return brentq(excess, 1.0, 3.0)


def half_stable(gate: Function, slope: Function) -> float:
    """C_W of σ = z g(z) at the critical point: C_W ⟨σ'²⟩ = 1 and (⟨σ²⟩)' C_W = 1 at one K."""

    def excess(K: float) -> float:
        squared = mean(lambda z: (gate(z) + z * slope(z)) ** 2, K)
        # d⟨σ²⟩/dK = ⟨(z² − K) σ²⟩ / 2K²
        growth = mean(lambda z: (z**2 - K) * (z * gate(z)) ** 2, K) / (2 * K**2)
        return growth / squared - 1

    K = brentq(excess, 1.0, 40.0, xtol=1e-13)
    return 1 / mean(lambda z: (gate(z) + z * slope(z)) ** 2, K)


def gelu() -> float:
    """C_W of GELU."""
    density = 1 / math.sqrt(2 * math.pi)
    return half_stable(
        lambda z: 0.5 * (1 + erf(z / math.sqrt(2))), lambda z: density * np.exp(-(z**2) / 2)
    )


def silu() -> float:
    """C_W of SiLU."""
    return half_stable(expit, lambda z: expit(z) * expit(-z))


def relu_vertex() -> float:
    """ν = (⟨σ⁴⟩ − ⟨σ²⟩²)/⟨σ²⟩² of ReLU: half of the fourth and second moments of a Gaussian."""
    return (3 / 2 - 1 / 4) / (1 / 4)


def power(value: Function, slope: Function, C_U: float = 1.0) -> float:
    """ζ = C_U ⟨φ'²⟩/⟨φ²⟩ over N(0, C_U)."""
    return C_U * mean(lambda z: slope(z) ** 2, C_U) / mean(lambda z: value(z) ** 2, C_U)


def _gelu_slope(z: np.ndarray) -> np.ndarray:
    density = np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)
    return 0.5 * (1 + erf(z / math.sqrt(2))) + z * density


_GELU = power(lambda z: z * 0.5 * (1 + erf(z / math.sqrt(2))), _gelu_slope)
_SILU = power(lambda z: z * expit(z), lambda z: expit(z) * (1 + z * expit(-z)))


# study -> claim -> (number or numbers, what may be added to four standard errors); one number for
# each measurement that is not a condition, None where nothing independent gives it
EXPECTED: dict[str, dict[str, tuple[Any, float]]] = {
    "diffusion-surrogates": {
        # 3 x 3 convolutions and dense layers, counted by hand in the paper
        "network-sizes": ([3075, 50290243], 0.0),
        "exact-solver": (0.0, 1e-11),
    },
    "edge-of-chaos": {
        "boundary": (edge_of_chaos(0.05), 1e-8),
        "one-line": ([edge_of_chaos(0.05), None], 1e-4),
        "exponent": ([-1.0, -1.0, None], 0.08),
        "depth-over-width": (1.0, 0.0),
        "random-matrices": (1.0, 0.2),
    },
    "effective-theories": {
        "hand": (5, 0.0),
        "counting": ([-1.0, -2.0, -3.0], 0.25),
        "ratio-4": (2 / 3, 4e-3),
        "ratio-6": (16 / 15, 1.3e-2),
        "ratio-8": (96 / 35, 6.1e-2),
        "ratio-mean": (-1 / 3, 4e-3),
    },
    "exact-priors": {
        "tails": ([2 / d for d in (1, 2, 3, 4)], 0.02),
        "coefficient": (1 / 4, 1e-3),
        "orders": ([1.0, 2.0, 3.0], 0.05),
        "mixture": ([0.0, 0.0], 1e-9),
        "accuracy": (0.0, 1e-10),
    },
    # nothing but training tells what a network learns
    "learnt-sparsity": {},
    "ntk-diagrams": {
        "mean-diagrams": ([7, 0.0], 1e-8),
        "diagonal-by-diagrams": (0.0, 1e-12),
        "smooth-diagonal": (1.0, 0.1),
    },
    "lazy-neurons": {
        "init": (50.0, 1.0),
        "drift-ce": (1.0, 0.0),
        "drift-mse": (1.0, 0.0),
    },
    "principles": {
        "gelu": ([gelu(), None], 1e-7),
        "silu": ([silu(), None], 1e-7),
        "vertex-relu": (relu_vertex(), 0.03),
        "kernel-decay": (2.0, 0.15),
        "vertex-tanh": (2 / 3, 0.05),
        "ntk-universal": (1 / 3, 0.03),
        "dntk": (-1 / 12, 0.01),
        "residual-linear": ((1 - 0.5) * ((1 - 0.5) * 2 + 4 * 0.5), 0.02),
    },
    "quantum-laziness": {
        "convention": (1 / 4, 1e-5),
        "laziness": (-1 / 2, 0.06),
        "gradient-variance": (-1.0, 0.1),
    },
    "sparsity-principle": {
        "no-free-lunch": (1 / 2, 0.0),
        "spread": (1 / (2 * math.sqrt(8)), 1e-12),
        "ladder": ([2**16 - 1, 16 + 16 * 15 // 2, 16 + 16, 1 + 1], 0.0),
        "orders": ([1.0, 2.0, 3.0], 0.1),
    },
    "transformers-at-initialisation": {
        "gate": ([1 + _SILU, 1 + _GELU], 0.0),
        "no-mlp-rate": ([-math.log(1.25), -math.log(2.0)], 0.002),
        "queries-keys-power": ([2.0, 2.0], 0.005),
        "vertex": (1.0, 0.05),
    },
}


def hold_against(study: str, claims: Mapping[str, Mapping[str, Any]]) -> int:
    """Hold a study's claims, by id, against the independent numbers; how many there were."""
    checked = 0
    for name, (expected, systematic) in EXPECTED[study].items():
        claim = claims[name]
        if not claim["measured"]:
            assert claim["verdict"] == "undecided", (study, name)
            continue
        checked += 1
        tests = [m for m in claim["measured"] if not m["criterion"]["condition"]]
        numbers = expected if isinstance(expected, list) else [expected]
        assert len(tests) == len(numbers), (study, name)
        off = []
        for m, number in zip(tests, numbers):
            if number is None:
                continue
            gap = abs(m["value"] - number)
            off.append(gap)
            if claim["verdict"] == "holds":
                room = 4 * (m["stderr"] or 0.0) + systematic
                assert gap <= room, (study, name, m["value"], number)
        if claim["verdict"] == "fails":
            assert max(off) > 0, (study, name, "rejected although it is exact")
    return checked
