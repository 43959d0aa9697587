"""Criticality: where signals and gradients survive depth, and how fast they die elsewhere.

``depth``           Depth scales away from criticality
``finite_width``    Depth scales of networks of finite width: the 1/n shifts of ξ_q
``half_stable``     Critical fixed points at K* > 0, where χ∥ = χ⊥: stable on one side
``modes``           The 1/n shift of the mode of correlations at a fixed point of two inputs
``origin``          The approach to K* = 0: what one step of the kernel does to small signals
``phase``           The phase diagram in (σ_w, σ_b) = (√C_W, √C_b): ordered, chaotic
``point``           The critical point of an activation
``susceptibility``  χ∥ and χ⊥: how the magnitude of a signal, and the difference of two
"""

from kadanoff.critical.depth import DepthScales, depth_scales, fixed_point
from kadanoff.critical.finite_width import FiniteWidthScales, finite_width_scales
from kadanoff.critical.phase import PhaseDiagram, critical_line, phase_diagram
from kadanoff.critical.point import Criticality, criticality
from kadanoff.critical.susceptibility import susceptibilities

__all__ = [
    "Criticality",
    "DepthScales",
    "FiniteWidthScales",
    "PhaseDiagram",
    "critical_line",
    "criticality",
    "depth_scales",
    "finite_width_scales",
    "fixed_point",
    "phase_diagram",
    "susceptibilities",
]
