"""Spins with sparse Hamiltonians: the ladder of sparsity, sampling, and learning the couplings."""

from kadanoff.ising.couplings import (
    Terms,
    generic,
    k_local,
    ladder,
    lattice,
    translation_invariant,
)
from kadanoff.ising.learn import Fit, Need, fit, fit_energies, samples_needed
from kadanoff.ising.model import Ising, divergence

__all__ = [
    "Fit",
    "Ising",
    "Need",
    "Terms",
    "divergence",
    "fit",
    "fit_energies",
    "generic",
    "k_local",
    "ladder",
    "lattice",
    "samples_needed",
    "translation_invariant",
]
