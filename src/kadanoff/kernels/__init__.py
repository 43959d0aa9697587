"""Gram matrices of data sets: infinite-width NNGP and NTK, and empirical NTKs of real models."""

from kadanoff.kernels.adapters import gpytorch_kernel, sklearn_kernel
from kadanoff.kernels.conv import Act, AvgPool, Conv, ConvNet, Dense, Flatten, GlobalAvgPool
from kadanoff.kernels.empirical import empirical_ntk, ntk_vector_product
from kadanoff.kernels.gram import Kernel, kernel
from kadanoff.kernels.result import Gram
from kadanoff.kernels.solvers import Solution, solve
from kadanoff.kernels.storage import stream

__all__ = [
    "Act",
    "AvgPool",
    "Conv",
    "ConvNet",
    "Dense",
    "Flatten",
    "GlobalAvgPool",
    "Gram",
    "Kernel",
    "Solution",
    "empirical_ntk",
    "gpytorch_kernel",
    "kernel",
    "ntk_vector_product",
    "sklearn_kernel",
    "solve",
    "stream",
]
