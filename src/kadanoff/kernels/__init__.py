"""Gram matrices of data sets: infinite-width NNGP and NTK, and empirical NTKs of real models.

``adapters``        Our kernels as GPyTorch and scikit-learn kernels
``traced``          Kernels of any module: its forward, run on kernels instead of tensors
``uses``            What each parameter did in a forward pass
``composite``       The whole network as one function of the correlation ρ
``conv``            NNGP and NTK of convolutional networks with infinitely many channels
``direct``          A few layers of scale-invariant activations, strip by strip
``empirical``       The empirical NTK of a real model, at its present parameters
``evaluators``      How a tile of inner products becomes a tile of kernels: three ways
``gram``            `kernel(arch)`: NNGP and NTK Gram matrices of data sets
``jacobians``       Per-sample Jacobians of a block of inputs
``layers``          The infinite-width recursion on triples (K11, K12, K22), layer after layer
``parts``           A model cut into parts whose Jacobians fit a budget
``polynomials``     Several polynomials of one variable, evaluated together
``preconditioned``  EigenPro: kernel regression by preconditioned stochastic gradient descent
``result``          What a kernel gives: Gram matrices by name
``solvers``         Solving (K + λ 1) α = y
``storage``         Gram matrices larger than memory: tiles into a memory-mapped file
``surface``         Three variables: polynomials in ρ whose coefficients depend on the norms
``tiles``           Walking over strips of a Gram matrix: inner products, maps
"""

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
