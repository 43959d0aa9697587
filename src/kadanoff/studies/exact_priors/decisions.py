"""What decides each claim: from what was computed to holds, fails or undecided."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kadanoff.studies.lab import Lab

__all__ = [
    "KOLMOGOROV",
    "accuracy",
    "bottleneck",
    "coefficient",
    "exact",
    "mixture",
    "orders",
    "powers",
    "speed",
    "tails",
]

# √N sup|F − F_N| exceeds this with probability 5e-5
KOLMOGOROV = 2.3


def bottleneck(lab: Lab, gaps: Mapping[int, float], ratio: float, tail: float) -> None:
    """A narrow layer rules the prior: its law is near, the Gaussian stays far.

    ``gaps`` is the distance to one layer of the bottleneck's width by the width of the others,
    ``ratio`` that over the distance to the Gaussian, ``tail`` the difference of densities.
    """
    slope = -math.log(gaps[10_000] / gaps[100]) / math.log(100)
    lab.decide(
        "bottleneck",
        value=ratio,
        holds=ratio < 0.5 and abs(slope - 1) < 0.1,
        note="Distance (sup |F − F'|) to one hidden layer of width k over the distance to the "
        "Gaussian, outer widths 100, worst of k = 1, 2, 5, 10. With outer widths 100, 1000, 10000 "
        f"the first is {', '.join(f'{g:.2g}' for g in gaps.values())} at most: it falls as "
        f"(outer width)^(−{slope:.3f}), the second stays. Tails are nearer less quickly: densities "
        f"at four standard deviations differ by up to {tail:.0%} at outer widths 100.",
    )


def exact(
    lab: Lab, found: Sequence[Sequence[float]], networks: int, strayed: Sequence[str]
) -> None:
    """Drawn networks follow the law: distribution, atom and variance."""
    worst = max((row[0] for row in found), default=0.0)
    z = max((max(abs(row[1]), abs(row[2])) for row in found), default=0.0)
    again = f" Drawn again, four times as many, after exceeding {KOLMOGOROV} once: "
    lab.decide(
        "exact",
        value=worst,
        holds=worst < KOLMOGOROV and z < 4,
        note=f"Largest √N × Kolmogorov distance of {len(found)} cases; largest |z| of atoms and "
        f"variances {z:.2f}. The distribution function is known to "
        f"{KOLMOGOROV / math.sqrt(networks):.1g} in each."
        + (again + "; ".join(strayed) + "." if strayed else ""),
    )


def mixture(lab: Lab, gap: float, atom: float) -> None:
    """The product of sums equals the explicit mixture; atoms follow the closed form."""
    lab.decide(
        "mixture",
        value=gap,
        holds=gap < 1e-10 and atom < 1e-14,
        note="Largest relative difference of the product of sums to the explicit mixture, widths "
        "[4], [3, 5], [2, 3, 2]. Atoms of drawn networks are in the table above.",
    )


def powers(
    errors: Mapping[tuple[str, int], Sequence[float]],
) -> dict[tuple[str, int], float]:
    """Power of 1/n in the error, between the last two widths, the second twice the first."""
    return {case: -math.log(e[-1] / e[-2]) / math.log(2) for case, e in errors.items()}


def orders(lab: Lab, slopes: Mapping[tuple[str, int], float]) -> None:
    """Each order of the expansion removes a power of 1/n."""
    miss = max(abs(slopes["linear", order] - (order + 1)) for order in (0, 1, 2))
    lab.decide(
        "orders",
        value=[slopes["linear", order] for order in (0, 1, 2)],
        holds=miss < 0.05,
        note="Measured powers of 1/n of the error at orders 0, 1, 2 between n = 400 and 800, one "
        "linear hidden layer. Three ReLU layers: "
        + ", ".join(f"{slopes['relu', order]:.2f}" for order in (0, 1, 2))
        + ".",
    )


def coefficient(lab: Lab, term: np.ndarray) -> None:
    """The first correction, read off the exact density at very large widths."""
    value, error = float(term.mean()), float(np.ptp(term))
    lab.compare(
        "coefficient",
        value,
        systematic=error + 1e-4,
        note="From the exact density at widths 10⁵ and 2·10⁵: (p/N − 1)/(He₄ Σ 1/n). The next "
        "order is 10⁻⁵.",
    )


def tails(lab: Lab, exponents: Sequence[float]) -> None:
    """ln p falls as the power 2/d of the output, for d = 1, 2, ... weight layers."""
    miss = max(abs(e * (i + 1) / 2 - 1) for i, e in enumerate(exponents))
    lab.decide(
        "tails",
        value=list(exponents),
        holds=miss < 0.02,
        note="Local powers at h/κ = 10⁷ (10⁴ for d = 1) for d = 1 … 4; 2/d to 2%.",
    )


def accuracy(lab: Lab, rows: Sequence[Sequence[Any]]) -> None:
    """Densities against mpmath at 40 digits, out to deep tails."""
    worst = max(row[3] for row in rows)
    lab.decide(
        "accuracy",
        value=worst,
        holds=worst < 1e-10,
        note="Largest relative error of the density; ln p down to "
        f"{min(row[2] for row in rows):.4g}.",
    )


def speed(lab: Lab, ours: float, theirs: float, error: float) -> None:
    """CPU seconds against a mixture of Meijer functions."""
    lab.decide(
        "speed",
        value=theirs / ours,
        stderr=error * theirs / ours,
        holds=theirs / ours > 1000,
        note=f"ReLU, three hidden layers of 10 units, 100 points: {ours:.3g} s with nothing "
        f"cached; the mixture of 1000 Meijer functions by mpmath (15 digits) {theirs:.3g} s, "
        "extrapolated from a random sample of its terms.",
    )
