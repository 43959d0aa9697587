"""The edge of chaos in time and in depth: recurrent networks, finite width, trainability.

``linear``        The linear recurrent network with loops: closed forms to order 1/N
``recurrent``     Dynamical mean field of random recurrent networks
``simulate``      Random recurrent networks of finite size, integrated in time with a nearby copy
``tangent``       Two nearby inputs in finite networks, by simulation of their exact law
``trainability``  Which depths train at which initial variance
"""

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
