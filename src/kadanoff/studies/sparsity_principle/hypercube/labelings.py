"""No free lunch, exactly: every labeling of the hypercube, and the sparse ones among them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from kadanoff.errors import UsageError
from kadanoff.studies.sparsity_principle.hypercube.parities import degrees, points, walsh

__all__ = ["Generalisation", "all_labelings", "juntas", "low_degree", "off_training"]

# (X_train (M, n), labels (P, M), X (2^n, n)) -> predictions (P, 2^n), all ±1
Learner = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
_MOST_TRAIN = 12


def all_labelings(n: int) -> np.ndarray:
    """All 2^(2^n) assignments of ±1 to the corners, shape (2^(2^n), 2^n), int8.

    Raises
    ------
    UsageError
        n outside 1 … 4: five bits have 4 billion labelings.
    """
    if not 1 <= n <= 4:
        raise UsageError(
            f"All labelings can be listed for n = 1 … 4, got n = {n}.",
            f"There are 2^{2 ** max(n, 0)} of them; draw some at random instead.",
        )
    size = 1 << n
    number = np.arange(1 << size, dtype=np.int64)
    return (1 - 2 * ((number[:, None] >> np.arange(size)) & 1)).astype(np.int8)


def juntas(n: int, k: int) -> np.ndarray:
    """Labelings that depend on at most k of the n bits, each once, shape (F, 2^n), int8."""
    if not 0 <= k <= n or k > 4:
        raise UsageError(f"k must lie between 0 and min(n, 4), got k = {k}, n = {n}.")
    X = points(n)
    found = []
    for chosen in itertools.combinations(range(n), k):
        cell = ((X[:, list(chosen)] < 0) * (1 << np.arange(k))).sum(1).astype(int)
        found.append((all_labelings(k) if k else np.array([[1], [-1]], np.int8))[:, cell])
    return np.unique(np.concatenate(found), axis=0)


def low_degree(n: int, d: int) -> np.ndarray:
    """Labelings that are polynomials of degree ≤ d in the spins, shape (F, 2^n), int8; n ≤ 4."""
    if d < 0:
        raise UsageError(f"The degree must be >= 0, got {d}.")
    labels = all_labelings(n)
    high = degrees(n) > d
    keep = [~np.abs(walsh(part)[:, high]).any(1) for part in np.array_split(labels, 8)]
    return labels[np.concatenate(keep)]


@dataclass(frozen=True)
class Generalisation:
    """Accuracy on the corners that were not shown, over a set of labelings.

    Attributes
    ----------
    accuracy : Fraction
        Right answers over all answers: exact.
    std : float
        Of the accuracy over labelings.
    labelings, unseen : int
    expected_std : float
        1/(2√unseen): that of a uniform prior over all labelings.
    training_accuracy : Fraction
        On the corners that were shown.
    """

    accuracy: Fraction
    std: float
    labelings: int
    unseen: int
    training_accuracy: Fraction

    @property
    def expected_std(self) -> float:
        return 0.5 / math.sqrt(self.unseen)


def off_training(learner: Learner, n: int, train, labelings: np.ndarray) -> Generalisation:
    """Off-training-set accuracy of a learner, averaged exactly over ``labelings``.

    Parameters
    ----------
    learner : callable
        ``learner(X_train, labels, X)`` with every pattern of training labels in one call; see
        :mod:`kadanoff.studies.sparsity_principle.hypercube.learners`.
    n : int
    train : sequence of int
        Numbers of the corners shown (rows of :func:`points`).
    labelings : ndarray of ±1, shape (F, 2^n)

    Returns
    -------
    Generalisation

    Raises
    ------
    UsageError
        Training corners repeated, missing or all of them; predictions that are not ±1.

    Notes
    -----
    What a learner answers depends on the training labels alone, so it is trained once for each
    pattern of them that occurs, 2^M at most, and compared with every labeling. Over all
    labelings half of those that share a pattern give each label to any unseen corner: the
    accuracy is exactly 1/2 (Wolpert 1996; Roberts 2021).
    """
    shown = np.asarray(train, dtype=int)
    size = 1 << n
    if len(np.unique(shown)) != len(shown) or not 0 < len(shown) < size or shown.max() >= size:
        raise UsageError(
            f"The training corners must be different numbers below {size}, and not all of them; "
            f"got {shown.tolist()}."
        )
    if len(shown) > _MOST_TRAIN:
        raise UsageError(
            f"{len(shown)} training corners have 2^{len(shown)} patterns of labels.",
            f"Show at most {_MOST_TRAIN}.",
        )
    X = points(n)
    unseen = np.setdiff1d(np.arange(size), shown)
    patterns, which = np.unique(labelings[:, shown], axis=0, return_inverse=True)
    answers = np.asarray(learner(X[shown], patterns.astype(float), X))
    if answers.shape != (len(patterns), size) or not np.isin(answers, (-1, 1)).all():
        raise UsageError(
            f"A learner must return ±1 of shape {(len(patterns), size)}, got shape {answers.shape}."
        )
    right = answers[which.ravel()] == labelings
    hits = right[:, unseen].sum(1)
    total = len(labelings) * len(unseen)
    return Generalisation(
        Fraction(int(hits.sum()), total),
        float(hits.std() / len(unseen)),
        len(labelings),
        len(unseen),
        Fraction(int(right[:, shown].sum()), len(labelings) * len(shown)),
    )
