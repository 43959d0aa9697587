"""The fully trained network at order 1/n: nearly-kernel prediction with all its terms.

At finite width the NTK differs between networks (A, B), moves during training (dNTK: P, Q) and its
motion moves (ddNTKs: R, S, T, U). In the eigenbasis of the training NTK every sum over training
time is a rational function of three eigenvalues, so that nothing bigger than a four-index tensor
is ever needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import DataError, UsageError
from kadanoff.learning.dynamics import check_step, eigenbasis

__all__ = ["ALGORITHMS", "FiniteWidth", "end_of_training"]

ALGORITHMS = ("gradient", "giant_leap")


@dataclass(frozen=True)
class FiniteWidth:
    """Mean of the trained networks: infinite width plus the coefficients of 1/n.

    Attributes
    ----------
    kernel : Tensor, shape (M, n_L)
        Infinite-width mean Theta_BA Theta_AA^{-1} y.
    terms : dict of Tensor, shape (M, n_L) each
        Coefficients of 1/n, projected off the training points: ``Delta_H`` (the NTK's spread over
        networks), ``dH`` (its motion), ``ddI`` and ``ddII`` (the motion of its motion), ``H1``
        (the shift of its mean).
    """

    kernel: Tensor
    terms: dict[str, Tensor]

    @property
    def coefficient(self) -> Tensor:
        """Sum of the terms, shape (M, n_L): n (mean - kernel) as n grows."""
        return torch.stack(list(self.terms.values())).sum(0)

    def mean(self, n: int) -> Tensor:
        """Mean at last hidden width ``n``."""
        return self.kernel + self.coefficient / n


class _Algorithm:
    """Sums over training time, as functions of the eigenvalues a (rows), b, c."""

    def __init__(self, values: Tensor, eta: float | None, leap: bool) -> None:
        e = 0.0 if eta is None else eta
        a, b, c = values[:, None, None], values[None, :, None], values[None, None, :]
        x_ab = 1 / (a + b - e * a * b)
        x_bc = 1 / (b + c - e * b * c)
        x3 = 1 / (a + b + c - e * (a * b + b * c + c * a) + e * e * a * b * c)
        left = 1 / a - x3
        keep = 0.0 if leap else 1.0
        y_i = keep * (x_ab - x3) / c
        y_iii = keep * ((1 / a - x_ab) / b - x_bc * left) / c
        y_iv = keep * x_bc * left
        pair = values[:, None] * values[None, :]
        total = values[:, None] + values[None, :] - e * pair
        self.Z_A = keep * (1 - e * values[:, None]) / (values[:, None] * total)
        self.inverse3 = 1 / (a * b * c)
        self.first = 0.5 * e * y_iv + y_iii
        self.second = 0.5 * e * y_i + e * y_iv + y_iii
        self.third = 0.5 * e * y_i + y_iii
        self.fourth = y_iii


def _rotated(tensor: Tensor, slot: int, rows: slice, vectors: Tensor) -> Tensor:
    """Slot ``slot`` moved to the front and cut to ``rows``; the others in the eigenbasis."""
    n = vectors.shape[0]
    piece = tensor.movedim(slot, 0)[rows, :n, :n, :n]
    for _ in range(3):  # each pass takes the next slot from the front and puts it last
        piece = torch.einsum("dabc,ae->dbce", piece, vectors)
    return piece


def end_of_training(
    tensors: Any,
    y: Tensor,
    *,
    eta: float | None = None,
    algorithm: str = "gradient",
    block: int | None = None,
) -> FiniteWidth:
    r"""Mean of the networks trained to the end, to order 1/n, each term on its own.

    Parameters
    ----------
    tensors : any object with these attributes
        ``K``, ``Theta``, ``H1`` (N+M, N+M) and the four-index tensors (N+M,)*4 of the output
        layer, slots as in :mod:`kadanoff.rgflow`. Of the latter only entries with at most one test
        index are read. No 1/n in them; training points first.
    y : Tensor, shape (N, n_L)
    eta : float, optional
        Step of full-batch descent on ``sum (z - y)^2 / 2``; None is gradient flow.
    algorithm : {"gradient", "giant_leap"}
        ``giant_leap``: one Newton-like step in function space, then small steps.
    block : int, optional
        Points treated at a time; by default so many that a block takes about 256 MiB.

    Returns
    -------
    FiniteWidth

    Raises
    ------
    UsageError
        Unknown algorithm, or ``eta`` not stable.
    DataError
        Singular training NTK.

    Notes
    -----
    Source: Roberts, Yaida and Hanin (2022), the last chapter; here every projector of the
    algorithm is diagonal in the eigenbasis of the training NTK. Outputs share one NTK at leading
    order; the initial outputs are averaged over.
    Tested by: tests/learning/test_finite_width.py (three converged values, trained networks).
    """
    if algorithm not in ALGORITHMS:
        raise UsageError(f"Unknown algorithm {algorithm!r}.", f"Choose from {ALGORITHMS}.")
    n_train, n_out = y.shape
    theta = tensors.Theta
    points = theta.shape[0]
    values, vectors = eigenbasis(theta[:n_train, :n_train], "training NTK")
    if float(values.min()) <= float(values.max()) * n_train * 1e-13:
        raise DataError(
            f"The NTK of the training points is singular: eigenvalues {float(values.min()):.3g} to "
            f"{float(values.max()):.3g}.",
            "Order 1/n divides by them: remove duplicate points, or use order=0 with ridge > 0.",
        )
    if eta is not None:
        check_step(eta, float(values.max()))
    algo = _Algorithm(values, eta, algorithm == "giant_leap")
    y_a = vectors.mT @ y
    K_ab = vectors.mT @ tensors.K[:n_train, :n_train] @ vectors
    gamma = (
        torch.einsum("ai,bc->iabc", y_a, y_a @ y_a.mT + n_out * K_ab)
        + torch.einsum("bi,ac->iabc", y_a, K_ab)
        + torch.einsum("ci,ab->iabc", y_a, K_ab)
    )
    block = block or max(1, int(2**28 / (8 * 3 * n_train**3)))
    pieces: dict[str, list[Tensor]] = {name: [] for name in ("Delta_H", "dH", "ddI", "ddII")}
    for start in range(0, points, block):
        rows = slice(start, min(start + block, points))
        pieces["Delta_H"].append(_delta_h(tensors, rows, vectors, values, y_a))
        pieces["dH"].append(_dh(tensors, rows, vectors, values, y_a, algo))
        pieces["ddI"].append(_dd_one(tensors, rows, vectors, gamma, algo))
        pieces["ddII"].append(_dd_two(tensors, rows, vectors, gamma, algo))
    raw = {name: torch.cat(parts) for name, parts in pieces.items()}
    solved = vectors @ (y_a / values[:, None])
    raw["H1"] = tensors.H1[:, :n_train] @ solved
    B = slice(n_train, points)
    transfer = (theta[B, :n_train] @ vectors / values) @ vectors.mT
    terms = {name: m[B] - transfer @ m[:n_train] for name, m in raw.items()}
    return FiniteWidth(theta[B, :n_train] @ solved, terms)


def _delta_h(x: Any, rows: slice, vectors: Tensor, values: Tensor, y_a: Tensor) -> Tensor:
    """Spread of the NTK over networks, second order in it."""
    n_out = y_a.shape[1]
    A = _rotated(x.A, 0, rows, vectors)
    B = _rotated(x.B, 0, rows, vectors)
    total = torch.einsum("daab,a->db", A + B, 1 / values)
    total = total + n_out * torch.einsum("dbaa,a->db", B, 1 / values)
    return -(total / values) @ y_a


def _dh(
    x: Any, rows: slice, vectors: Tensor, values: Tensor, y_a: Tensor, algo: _Algorithm
) -> Tensor:
    """Motion of the NTK, correlated with the initial outputs."""
    n_out = y_a.shape[1]
    P0, Q0 = _rotated(x.P, 0, rows, vectors), _rotated(x.Q, 0, rows, vectors)
    leap = torch.einsum("daba,a->db", P0 + Q0, 1 / values)
    leap = leap + n_out * torch.einsum("dbaa,a->db", Q0, 1 / values)
    total = (leap / values) @ y_a
    del P0, Q0
    P1, Q1, Q2 = (_rotated(t, s, rows, vectors) for t, s in ((x.P, 1), (x.Q, 1), (x.Q, 2)))
    once = torch.einsum("daba,ab->db", n_out * P1 + Q1 + Q2, algo.Z_A) @ y_a
    twice = torch.einsum("dabb,ab->da", P1 + n_out * Q1 + Q2, algo.Z_A) @ y_a
    return -(total + once + twice)


def _dd_one(x: Any, rows: slice, vectors: Tensor, gamma: Tensor, algo: _Algorithm) -> Tensor:
    """First kind of the motion of the motion (third derivative of the output)."""
    g_c_ab = gamma.permute(0, 2, 3, 1)  # Gamma(c; a b) as [i, a, b, c]
    g_b_ac = gamma.permute(0, 2, 1, 3)  # Gamma(b; a c)
    # the three terms with 1/(6abc) are one term relabelled
    weighted = [
        (x.R, 0, "dabc", 0.5 * algo.inverse3 * gamma),
        (x.R, 1, "dabc", algo.first * gamma),
        (x.R, 3, "dabc", algo.first * g_c_ab),
        (x.R, 2, "dacb", algo.first * g_b_ac),
    ]
    return _contract(weighted, rows, vectors)


def _dd_two(x: Any, rows: slice, vectors: Tensor, gamma: Tensor, algo: _Algorithm) -> Tensor:
    """Second kind (two second derivatives)."""
    g_c_ab = gamma.permute(0, 2, 3, 1)
    g_b_ac = gamma.permute(0, 2, 1, 3)
    weighted = [
        (x.S, 0, "dabc", algo.second * gamma),
        (x.T, 0, "dbca", algo.second * g_b_ac),
        (x.U, 0, "dcab", algo.second * g_c_ab),
        (x.S, 0, "dbac", algo.third * g_b_ac),
        (x.T, 0, "dacb", algo.third * gamma),
        (x.U, 0, "dcba", algo.third * g_c_ab),
        (x.S, 1, "dabc", algo.fourth * gamma),
        (x.T, 3, "dabc", algo.fourth * g_c_ab),
        (x.U, 2, "dacb", algo.fourth * g_b_ac),
        (x.S, 2, "dabc", algo.fourth * g_c_ab),
        (x.T, 1, "dacb", algo.fourth * gamma),
        (x.U, 3, "dacb", algo.fourth * g_b_ac),
    ]
    return _contract(weighted, rows, vectors)


def _contract(
    weighted: list[tuple[Tensor, int, str, Tensor]], rows: slice, vectors: Tensor
) -> Tensor:
    total: Tensor | None = None
    seen: dict[tuple[int, int], Tensor] = {}
    for tensor, slot, letters, weight in weighted:
        key = (id(tensor), slot)
        if key not in seen:
            if slot != 0:
                seen.clear()  # slots other than the first are used once
            seen[key] = _rotated(tensor, slot, rows, vectors)
        term = torch.einsum(f"{letters},iabc->di", seen[key], weight)
        total = term if total is None else total + term
    assert total is not None
    return total


def validity(correction: Tensor, kernel: Tensor) -> float:
    """Size of the 1/n correction relative to the infinite-width mean (root mean squares)."""
    scale = float(kernel.pow(2).mean().sqrt())
    size = float(correction.pow(2).mean().sqrt())
    return math.inf if scale == 0 else size / scale
