"""Kadanoff: the effective theory of deep networks as a working tool.

The public names below are imported when first used, so that ``import kadanoff`` is instant.

From the ground up, each package imports only from those above it:

``errors``         every exception, with its remedy
``files``          writing so that nothing is half-written
``devices``        where to compute
``style``          figures, numbers, pages: the house style
``results``        keeping results in files, tables of them
``trace``          recording what a model does, call by call
``gaussian``       expectations over jointly Gaussian variables
``activations``    activation functions with what the theory asks of them
``architecture``   networks as the theory describes them
``critical``       susceptibilities, critical points, depth scales
``rgflow``         the flow of kernels and vertices, layer by layer
``ensembles``      Monte Carlo over random networks, with standard errors
``kernels``        Gram matrices of datasets, solvers
``learning``       the trained network
``priors``         exact priors of finite networks
``diagrams``       Feynman rules of finite networks
``program``        the theory of any module, run on the law of its weights
``data``           datasets by name, file or callable
``diagnosis``      what is wrong with a model
``tuning``         what to change
``sparsity``       what to skip
``watching``       what happens while a model trains
``studies``        papers, claim by claim, with the physics only they need
``atlas``          the map of papers
``cli``            the command line
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kadanoff._lazy import attach
from kadanoff._moved import watch_imports

__version__ = "0.1.0"

# each public name, once: `attach` reads it here
if TYPE_CHECKING:
    from kadanoff import activations as activations
    from kadanoff import architecture as architecture
    from kadanoff import critical as critical
    from kadanoff import data as data
    from kadanoff import devices as devices
    from kadanoff import diagnosis as diagnosis
    from kadanoff import diagrams as diagrams
    from kadanoff import ensembles as ensembles
    from kadanoff import errors as errors
    from kadanoff import files as files
    from kadanoff import gaussian as gaussian
    from kadanoff import kernels as kernels
    from kadanoff import learning as learning
    from kadanoff import priors as priors
    from kadanoff import program as program
    from kadanoff import results as results
    from kadanoff import rgflow as rgflow
    from kadanoff import sparsity as sparsity
    from kadanoff import studies as studies
    from kadanoff import style as style
    from kadanoff import trace as trace
    from kadanoff import tuning as tuning
    from kadanoff import watching as watching
    from kadanoff.activations import Activation as Activation
    from kadanoff.activations import activation as activation
    from kadanoff.architecture import MLP as MLP
    from kadanoff.architecture import Residual as Residual
    from kadanoff.architecture import describe as describe
    from kadanoff.critical import criticality as criticality
    from kadanoff.critical import phase_diagram as phase_diagram
    from kadanoff.diagnosis import diagnose as diagnose
    from kadanoff.kernels import empirical_ntk as empirical_ntk
    from kadanoff.program.front import compare as compare
    from kadanoff.program.front import ensemble as ensemble
    from kadanoff.program.front import kernel as kernel
    from kadanoff.program.front import predict as predict
    from kadanoff.results.store import load as load
    from kadanoff.results.store import save as save
    from kadanoff.rgflow.information import aspect as aspect
    from kadanoff.rgflow.run import flow as flow
    from kadanoff.tuning import tune as tune
    from kadanoff.watching.loop import watch as watch

__getattr__, __dir__, _names = attach(__name__)
__all__ = ["__version__", *_names]  # pyright: ignore[reportUnsupportedDunderAll]

watch_imports()
