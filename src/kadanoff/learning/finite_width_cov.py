"""Covariance over initialisations of the fully trained network at order 1/n.

At infinite width the trained output is P z(0) plus the fixed mean, with P z(0) what is left of the
initial outputs once the training points are fitted. At order 1/n three things are added:

* P z(0) against the pieces that move the mean. Initial outputs are Gaussian to this order, and
  they enter with the labels as z - y, so that Stein's lemma turns this covariance into a derivative
  of the mean with respect to the labels: -E[P z(0) z_A(0)] d mean / dy.
* P z(0) and z(0) against the NTK (D, F), and P z(0) against the dNTK (P, Q): correlations that are
  themselves of order 1/n, times the remaining errors at their infinite-width second moment.
* The spread of the NTK against itself (A, B), and the shift of the initial metric (G1).

The four-point vertex V does not enter (it would need two nonlinear pieces). Outputs i and j of one
network become correlated through y_i y_j: they share the network's NTK.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from kadanoff.learning.finite_width import row_blocks
from kadanoff.learning.response import Modes3, cubic, linear, prepare

__all__ = ["COV_TERMS", "covariance_terms"]

COV_TERMS = ("G1", "H1", "Delta_H", "D_F", "dH", "ddI", "ddII")


def covariance_terms(
    tensors: Any,
    y: Tensor,
    *,
    eta: float | None = None,
    algorithm: str = "gradient",
    block: int | None = None,
) -> dict[str, Tensor]:
    r"""Coefficients of 1/n of the covariance of the trained outputs, each cause on its own.

    Parameters
    ----------
    tensors : any object with these attributes
        Those of :func:`~kadanoff.learning.end_of_training` and ``G1``, ``D``, ``F``; of A, B, D,
        F, P and Q entries with two test indices are read too.
    y, eta, algorithm, block
        As there.

    Returns
    -------
    dict of Tensor, shape (n_L, n_L, M, M) each
        [i, j, a, b]: coefficient of 1/n of Cov(z_i(x_a), z_j(x_b)). ``G1``: shift of the initial
        metric; ``H1``: of the mean NTK; ``Delta_H``: spread of the NTK; ``D_F``: its correlation
        with initial outputs; ``dH``, ``ddI``, ``ddII``: its motion.

    Notes
    -----
    Derived here; source of the mean: Roberts, Yaida and Hanin (2022), the last chapter.
    Tested by: tests/learning/test_finite_width_cov.py (trained networks, three widths).
    """
    m = prepare(tensors, y, eta, algorithm)
    # E[(P z)_x z_a]: test points by modes
    C = m.project @ tensors.K[:, : m.n_train] @ m.vectors
    points, n_out = tensors.Theta.shape[0], m.n_out
    eye = torch.eye(n_out, dtype=y.dtype)
    same: dict[str, list[Tensor]] = {}
    mixed: dict[str, list[Tensor]] = {"ddI": [], "ddII": []}
    YY = m.y @ m.y.mT
    for rows in row_blocks(points, m.n_train, block):
        for name, matrix in linear(tensors, m, rows):
            same.setdefault(name, []).append(-matrix @ C.mT)
        for name, W in cubic(tensors, m, rows):
            diagonal = torch.einsum("dabc,bc->da", W, YY + n_out * m.K)
            diagonal = diagonal + torch.einsum("dabc,ac->db", W, m.K)
            diagonal = diagonal + torch.einsum("dabc,ab->dc", W, m.K)
            same.setdefault(name, []).append(-diagonal @ C.mT)
            # the first label index belongs to the output itself, the other to its partner
            both = torch.einsum("dabc,ai,cj->ijdb", W, m.y, m.y)
            both = both + torch.einsum("dabc,ai,bj->ijdc", W, m.y, m.y)
            mixed[name].append(-both @ C.mT)
    one_way: dict[str, Tensor] = {}
    for name, parts in same.items():
        one_way[name] = torch.einsum("ij,ab->ijab", eye, m.project @ torch.cat(parts))
    for name, parts in mixed.items():
        one_way[name] = one_way[name] + m.project @ torch.cat(parts, 2)
    one_way["dH"] = one_way["dH"] + _moving_ntk(tensors, m)
    one_way["D_F"] = torch.einsum("ij,ab->ijab", eye, _outputs_and_ntk(tensors, m))
    # each of these is Cov(P z, piece); the other half is Cov(piece, P z)
    terms = {k: v + v.permute(1, 0, 3, 2) for k, v in one_way.items()}
    terms["Delta_H"] = terms["Delta_H"] + _ntk_spread(tensors, m)
    terms["G1"] = torch.einsum("ij,ab->ijab", eye, m.project @ tensors.G1 @ m.project.mT)
    return {name: terms[name] for name in COV_TERMS}


def _two(tensor: Tensor, front: tuple[int, int], m: Modes3) -> Tensor:
    """Slots ``front`` projected on test points, the two others, in order, in the eigenbasis."""
    n = m.n_train
    piece = tensor.movedim(front, (0, 1))[:, :, :n, :n]
    piece = torch.einsum("xyab,ac,bd->xycd", piece, m.vectors, m.vectors)
    return torch.einsum("px,xyab,qy->pqab", m.project, piece, m.project)


def _outputs_and_ntk(x: Any, m: Modes3) -> Tensor:
    """Cov of the first-order effect of the NTK's spread at x with (P z) at x', [x, x']."""
    inverse = 1 / m.values
    # slots of D: (z z H H); of F: (z1 H3 z2 H4)
    D = _two(x.D, (2, 0), m)
    near, far = _two(x.F, (1, 0), m), _two(x.F, (3, 0), m)
    total = torch.einsum("xyaa,a->xy", D + m.n_out * near + far, inverse)
    return -total


def _moving_ntk(x: Any, m: Modes3) -> Tensor:
    """Cov of (P z) at x' in output j with the dNTK's effect at x in output i, [i, j, x, x']."""
    inverse = 1 / (m.values[:, None] * m.values[None, :])
    Z = m.algorithm.Z_A
    eye = torch.eye(m.n_out, dtype=m.y.dtype)
    whole = m.y @ m.y.mT + m.n_out * m.K
    P0, Q0 = _two(x.P, (0, 3), m), _two(x.Q, (0, 3), m)
    P1, Q1, Q2 = _two(x.P, (1, 3), m), _two(x.Q, (1, 3), m), _two(x.Q, (2, 3), m)
    same = torch.einsum("xyab,ab->xy", P0, 0.5 * inverse * whole)
    same = same + torch.einsum("xyab,ab->xy", Q2, Z * whole)
    same = same + torch.einsum("xyab,ab->xy", Q0, inverse * m.K)
    same = same + torch.einsum("xyab,ab->xy", P1 + Q1, Z * m.K)
    mixed = torch.einsum("xyab,ab,ai,bj->ijxy", Q0, inverse, m.y, m.y)
    mixed = mixed + torch.einsum("xyab,ab,aj,bi->ijxy", P1, Z, m.y, m.y)
    mixed = mixed + torch.einsum("xyab,ab,ai,bj->ijxy", Q1, Z, m.y, m.y)
    return torch.einsum("ij,xy->ijxy", eye, same) + mixed


def _ntk_spread(x: Any, m: Modes3) -> Tensor:
    """Spread of the NTK twice, at first order each, [i, j, x, x']."""
    y = m.y / m.values[:, None]
    K = m.K / (m.values[:, None] * m.values[None, :])
    eye = torch.eye(m.n_out, dtype=m.y.dtype)
    # A slots (x a)(x' b); B slots (1 3 2 4): output pairs (x x')(a b) and (x b)(a x')
    A = _two(x.A, (0, 2), m)
    B, crossed = _two(x.B, (0, 1), m), _two(x.B, (0, 3), m)
    same = torch.einsum("xyab,ab->xy", A, K)
    same = same + torch.einsum("xyab,ab->xy", B, y @ y.mT + m.n_out * K)
    same = same + torch.einsum("xyba,ab->xy", crossed, K)
    mixed = torch.einsum("xyab,ai,bj->ijxy", A, y, y)
    mixed = mixed + torch.einsum("xyba,aj,bi->ijxy", crossed, y, y)
    return torch.einsum("ij,xy->ijxy", eye, same) + mixed
