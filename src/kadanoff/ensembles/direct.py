"""Statistics straight from preactivations and NTKs of whole layers, for any law of the weights.

Nothing is averaged analytically: moments are taken over pairs of distinct neurons, so the rows of
a matrix need be neither independent (orthogonal weights) nor of mean zero (skips).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.ensembles.limit import Reference
from kadanoff.ensembles.normals import Normals
from kadanoff.ensembles.trunk import draw_matrix, maps

__all__ = ["direct_sums", "distinct_pairs", "distinct_triples", "drawn_layers", "neuron_sums"]


def _maps(arch: Network, l: int, S: int, normals: Normals) -> list[tuple[Tensor, Tensor | None]]:
    return [draw_matrix(m, arch.init, S, normals) for m in maps(arch) if m.layer == l]


def drawn_layers(
    arch: Network, X: Tensor, S: int, normals: Normals, tangent: bool
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """(z, Ĥ) of every layer of S drawn networks: (S, N, n) and (S, N, N, n, n) or None.

    By the exact forward equation: Jacobian of the layer on both sides, plus the layer's own part.

    Parameters
    ----------
    arch : Network
    X : Tensor, shape (N, n_0)
    S : int
        Networks.
    normals : Normals
    tangent : bool
        Whether the NTK is wanted.
    """

    def own(x: Tensor, l: int) -> Tensor:  # λ_b + λ_W x·x / n
        return arch.lambda_b[l] + arch.lambda_W[l] * (x @ x.mT) / x.shape[-1]

    def affine(x: Tensor, W: Tensor, b: Tensor | None) -> Tensor:
        return x @ W.mT if b is None else x @ W.mT + b[:, None]

    def with_diagonal(H: Tensor, value: Tensor) -> Tensor:
        H.diagonal(dim1=-2, dim2=-1).add_(value[..., None])
        return H

    x = X.expand(S, *X.shape)
    ((W, b),) = _maps(arch, 0, S, normals)
    z = affine(x, W, b)
    H = None
    if tangent:
        n, N = z.shape[-1], X.shape[0]
        H = with_diagonal(z.new_zeros(S, N, N, n, n), own(x, 0))
    yield z, H
    for l in range(1, arch.L):
        act, gamma = arch.activations[l - 1], arch.gamma[l]
        drawn = _maps(arch, l, S, normals)
        inner, H_inner = z, H
        first = None
        if len(drawn) == 2:
            first = drawn[0][0]
            inner = affine(z, *drawn[0])
        s, d = act(inner), act.derivative(1)(inner)
        W, b = drawn[-1]
        if H is not None:
            J = W[:, None] * d[:, :, None]  # (S, N, n', n)
            total = J
            if first is not None:
                total = J @ first[:, None]
            if gamma:
                total = total + gamma * torch.eye(z.shape[-1]).to(z)
            H_inner = total[:, :, None] @ H @ total.mT[:, None]
            if first is not None:
                H_inner = H_inner + own(z, l)[..., None, None] * (J[:, :, None] @ J.mT[:, None])
            H = with_diagonal(H_inner, own(s, l))
        z = affine(s, W, b) + (gamma * z if gamma else 0.0)
        yield z, H


def distinct_pairs(a: Tensor, b: Tensor) -> Tensor:
    """Sum over networks of the mean of a_i b_k over distinct i, k; (S, n, N, N) each, NaN if n = 1.

    Returns
    -------
    Tensor, shape (N, N, N, N)
    """
    S, n, N, _ = a.shape
    pairs = n * (n - 1)
    fa, fb = a.reshape(S, n, N * N), b.reshape(S, n, N * N)
    same = fa.reshape(S * n, -1).T @ fb.reshape(S * n, -1)
    found = fa.sum(1).T @ fb.sum(1) - same
    return (found / pairs if pairs else found * torch.nan).view(N, N, N, N)


def distinct_triples(v: Tensor) -> Tensor:
    """Sum over networks of the mean of v_i v_j v_k over distinct neurons; v is (S, n)."""
    n = v.shape[1]
    p1, p2, p3 = v.sum(1), (v**2).sum(1), (v**3).sum(1)
    triples = n * (n - 1) * (n - 2)
    found = (p1**3 - 3 * p1 * p2 + 2 * p3).sum()
    return found / triples if triples else found * torch.nan


def neuron_sums(
    z: Tensor, H: Tensor | None, K: Tensor, Theta: Tensor, need: set[str]
) -> dict[str, Tensor]:
    """Sums over networks of the channels of one layer, over pairs of distinct neurons.

    NaN where the layer has too few neurons for pairs (triples for ``ggg``).

    Parameters
    ----------
    z : Tensor, shape (S, N, n)
    H : Tensor, shape (S, N, N, n, n), or None
    K, Theta : Tensor, shape (N, N)
        At infinite width.
    need : set of str
        Channels.
    """
    _, N, n = z.shape
    pairs = n * (n - 1)
    zt = z.mT
    x = zt[..., :, None] * zt[..., None, :] - K  # (S, n, N, N)
    sums = {"g": x.mean(1).sum(0)}
    sums["r"] = sums["g"]
    if "gg" in need:
        sums["gg"] = distinct_pairs(x, x)
    if "ggg" in need:
        sums["ggg"] = distinct_triples(x[:, :, 0, 0])
    if H is None:
        return sums
    diagonal = H.diagonal(dim1=-2, dim2=-1).permute(0, 3, 1, 2) - Theta  # (S, n, N, N)
    sums["h"] = diagonal.mean(1).sum(0)
    sums["rh"] = sums["h"]
    if "hh" in need:
        sums["hh"] = distinct_pairs(diagonal, diagonal)
        sums["res"] = torch.zeros_like(sums["hh"])
    if "gh" in need:
        sums["gh"] = distinct_pairs(x, diagonal)
    if need & {"b", "f"}:
        off = H - torch.diag_embed(H.diagonal(dim1=-2, dim2=-1))
        scale = 1 / pairs if pairs else torch.nan
        if "b" in need:
            flat = off.transpose(0, 1).transpose(1, 2).reshape(N * N, -1)  # (12), networks and ik
            sums["b"] = (flat @ flat.T * scale).view(N, N, N, N).permute(0, 2, 1, 3)
        if "f" in need:
            sums["f"] = torch.einsum("sxi,scdik,syk->xcyd", z, off, z) * scale
    return sums


def direct_sums(
    arch: Network,
    X: Tensor,
    ref: Reference,
    S: int,
    normals: Normals,
    need: set[str],
    layers: set[int],
) -> dict[str, dict[int, Tensor]]:
    """As :func:`kadanoff.ensembles.statistics.layer_sums`, for any drawn network.

    Parameters
    ----------
    arch : Network
    X : Tensor, shape (N, n_0)
    ref : Reference
    S : int
        Networks.
    normals : Normals
    need : set of str
        Channels.
    layers : set of int
        Layer indices.
    """
    out: dict[str, dict[int, Tensor]] = {name: {} for name in need}
    tangent = bool(need & {"h", "b", "f"})
    for l, (z, H) in enumerate(drawn_layers(arch, X, S, normals, tangent)):
        if l in layers:
            found = neuron_sums(z, H, ref.K[l], ref.Theta[l], need)
            for name in need:
                out[name][l] = found[name]
    return out
