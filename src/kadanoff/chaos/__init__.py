"""The edge of chaos in time and in depth: recurrent networks, finite width, trainability."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kadanoff._lazy import attach

if TYPE_CHECKING:
    from kadanoff.chaos.linear import LinearNetwork as LinearNetwork
    from kadanoff.chaos.linear import trace_power as trace_power
    from kadanoff.chaos.linear import trace_power_montecarlo as trace_power_montecarlo
    from kadanoff.chaos.recurrent import MeanField as MeanField
    from kadanoff.chaos.recurrent import mean_field as mean_field
    from kadanoff.chaos.recurrent import static_state as static_state
    from kadanoff.chaos.simulate import Simulation as Simulation
    from kadanoff.chaos.simulate import simulate_recurrent as simulate_recurrent
    from kadanoff.chaos.tangent import TangentGrowth as TangentGrowth
    from kadanoff.chaos.tangent import tangent_growth as tangent_growth
    from kadanoff.chaos.trainability import Trainability as Trainability
    from kadanoff.chaos.trainability import train_across as train_across

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

__getattr__, __dir__ = attach(__name__, _HOME)
