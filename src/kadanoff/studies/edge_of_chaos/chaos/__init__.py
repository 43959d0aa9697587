"""The edge of chaos in time and in depth: recurrent networks, finite width, trainability."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kadanoff._lazy import attach

if TYPE_CHECKING:
    from kadanoff.studies.edge_of_chaos.chaos.linear import LinearNetwork as LinearNetwork
    from kadanoff.studies.edge_of_chaos.chaos.linear import trace_power as trace_power
    from kadanoff.studies.edge_of_chaos.chaos.linear import (
        trace_power_montecarlo as trace_power_montecarlo,
    )
    from kadanoff.studies.edge_of_chaos.chaos.recurrent import MeanField as MeanField
    from kadanoff.studies.edge_of_chaos.chaos.recurrent import mean_field as mean_field
    from kadanoff.studies.edge_of_chaos.chaos.recurrent import static_state as static_state
    from kadanoff.studies.edge_of_chaos.chaos.simulate import Simulation as Simulation
    from kadanoff.studies.edge_of_chaos.chaos.simulate import (
        simulate_recurrent as simulate_recurrent,
    )
    from kadanoff.studies.edge_of_chaos.chaos.tangent import TangentGrowth as TangentGrowth
    from kadanoff.studies.edge_of_chaos.chaos.tangent import tangent_growth as tangent_growth
    from kadanoff.studies.edge_of_chaos.chaos.trainability import Trainability as Trainability
    from kadanoff.studies.edge_of_chaos.chaos.trainability import train_across as train_across

__getattr__, __dir__, __all__ = attach(__name__)
