"""EigenPro: kernel regression by preconditioned stochastic gradient descent, entries recomputed.

Source: Ma and Belkin 2019 (EigenPro 2.0). The top eigen-directions, estimated on a subsample, are
damped to the size of the next one, which allows large steps in mini-batches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import ConvergenceError

__all__ = ["eigenpro"]


def eigenpro(
    ready: Any,
    y: Tensor,
    regulariser: float,
    rank: int,
    epochs: int,
    tolerance: float,
    seed: int,
    progress: Callable[..., None] | None,
) -> tuple[Tensor, float, int]:
    """(α, relative residual, epochs) with (K + λ) α ≈ y.

    Parameters
    ----------
    ready : Prepared
        Gives blocks of K.
    """
    Y = y[:, None] if y.ndim == 1 else y
    N = len(Y)
    generator = torch.Generator().manual_seed(seed)
    batch = min(N, 512)
    sample, Ks = _subsample(ready, max(1, min(N, 4 * rank, 4000)), generator)
    s = len(sample)
    q = max(1, min(rank // 4, s // 4))
    values, vectors = torch.linalg.eigh(Ks)
    values, vectors = values.flip(0)[: q + 1], vectors.flip(1)[:, :q]
    top, nxt = values[:q].clamp_min(1e-12), float(values[min(q, len(values) - 1)].clamp_min(1e-12))
    # correction on the subsample that undoes a step's part along the top directions
    damp = vectors * ((1 - (nxt + regulariser) / (top + regulariser)) / top)
    beta = float(Ks.diagonal().max()) + regulariser
    # largest eigenvalue that a mini-batch sees: β at the least, m λ_{q+1}/s at the most
    step = 1.0 / (beta + (batch - 1) * nxt / s)
    alpha = torch.zeros_like(Y)
    size = Y.norm(dim=0).clamp_min(1e-300)
    residual = 1.0
    for epoch in range(1, epochs + 1):
        square = Y.new_zeros(Y.shape[1])
        for start in range(0, N, batch):
            rows = slice(start, min(start + batch, N))
            K = ready.block(rows, slice(0, N)).double()
            g = K @ alpha + regulariser * alpha[rows] - Y[rows]
            square += (g**2).sum(0)
            alpha[rows] -= step * g
            alpha[sample] += step * (damp @ (vectors.T @ (K[:, sample].T @ g)))
        residual = float((square.sqrt() / size).max())
        if progress:
            progress(epoch, epochs, residual=residual)
        if residual <= tolerance:
            return alpha.view_as(y), residual, epoch
        if not residual < 1e6:
            break
    raise ConvergenceError(
        f"EigenPro reached a relative residual of {residual:.1e} in {epochs} epochs; "
        f"{tolerance:.1e} was asked for.",
        "Raise iterations=, rank= or the tolerance, or add a regulariser.",
    )


def _subsample(ready: Any, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Indices of a subsample and its kernel matrix."""
    index = torch.randperm(len(ready), generator=generator)[:count].sort().values
    index = index.to(ready.one.X.device)
    part = ready.owner.prepare(ready.one.X[index], ready.name)
    return index, part.block(slice(0, count), slice(0, count)).double()
