"""The representation-group flow: how the statistics of a random network change layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kadanoff._lazy import attach

if TYPE_CHECKING:
    from kadanoff.rgflow.couplings import component_counts as component_counts
    from kadanoff.rgflow.couplings import metric_couplings as metric_couplings
    from kadanoff.rgflow.couplings import output_density as output_density
    from kadanoff.rgflow.forward import Forward as Forward
    from kadanoff.rgflow.forward import forward_layers as forward_layers
    from kadanoff.rgflow.forward import forward_ntk as forward_ntk
    from kadanoff.rgflow.information import aspect as aspect
    from kadanoff.rgflow.run import Flow as Flow
    from kadanoff.rgflow.run import flow as flow
    from kadanoff.rgflow.single import exact_chain as exact_chain
    from kadanoff.rgflow.single import moment_series as moment_series

__getattr__, __dir__, __all__ = attach(__name__)
