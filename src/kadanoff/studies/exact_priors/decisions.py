"""What is held against each claim's criterion: from what was computed to numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kadanoff.studies.claims import Measured
from kadanoff.studies.lab import Lab

__all__ = [
    "accuracy",
    "bin_z",
    "bottleneck",
    "coefficient",
    "exact",
    "histograms",
    "mixture",
    "orders",
    "powers",
    "speed",
    "tails",
    "z_of_distance",
]


def z_of_distance(scaled: float) -> float:
    """|z| that is as rare as √N × Kolmogorov distance ``scaled``."""
    from scipy.stats import kstwobign, norm

    return float(norm.isf(kstwobign.sf(scaled) / 2))


def exact(lab: Lab, found: Sequence[Sequence[float]], networks: int) -> None:
    """Drawn networks follow the law: distribution, atom and variance of each case."""
    every = [z_of_distance(row[0]) for row in found]
    # a linear network has no atom: its z is exactly 0 and compares nothing
    every += [abs(z) for row in found for z in row[1:] if z != 0]
    lab.decide(
        "exact",
        Measured(max(every), samples=len(every)),
        note=f"{len(found)} cases of {networks:,} networks with explicit weight matrices; "
        f"a distribution function is known to {1 / math.sqrt(networks):.1g} in each. Largest "
        f"√N × Kolmogorov distance: {max(row[0] for row in found):.2f}.",
    )


def histograms(lab: Lab, claim: str, z: Sequence[float], samples: int, what: str) -> None:
    """Counts in bins against the exact probability of each bin."""
    lab.decide(
        claim,
        Measured(max(map(abs, z)), samples=len(z)),
        note=f"{what}; {samples:,} samples a curve, bins that expect fewer than 20 left out.",
    )


def bin_z(prior: Any, seen: Sequence[float], samples: int, edges: np.ndarray) -> list[float]:
    """z of every bin of |h| that expects twenty counts; ``seen`` is a density of ±h.

    A single output's distribution function counts both signs, that of several is radial.
    """
    at = np.asarray(prior.cdf(edges[1:]))
    below_edge = 2 * at - 1 if prior.m == 1 else at
    chance = np.diff(below_edge, prepend=prior.atom)
    counts = np.asarray(seen) * samples * np.diff(edges) * 2
    enough = chance * samples >= 20
    spread = np.sqrt(samples * chance * (1 - chance))
    return ((counts - samples * chance) / spread)[enough].tolist()


def mixture(lab: Lab, gap: float, atom: float) -> None:
    """The product of sums equals the explicit mixture; atoms follow the closed form."""
    lab.decide(
        "mixture",
        gap,
        atom,
        note="Widths [4], [3, 5], [2, 3, 2]; atoms for 1, 3, 10 units in one to three layers. "
        "Atoms of drawn networks are in the table.",
    )


def bottleneck(
    lab: Lab,
    gaps: Mapping[int, float],
    stays: Sequence[float],
    ratio: float,
    tail: float,
) -> None:
    """A narrow layer rules the prior: its law is near, the Gaussian stays far.

    Parameters
    ----------
    gaps : mapping
        Largest distance to one layer of the bottleneck's width, by the width of the others.
    stays : sequence of float
        Distance to the Gaussian over that of the narrow layer alone, for each k.
    ratio : float
        Distance to the narrow layer over that to the Gaussian for (100, 10, 100).
    tail : float
        Largest relative difference of densities at four standard deviations.
    """
    slope = math.log(gaps[10_000] / gaps[100]) / math.log(100)
    furthest = max(stays, key=lambda value: abs(value - 1))
    first_order = (2 / 100) / (1 / 10 + 2 / 100)
    lab.decide(
        "bottleneck",
        slope,
        furthest,
        ratio / first_order,
        note="Distances are sup |F − F'|, the worst of k = 1, 2, 5, 10. With outer widths 100, "
        f"1000, 10000 that to one layer is {', '.join(f'{g:.2g}' for g in gaps.values())}. "
        f"Tails come near less quickly: densities at four standard deviations differ by up to "
        f"{tail:.0%} at outer widths 100.",
    )


def powers(
    errors: Mapping[tuple[str, int], Sequence[float]],
) -> dict[tuple[str, int], float]:
    """Power of 1/n in the error, between the last two widths, the second twice the first."""
    return {case: -math.log(e[-1] / e[-2]) / math.log(2) for case, e in errors.items()}


def orders(lab: Lab, slopes: Mapping[tuple[str, int], float]) -> None:
    """Each order of the expansion removes a power of 1/n."""
    lab.decide(
        "orders",
        *(slopes["linear", order] for order in (0, 1, 2)),
        note="Between n = 400 and 800, one linear hidden layer. Three ReLU layers: "
        + ", ".join(f"{slopes['relu', order]:.2f}" for order in (0, 1, 2))
        + ".",
    )


def coefficient(lab: Lab, term: np.ndarray) -> None:
    """The first correction, read off the exact density at very large widths."""
    lab.decide(
        "coefficient",
        float(term.mean()),
        note="From the exact density at widths 10⁵ and 2·10⁵: (p/N − 1)/(He₄ Σ 1/n), mean over "
        f"three points that differ by {np.ptp(term):.1g}.",
    )


def tails(lab: Lab, exponents: Sequence[tuple[float, float]]) -> None:
    """ln p falls as the power 2/d of the output; (power, first correction) for each d."""
    lab.decide(
        "tails",
        *(Measured(power, allowance=2 * abs(first) + 1e-4) for power, first in exponents),
        note="Local powers at h/κ = 10⁷ (10⁴ for d = 1), hidden widths 5.",
    )


def accuracy(lab: Lab, rows: Sequence[Sequence[Any]]) -> None:
    """Densities against mpmath at 40 digits, out to deep tails."""
    lab.decide(
        "accuracy",
        max(row[3] for row in rows),
        note=f"Against mpmath at 40 digits; ln p down to {min(row[2] for row in rows):.4g}.",
    )


def speed(lab: Lab, ours: float, theirs: float, error: float) -> None:
    """CPU seconds against a mixture of Meijer functions."""
    lab.decide(
        "speed",
        Measured(theirs / ours, error * theirs / ours),
        note=f"ReLU, three hidden layers of 10 units, 100 points: {ours:.3g} s with nothing "
        f"cached; the mixture of 1000 Meijer functions by mpmath (15 digits) {theirs:.3g} s, "
        "extrapolated from a random sample of its terms.",
    )
