"""Stationary diffusion on a lattice: exact solvers, and the networks that stand in for them.

Toledo-Marín, Fox, Sluka & Glazier, "Deep learning approaches to surrogates for solving the
diffusion equation for mechanistic real-world simulations" (2021).

``accuracy``    How wrong a predicted field is, a bound that needs no exact field, and the hybrid
``discs``       Nodes whose value is held fixed (vessels), by the capacitance matrix
``krylov``      Conjugate gradients for batches of fields, and gradients through any solve
``networks``    Networks that map a source image to a field: the authors' pair, a U-Net
``poisson``     The screened Poisson equation (γ − D∇²) u = α on a rectangular lattice
``sources``     Random sources as the authors generate them, and the pairs
``stepping``    Time stepping to the stationary state
``training``    Training of surrogates: weighted losses, roll-back, checkpoints
``transforms``  Eigenbases of the second difference on a line, for three kinds of wall
``uptake``      Non-linear (Michaelis–Menten) uptake, with fixed-value vessels
``variable``    Diffusion constants and decay rates that vary in space
"""

from kadanoff.studies.diffusion_surrogates.diffusion.accuracy import (
    Bound,
    FieldErrors,
    amplitude,
    error_bound,
    field_errors,
    refine,
)
from kadanoff.studies.diffusion_surrogates.diffusion.discs import FixedValues2D
from kadanoff.studies.diffusion_surrogates.diffusion.krylov import (
    KrylovSolution,
    conjugate_gradients,
)
from kadanoff.studies.diffusion_surrogates.diffusion.networks import (
    EncoderDecoder,
    FullResolution,
    SourceCNN,
    UNet2d,
    fourier_operator,
)
from kadanoff.studies.diffusion_surrogates.diffusion.poisson import ScreenedPoisson2D
from kadanoff.studies.diffusion_surrogates.diffusion.sources import Sources, draw_sources
from kadanoff.studies.diffusion_surrogates.diffusion.stepping import Stepped, relax
from kadanoff.studies.diffusion_surrogates.diffusion.training import (
    RollBack,
    SurrogateFit,
    fit,
    weighted_loss,
)
from kadanoff.studies.diffusion_surrogates.diffusion.uptake import Uptake, Uptake2D
from kadanoff.studies.diffusion_surrogates.diffusion.variable import VariableDiffusion2D

__all__ = [
    "Bound",
    "EncoderDecoder",
    "FieldErrors",
    "FixedValues2D",
    "FullResolution",
    "KrylovSolution",
    "RollBack",
    "ScreenedPoisson2D",
    "SourceCNN",
    "Sources",
    "Stepped",
    "SurrogateFit",
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
