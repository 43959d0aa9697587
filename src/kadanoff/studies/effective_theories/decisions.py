"""What decides each claim: from what was computed to holds, fails or undecided."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from kadanoff.studies.lab import Lab

__all__ = [
    "HAND",
    "RATIOS",
    "any_order",
    "counting",
    "ensembles",
    "exact_chain",
    "extrapolated",
    "growth",
    "hand",
    "loops",
    "one_condition",
    "ratios",
    "scale_invariant",
]

# (k, loops) -> the recursion derived by hand
HAND = {
    (1, 0): "K' = C_b + f",
    (1, 1): "δ' = f' δ + 1/2 f'' κ₂",
    (2, 0): "κ₂' = f'² κ₂ + v/n",
    (3, 0): "κ₃' = f'³ κ₃ + 3 f'² f'' κ₂² + 3/n f' v' κ₂ + t/n²",
    (4, 0): "κ₄' = f'⁴ κ₄ + 12 f'³ f'' κ₂ κ₃ + 12 f'² f''² κ₂³ + 4 f'³ f''' κ₂³ "
    "+ 6/n f'² v' κ₃ + 12/n f' f'' v' κ₂² + 6/n f'² v'' κ₂² + 4/n² f' t' κ₂ + 3/n² v'² κ₂ "
    "+ q/n³",
}
# claim -> (k, loops)
RATIOS = {"ratio-4": (2, 0), "ratio-6": (3, 0), "ratio-8": (4, 0), "ratio-mean": (1, 1)}


def hand(lab: Lab, generated: Mapping[tuple[int, int], str]) -> None:
    """Generated recursions equal those by hand, letter by letter."""
    same = [generated[name] == text for name, text in HAND.items()]
    lab.decide(
        "hand",
        value=sum(same),
        holds=all(same),
        note="Recursions of K, its shift, κ₂, κ₃ and κ₄ that came out letter by letter as derived "
        "by hand.",
    )


def any_order(lab: Lab, gap: float, order: int) -> None:
    """Diagrams against the moment series, which knows no graphs."""
    lab.decide(
        "any-order",
        value=gap,
        holds=gap < 1e-9,
        note=f"Largest relative difference of any coefficient up to order 1/n^{order} (trees and "
        "loops) to the moment series, which knows no graphs: tanh, swish, elu, gelu, unequal "
        "widths.",
    )


def exact_chain(lab: Lab, gaps: Mapping[str, Sequence[float]], errors: Sequence[float]) -> None:
    """Sums of diagrams come nearer to the exact chain order by order.

    ``gaps`` is the relative distance of κ_1 … κ_4 after each order, ``errors`` the chain's own.
    """
    falling, compared, lucky = True, [], 0
    for k, error in zip(("1", "2", "3", "4"), errors):
        # an order counts while it is further off than the chain itself may be. Where the error
        # changes sign an order is near by accident, hence the look two orders on
        seen = [gap for gap in gaps[k] if gap > 10 * error]
        falling &= all(later < gap for gap, later in zip(seen, seen[2:]))
        lucky += sum(later > gap for gap, later in itertools.pairwise(seen))
        compared.append(len(seen))
    lab.decide(
        "exact-chain",
        value=[gaps[str(k)][-1] for k in (1, 2, 3, 4)],
        holds=falling if min(compared) >= 3 or not falling else None,
        note="Relative distance of κ_1 … κ_4 to the exact chain after order 1/n⁵. Two orders more "
        f"must come nearer ({', '.join(map(str, compared))} orders could be compared); a single "
        f"one did not {lucky} times, where the one before was near by a change of sign. Error of "
        f"the chain itself {max(errors):.1g}.",
    )


def scale_invariant(lab: Lab, gap: float) -> None:
    """κ_2 of scale-invariant activations against its closed form."""
    lab.decide(
        "scale-invariant",
        value=gap,
        holds=gap < 1e-9,
        note="Largest relative difference of κ_2 (order 1/n⁴) to Π(1 + c/n) − 1: ReLU, linear, "
        "leaky ReLU, up to four hidden layers.",
    )


def ensembles(lab: Lab, z: Sequence[float], coarse: float) -> None:
    """Connected correlators of networks, up to the eight-point function; ``z`` of all of them."""
    worst = max(map(abs, z), default=0.0)
    lab.decide(
        "ensembles",
        value=worst,
        holds=(worst < 4.5) if coarse < 0.25 else None,
        note=f"Largest |z| of {len(z)} components up to the eight-point function. The eight-point "
        f"function of tanh is measured to {coarse:.1%}.",
    )


def counting(lab: Lab, table: Mapping[int, Mapping[str, Any]]) -> None:
    """Powers of n in the measured 4-, 6- and 8-point functions; ``table`` by width."""
    widths = list(table)
    fits = [_power_of_n(table, k) for k in ("2", "3", "4")]
    slopes, errors = [slope for slope, _ in fits], [error for _, error in fits]
    z = [(s + k) / e for k, s, e in zip((1, 2, 3), slopes, errors)]
    lab.decide(
        "counting",
        value=slopes,
        holds=max(map(abs, z)) < 4 if max(errors) < 0.3 else None,
        note="Powers of n of the measured 4-, 6- and 8-point functions (ReLU, layer 4, widths "
        f"{', '.join(map(str, widths))}, known loops divided out), errors "
        f"{', '.join(f'{e:.2g}' for e in errors)}. Power counting: −1, −2, −3.",
    )


def _power_of_n(table: Mapping[int, Mapping[str, Any]], k: str) -> tuple[float, float]:
    """Weighted slope of ln κ_k on ln n at the deepest layer, and its standard error."""
    x = np.log(list(table))
    y, relative = [], []
    for found in table.values():
        # an exact factor takes the known loops out of the leading power
        sums = found["theory"][k]
        y.append(found["value"][k][-1] * sums[0][-1] / sums[-1][-1])
        relative.append(found["error"][k][-1] / abs(y[-1]))
    if min(y) <= 0:
        return math.nan, math.inf
    weight = np.array(relative) ** -2
    mean = (weight * x).sum() / weight.sum()
    spread = (weight * (x - mean) ** 2).sum()
    return float((weight * (x - mean) * np.log(y)).sum() / spread), float(spread**-0.5)


def growth(run: Mapping[str, Any], depth: int) -> list[float]:
    """Powers of ℓ of κ_k/K^k, k = 2, 3, 4, between half the depth and the depth."""
    i, K = run["layers"].index(depth // 2), np.array(run["values"]["1,0"])
    found = []
    for k in (2, 3, 4):
        v = np.abs(run["values"][f"{k},0"]) / K**k
        found.append(math.log(v[-1] / v[i]) / math.log(2))
    return found


def one_condition(
    lab: Lab, gap: float, cubes: float, slopes: Mapping[str, Sequence[float]], depth: int
) -> None:
    """One condition decides all correlators, which then grow as powers ℓ^(k − 1)."""
    miss = max(abs(s - k) / k for v in slopes.values() for k, s in zip((1, 2, 3), v))
    limit = 12 / math.sqrt(depth) / 10  # corrections fall as ln ℓ/ℓ
    lab.decide(
        "one-condition",
        value=gap,
        holds=gap < 1e-7 and cubes < 1e-9 and miss < limit,
        note="Largest difference of the spectrum of J = ∂K'/∂K to {χ∥, C_W⟨σ'σ'⟩}, random kernels "
        "of two and three inputs; the six-point function's homogeneous part grows as its cube to "
        f"{cubes:.1g}. Powers of ℓ of κ_k/K^k at layer {depth}: "
        + "; ".join(f"{a} " + ", ".join(f"{s:.3f}" for s in v) for a, v in slopes.items())
        + " for 1, 2, 3.",
    )


def extrapolated(at: Mapping[int, float], depth: int) -> tuple[float, float]:
    """A ratio in the limit of depth, and the change from the extrapolation half as deep."""
    best, before = (2 * at[m] - at[m // 2] for m in (depth, depth // 2))
    return best, abs(best - before)


def ratios(
    lab: Lab,
    limits: Mapping[str, Sequence[tuple[float, float]]],
    exact: Mapping[str, Fraction],
    names: Sequence[str],
) -> None:
    """Universal ratios: the extrapolated recursion against the diagrams' exact fractions."""
    for claim, found in limits.items():
        systematic = max(e for _, e in found) * 2
        lab.compare(
            claim,
            float(np.mean([v for v, _ in found])),
            systematic=systematic,
            resolution=0.05,
            note=f"Mean over {', '.join(names)} of the extrapolated recursion; the diagrams give "
            f"{exact[claim]} exactly. Systematic error {systematic:.1g}: twice the change from the "
            "extrapolation half as deep.",
        )


def loops(lab: Lab, found: Sequence[Sequence[float]]) -> None:
    """All known loops at ℓ/n = 0.2 against the double-scaling law, simulated."""
    z = [(series - value) / (error + last) for value, error, series, _, last in found]
    lab.decide(
        "loops",
        value=[row[2] for row in found],
        stderr=max(row[1] for row in found),
        holds=max(map(abs, z)) < 4,
        note="κ_1, κ_2, κ_3 at ℓ/n = 0.2 by universal ratios up to four loops; simulated "
        + ", ".join(f"{row[0]:.5f}" for row in found)
        + ".",
    )
