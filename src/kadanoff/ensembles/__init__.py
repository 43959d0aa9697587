"""Ensembles of random networks by simulation: drawn, or sampled without drawing weights."""

from __future__ import annotations

import importlib
from typing import Any

# public name -> module that defines it; imported when first used
_HOME = {
    "Comparison": "kadanoff.ensembles.comparison",
    "Ensemble": "kadanoff.ensembles.result",
    "Measured": "kadanoff.ensembles.moments",
    "Scaling": "kadanoff.ensembles.extrapolate",
    "compare": "kadanoff.ensembles.comparison",
    "ensemble": "kadanoff.ensembles.run",
    "scaling": "kadanoff.ensembles.extrapolate",
}

__all__ = [*_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'kadanoff.ensembles' has no attribute {name!r}")
