"""The representation-group flow: how the statistics of a random network change layer by layer.

``across_neurons``  Statistics across two neurons i ≠ j: F, Q, T; B, S, P, R; U
``averages``        The Gaussian averages that one step of the flow needs
``collective``      Mean map plus noise: the one mechanism behind K, G1, V, Theta, H1, D and A
``couplings``       Near-Gaussian expansion as sparsity: a few numbers describe the outputs
``differential``    Order 1/n of the dNTK (P, Q) and of the two ddNTKs (R; S, T, U)
``double_scaling``  The laws of the metric at one input when depth and width grow together
``forward``         The NTK, dNTK and ddNTKs of one drawn network, layer by layer, exactly
``growth``          How single-input observables grow with depth at criticality
``information``     Entropy and mutual information of neurons at order 1/n
``kernel``          Infinite width: K and the frozen NTK, the one step that everybody calls
``kinks``           ⟨σ''_0 σ'_1 σ'_2 σ_3⟩ of a kinked activation
``linear``          Averages at neurons whose map is linear
``nodes``           An architecture as a chain of maps, each neuron feeding the next one
``observables``     The one list of observables and their ranks
``one_neuron``      Order 1/n with skip connections: what one neuron sees
``recursions``      Runs the order-1/n recursions over the layers, all replicas side by side
``residual``        Order 1/n of networks with skips or with uniform weights, by nodes and lines
``run``             `flow`, and the type of its result
``single``          One input beyond leading order, to any order in 1/n
``statistics``      What a flow at order 1/n finds: all layers, or the last one
``tangent``         Order 1/n of the NTK: its mean shift H1, its covariances A and D, and B and F
``two_layers``      Averages over one neuron at two layers, correlated by a skip
``validity``        Where the expansion is controlled, and the warning where it is not
``vertex``          Order 1/n of the metric: G1, V, and the six-point vertex
"""

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
