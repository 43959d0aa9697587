"""Assembles the prediction at order 1/n: blocks of test points, replicas, numerical error."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kadanoff.learning.finite_width import TERMS, MeanSum
from kadanoff.learning.finite_width_cov import COV_TERMS, CovarianceSum
from kadanoff.learning.response import prepare, responses
from kadanoff.learning.tensors import EXACT_POINTS, Replica, plan, replicas

__all__ = ["OTHER_BLOCKS", "FirstOrder", "average", "both_terms", "first_order", "test_blocks"]

OTHER_BLOCKS = (
    "Covariances between test points of different blocks are those of infinite width; "
    "predict these points alone to have them at order 1/n."
)


@dataclass(frozen=True)
class FirstOrder:
    """Corrections at the test points, 1/n included.

    Attributes
    ----------
    mean : dict of Tensor, shape (M, n_L) each
    cov : dict of Tensor, shape (n_L, n_L, M, M) each
        Zero between test points of different blocks (see ``together``).
    mean_error : Tensor, shape (M, n_L), cov_error : Tensor, shape (n_L, n_L, M, M)
        Numerical error of the sums of terms: the distance of two levels of the rule.
    term_errors : dict of Tensor, shape (M, n_L) each
        The same for each term of the mean; where terms cancel the sum's error is not their sum.
    together : Tensor of bool, shape (M, M)
        Pairs of test points whose covariance was computed.
    """

    mean: dict[str, Tensor]
    cov: dict[str, Tensor]
    mean_error: Tensor
    cov_error: Tensor
    together: Tensor
    term_errors: dict[str, Tensor]


def first_order(
    arch: Any,
    X_train: Tensor,
    y: Tensor,
    X_test: Tensor,
    *,
    eta: float | None,
    algorithm: str,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> FirstOrder:
    """Mean and covariance corrections of order 1/n of the networks trained to the end.

    ``progress(done, total)`` is called after each set of tensors.
    """
    n, M = arch.n[-2], X_test.shape[0]
    blocks = list(test_blocks(y.shape[0], M))
    scheme = plan(arch, y.shape[0] + blocks[0].stop, "gradient")
    total, done = len(blocks) * len(scheme), 0
    mean: dict[str, list[Tensor]] = {name: [] for name in TERMS}
    mean_errors: list[Tensor] = []
    term_errors: dict[str, list[Tensor]] = {name: [] for name in TERMS}
    cov = {k: y.new_zeros(y.shape[1], y.shape[1], M, M) for k in COV_TERMS}
    cov_error = y.new_zeros(y.shape[1], y.shape[1], M, M)
    together = torch.zeros(M, M, dtype=torch.bool)
    for rows in blocks:
        found: list[tuple[Replica, dict[str, Tensor], dict[str, Tensor]]] = []
        X = torch.cat([X_train, X_test[rows]])
        for replica, x in replicas(arch, X, "gradient", scheme, device):
            found.append((replica, *both_terms(x, y, eta, algorithm)))
            done += 1
            if progress is not None:
                progress(done, total)
        for name in TERMS:
            value, error = average([(r, m[name]) for r, m, _ in found])
            mean[name].append(value / n)
            term_errors[name].append(error / n)
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
        {name: torch.cat(parts) for name, parts in term_errors.items()},
    )


def both_terms(
    x: Any, y: Tensor, eta: float | None, algorithm: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Coefficients of 1/n of mean and covariance, from the same pieces."""
    m = prepare(x, y, eta, algorithm)
    mean, cov = MeanSum(m), CovarianceSum(m, x)
    for part in responses(x, m):
        mean.add(part)
        cov.add(part)
    return mean.terms(), cov.terms()


def average(found: list[tuple[Replica, Tensor]]) -> tuple[Tensor, Tensor]:
    """Value of the finer level, and its distance to the coarser one, zero if there is none."""
    value = found[0][1]
    return value, torch.zeros_like(value) if len(found) == 1 else (value - found[1][1]).abs()


def test_blocks(n_train: int, n_test: int) -> Iterator[slice]:
    """Test points in blocks, so that the joint tensors stay close to the training ones."""
    # few points stay within what quadrature does
    size = EXACT_POINTS - n_train if n_train <= EXACT_POINTS - 4 else max(8, n_train // 8)
    for start in range(0, n_test, size):
        yield slice(start, min(start + size, n_test))
