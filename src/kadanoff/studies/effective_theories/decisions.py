"""What decides each claim: from what was computed to holds, fails or undecided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from kadanoff.studies.claims import Measured
from kadanoff.studies.effective_theories.claims import POWERS
from kadanoff.studies.lab import Lab

__all__ = [
    "HAND",
    "RATIOS",
    "any_order",
    "counting",
    "decoupling",
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
    lab.decide("hand", sum(same), note="Recursions of K, its shift, κ₂, κ₃ and κ₄.")


def any_order(lab: Lab, gap: float, order: int) -> None:
    """Diagrams against the moment series, which knows no graphs."""
    lab.decide(
        "any-order",
        gap,
        note=f"Any coefficient up to order 1/n^{order}, trees and loops: tanh, swish, elu, gelu, "
        "unequal widths.",
    )


def exact_chain(lab: Lab, found: Mapping[int, Mapping[str, Any]]) -> None:
    """Powers of n in the distance to the exact chain; ``found`` by width, each twice the last."""
    if len(found) < 3:
        lab.leave_open("exact-chain", "Three widths are needed to see powers of n.")
        return
    numbers, clear = [], math.inf
    for k, order in POWERS:
        # the first entry of a cumulant is its leading order, max(k − 1, 1)
        place = order - max(k - 1, 1)
        gaps = np.array([run["gaps"][str(k)][place] for run in found.values()])
        own = np.array([run["error"][k - 1] for run in found.values()])
        clear = min(clear, float((gaps / own).min()))
        earlier, later = np.diff(np.log2(gaps))[-2:]
        numbers.append(Measured(float(later), allowance=float(abs(later - earlier))))
    widths = ", ".join(str(n) for n in found)
    lab.decide("exact-chain", *numbers, clear, note=f"tanh, widths {widths}.")


def scale_invariant(lab: Lab, gap: float) -> None:
    """κ_2 of scale-invariant activations against its closed form."""
    lab.decide(
        "scale-invariant",
        gap,
        note="κ₂ to order 1/n⁴ against Π(1 + c/n) − 1: ReLU, linear, leaky ReLU, up to four "
        "hidden layers.",
    )


def ensembles(lab: Lab, z: Sequence[float], coarse: float) -> None:
    """Connected correlators of networks, up to the eight-point function; ``z`` of all of them."""
    lab.decide(
        "ensembles",
        Measured(max(map(abs, z), default=0.0), samples=len(z)),
        coarse,
        note="All components of all correlators, layer by layer.",
    )


def decoupling(lab: Lab, found: Mapping[str, Any]) -> None:
    """Layer 3 alone and below others; and what a later layer would do without ghosts."""
    z = found["z"]
    lab.decide(
        "decoupling",
        Measured(max(map(abs, z)), samples=len(z)),
        Measured(found["ratio"], found["error"], allowance=found["next"]),
        note="Cumulants κ₁ … κ₃ of layer 3 in networks of 3 and of 6 layers, weights drawn "
        "independently. Without the ghosts the next layer of width n' = 2 would weigh each network "
        "by (Ĝ/K)^(n'/2).",
    )


def counting(lab: Lab, table: Mapping[int, Mapping[str, Any]]) -> None:
    """Raw powers of n in the measured 4-, 6- and 8-point functions; ``table`` by width."""
    if len(table) < 4:
        lab.leave_open("counting", "Four widths are needed to extrapolate.")
        return
    widths = list(table)
    numbers, raw = [], []
    for k in ("2", "3", "4"):
        value = np.array([found["value"][k][-1] for found in table.values()])
        relative = np.array([found["error"][k][-1] for found in table.values()]) / abs(value)
        if value.min() <= 0:
            numbers.append(Measured(math.nan, None, allowance=math.nan))
            continue
        local, error = np.diff(np.log2(value)), relative / math.log(2)
        # loops are corrections in 1/n: a straight line through the last two local powers
        limit, before = 2 * local[-1] - local[-2], 2 * local[-2] - local[-3]
        # ln κ at the last three widths enters with 2, −3, 1
        spread = math.sqrt(float(np.sum((np.array([1, 3, 2]) * error[-3:]) ** 2)))
        numbers.append(Measured(float(limit), spread, allowance=float(abs(limit - before))))
        raw.append(f"{local[-1]:.3f}")
    lab.decide(
        "counting",
        *numbers,
        note=f"ReLU, layer 4, widths {', '.join(map(str, widths))}. Raw powers between the last "
        f"two: {', '.join(raw)}.",
    )


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
    allowed = 8 * math.log(depth) / depth
    powers = [
        Measured(slope, allowance=k * allowed)
        for name in ("tanh", "relu")
        for k, slope in zip((1, 2, 3), slopes[name])
    ]
    lab.decide(
        "one-condition",
        gap,
        cubes,
        *powers,
        note=f"Random kernels of two and three inputs; powers of ℓ between layers {depth // 2} "
        f"and {depth}.",
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
        lab.decide(
            claim,
            Measured(float(np.mean([v for v, _ in found])), allowance=2 * max(e for _, e in found)),
            note=f"Mean over {', '.join(names)} of the extrapolated recursion; the diagrams give "
            f"{exact[claim]} exactly.",
        )


def loops(lab: Lab, found: Sequence[Sequence[float]]) -> None:
    """All known loops at ℓ/n = 0.2 against the double-scaling law, simulated."""
    lab.decide(
        "loops",
        *(
            Measured(series - value, error, allowance=last)
            for value, error, series, _, last in found
        ),
        note="By universal ratios up to four loops: "
        + ", ".join(f"{row[2]:.5f}" for row in found)
        + "; simulated "
        + ", ".join(f"{row[0]:.5f}" for row in found)
        + ".",
    )
