"""Criticality: where signals and gradients survive depth, and how fast they die elsewhere."""

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
