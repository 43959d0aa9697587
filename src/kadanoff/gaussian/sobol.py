"""Scrambled Sobol points of a Gaussian vector: for kinks and more dimensions than panels treat."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from kadanoff.gaussian.cholesky import pivoted

__all__ = ["SCRAMBLES", "scrambled"]

SCRAMBLES = 8
_POINTS = 2**16
_CHUNK = 100_000


def scrambled(
    K: Tensor, seed: int, mean: Tensor | None = None, points: int = _POINTS
) -> Iterator[tuple[Tensor, Tensor]]:
    """Points z (M, N) of N(mean, K) from one scramble of a Sobol sequence, with equal weights.

    Parameters
    ----------
    K : Tensor, shape (N, N)
        Covariance, of any rank.
    seed : int
        Which scramble.
    mean : Tensor, shape (N,), optional
    points : int
        A power of two.
    """
    L = pivoted(K)[1]
    rank = L.shape[1]
    engine = torch.quasirandom.SobolEngine(max(rank, 1), scramble=True, seed=1000 + seed)
    u = engine.draw(points, dtype=torch.float64).clamp(1e-15, 1 - 1e-15)
    x = torch.special.ndtri(u)[:, :rank]
    for part in x.split(_CHUNK):
        z = part @ L.T
        yield (z if mean is None else mean + z), z.new_full((len(z),), 1 / len(x))
