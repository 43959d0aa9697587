"""The infinite-width point that finite networks are compared with, and the slope of the map there.

Deviations of finite networks are measured from K and Θ. With the Jacobian of the layer map at
(K, Θ) the first-order noise of earlier layers is subtracted; any matrix in its place would leave
the averages right and only make them noisier, so finite differences are good enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kadanoff.ensembles.matrices import cholesky

__all__ = ["Reference", "reference"]


@dataclass
class Reference:
    """Per layer index: K, Θ (N, N), the root of K, and the slopes of the next layer's map.

    ``slope_G`` and ``slope_H`` (N², N²) take a change of the metric to the change of the next
    metric and NTK; ``slope_T`` (N, N) multiplies a change of the NTK. None where control variates
    do not hold (weights that are not Gaussian, skips).
    """

    K: Tensor
    Theta: Tensor
    root: Tensor
    slope_G: list[Tensor] | None = None
    slope_H: list[Tensor] | None = None
    slope_T: list[Tensor] | None = None


def reference(arch: Any, X: Tensor) -> Reference:
    """K and Θ of all layers by :func:`kadanoff.flow`, and the slopes for Gaussian weights."""
    from kadanoff.rgflow import flow

    found = flow(arch, X, order=0)
    out = Reference(found.K, found.Theta, cholesky(found.K)[0])
    if arch.init == "gaussian" and not arch.residual and arch.block == "single":
        out.slope_G, out.slope_H, out.slope_T = [], [], []
        for l in range(arch.L - 1):
            slopes = _slopes(arch, l, found.K[l], found.Theta[l])
            for store, slope in zip((out.slope_G, out.slope_H, out.slope_T), slopes, strict=True):
                store.append(slope)
    return out


def _slopes(arch: Any, l: int, K: Tensor, Theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    from kadanoff.rgflow.kernel import pairs

    act, N = arch.activations[l], K.shape[0]
    C_W, lambda_W = arch.C_W[l + 1], arch.lambda_W[l + 1]
    slope_T = C_W * pairs(act, K, 1, 1).value
    slope_G, slope_H = K.new_zeros(N, N, N, N), K.new_zeros(N, N, N, N)
    scale = K.diagonal().clamp_min(1e-300).sqrt()
    for a in range(N):
        for b in range(a, N):
            h = 1e-4 * scale[a] * scale[b]
            E = torch.zeros_like(K)
            E[a, b] = E[b, a] = 0.5
            if a == b:
                E[a, a] = 1.0
            ends = []
            for sign in (1, -1):
                # stay positive semidefinite: shrink the other side of a nearly parallel pair
                moved = K + sign * h * E
                moved = torch.where(
                    moved.abs() > (moved.diagonal()[:, None] * moved.diagonal()).sqrt(), K, moved
                )
                ss = pairs(act, moved).value
                ends.append((C_W * ss, lambda_W * ss + C_W * pairs(act, moved, 1, 1).value * Theta))
            slope_G[:, :, a, b] = slope_G[:, :, b, a] = (ends[0][0] - ends[1][0]) / (2 * h)
            slope_H[:, :, a, b] = slope_H[:, :, b, a] = (ends[0][1] - ends[1][1]) / (2 * h)
    bad = ~torch.isfinite(slope_G) | ~torch.isfinite(slope_H)
    slope_G[bad] = 0.0
    slope_H[bad] = 0.0
    return slope_G.view(N * N, N * N), slope_H.view(N * N, N * N), slope_T
