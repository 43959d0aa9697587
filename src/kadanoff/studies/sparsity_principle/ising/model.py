"""Boltzmann distributions p(s) ∝ exp(Σ_S J_S Π_{j∈S} s_j): listed for few spins, else sampled."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from kadanoff.errors import UsageError
from kadanoff.studies.sparsity_principle.hypercube.parities import points
from kadanoff.studies.sparsity_principle.ising.couplings import Terms

__all__ = ["Ising", "divergence"]

_EXACT = 16  # spins up to which all states are listed


@dataclass(frozen=True)
class Ising:
    """A Hamiltonian H = −Σ_S J_S Π_{j∈S} s_j at temperature 1.

    Parameters
    ----------
    terms : Terms
    J : array, shape (terms.free,)
        The free couplings, in units of the temperature.

    Raises
    ------
    UsageError
        Wrong number of couplings.
    """

    terms: Terms
    J: np.ndarray

    def __post_init__(self) -> None:
        J = np.asarray(self.J, dtype=float)
        if J.shape != (self.terms.free,) or not np.isfinite(J).all():
            raise UsageError(
                f"Expected {self.terms.free} finite couplings, got an array of shape {J.shape}."
            )
        object.__setattr__(self, "J", J)

    @property
    def N(self) -> int:
        return self.terms.N

    def energy(self, states: np.ndarray) -> np.ndarray:
        """H of each state, shape (M,)."""
        return -(self.terms.parities(states) @ self.J[self.terms.groups])

    @cached_property
    def log_probabilities(self) -> np.ndarray:
        """ln p of all 2^N states in the order of :func:`hypercube.points`."""
        if self.N > _EXACT:
            raise UsageError(
                f"All states are listed for at most {_EXACT} spins, got {self.N}.",
                "Use sample().",
            )
        weight = -self.energy(points(self.N))
        top = weight.max()
        return weight - top - math.log(np.exp(weight - top).sum())

    def sample(
        self,
        M: int,
        *,
        seed: int = 0,
        method: str = "auto",
        burn_in: int = 200,
        thin: int = 5,
        chains: int = 256,
        device: str = "cpu",
        progress: Callable[..., None] | None = None,
    ) -> np.ndarray:
        """Draw M states, shape (M, N), int8.

        Parameters
        ----------
        method : {"auto", "exact", "gibbs"}
            "exact" draws independent states from the listed distribution; "auto" does so for up
            to 16 spins.
        burn_in, thin : int
            Sweeps discarded at the start, and between states of a chain that are kept.
        chains : int
            Run side by side. States of one chain are correlated; chains are not.
        """
        if M < 1:
            raise UsageError(f"M must be >= 1, got {M}.")
        if method not in ("auto", "exact", "gibbs"):
            raise UsageError(f"method must be auto, exact or gibbs, got {method!r}.")
        if method == "exact" or (method == "auto" and self.N <= _EXACT):
            rng = np.random.default_rng(seed)
            counts = rng.multinomial(M, np.exp(self.log_probabilities))
            rows = rng.permutation(np.repeat(np.arange(len(counts)), counts))
            return points(self.N)[rows].astype(np.int8)
        return self._gibbs(M, seed, burn_in, thin, min(chains, M), device, progress)

    def _colours(self) -> list[np.ndarray]:
        """Groups of spins of which no two share a term: each is updated at once."""
        colour = np.full(self.N, -1)
        for spin in range(self.N):
            near = {j for t in self.terms.of_spin[spin] for j in self.terms.subsets[t]}
            used = {int(colour[j]) for j in near}
            colour[spin] = next(c for c in range(self.N + 1) if c not in used)
        return [np.nonzero(colour == c)[0] for c in range(colour.max() + 1)]

    def _gibbs(self, M, seed, burn_in, thin, chains, device, progress) -> np.ndarray:
        generator = torch.Generator(device).manual_seed(seed)
        T = len(self.terms.subsets)
        J = torch.zeros(T + 1, device=device)
        J[:T] = torch.from_numpy(self.J[self.terms.groups])
        plan = []
        for spins in self._colours():
            width = max(1, *(len(self.terms.of_spin[i]) for i in spins))
            table = np.full((len(spins), width), T)
            for row, spin in zip(table, spins, strict=True):
                row[: len(self.terms.of_spin[spin])] = self.terms.of_spin[spin]
            # the other spins of each term; the constant column N stands for none
            members = np.concatenate(
                [self.terms.members, np.full_like(self.terms.members[:1], self.N)]
            )
            others = members[table]
            others = np.where(others == spins[:, None, None], self.N, others)
            index = torch.from_numpy(others).to(device)
            plan.append(
                (torch.from_numpy(spins).to(device), index, J[torch.from_numpy(table).to(device)])
            )
        s = torch.ones(chains, self.N + 1, device=device)
        s[:, :-1] = (
            2.0 * torch.randint(0, 2, (chains, self.N), generator=generator, device=device) - 1
        )
        kept, sweeps = [], burn_in + thin * (-(-M // chains))
        for sweep in range(1, sweeps + 1):
            for spins, index, couplings in plan:
                field = (couplings * s[:, index].prod(-1)).sum(-1)
                up = torch.rand(field.shape, generator=generator, device=device)
                s[:, spins] = torch.where(up < torch.sigmoid(2 * field), 1.0, -1.0)
            if sweep > burn_in and (sweep - burn_in) % thin == 0:
                kept.append(s[:, :-1].to(torch.int8).cpu())
            if progress:
                progress(sweep, sweeps)
        return torch.cat(kept)[:M].numpy()


def divergence(truth: Ising, model: Ising) -> float:
    """Kullback–Leibler divergence Σ p ln(p/q) in nats, exactly, for at most 16 spins.

    A fit of T couplings to M independent samples costs T/(2M) on average: what counts is the
    number of couplings, not the number of spins.
    """
    log_p, log_q = truth.log_probabilities, model.log_probabilities
    return float((np.exp(log_p) * (log_p - log_q)).sum())
