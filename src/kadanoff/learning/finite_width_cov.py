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

from kadanoff.learning.response import Modes3, Response, prepare, responses

__all__ = ["COV_TERMS", "CovarianceSum", "covariance_terms"]

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
    Tested by: tests/learning/test_finite_width.py (definitions, trained networks at three widths).
    """
    m = prepare(tensors, y, eta, algorithm)
    found = CovarianceSum(m, tensors)
    for part in responses(tensors, m, block):
        found.add(part)
    return found.terms()


class CovarianceSum:
    """Contracts the pieces with their derivatives with respect to the labels."""

    def __init__(self, m: Modes3, tensors: Any) -> None:
        self._m, self._x = m, tensors
        # E[(P z)_x z_a]: test points by modes
        self._C = m.project @ tensors.K[:, : m.n_train] @ m.vectors
        self._whole = m.y @ m.y.mT + m.n_out * m.K
        self._same: dict[str, list[Tensor]] = {}
        self._mixed: dict[str, list[Tensor]] = {"ddI": [], "ddII": []}

    def add(self, part: Response) -> None:
        """The next points, in order."""
        m, C = self._m, self._C
        for name, matrix in part.linear:
            self._same.setdefault(name, []).append(-matrix @ C.mT)
        for name, W in part.cubic:
            diagonal = torch.einsum("dabc,bc->da", W, self._whole)
            diagonal = diagonal + torch.einsum("dabc,ac->db", W, m.K)
            diagonal = diagonal + torch.einsum("dabc,ab->dc", W, m.K)
            self._same.setdefault(name, []).append(-diagonal @ C.mT)
            # the first label index belongs to the output itself, the other to its partner
            both = torch.einsum("dabc,ai,cj->ijdb", W, m.y, m.y)
            both = both + torch.einsum("dabc,ai,bj->ijdc", W, m.y, m.y)
            self._mixed[name].append(-both @ C.mT)

    def terms(self) -> dict[str, Tensor]:
        """Coefficients of 1/n at the test points, (n_L, n_L, M, M) each."""
        m = self._m
        eye = torch.eye(m.n_out, dtype=m.y.dtype)
        one_way: dict[str, Tensor] = {}
        for name, parts in self._same.items():
            one_way[name] = torch.einsum("ij,ab->ijab", eye, m.project @ torch.cat(parts))
        for name, parts in self._mixed.items():
            one_way[name] = one_way[name] + m.project @ torch.cat(parts, 2)
        one_way["dH"] = one_way["dH"] + _moving_ntk(self._x, m)
        one_way["D_F"] = torch.einsum("ij,ab->ijab", eye, _outputs_and_ntk(self._x, m))
        # each of these is Cov(P z, piece); the other half is Cov(piece, P z)
        terms = {k: v + v.permute(1, 0, 3, 2) for k, v in one_way.items()}
        terms["Delta_H"] = terms["Delta_H"] + _ntk_spread(self._x, m)
        shift = m.project @ self._x.G1 @ m.project.mT
        terms["G1"] = torch.einsum("ij,ab->ijab", eye, shift)
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
