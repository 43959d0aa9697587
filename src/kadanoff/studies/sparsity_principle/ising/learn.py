"""Couplings from data: from measured energies by least squares, from spins by pseudo-likelihood."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kadanoff.errors import ConvergenceError, UsageError
from kadanoff.studies.sparsity_principle.ising.couplings import Terms
from kadanoff.studies.sparsity_principle.ising.model import Ising, divergence

__all__ = ["CouplingFit", "Need", "fit", "fit_energies", "samples_needed"]

_NEWTON = 60


@dataclass(frozen=True)
class CouplingFit:
    """Couplings found, with standard errors (NaN with fewer samples than couplings)."""

    model: Ising
    stderr: np.ndarray
    steps: int

    @property
    def J(self) -> np.ndarray:
        return self.model.J


def fit_energies(terms: Terms, states: np.ndarray, energies: np.ndarray) -> tuple[Ising, int]:
    """Couplings from energies of states, by least squares of least norm.

    Returns
    -------
    model : Ising
    rank : int
        Independent combinations of couplings the states determine; all of them if it equals
        ``terms.free``. The constant of the energy is taken to be zero.
    """
    J, _, rank, _ = np.linalg.lstsq(
        terms.features(states), -np.asarray(energies, float), rcond=None
    )
    return Ising(terms, J), int(rank)


def fit(terms: Terms, states: np.ndarray, *, prior: float = 2.0) -> CouplingFit:
    """Maximum pseudo-likelihood: each spin predicted from the others, all couplings at once.

    Parameters
    ----------
    terms : Terms
        The rung: which couplings may exist, and which are equal.
    states : ndarray of ±1, shape (M, N)
    prior : float
        Standard deviation of a Gaussian prior on each coupling, which keeps those finite that
        the data leave free.

    Returns
    -------
    CouplingFit

    Raises
    ------
    UsageError
        Entries that are not ±1, no states.
    ConvergenceError

    Notes
    -----
    Minimises −Σ_i ln p(s_i | rest) = Σ_i ln(1 + exp(−2 m_i)), m_i = Σ_{S∋i} J_S Π_{j∈S} s_j
    (Besag 1975), convex in J, by Newton's method. Errors are those of the sandwich H⁻¹ G H⁻¹:
    the terms of one sample are not independent.
    """
    states = np.asarray(states)
    if states.ndim != 2 or not len(states) or not (np.abs(states) == 1).all():
        raise UsageError(f"States must be ±1 of shape (M, N), got shape {states.shape}.")
    if not prior > 0:
        raise UsageError(f"prior must be > 0, got {prior}.")
    M = len(states)
    rows, counts = np.unique(states, axis=0, return_counts=True)
    parities = terms.parities(rows)
    weight = counts / M
    ridge = 1 / (prior**2 * M)
    # for each spin: the couplings it meets, and its features in them
    local = [_local(terms, parities, i) for i in range(terms.N)]
    J = np.zeros(terms.free)
    value, gradient, hessian, _ = _derivatives(J, local, weight, ridge)
    step = 0
    for step in range(1, _NEWTON + 1):  # noqa: B007
        move = -np.linalg.solve(hessian, gradient)
        slope = gradient @ move
        if -slope < 1e-12 * (1 + abs(value)):
            # what is left to gain drowns in rounding: one whole step ends it
            J = J + move
            value, gradient, hessian, _ = _derivatives(J, local, weight, ridge)
            break
        length = 1.0
        while length > 1e-8:
            trial = _value(J + length * move, local, weight, ridge)
            if trial <= value + 1e-4 * length * slope + 1e-15 * abs(value):
                break
            length /= 2
        J = J + length * move
        value, gradient, hessian, _ = _derivatives(J, local, weight, ridge)
    else:
        if np.abs(gradient).max() > 1e-6:
            raise ConvergenceError(
                f"The pseudo-likelihood was not maximised (gradient {np.abs(gradient).max():.1g}).",
                "Use a narrower prior.",
            )
    scores = _derivatives(J, local, weight, ridge)[3]
    inverse = np.linalg.inv(hessian)
    spread = (scores * weight[:, None]).T @ scores
    # the fit makes the scores small; with fewer samples than couplings nothing is left of them
    spare = M - terms.free
    left = spare if spare > 0 else math.nan
    stderr = np.sqrt(np.diag(inverse @ spread @ inverse) / left)
    return CouplingFit(Ising(terms, J), stderr, step)


def _local(terms: Terms, parities: np.ndarray, spin: int) -> tuple[np.ndarray, np.ndarray]:
    own = terms.of_spin[spin]
    free, which = np.unique(terms.groups[own], return_inverse=True)
    features = np.zeros((len(parities), len(free)))
    np.add.at(features.T, which, parities[:, own].T)
    return free, features


def _value(J, local, weight, ridge) -> float:
    total = 0.5 * ridge * float(J @ J)
    for free, features in local:
        total += float(weight @ np.logaddexp(0, -2 * (features @ J[free])))
    return total


def _derivatives(J, local, weight, ridge):
    """Value, gradient, Hessian, and the gradient of each row (without the prior)."""
    value = 0.5 * ridge * float(J @ J)
    gradient, hessian = ridge * J, ridge * np.eye(len(J))
    scores = np.zeros((len(weight), len(J)))
    for free, features in local:
        margin = features @ J[free]
        value += float(weight @ np.logaddexp(0, -2 * margin))
        wrong = 1 / (1 + np.exp(np.clip(2 * margin, -700, 700)))
        scores[:, free] -= 2 * wrong[:, None] * features
        curvature = 4 * weight * wrong * (1 - wrong)
        hessian[np.ix_(free, free)] += features.T @ (curvature[:, None] * features)
    return value, gradient + weight @ scores, hessian, scores


@dataclass(frozen=True)
class Need:
    """How many samples bring the divergence to a target.

    Attributes
    ----------
    samples, stderr : float
    M : ndarray, shape (G,)
        Sample sizes tried.
    divergence : ndarray, shape (G, repeats)
        Of the fit at each size and data set, nats.
    """

    samples: float
    stderr: float
    M: np.ndarray
    divergence: np.ndarray


def samples_needed(
    truth: Ising,
    terms: Terms,
    target: float = 0.1,
    *,
    repeats: int = 8,
    seed: int = 0,
    sizes: Sequence[int] | None = None,
) -> Need:
    """Samples after which couplings fitted at a rung give the distribution to ``target`` nats.

    Parameters
    ----------
    truth : Ising
        At most 16 spins; a special case of ``terms``.
    terms : Terms
        The rung at which it is learnt.
    target : float
        Mean Kullback–Leibler divergence wanted.
    repeats : int
        Independent data sets at each size, at least 2.
    sizes : sequence of int, optional
        Default: five sizes around T/(2 target), T the number of couplings.

    Returns
    -------
    Need
        Interpolated linearly in the logarithms; the error is the jackknife over data sets.

    Raises
    ------
    UsageError
        The target is not bracketed by the sizes, or fewer than 2 repeats.
    """
    if repeats < 2 or not target > 0:
        raise UsageError(f"Need repeats >= 2 and target > 0, got {repeats} and {target}.")
    guess = terms.free / (2 * target)
    grid = guess * np.array([0.25, 0.5, 1, 2, 4]) if sizes is None else np.asarray(sizes, float)
    M = np.unique(np.maximum(2, np.round(grid)).astype(int))
    found = np.empty((len(M), repeats))
    for g, size in enumerate(M):
        for r in range(repeats):
            states = truth.sample(int(size), seed=(seed * 1009 + r) * 1009 + g)
            found[g, r] = divergence(truth, fit(terms, states).model)
    whole = _crossing(M, found.mean(1), target)
    left = [_crossing(M, np.delete(found, r, 1).mean(1), target) for r in range(repeats)]
    stderr = math.sqrt((repeats - 1) * float(np.var(left)))
    return Need(whole, stderr, M, found)


def _crossing(M: np.ndarray, level: np.ndarray, target: float) -> float:
    below = np.nonzero(level <= target)[0]
    if not len(below) or below[0] == 0:
        raise UsageError(
            f"The divergence runs from {level[0]:.3g} to {level[-1]:.3g} nats over {M[0]} to "
            f"{M[-1]} samples and does not cross the target {target:g}.",
            "Give sizes that bracket it.",
        )
    b = below[0]
    x, y = np.log(M), np.log(level)
    return float(
        np.exp(x[b - 1] + (math.log(target) - y[b - 1]) * (x[b] - x[b - 1]) / (y[b] - y[b - 1]))
    )
