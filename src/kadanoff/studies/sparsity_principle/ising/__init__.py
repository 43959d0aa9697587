"""Spins with sparse Hamiltonians: the ladder of sparsity, sampling, and learning the couplings.

``couplings``  The ladder of sparsity: which couplings a Hamiltonian of N spins may have
``learn``      Couplings from data: from measured energies by least squares
``model``      Boltzmann distributions p(s) ∝ exp(Σ_S J_S Π_{j∈S} s_j): listed for few spins
"""

from kadanoff.studies.sparsity_principle.ising.couplings import (
    Terms,
    generic,
    k_local,
    ladder,
    lattice,
    translation_invariant,
)
from kadanoff.studies.sparsity_principle.ising.learn import (
    CouplingFit,
    Need,
    fit,
    fit_energies,
    samples_needed,
)
from kadanoff.studies.sparsity_principle.ising.model import Ising, divergence

__all__ = [
    "CouplingFit",
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
