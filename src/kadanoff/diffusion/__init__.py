"""Stationary diffusion on a lattice: exact solvers, and the networks that stand in for them.

Toledo-Marín, Fox, Sluka & Glazier, "Deep learning approaches to surrogates for solving the
diffusion equation for mechanistic real-world simulations" (2021).
"""

from kadanoff.diffusion.accuracy import (
    Bound,
    FieldErrors,
    amplitude,
    error_bound,
    field_errors,
    refine,
)
from kadanoff.diffusion.discs import FixedValues2D
from kadanoff.diffusion.krylov import Solution, conjugate_gradients
from kadanoff.diffusion.networks import (
    EncoderDecoder,
    FullResolution,
    SourceCNN,
    UNet2d,
    fourier_operator,
)
from kadanoff.diffusion.poisson import ScreenedPoisson2D
from kadanoff.diffusion.sources import Sources, draw_sources
from kadanoff.diffusion.stepping import Stepped, relax
from kadanoff.diffusion.training import Fit, RollBack, fit, weighted_loss
from kadanoff.diffusion.uptake import Uptake, Uptake2D
from kadanoff.diffusion.variable import VariableDiffusion2D

__all__ = [
    "Bound",
    "EncoderDecoder",
    "FieldErrors",
    "Fit",
    "FixedValues2D",
    "FullResolution",
    "RollBack",
    "ScreenedPoisson2D",
    "Solution",
    "SourceCNN",
    "Sources",
    "Stepped",
    "UNet2d",
    "Uptake",
    "Uptake2D",
    "VariableDiffusion2D",
    "amplitude",
    "conjugate_gradients",
    "draw_sources",
    "error_bound",
    "field_errors",
    "fit",
    "fourier_operator",
    "refine",
    "relax",
    "weighted_loss",
]
