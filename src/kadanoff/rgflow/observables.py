"""The one list of observables: names, families, and how many inputs each is a tensor over.

Whoever adds one adds it here, with a field in :class:`kadanoff.rgflow.Flow`, its recursion in the
file of its family and its estimator in ``ensembles/statistics.py``. Everything else (what can be
asked for, tables, files, comparisons) reads this list.
"""

from __future__ import annotations

__all__ = ["DIFFERENTIAL", "INFINITE", "RANK", "ROUGH", "SMOOTH", "SYMMETRIC", "TANGENT"]

# infinite width; then order 1/n: of metric and NTK, and of the NTK's differentials, of which the
# smooth ones exist for activations without kinks alone
INFINITE: tuple[str, ...] = ("K", "Theta")
TANGENT: tuple[str, ...] = ("G1", "V", "H1", "D", "A", "B", "F")
ROUGH: tuple[str, ...] = ("P", "Q")
SMOOTH: tuple[str, ...] = ("R", "S", "T", "U")
DIFFERENTIAL: tuple[str, ...] = (*ROUGH, *SMOOTH)
# matrices that are the same with their two inputs exchanged
SYMMETRIC: tuple[str, ...] = ("K", "Theta", "G1", "H1")

# axes beside the layer's, in the order of tables
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
    **dict.fromkeys(DIFFERENTIAL, 4),
}
