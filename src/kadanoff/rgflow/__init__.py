"""The representation-group flow: how the statistics of a random network change layer by layer."""

from __future__ import annotations

import importlib
from typing import Any

# public name -> module that defines it; imported when first used
_HOME = {
    "Flow": "kadanoff.rgflow.run",
    "flow": "kadanoff.rgflow.run",
    "Forward": "kadanoff.rgflow.forward",
    "forward_layers": "kadanoff.rgflow.forward",
    "forward_ntk": "kadanoff.rgflow.forward",
    "aspect": "kadanoff.rgflow.information",
    "component_counts": "kadanoff.rgflow.couplings",
    "exact_chain": "kadanoff.rgflow.single",
    "metric_couplings": "kadanoff.rgflow.couplings",
    "moment_series": "kadanoff.rgflow.single",
    "output_density": "kadanoff.rgflow.couplings",
}

__all__ = [*_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'kadanoff.rgflow' has no attribute {name!r}")
