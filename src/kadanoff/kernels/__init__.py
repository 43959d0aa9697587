"""Gram matrices of data sets: infinite-width NNGP and NTK, and empirical NTKs of real models."""

from kadanoff.kernels.gram import Gram, Kernel, kernel

__all__ = ["Gram", "Kernel", "kernel"]
