"""Output-layer tensors of a two-layer net by brute force: one average a tensor entry.

The first layer is Gaussian and its NTK fixed, so that at L = 2 only the source terms of the
recursions are there. Shares no code with the library.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch


def grid(K: torch.Tensor, step: float = 0.2) -> tuple[torch.Tensor, torch.Tensor]:
    """Nodes (S, N) and weights (S,) of the trapezoid rule for N(0, K); spectral for analytic f."""
    nodes = np.arange(-8.0, 8.0 + step, step)
    mesh = np.meshgrid(*[nodes] * K.shape[0], indexing="ij")
    u = torch.tensor(np.stack([m.ravel() for m in mesh], 1))
    w = torch.exp(-0.5 * (u**2).sum(1))
    keep = w > 1e-15
    return u[keep] @ torch.linalg.cholesky(K).mT, w[keep] / w.sum()


def two_layer_tanh(X, C_b, C_W, lambda_b, lambda_W, step: float = 0.2) -> SimpleNamespace:
    """All tensors at layer 2 of a tanh net with one hidden layer."""
    inner = X @ X.mT / X.shape[1]
    K, H = C_b + C_W * inner, lambda_b + lambda_W * inner
    z, w = grid(K, step)
    s = torch.tanh(z)
    d = 1 - s**2
    dd = -2 * s * d
    ddd = -2 * d**2 + 4 * s**2 * d

    def av(e, f, g, h):
        left = (w[:, None, None] * e[:, :, None] * f[:, None, :]).flatten(1)
        right = (g[:, :, None] * h[:, None, :]).flatten(1)
        N = e.shape[1]
        return (left.mT @ right).reshape(N, N, N, N)

    def av2(e, f):
        return (w[:, None] * e).mT @ f

    ss, ddm = av2(s, s), av2(d, d)
    omega = lambda_W * ss + C_W * H * ddm
    dddd = av(d, d, d, d)
    ssdd = av(s, s, d, d)

    def ein(spec, *ops):
        return torch.einsum(spec, *ops)

    out = SimpleNamespace()
    out.K = C_b + C_W * ss
    out.Theta = lambda_b + omega
    ssss = av(s, s, s, s)
    out.V = C_W**2 * (ssss - ein("ab,cd->abcd", ss, ss))
    out.G1 = torch.zeros_like(K)
    out.H1 = torch.zeros_like(K)
    om_ss = lambda_W * ssss + C_W * ein("abcd,cd->abcd", ssdd, H)  # <s_a s_b Omega_cd>
    out.D = C_W * (om_ss - ein("ab,cd->abcd", ss, omega))
    om_om = (
        lambda_W**2 * ssss
        + lambda_W * C_W * ein("abcd,cd->abcd", ssdd, H)
        + lambda_W * C_W * ein("cdab,ab->abcd", ssdd, H)
        + C_W**2 * ein("abcd,ab,cd->abcd", dddd, H, H)
    )
    out.A = om_om - ein("ab,cd->abcd", omega, omega)
    # B slots 1,3,2,4
    out.B = C_W**2 * ein("abcd,ab,cd->acbd", dddd, H, H)
    out.F = C_W**2 * ein("abcd,cd->acbd", ssdd, H)
    d2dds = av(dd, d, d, s)
    out.P = C_W**2 * ein("abcd,ab,ac->abcd", d2dds, H, H)
    # F'_{1032}: slots (z1, H0, z3, H2)
    out.Q = out.P + (lambda_W / C_W) * ein("badc->abcd", out.F)
    sdd = av(dd, s, d, d)
    out.R = lambda_W * C_W * ein("abcd,ac,ad->abcd", sdd, H, H) + C_W**2 * ein(
        "abcd,ab,ac,ad->abcd", av(ddd, d, d, d), H, H, H
    )
    core = C_W**2 * ein("abcd,ab,ac,bd->abcd", av(dd, dd, d, d), H, H, H)
    out.S = lambda_W * C_W * ein("abcd,ac,bd->abcd", dddd, H, H) + core
    out.U = ein("abcd->adbc", core)
    t = lambda_W**2 * ein("abcd,ab->abcd", av(d, d, s, s), H)
    t = t + lambda_W * C_W * ein("abcd,ab,bd->abcd", av(d, dd, s, d), H, H)
    t = t + lambda_W * C_W * ein("abcd,ab,ac->abcd", av(dd, d, d, s), H, H)
    out.T = ein("abcd->acdb", t + core)
    return out
