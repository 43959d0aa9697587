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

__getattr__, __dir__ = attach(__name__, _HOME)
