"""The edge of chaos in time and in depth: recurrent networks, finite width, trainability."""

from __future__ import annotations

import importlib
from typing import Any

# public name -> module that defines it; imported when first used
_HOME = {
    "LinearNetwork": "kadanoff.chaos.linear",
    "MeanField": "kadanoff.chaos.recurrent",
    "Simulation": "kadanoff.chaos.simulate",
    "TangentGrowth": "kadanoff.chaos.tangent",
    "Trainability": "kadanoff.chaos.trainability",
    "mean_field": "kadanoff.chaos.recurrent",
    "static_state": "kadanoff.chaos.recurrent",
    "simulate_recurrent": "kadanoff.chaos.simulate",
    "tangent_growth": "kadanoff.chaos.tangent",
    "trace_power": "kadanoff.chaos.linear",
    "trace_power_montecarlo": "kadanoff.chaos.linear",
    "train_across": "kadanoff.chaos.trainability",
}

__all__ = [*_HOME]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'kadanoff.chaos' has no attribute {name!r}")
