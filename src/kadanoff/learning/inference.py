"""Assembles Bayesian inference at order 1/n: blocks of test points, replicas, numerical error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, as_tensor

from kadanoff.architecture import Network
from kadanoff.learning.bayes import LeaveOneOut, Posterior, leave_one_out, posterior
from kadanoff.learning.corrections import OTHER_BLOCKS, part_of
from kadanoff.learning.tensors import blocks_of_test_points, output_tensors

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
    terms: dict[str, Any] = {
        "mean_1": y.new_zeros(M, n_out),
        "cov_1": y.new_zeros(M, M),
        "kernel_shift": y.new_zeros(N + M, N + M),
        "hebbian": y.new_zeros(n_out, n_out, M, M),
    }
    errors = {"mean_1": y.new_zeros(M, n_out), "cov_1": y.new_zeros(M, M)}
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
        terms["mean_1"][rows] = value["mean_1"]
        errors["mean_1"][rows] = rule.error(pieces["mean_1"])
        terms["cov_1"][rows, rows] = value["cov_1"]
        errors["cov_1"][rows, rows] = rule.error(pieces["cov_1"])
        terms["hebbian"][:, :, rows, rows] = value["hebbian"]
        terms["kernel_shift"][at[:, None], at] = value["kernel_shift"]
        if rows.start == 0:
            terms["log_evidence_1"] = float(value["log_evidence_1"])
    terms |= {"mean_0": exact.mean, "cov_0": exact.cov, "log_evidence_0": exact.log_evidence}
    terms["quadrature_error"] = errors["mean_1"]
    terms["cov_quadrature_error"] = errors["cov_1"]
    whole = Posterior(
        exact.mean + terms["mean_1"],
        exact.cov + terms["cov_1"],
        exact.log_evidence + terms["log_evidence_1"],
        terms,
    )
    return whole, left_out, [OTHER_BLOCKS] if len(blocks) > 1 else []
