"""Nets with one fault each, and the remedy applied: what ``benchmarks.faults`` is run on.

- ``base.py``: a job, a case, small nets and data.
- ``output.py``, ``signal.py``, ``structure.py``, ``rates.py``, ``sequence.py``: faults by topic.
- ``families.py``: halves of GANs, VAEs, U-Nets, fields, equations, half precision.
- ``kept.py``: variants written after the rules were frozen.
- ``healthy.py``, ``strangers.py``: nets that train, fresh and trained.
"""

from __future__ import annotations

from . import families, kept, output, rates, sequence, signal, structure
from .base import CASES, Case, Job

__all__ = [
    "CASES",
    "Case",
    "Job",
    "families",
    "kept",
    "output",
    "rates",
    "sequence",
    "signal",
    "structure",
]
