"""The diagrammatic calculus of finite networks: generate, evaluate, print and draw diagrams.

Banta, Cai, Craig & Zhang, "Structures of Neural Network Effective Theories" (2023): connected
correlators of preactivations as sums of diagrams in which every loop costs a power of 1/n.
"""

from __future__ import annotations

import importlib
from typing import Any

# public name -> module that defines it; imported when first used
_HOME = {
    "Condition": "kadanoff.diagrams.criticality",
    "Correlators": "kadanoff.diagrams.evaluation",
    "Couplings": "kadanoff.diagrams.couplings",
    "Diagram": "kadanoff.diagrams.rules",
    "MeasuredCorrelators": "kadanoff.diagrams.measured",
    "Recursion": "kadanoff.diagrams.recursions",
    "condition": "kadanoff.diagrams.criticality",
    "correlators": "kadanoff.diagrams.evaluation",
    "draw": "kadanoff.diagrams.drawing",
    "evaluate": "kadanoff.diagrams.evaluation",
    "generate": "kadanoff.diagrams.rules",
    "measure": "kadanoff.diagrams.measured",
    "recursion": "kadanoff.diagrams.recursions",
    "saturation": "kadanoff.diagrams.criticality",
    "to_svg": "kadanoff.diagrams.drawing",
    "universal_ratio": "kadanoff.diagrams.criticality",
}

__all__ = [*_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(_HOME[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'kadanoff.diagrams' has no attribute {name!r}")
