"""A small simulator of preactivations, apart from the library's own ensembles."""

from __future__ import annotations

import torch
from torch import Tensor


def simulate(
    act, K1: Tensor, L: int, n: int, networks: int, *, gamma=0.0, C_W=1.0, C_b=0.0,
    seed=0, batch=2000, hidden=None,
):  # fmt: skip
    """V and n (E[zz] - K-like mean) with standard errors at layers 2 ... L.

    Given layer l, the neurons of layer l+1 are Gaussian with mean γ z_i and the empirical metric;
    their second and fourth moments are taken in closed form, which removes most of the noise.
    ``hidden`` switches to two-layer blocks with inner width ``hidden``.

    Returns
    -------
    V, V_stderr : (L-1, N, N, N, N);  mean, mean_stderr : (L-1, N, N)
    """
    g = torch.Generator().manual_seed(seed)
    N, root = len(K1), torch.linalg.cholesky(K1)
    rows = []
    for _ in range(networks // batch):
        z = torch.randn(batch, n, N, generator=g, dtype=torch.float64) @ root.T
        row = []
        for _ in range(2, L + 1):
            if hidden is None:
                s = act(z)
            else:
                below = C_b + C_W * z.transpose(1, 2) @ z / n
                h = torch.randn(batch, hidden, N, generator=g, dtype=torch.float64)
                s = act(h @ torch.linalg.cholesky(below).transpose(1, 2))
            G = C_b + C_W * s.transpose(1, 2) @ s / s.shape[1]
            given = gamma**2 * torch.einsum("nia,nib->niab", z, z) + G[:, None]
            noise = torch.randn(batch, n, N, generator=g, dtype=torch.float64)
            z = gamma * z + noise @ torch.linalg.cholesky(G).transpose(1, 2)
            S = given.sum(1)
            same = torch.einsum("niab,nicd->nabcd", given, given)
            cross = torch.einsum("nab,ncd->nabcd", S, S) - same
            cross = cross / (n * (n - 1))
            row.append(torch.cat([(S / n).flatten(1), cross.flatten(1)], 1).mean(0))
        rows.append(torch.stack(row))
    a = torch.stack(rows)

    def vertex(a: Tensor) -> Tensor:
        mean, cross = a[..., : N * N], a[..., N * N :]
        square = (mean[..., :, None] * mean[..., None, :]).flatten(-2)
        return n * (cross - square)

    count = len(a)
    left_out = vertex((a.sum(0) - a) / (count - 1))
    stderr = ((count - 1) / count * (left_out - left_out.mean(0)).square().sum(0)).sqrt()
    shape = (L - 1, N, N)
    mean = a[..., : N * N]
    return (
        vertex(a.mean(0)).reshape(*shape, N, N),
        stderr.reshape(*shape, N, N),
        mean.mean(0).reshape(shape),
        (mean.std(0) / count**0.5).reshape(shape),
    )


def extrapolate(small, large):
    """Value at infinite width of two runs at n and 2n, linear in 1/n, with its error."""
    return 2 * large[0] - small[0], (4 * large[1] ** 2 + small[1] ** 2).sqrt()
