"""The ladder of sparsity: which couplings a Hamiltonian of N spins may have, at each rung.

A term is a set S of spins with energy −J_S Π_{j∈S} s_j. Every Hamiltonian of N spins is such a
sum (it is its Walsh transform), so what a physical principle does is to set most J_S to zero, or
equal to each other.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kadanoff.errors import UsageError

__all__ = ["Terms", "generic", "k_local", "ladder", "lattice", "translation_invariant"]

_MOST = 2_000_000


@dataclass(frozen=True)
class Terms:
    """Terms of a Hamiltonian, and which of them share a coupling.

    Attributes
    ----------
    N : int
        Spins.
    subsets : tuple of tuples of int
        The spins of each term.
    groups : ndarray of int, shape (len(subsets),)
        Number of the free coupling of each term.
    rung : str
    """

    N: int
    subsets: tuple[tuple[int, ...], ...]
    groups: np.ndarray
    rung: str

    @property
    def free(self) -> int:
        """Number of free couplings."""
        return int(self.groups.max()) + 1 if len(self.groups) else 0

    @cached_property
    def members(self) -> np.ndarray:
        """Spins of each term, padded with N, shape (terms, longest)."""
        longest = max((len(s) for s in self.subsets), default=1)
        out = np.full((len(self.subsets), longest), self.N)
        for row, subset in zip(out, self.subsets, strict=True):
            row[: len(subset)] = subset
        return out

    @cached_property
    def of_spin(self) -> list[np.ndarray]:
        """Numbers of the terms each spin takes part in."""
        found: list[list[int]] = [[] for _ in range(self.N)]
        for number, subset in enumerate(self.subsets):
            for spin in subset:
                found[spin].append(number)
        return [np.array(f, dtype=int) for f in found]

    def parities(self, states: np.ndarray) -> np.ndarray:
        """Π_{j∈S} s_j of every term, shape (M, terms), for states (M, N) of ±1."""
        states = np.asarray(states)
        if states.ndim != 2 or states.shape[1] != self.N:
            raise UsageError(f"States of {self.N} spins are (M, {self.N}), got {states.shape}.")
        padded = np.concatenate([states, np.ones((len(states), 1), states.dtype)], 1)
        out = np.ones((len(states), len(self.subsets)))
        for column in self.members.T:
            out *= padded[:, column]
        return out

    def features(self, states: np.ndarray) -> np.ndarray:
        """Sum of the parities that share a coupling, shape (M, free)."""
        parities = self.parities(states)
        out = np.zeros((len(parities), self.free))
        np.add.at(out.T, self.groups, parities.T)
        return out


def _spins(N: int) -> int:
    if int(N) != N or N < 1:
        raise UsageError(f"The number of spins must be a whole number >= 1, got {N!r}.")
    return int(N)


def generic(N: int) -> Terms:
    """Every subset may interact: 2^N − 1 couplings (the constant cannot be seen in samples)."""
    return k_local(N, N, "generic")


def k_local(N: int, k: int, rung: str = "") -> Terms:
    """At most k spins a term: Σ_{j=1}^k C(N, j) couplings."""
    N = _spins(N)
    if not 1 <= k <= N:
        raise UsageError(f"k must lie between 1 and N = {N}, got {k}.")
    count = sum(math.comb(N, j) for j in range(1, k + 1))
    if count > _MOST:
        raise UsageError(f"{count} couplings are too many to list.", "Lower N or k.")
    subsets = [s for j in range(1, k + 1) for s in itertools.combinations(range(N), j)]
    return Terms(N, tuple(subsets), np.arange(len(subsets)), rung or f"{k}-local")


def _torus(shape: Sequence[int]) -> tuple[int, list[tuple[int, int]], np.ndarray]:
    """Spins, bonds and the direction of each bond, of a periodic lattice."""
    shape = tuple(_spins(side) for side in shape)
    N = math.prod(shape)
    site = np.arange(N).reshape(shape)
    bonds: dict[tuple[int, int], int] = {}
    for axis, side in enumerate(shape):
        if side < 2:
            continue
        for a, b in zip(site.ravel(), np.roll(site, -1, axis).ravel(), strict=True):
            # a side of two closes on itself: one bond, not two
            bonds.setdefault((int(min(a, b)), int(max(a, b))), axis)
    return N, list(bonds), np.array(list(bonds.values()), dtype=int)


def lattice(shape: Sequence[int], *, fields: bool = True) -> Terms:
    """Neighbours on a periodic lattice: N fields and d N bonds (sides ≥ 3), all different."""
    N, bonds, _ = _torus(shape)
    subsets = [(i,) for i in range(N)] * fields + bonds
    return Terms(N, tuple(subsets), np.arange(len(subsets)), "local")


def translation_invariant(
    shape: Sequence[int], *, fields: bool = True, isotropic: bool = True
) -> Terms:
    """The same field everywhere and the same bond (per direction, unless isotropic)."""
    N, bonds, axis = _torus(shape)
    subsets = [(i,) for i in range(N)] * fields + bonds
    direction = np.zeros_like(axis) if isotropic else np.unique(axis, return_inverse=True)[1]
    groups = np.concatenate([np.zeros(N * fields, dtype=int), fields + direction])
    return Terms(N, tuple(subsets), groups, "translation invariant")


def ladder(shape: Sequence[int], k: int = 2) -> dict[str, int]:
    """Couplings at each rung for a periodic lattice, the constant of the energy left out.

    ``generic`` 2^N − 1, ``k-local`` Σ_{j=1}^k C(N, j), ``local`` and ``translation invariant``
    with fields and isotropic neighbours. Roberts (2021): 2^O(N) → O(N^k) → O(N) → O(1).
    """
    N = math.prod(_spins(side) for side in shape)
    return {
        "generic": 2**N - 1,
        f"{k}-local": sum(math.comb(N, j) for j in range(1, k + 1)),
        "local": lattice(shape).free,
        "translation invariant": translation_invariant(shape).free,
    }
