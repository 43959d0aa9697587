"""How the end of training answers to each order-1/n piece of the network, mode by mode.

The trained output is a functional of the initial outputs z, of the NTK's deviation from its mean,
of the dNTK and of the ddNTKs. In the eigenbasis of the training NTK every sum over training time
is a rational function of up to three eigenvalues. What is linear in the labels is kept as a matrix
(point, mode), what is cubic as a tensor (point, mode, mode, mode): the mean contracts them with
the labels, the covariance with their derivatives.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import DataError, UsageError
from kadanoff.learning.dynamics import check_step, eigenbasis

__all__ = ["ALGORITHMS", "Algorithm", "Modes3", "Response", "prepare", "responses", "rotated"]

ALGORITHMS = ("gradient", "giant_leap")


class Algorithm:
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


@dataclass(frozen=True)
class Modes3:
    """Eigenbasis of the training NTK and the training-time sums in it.

    Attributes
    ----------
    values : Tensor, shape (N,)
    vectors : Tensor, shape (N, N)
    y : Tensor, shape (N, n_L)
        Labels, mode by mode.
    K : Tensor, shape (N, N)
        Kernel of the training points, mode by mode.
    project : Tensor, shape (M, N+M)
        Takes what a piece does at all points to what is left of it at the test points once the
        training points are fitted: (-Theta_BA Theta_AA^{-1}, 1).
    """

    values: Tensor
    vectors: Tensor
    y: Tensor
    K: Tensor
    project: Tensor
    algorithm: Algorithm

    @property
    def n_train(self) -> int:
        return self.values.shape[0]

    @property
    def n_out(self) -> int:
        return self.y.shape[1]


def prepare(tensors: Any, y: Tensor, eta: float | None, algorithm: str) -> Modes3:
    """Eigenbasis, projector and algorithm of :func:`~kadanoff.learning.end_of_training`.

    Parameters
    ----------
    tensors : LastLayer or an object like it
        Of training points and then test points.
    y : Tensor, shape (N, n_L)
    eta : float or None
        Step of descent on the sum of squares over two; None is gradient flow.
    algorithm : {"gradient", "giant_leap"}

    Raises
    ------
    UsageError
        Unknown algorithm, or ``eta`` not stable.
    DataError
        Singular training NTK.
    """
    if algorithm not in ALGORITHMS:
        raise UsageError(f"Unknown algorithm {algorithm!r}.", f"Choose from {ALGORITHMS}.")
    n_train = y.shape[0]
    theta = tensors.Theta
    values, vectors = eigenbasis(theta[:n_train, :n_train], "training NTK")
    if float(values.min()) <= float(values.max()) * n_train * 1e-13:
        raise DataError(
            f"The NTK of the training points is singular: eigenvalues {float(values.min()):.3g} to "
            f"{float(values.max()):.3g}.",
            "Order 1/n divides by them: remove duplicate points, or use order=0 with ridge > 0.",
        )
    if eta is not None:
        check_step(eta, float(values.max()))
    test = slice(n_train, theta.shape[0])
    transfer = (theta[test, :n_train] @ vectors / values) @ vectors.mT
    eye = torch.eye(theta.shape[0] - n_train, dtype=theta.dtype)
    return Modes3(
        values,
        vectors,
        vectors.mT @ y,
        vectors.mT @ tensors.K[:n_train, :n_train] @ vectors,
        torch.cat([-transfer, eye], 1),
        Algorithm(values, eta, algorithm == "giant_leap"),
    )


def rotated(tensor: Tensor, slot: int, rows: slice, vectors: Tensor) -> Tensor:
    """Slot ``slot`` moved to the front and cut to ``rows``; the others in the eigenbasis.

    Parameters
    ----------
    tensor : Tensor, shape (N+M, N+M, N+M, N+M)
    slot : int
    rows : slice
        Points kept in this slot.
    vectors : Tensor, shape (N, N)
        Eigenvectors of the training NTK, a column each.
    """
    n = vectors.shape[0]
    piece = tensor.movedim(slot, 0)[rows, :n, :n, :n].contiguous()
    piece = vectors.mT @ piece.view(-1, n, n * n)
    piece = vectors.mT @ piece.view(-1, n, n)
    return (piece @ vectors).view(-1, n, n, n)


@dataclass(frozen=True)
class Response:
    """Pieces at some points: matrices (rows, mode) and tensors (rows, mode, mode, mode)."""

    linear: list[tuple[str, Tensor]]
    cubic: list[tuple[str, Tensor]]


def responses(x: Any, m: Modes3, block: int | None = None) -> Iterator[Response]:
    """All pieces, for ``block`` points at a time (by default what takes about 256 MiB).

    Parameters
    ----------
    x : LastLayer or an object like it
    m : Modes3
    block : int, optional
    """
    size = block or max(1, int(2**28 / (8 * 3 * m.n_train**3)))
    points = x.Theta.shape[0]
    for start in range(0, points, size):
        rows = slice(start, min(start + size, points))
        yield Response(list(linear(x, m, rows)), list(cubic(x, m, rows)))


def linear(x: Any, m: Modes3, rows: slice) -> Iterator[tuple[str, Tensor]]:
    """Pieces of the mean that are linear in the labels: (name, matrix (rows, mode))."""
    yield "Delta_H", _delta_h(x, m, rows)
    yield "dH", _dh(x, m, rows)
    yield "H1", x.H1[rows, : m.n_train] @ m.vectors / m.values


def _delta_h(x: Any, m: Modes3, rows: slice) -> Tensor:
    """Spread of the NTK over networks, second order in it."""
    A = rotated(x.A, 0, rows, m.vectors)
    B = rotated(x.B, 0, rows, m.vectors)
    total = torch.einsum("daab,a->db", A + B, 1 / m.values)
    total = total + m.n_out * torch.einsum("dbaa,a->db", B, 1 / m.values)
    return -total / m.values


def _dh(x: Any, m: Modes3, rows: slice) -> Tensor:
    """Motion of the NTK, correlated with the initial outputs."""
    P0, Q0 = rotated(x.P, 0, rows, m.vectors), rotated(x.Q, 0, rows, m.vectors)
    leap = torch.einsum("daba,a->db", P0 + Q0, 1 / m.values)
    leap = leap + m.n_out * torch.einsum("dbaa,a->db", Q0, 1 / m.values)
    total = leap / m.values
    del P0, Q0
    P1, Q1, Q2 = (rotated(t, s, rows, m.vectors) for t, s in ((x.P, 1), (x.Q, 1), (x.Q, 2)))
    total = total + torch.einsum("daba,ab->db", m.n_out * P1 + Q1 + Q2, m.algorithm.Z_A)
    total = total + torch.einsum("dabb,ab->da", P1 + m.n_out * Q1 + Q2, m.algorithm.Z_A)
    return -total


def cubic(x: Any, m: Modes3, rows: slice) -> Iterator[tuple[str, Tensor]]:
    """Pieces cubic in the errors: (name, W) with mean sum_abc W[d, a, b, c] Gamma(a; b c).

    Gamma_i(a; b c) is minus the mean of eps_ia sum_j eps_jb eps_jc over the initial outputs.
    """
    g = m.algorithm
    # the three terms with 1/(6abc) are one term relabelled
    one = [
        (x.R, 0, "dabc", 0.5 * g.inverse3, "abc"),
        (x.R, 1, "dabc", g.first, "abc"),
        (x.R, 3, "dabc", g.first, "cab"),
        (x.R, 2, "dacb", g.first, "bac"),
    ]
    yield "ddI", _weights(one, m, rows)
    two = [
        (x.S, 0, "dabc", g.second, "abc"),
        (x.S, 0, "dbac", g.third, "bac"),
        (x.T, 0, "dbca", g.second, "bac"),
        (x.T, 0, "dacb", g.third, "abc"),
        (x.U, 0, "dcab", g.second, "cab"),
        (x.U, 0, "dcba", g.third, "cab"),
        (x.S, 1, "dabc", g.fourth, "abc"),
        (x.S, 2, "dabc", g.fourth, "cab"),
        (x.T, 1, "dacb", g.fourth, "abc"),
        (x.T, 3, "dabc", g.fourth, "cab"),
        (x.U, 2, "dacb", g.fourth, "bac"),
        (x.U, 3, "dacb", g.fourth, "bac"),
    ]
    yield "ddII", _weights(two, m, rows)


def _weights(terms: list[tuple[Tensor, int, str, Tensor, str]], m: Modes3, rows: slice) -> Tensor:
    """Sum of tensor[letters] weight[a b c], relabelled so that Gamma is that of (a; b c)."""
    total: Tensor | None = None
    kept: tuple[int, int] | None = None
    piece = None
    for tensor, slot, letters, weight, order in terms:
        if kept != (id(tensor), slot):
            piece, kept = rotated(tensor, slot, rows, m.vectors), (id(tensor), slot)
        rename = str.maketrans(order, "abc")
        where = "abc".translate(rename)
        term = torch.einsum(f"{letters.translate(rename)},{where}->dabc", piece, weight)
        total = term if total is None else total.add_(term)
    assert total is not None
    return total
