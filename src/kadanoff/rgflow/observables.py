"""The one list of observables: names, and how many inputs each is a tensor over."""

from __future__ import annotations

__all__ = ["RANK"]

# the metric, the NTK, then its differentials; axes beside the layer's
RANK = {
    "K": 2,
    "G1": 2,
    "V": 4,
    "U6": 0,
    "Theta": 2,
    "H1": 2,
    "A": 4,
    "B": 4,
    "D": 4,
    "F": 4,
    **dict.fromkeys("PQRSTU", 4),
}
