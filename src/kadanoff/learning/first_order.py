"""Assembles the prediction at order 1/n: blocks of test points, replicas, numerical error."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kadanoff.learning.finite_width import TERMS, end_of_training
from kadanoff.learning.finite_width_cov import COV_TERMS, covariance_terms
from kadanoff.learning.tensors import EXACT_POINTS, Replica, plan, replicas

__all__ = ["FirstOrder", "first_order"]

# Student's t at the level of one standard deviation, for the spread of four replicas
_STUDENT = {2: 1.84, 3: 1.32, 4: 1.20, 8: 1.08}


@dataclass(frozen=True)
class FirstOrder:
    """Corrections at the test points, 1/n included.

    Attributes
    ----------
    mean : dict of Tensor, shape (M, n_L) each
    cov : dict of Tensor, shape (n_L, n_L, M, M) each
        Zero between test points of different blocks (see ``together``).
    mean_error : Tensor, shape (M, n_L), cov_error : Tensor, shape (n_L, n_L, M, M)
        One standard error of the numerical averages.
    together : Tensor of bool, shape (M, M)
        Pairs of test points whose covariance was computed.
    """

    mean: dict[str, Tensor]
    cov: dict[str, Tensor]
    mean_error: Tensor
    cov_error: Tensor
    together: Tensor


def first_order(
    arch: Any,
    X_train: Tensor,
    y: Tensor,
    X_test: Tensor,
    *,
    eta: float | None,
    algorithm: str,
    samples: int | None = None,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> FirstOrder:
    """Mean and covariance corrections of order 1/n of the networks trained to the end.

    ``progress(done, total)`` is called after each set of tensors.
    """
    n, M = arch.n[-2], X_test.shape[0]
    blocks = list(_test_blocks(y.shape[0], M))
    scheme = plan(arch, y.shape[0] + blocks[0].stop, "gradient", samples=samples)
    total, done = len(blocks) * len(scheme), 0
    mean: dict[str, list[Tensor]] = {name: [] for name in TERMS}
    mean_errors: list[Tensor] = []
    cov = {k: y.new_zeros(y.shape[1], y.shape[1], M, M) for k in COV_TERMS}
    cov_error = y.new_zeros(y.shape[1], y.shape[1], M, M)
    together = torch.zeros(M, M, dtype=torch.bool)
    for rows in blocks:
        found: list[tuple[Replica, dict[str, Tensor], dict[str, Tensor]]] = []
        X = torch.cat([X_train, X_test[rows]])
        for replica, x in replicas(arch, X, "gradient", scheme, device):
            means = end_of_training(x, y, eta=eta, algorithm=algorithm).terms
            covs = covariance_terms(x, y, eta=eta, algorithm=algorithm)
            found.append((replica, means, covs))
            done += 1
            if progress is not None:
                progress(done, total)
        for name in TERMS:
            mean[name].append(average([(r, m[name]) for r, m, _ in found])[0] / n)
        sums = [(r, torch.stack(list(m.values())).sum(0)) for r, m, _ in found]
        mean_errors.append(average(sums)[1] / n)
        for name in COV_TERMS:
            cov[name][:, :, rows, rows] = average([(r, c[name]) for r, _, c in found])[0] / n
        sums = [(r, torch.stack(list(c.values())).sum(0)) for r, _, c in found]
        cov_error[:, :, rows, rows] = average(sums)[1] / n
        together[rows, rows] = True
    return FirstOrder(
        {name: torch.cat(parts) for name, parts in mean.items()},
        cov,
        torch.cat(mean_errors),
        cov_error,
        together,
    )


def average(found: list[tuple[Replica, Tensor]]) -> tuple[Tensor, Tensor]:
    """Mean over the full replicas, and its error.

    The spread of independent replicas shows the random part; what all share, a bias that falls
    with the number of points, shows in the distance to the replicas with half the points.
    """
    full = torch.stack([v for r, v in found if not r.coarse])
    value = full.mean(0)
    if len(full) == 1:
        return value, torch.zeros_like(value)
    factor = _STUDENT.get(len(full), 1.0)
    spread = factor * full.std(0) / math.sqrt(len(full))
    half = torch.stack([v for r, v in found if r.coarse])
    return value, (spread**2 + (value - half.mean(0)) ** 2).sqrt()


def _test_blocks(n_train: int, n_test: int) -> Iterator[slice]:
    """Test points in blocks, so that the joint tensors stay close to the training ones."""
    # few points stay within what quadrature does
    size = EXACT_POINTS - n_train if n_train <= EXACT_POINTS - 4 else max(8, n_train // 8)
    for start in range(0, n_test, size):
        yield slice(start, min(start + size, n_test))
