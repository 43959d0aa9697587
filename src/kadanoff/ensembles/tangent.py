r"""NTK statistics of a block of networks: probes, and the mean given the forward pass.

Gradients are pulled back node by node, through the maps and along the skips. Given layers 1 … ℓ of
a network without skips, a new row w of the next map probes the NTK of layer ℓ+1:
:math:`\hat H_{ik;12} = \delta_{ik}(\lambda_b + \lambda_W\sigma_1\sigma_2/n)
+ w_i\sigma'_1 \hat H_{12}\sigma'_2 w_k`. Two or more rows a network give A, B, D and F.

For Gaussian weights the mean of the NTK *given all preactivations* is known in closed form: W
given Wσ = z has mean :math:`z^T\hat G^{-1}\sigma\,C_W/n` and covariance
:math:`(C_W/n)(1 - (C_W/n)\sigma^T\hat G^{-1}\sigma)`, so that
:math:`E[\hat H_{ij;12}\,|\,z] = \delta_{ij} h_{12} + \sum_{ab} z_{ia} z_{jb} c_{12;ab}`
with h and c going layer by layer. That gives Θ, D and F with no backward pass at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.ensembles.trunk import Trunk

__all__ = ["Conditional", "conditional", "ntk", "output_ntk", "probe_rows", "pull", "pull_node"]


def probe_rows(trunk: Trunk, l: int, rows: int) -> Tensor:
    """``rows`` fresh rows of the map that leaves layer index ``l``: (S, rows, n).

    Parameters
    ----------
    trunk : Trunk
    l : int
        Layer index.
    rows : int
    """
    S, _, n = trunk.z[l].shape
    normals = trunk.normals
    draw = normals.uniform if trunk.arch.init == "uniform" else normals.normal
    w = draw(S, rows, n)
    w *= (trunk.arch.C_W[l + 1] / n) ** 0.5
    return w


def pull(trunk: Trunk, l: int, starts: Tensor, samples: list[int]) -> list[Tensor]:
    """Gradients of linear functionals of σ(z) at node ``l``, pulled back to every node.

    Parameters
    ----------
    starts : Tensor, shape (S, k, n)
        The functionals: vector k acts on σ(z) of input ``samples[k]``.

    Returns
    -------
    list of Tensor, shape (S, k, n_j), j = 0 … l
        Derivative with respect to z of node j, at input ``samples[k]``.
    """
    return _descend(trunk, l, trunk.d[l][:, samples] * starts, samples)


def pull_node(
    trunk: Trunk, j: int, starts: Tensor, which: list[int], samples: list[int]
) -> list[Tensor]:
    """Gradients of linear functionals of z at node ``j``, pulled back to every node.

    Parameters
    ----------
    starts : Tensor, shape (S, f, n)
    which, samples : list of int, length k
        Gradient k is that of functional ``which[k]`` at input ``samples[k]``.

    Returns
    -------
    list of Tensor, shape (S, k, n_i), node i = 0 … j
    """
    back = trunk.matrix(j).transpose(starts, keep=False)[:, which] if j else None
    return _descend(trunk, j, starts[:, which], samples, back)


def _descend(
    trunk: Trunk, j: int, delta: Tensor, samples: list[int], back: Tensor | None = None
) -> list[Tensor]:
    """Derivatives with respect to all nodes from that at node ``j``; ``back`` is Wᵀδ of its map."""
    deltas = [delta]
    skipped: dict[int, Tensor] = {}  # what comes to a node along a skip
    for i in range(j, 0, -1):
        m = trunk.maps[i]
        pulled = trunk.matrix(i).transpose(deltas[0], keep=False) if back is None else back
        if m.gamma:
            skipped[i - m.back] = m.gamma * deltas[0]
        below = trunk.d[i - 1][:, samples] * pulled
        if i - 1 in skipped:
            below = below + skipped.pop(i - 1)
        deltas.insert(0, below)
        back = None
    return deltas


def ntk(trunk: Trunk, deltas: list[Tensor], samples: list[int]) -> Tensor:
    """NTK between the pulled-back functionals, by the maps up to their node: (S, k, k).

    Parameters
    ----------
    trunk : Trunk
    deltas : list of Tensor, each (S, k, n)
        Pulled-back functionals, by layer.
    samples : list of int
        Sample of each functional.
    """
    total = None
    for j, delta in enumerate(deltas):
        direct = trunk.direct[j][:, samples][:, :, samples]
        term = direct * (delta @ delta.mT)
        total = term if total is None else total + term
    assert total is not None
    return total


def output_ntk(trunk: Trunk) -> Tensor:
    """NTK of the last layer between all outputs and inputs: (S, N n_L, N n_L), input slowest.

    One gradient an output and input, through the maps from the top; the learning-rate tensor is
    included.
    """
    top = len(trunk.z) - 1
    S, N, n_out = trunk.z[top].shape
    starts = torch.eye(n_out).to(trunk.z[top]).expand(S, n_out, n_out)
    which, samples = [*range(n_out)] * N, [a for a in range(N) for _ in range(n_out)]
    return ntk(trunk, pull_node(trunk, top, starts, which, samples), samples)


@dataclass
class Conditional:
    """E[Ĥ | preactivations] at one layer: δ_ij h_12 + Σ z_ia z_jb c_12ab (S networks)."""

    h: Tensor  # (S, N, N)
    c: Tensor | None  # (S, N, N, N, N), slots 1, 2, a, b; None for zero

    def quadratic(self, w: Tensor, trunk: Trunk, l: int) -> Tensor:
        """w σ'_1 E[Ĥ_12] σ'_2 w for rows w (S, m, n): (S, m, N, N).

        Parameters
        ----------
        w : Tensor, shape (S, m, n)
        trunk : Trunk
        l : int
            Layer index.
        """
        wd = w[:, :, None] * trunk.d[l][:, None]  # (S, m, N, n)
        found = self.h[:, None] * (wd @ wd.mT)
        if self.c is not None:
            v = wd @ trunk.z[l].mT[:, None]  # (S, m, N, N): slots 1, a
            found = found + torch.einsum("sijab,smia,smjb->smij", self.c, v, v)
        return found


def conditional(trunk: Trunk, l: int, state: Conditional) -> tuple[Conditional, Tensor, Tensor]:
    """From layer index ``l`` to ``l + 1``: the state there, E[Ω] and Y.

    Parameters
    ----------
    trunk : Trunk
    l : int
        Layer index.
    state : Conditional
        There.

    Returns
    -------
    Conditional
        Of layer index l + 1.
    omega : Tensor, shape (S, N, N)
        Mean of Ĥ_ii;12 of the next layer given layers up to ``l``: λ_b + (1/n) Σ_j Ω_j.
    Y : Tensor, shape (S, N, N, N, N)
        (C_W/n)² σ_e σ'_1 E[Ĥ_12] σ'_2 σ_f, slots 1, 2, e, f.
    """
    z, s, d = trunk.z[l], trunk.s[l], trunk.d[l]
    S, N, n = z.shape
    kappa = trunk.arch.C_W[l + 1] / n
    sd = (s[:, :, None] * d[:, None]).reshape(S, N * N, n)  # e, 1
    quartic = (sd @ sd.mT).view(S, N, N, N, N)  # e, 1, f, 2
    Y = state.h[..., None, None] * quartic.permute(0, 2, 4, 1, 3)
    trace = state.h * (d @ d.mT)
    if state.c is not None:
        q = (sd @ z.mT).view(S, N, N, N)  # e, 1, a
        Y = Y + torch.einsum("sijab,seia,sfjb->sijef", state.c, q, q)
        dz = (d[:, :, None] * z[:, None]).reshape(S, N * N, n)
        zz = (dz @ dz.mT).view(S, N, N, N, N)  # 1, a, 2, b
        trace = trace + torch.einsum("sijab,siajb->sij", state.c, zz)
    Y = Y * kappa**2
    g = trunk.inverse[l + 1].mT @ trunk.inverse[l + 1]  # inverse of the metric
    omega = trunk.direct[l + 1] + kappa * trace
    c = torch.einsum("sijef,sea,sfb->sijab", Y, g, g)
    h = omega - torch.einsum("sijef,sef->sij", Y, g)
    return Conditional(h, c), omega, Y
