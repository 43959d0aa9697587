"""Assembles Bayesian inference at order 1/n: blocks of test points, replicas, numerical error."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, as_tensor

from kadanoff.architecture import Network
from kadanoff.learning.bayes import LeaveOneOut, Posterior, leave_one_out, posterior
from kadanoff.learning.corrections import OTHER_BLOCKS, part_of
from kadanoff.learning.tensors import blocks_of_test_points, output_tensors
from kadanoff.learning.terms import PosteriorTerms

__all__ = ["first_order_posterior"]

_PIECES = ("mean_1", "cov_1", "log_evidence_1", "kernel_shift", "hebbian")


def first_order_posterior(
    arch: Network,
    X_train: Tensor,
    y: Tensor,
    X_test: Tensor,
    K: Tensor,
    *,
    noise: float,
    device: str = "cpu",
    progress: Callable[[int, int], None] | None = None,
) -> tuple[Posterior, LeaveOneOut | None, list[str]]:
    """Posterior and leave-one-out predictions with their order 1/n, and notes on them.

    Parameters
    ----------
    K : Tensor, shape (N+M, N+M)
        Infinite-width kernel, training points first.
    """
    N, M, n_out, n = y.shape[0], X_test.shape[0], y.shape[1], arch.n[-2]
    exact = posterior(K, y, noise=noise)
    blocks = list(blocks_of_test_points(N, M))
    mean, mean_error = y.new_zeros(M, n_out), y.new_zeros(M, n_out)
    cov, cov_error = y.new_zeros(M, M), y.new_zeros(M, M)
    kernel_shift, hebbian = y.new_zeros(N + M, N + M), y.new_zeros(n_out, n_out, M, M)
    evidence = math.nan
    left_out = None
    train = slice(0, N)
    for k, rows in enumerate(blocks):
        X = torch.cat([X_train, X_test[rows]])
        rule, replicas = output_tensors(arch, X, "bayes", device, part_of(progress, k, blocks))
        found = [posterior(x.K, y, noise=noise, G1=x.G1, V=x.V, n=n).terms for x in replicas]
        if left_out is None and N > 1:
            x = replicas[0]
            left_out = leave_one_out(
                K[train, train],
                y,
                noise,
                G1=as_tensor(x.G1)[train, train],
                V=as_tensor(x.V)[train, train, train, train],
                n=n,
            )
        pieces = {name: [as_tensor(one[name]) for one in found] for name in _PIECES}
        value = {name: rule.value(results) for name, results in pieces.items()}
        at = torch.cat([torch.arange(N), N + torch.arange(rows.start, rows.stop)])
        mean[rows] = value["mean_1"]
        mean_error[rows] = rule.error(pieces["mean_1"])
        cov[rows, rows] = value["cov_1"]
        cov_error[rows, rows] = rule.error(pieces["cov_1"])
        hebbian[:, :, rows, rows] = value["hebbian"]
        kernel_shift[at[:, None], at] = value["kernel_shift"]
        if rows.start == 0:
            evidence = float(value["log_evidence_1"])
    terms = PosteriorTerms(
        mean_0=exact.mean,
        cov_0=exact.cov,
        log_evidence_0=exact.log_evidence,
        mean_1=mean,
        cov_1=cov,
        log_evidence_1=evidence,
        kernel_shift=kernel_shift,
        hebbian=hebbian,
        quadrature_error=mean_error,
        cov_quadrature_error=cov_error,
    )
    whole = Posterior(exact.mean + mean, exact.cov + cov, exact.log_evidence + evidence, terms)
    return whole, left_out, [OTHER_BLOCKS] if len(blocks) > 1 else []
