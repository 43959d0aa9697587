"""Assembles the prediction at order 1/n: blocks of test points, replicas, numerical error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.learning.finite_width import TERMS, MeanSum
from kadanoff.learning.finite_width_cov import COV_TERMS, CovarianceSum
from kadanoff.learning.response import prepare, responses
from kadanoff.learning.tensors import blocks_of_test_points, output_tensors
from kadanoff.rgflow.statistics import LastLayer

__all__ = ["OTHER_BLOCKS", "FirstOrder", "both_terms", "first_order", "part_of", "total"]

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
        Numerical error of the sums of terms, from the replicas of the averages.
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
    arch: Network,
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

    ``progress(done, total)`` is called after each layer.

    Parameters
    ----------
    arch : Network
    X_train : Tensor, shape (N, n_0), X_test : Tensor, shape (M, n_0)
    y : Tensor, shape (N, n_L)
    eta : float or None
        Step of descent on the sum of squares over two; None is gradient flow.
    algorithm : {"gradient", "giant_leap"}
    device : str
    progress : callable, optional
    """
    n, M = arch.n[-2], X_test.shape[0]
    blocks = list(blocks_of_test_points(y.shape[0], M))
    mean: dict[str, list[Tensor]] = {name: [] for name in TERMS}
    mean_errors: list[Tensor] = []
    term_errors: dict[str, list[Tensor]] = {name: [] for name in TERMS}
    cov = {k: y.new_zeros(y.shape[1], y.shape[1], M, M) for k in COV_TERMS}
    cov_error = y.new_zeros(y.shape[1], y.shape[1], M, M)
    together = torch.zeros(M, M, dtype=torch.bool)
    for at, rows in enumerate(blocks):
        X = torch.cat([X_train, X_test[rows]])
        rule, replicas = output_tensors(arch, X, "gradient", device, part_of(progress, at, blocks))
        means, covs = [], []
        while replicas:
            of_mean, of_cov = both_terms(replicas.pop(0), y, eta, algorithm)
            means.append(of_mean)
            covs.append(of_cov)
        for name in TERMS:
            results = [terms[name] / n for terms in means]
            mean[name].append(rule.value(results))
            term_errors[name].append(rule.error(results))
        mean_errors.append(rule.error([total(terms) / n for terms in means]))
        for name in COV_TERMS:
            cov[name][:, :, rows, rows] = rule.value([terms[name] / n for terms in covs])
        cov_error[:, :, rows, rows] = rule.error([total(terms) / n for terms in covs])
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
    x: LastLayer, y: Tensor, eta: float | None, algorithm: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Coefficients of 1/n of mean and covariance, from the same pieces.

    Parameters
    ----------
    x : LastLayer
        Training points first.
    y : Tensor, shape (N, n_L)
    eta : float or None
    algorithm : {"gradient", "giant_leap"}
    """
    m = prepare(x, y, eta, algorithm)
    mean, cov = MeanSum(m), CovarianceSum(m, x)
    for part in responses(x, m):
        mean.add(part)
        cov.add(part)
    return mean.terms(), cov.terms()


def total(terms: dict[str, Tensor]) -> Tensor:
    """Sum of all terms."""
    return torch.stack(list(terms.values())).sum(0)


def part_of(
    progress: Callable[[int, int], None] | None, at: int, blocks: Sequence[slice]
) -> Callable[[int, int], None] | None:
    """Progress of one block as part of the whole.

    Parameters
    ----------
    progress : callable, optional
        ``progress(done, total)`` of the whole.
    at : int
        Which block.
    blocks : sequence of slice
    """
    if progress is None:
        return None
    tell = progress

    def part(done: int, steps: int) -> None:
        tell(at * steps + done, len(blocks) * steps)

    return part
