"""What is held against each claim's criterion."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from kadanoff.studies.claims import Measured
from kadanoff.studies.lab import Lab

__all__ = ["diagonal", "diagrams", "networks"]


def diagrams(lab: Lab, found: Mapping[str, Any], names: Sequence[str]) -> None:
    """Sums of diagrams against the library's recursions."""
    note = f"{', '.join(names)}; four layers, one input."
    lab.decide("mean-diagrams", found["count"], found["worst"]["H1"], note=note)
    lab.decide("tree-diagrams", found["worst"]["trees"], note=note)


def diagonal(
    lab: Lab,
    z: Sequence[float],
    cancelled: float,
    smooth: Sequence[float],
    off: Sequence[float],
    names: Sequence[str],
) -> None:
    """Corrections on and off the diagonal."""
    lab.decide(
        "no-diagonal",
        Measured(max(map(abs, z)), samples=len(z)),
        note=f"{', '.join(names)}, four hidden layers of 16 neurons, to all orders in 1/n. "
        "Narrower ones have tails too heavy for an error bar.",
    )
    lab.decide("diagonal-by-diagrams", cancelled, note=f"{', '.join(names)}, at criticality.")
    for claim, (told, value, error, rest) in (("smooth-diagonal", smooth), ("off-diagonal", off)):
        lab.decide(
            claim,
            Measured(value / told, error / abs(told), allowance=rest / abs(told)),
            abs(value) / error if error else math.inf,
            note=f"Three hidden layers: predicted {told:.4f}, networks {value:.4f} ± {error:.4f}.",
        )


def networks(
    lab: Lab, rows: Sequence[Sequence[float]], tensors: Sequence[Sequence[Any]], name: str
) -> None:
    """The mean NTK at finite widths, and the differentials; rows (n, error 0, error 1, ±, Θ)."""
    wide = [r for r in rows if r[0] >= 20]
    lab.decide(
        "twenty",
        *(Measured(r[2] / r[1], r[3] / r[1]) for r in wide),
        note="Two inputs, tanh, three hidden layers. Error at order 1/n over the NTK itself: "
        + ", ".join(f"{r[2] / r[4]:.2%} at n = {r[0]:.0f}" for r in rows)
        + ".",
    )
    z = [max(0.0, abs(m - p) - r) / s for _, p, m, s, r in tensors]
    lab.decide(
        "differentials",
        Measured(max(z), samples=len(z)),
        note=f"P, Q, R, S, T, U of {name}, two hidden layers, extrapolated in width.",
    )
