"""Statistics of whole layers by a few gradients, for skips and orthogonal weights, drawn or not.

The rows of an orthogonal matrix are not independent and a skip adds the neuron itself, so the last
map cannot be averaged row by row as in :func:`kadanoff.ensembles.statistics.layer_sums`. Moments
are taken over pairs of distinct neurons, as in :mod:`kadanoff.ensembles.direct`; but instead of the
NTK of a whole layer, O(n³), a few of its entries and its product with z are, each by one backward
pass. Neurons are exchangeable, so the first few stand for all.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kadanoff.ensembles.direct import distinct_pairs, distinct_triples
from kadanoff.ensembles.dntk import whole_differential
from kadanoff.ensembles.limit import Reference
from kadanoff.ensembles.tangent import ntk, pull_node
from kadanoff.ensembles.trunk import Trunk
from kadanoff.rgflow.observables import DIFFERENTIAL

__all__ = ["differential_sums", "probed_sums"]


def probed_sums(
    trunk: Trunk, ref: Reference, need: set[str], rows: int, layers: set[int]
) -> dict[str, dict[int, Tensor]]:
    """As :func:`kadanoff.ensembles.statistics.layer_sums`, for any trunk.

    Parameters
    ----------
    trunk : Trunk
    ref : Reference
    need : set of str
        Channels.
    rows : int
        Neurons whose NTK is probed.
    layers : set of int
        Layer indices.
    """
    out: dict[str, dict[int, Tensor]] = {name: {} for name in need}
    for l in sorted(layers):
        x = _products(trunk, l, ref.K[l])
        found = {"g": x.mean(1).sum(0)}
        found["r"] = found["g"]
        if "gg" in need:
            found["gg"] = distinct_pairs(x, x)
        if "ggg" in need:
            found["ggg"] = distinct_triples(x[..., 0, 0])
        if need & {"h", "b", "f"}:
            found |= _ntk_sums(trunk, l, ref.Theta[l], x, need, rows)
        found |= differential_sums(trunk, l, need)
        for name in need:
            out[name][l] = found[name]
    return out


def differential_sums(trunk: Trunk, l: int, need: set[str]) -> dict[str, Tensor]:
    """P … U at layer index ``l``, summed over networks.

    Parameters
    ----------
    trunk : Trunk
    l : int
        Layer index, 0 is layer 1.
    need : set of str
        Among P … U.
    """
    names = need & set(DIFFERENTIAL)
    if not names:
        return {}
    return {name: value.sum(0) for name, value in whole_differential(trunk, l, names).items()}


def _products(trunk: Trunk, l: int, K: Tensor) -> Tensor:
    """z_i z_i − K of every neuron, averaged over the last map where its rows are independent.

    Shape (S, n, N, N); with neither skip nor dependence all neurons are alike and three are given.
    """
    j = trunk.node(l)
    m = trunk.maps[j]
    if trunk.arch.init != "gaussian":
        return _square(trunk.z[j]) - K
    x = (trunk.metric[j] - K)[:, None]
    if not m.gamma:
        return x.expand(-1, 3, -1, -1)
    return x + m.gamma**2 * _square(trunk.z[j - m.back])


def _square(z: Tensor) -> Tensor:
    zt = z.mT
    return zt[..., :, None] * zt[..., None, :]


def _ntk_sums(
    trunk: Trunk, l: int, Theta: Tensor, x: Tensor, need: set[str], rows: int
) -> dict[str, Tensor]:
    j = trunk.node(l)
    z = trunk.z[j]
    S, N, n = z.shape
    m = min(rows, n)
    starts = z.new_zeros(S, m, n)
    starts[:, range(m), range(m)] = 1.0
    which, samples = [i for i in range(m) for _ in range(N)], [*range(N)] * m
    if "f" in need:
        starts = torch.cat([starts, z], 1)
        which = which + [m + a for a in range(N) for _ in range(N)]  # z sample, then H sample
        samples = samples + [*range(N)] * N
    H = ntk(trunk, pull_node(trunk, j, starts, which, samples), samples)
    T = H[:, : m * N, : m * N].view(S, m, N, m, N)
    h = T.diagonal(dim1=1, dim2=3).permute(0, 3, 1, 2) - Theta  # (S, m, N, N)
    out = {"h": h.mean(1).sum(0)}
    out["rh"] = out["h"]
    if "hh" in need:
        out["hh"] = distinct_pairs(h, h)
        out["res"] = torch.zeros_like(out["hh"])
    if "gh" in need:
        out["gh"] = _mixed(x, h)
    if "b" in need:
        off = T - torch.diag_embed(T.diagonal(dim1=1, dim2=3), dim1=1, dim2=3)
        flat = off.permute(2, 4, 0, 1, 3).reshape(N * N, -1)  # (12), networks and ik
        scale = 1 / (m * (m - 1)) if m > 1 else torch.nan
        out["b"] = (flat @ flat.T * scale).view(N, N, N, N).permute(0, 2, 1, 3)
    if "f" in need:
        # z H z runs over all pairs; equal neurons are taken out, their Θ for all, the rest for m
        every = H[:, m * N :, m * N :].sum(0).view(N, N, N, N)  # z1, H3, z2, H4
        own = (z @ z.mT).sum(0)[:, None, :, None] * Theta[None, :, None, :]
        some = _square(z[..., :m]).reshape(S * m, N * N).T @ h.reshape(S * m, N * N) * (n / m)
        own = own + some.view(N, N, N, N).permute(0, 2, 1, 3)
        out["f"] = (every - own) * (1 / (n * (n - 1)) if n > 1 else torch.nan)
    return out


def _mixed(x: Tensor, h: Tensor) -> Tensor:
    """Sum over networks of the mean of x_i h_k over distinct neurons; h has the first m of them."""
    S, n, N, _ = x.shape
    m = h.shape[1]
    fx, fh = x.reshape(S, n, N * N), h.reshape(S, m, N * N)
    total = fx.sum(1).T @ fh.sum(1)
    if n >= m:
        same = fx[:, :m].reshape(S * m, -1).T @ fh.reshape(S * m, -1)
    else:  # all x are alike
        same = fx[:, 0].T @ fh.sum(1)
    scale = 1 / (m * (n - 1)) if n > 1 else torch.nan
    return ((total - same) * scale).view(N, N, N, N)
