"""Kadanoff: the effective theory of deep networks as a working tool.

The public names below are imported when first used, so that ``import kadanoff`` is instant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kadanoff._lazy import attach

__version__ = "0.1.0"

# public name -> module that defines it
_HOME = {
    "Activation": "kadanoff.activations",
    "activation": "kadanoff.activations",
    "MLP": "kadanoff.architecture",
    "Residual": "kadanoff.architecture",
    "describe": "kadanoff.architecture",
    "criticality": "kadanoff.critical",
    "phase_diagram": "kadanoff.critical",
    "flow": "kadanoff.rgflow",
    "aspect": "kadanoff.rgflow",
    "ensemble": "kadanoff.ensembles",
    "compare": "kadanoff.ensembles",
    "kernel": "kadanoff.kernels",
    "empirical_ntk": "kadanoff.kernels",
    "predict": "kadanoff.learning",
    "diagnose": "kadanoff.diagnosis",
    "tune": "kadanoff.tuning",
}
_MODULES = (
    "chaos",
    "data",
    "diagrams",
    "diffusion",
    "errors",
    "hypercube",
    "ising",
    "priors",
    "quantum",
    "sparsity",
    "studies",
)

__all__ = ["__version__", *_HOME, *_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from kadanoff import chaos as chaos
    from kadanoff import data as data
    from kadanoff import diagrams as diagrams
    from kadanoff import diffusion as diffusion
    from kadanoff import errors as errors
    from kadanoff import hypercube as hypercube
    from kadanoff import ising as ising
    from kadanoff import priors as priors
    from kadanoff import quantum as quantum
    from kadanoff import sparsity as sparsity
    from kadanoff import studies as studies
    from kadanoff.activations import Activation as Activation
    from kadanoff.activations import activation as activation
    from kadanoff.architecture import MLP as MLP
    from kadanoff.architecture import Residual as Residual
    from kadanoff.architecture import describe as describe
    from kadanoff.critical import criticality as criticality
    from kadanoff.critical import phase_diagram as phase_diagram
    from kadanoff.diagnosis import diagnose as diagnose
    from kadanoff.ensembles.comparison import compare as compare
    from kadanoff.ensembles.run import ensemble as ensemble
    from kadanoff.kernels import empirical_ntk as empirical_ntk
    from kadanoff.kernels import kernel as kernel
    from kadanoff.learning import predict as predict
    from kadanoff.rgflow.information import aspect as aspect
    from kadanoff.rgflow.run import flow as flow
    from kadanoff.tuning import tune as tune

__getattr__, __dir__ = attach(__name__, _HOME, _MODULES)
