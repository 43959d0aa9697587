"""Assembles Bayesian inference at order 1/n: blocks of test points, replicas, numerical error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kadanoff.learning.bayes import LeaveOneOut, Posterior, leave_one_out, posterior
from kadanoff.learning.first_order import OTHER_BLOCKS, average, test_blocks
from kadanoff.learning.tensors import plan, replicas

__all__ = ["first_order_posterior"]

_PIECES = ("mean_1", "cov_1", "log_evidence_1", "kernel_shift", "hebbian")


def first_order_posterior(
    arch: Any,
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
    blocks = list(test_blocks(N, M))
    scheme = plan(arch, N + blocks[0].stop, "bayes")
    terms: dict[str, Any] = {
        "mean_1": y.new_zeros(M, n_out),
        "cov_1": y.new_zeros(M, M),
        "kernel_shift": y.new_zeros(N + M, N + M),
        "hebbian": y.new_zeros(n_out, n_out, M, M),
    }
    errors = {"mean_1": y.new_zeros(M, n_out), "cov_1": y.new_zeros(M, M)}
    left_out, done = None, 0
    for rows in blocks:
        found = []
        for replica, x in replicas(
            arch, torch.cat([X_train, X_test[rows]]), "bayes", scheme, device
        ):
            post = posterior(x.K, y, noise=noise, G1=x.G1, V=x.V, n=n)
            found.append((replica, {name: torch.as_tensor(post.terms[name]) for name in _PIECES}))
            if left_out is None and N > 1:
                A = slice(0, N)
                left_out = leave_one_out(
                    K[A, A], y, noise, G1=x.G1[A, A], V=x.V[A, A, A, A], n=n
                )  # fmt: skip
            done += 1
            if progress is not None:
                progress(done, len(blocks) * len(scheme))
        pieces = {name: average([(r, p[name]) for r, p in found]) for name in _PIECES}
        at = torch.cat([torch.arange(N), N + torch.arange(rows.start, rows.stop)])
        terms["mean_1"][rows], errors["mean_1"][rows] = pieces["mean_1"]
        terms["cov_1"][rows, rows], errors["cov_1"][rows, rows] = pieces["cov_1"]
        terms["hebbian"][:, :, rows, rows] = pieces["hebbian"][0]
        terms["kernel_shift"][at[:, None], at] = pieces["kernel_shift"][0]
        if rows.start == 0:
            terms["log_evidence_1"] = float(pieces["log_evidence_1"][0])
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
