"""An undrawn matrix: its answers have the law of W x and Wᵀδ, and hold together like a matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kadanoff.gaussian.cholesky import gram_factor
from kadanoff.program.matrix import Matrix, cheaper_undrawn
from tests.known import assert_consistent


class _Switch:
    recording = True
    keeping = True
    pairing = False


def _matrix(rows=7, columns=9, std=0.3, seed=0) -> Matrix:
    generator = torch.Generator().manual_seed(seed)

    def normal(shape, dtype):
        return torch.randn(shape, generator=generator, dtype=dtype)

    return Matrix(rows, columns, std, normal)


def _rows(M, n, seed=1):
    return torch.randn(M, n, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_factor_of_repeated_rows_has_zero_pivots_and_an_orthonormal_basis():
    X = _rows(3, 8)
    X = torch.stack([X[0], X[1], X[0], 1e-7 * X[2], torch.zeros(8), X[0] - X[1]])
    found = gram_factor(X @ X.mT)
    Q = found.basis(X)
    assert found.L.shape == (6, 3)
    torch.testing.assert_close(found.L @ Q, X, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(Q @ Q.mT, torch.eye(3, dtype=X.dtype), atol=1e-8, rtol=0)


def test_answers_hold_together_like_those_of_one_matrix():
    W = _matrix()
    switch = _Switch()
    X1, X2, D = _rows(3, 9, 1), _rows(2, 9, 2), _rows(2, 7, 3)
    Z1, _ = W.ask(X1, "right")
    T1, _ = W.ask(D, "left")
    Z2, q2 = W.ask(X2, "right")
    back = W.back(q2, _rows(2, 7, 4), True, switch)
    # δ·(W x) = (Wᵀδ)·x, whichever was asked first
    torch.testing.assert_close(D @ Z1.mT, T1 @ X1.mT)
    torch.testing.assert_close(D @ Z2.mT, T1 @ X2.mT)
    torch.testing.assert_close(_rows(2, 7, 4) @ Z1.mT, back @ X1.mT)
    # linear, and the same when asked again
    again, _ = W.ask(2 * X1[:1] - X2[:1], "right")
    torch.testing.assert_close(again, 2 * Z1[:1] - Z2[:1])
    drawn = W.materialise(_rows(7, 9, 5))
    torch.testing.assert_close(X1 @ drawn.mT, Z1)
    torch.testing.assert_close(D @ drawn, T1)
    torch.testing.assert_close(_rows(2, 7, 4) @ drawn, back)


def test_more_rows_than_directions_are_answered_as_by_a_drawn_matrix():
    W = _matrix(4, 5)
    X, D = _rows(9, 5, 1), _rows(8, 4, 2)
    Z, _ = W.ask(X, "right")
    T, _ = W.ask(D, "left")
    torch.testing.assert_close(D @ Z.mT, T @ X.mT)
    more, _ = W.ask(_rows(3, 5, 3), "right")
    solved = torch.linalg.lstsq(X, Z).solution
    torch.testing.assert_close(more, _rows(3, 5, 3) @ solved)


@pytest.mark.parametrize("M", [3, 12])
def test_joint_law_of_answers_is_that_of_a_drawn_matrix(M):
    n, width, std, count = 4, 3, 0.7, 6000
    X = _rows(M, n, 1) if n > M else torch.cat([_rows(2, n, 1)] * (M // 2))
    D = _rows(M, width, 2)
    switch = _Switch()
    probes = _rows(2, n, 6)[:, :, None], _rows(2, M * width, 7)

    def numbers(Z, T):
        """Second and fourth moments that see covariances within and between the two answers."""
        a, b = probes[1] @ Z.reshape(-1), (T @ probes[0][:, :, 0].mT)[0]
        return torch.stack([a[0] ** 2, a[0] * a[1], b[0] ** 2, b[0] * b[1], a[0] * b[0],
                            (a[0] * b[0]) ** 2, T.square().sum()])  # fmt: skip

    ours, real = [], []
    generator = torch.Generator().manual_seed(11)
    for seed in range(count):
        W = _matrix(width, n, std, seed)
        Z, question = W.ask(X, "right")
        ours.append(numbers(Z, W.back(question, D, True, switch)))
        drawn = std * torch.randn(width, n, generator=generator, dtype=torch.float64)
        real.append(numbers(X @ drawn.mT, D @ drawn))
    a, b = torch.stack(ours).numpy(), torch.stack(real).numpy()
    error = np.hypot(a.std(0), b.std(0)) / np.sqrt(count)
    scale = np.abs(b).mean(0)
    assert_consistent(b.mean(0) / scale, a.mean(0) / scale, error / scale, relative_error=0.1)


@pytest.mark.parametrize("uses", [1, 2])
@pytest.mark.parametrize("M", [2, 20])
def test_gradient_norm_is_that_of_autograd_on_the_drawn_matrix(M, uses):
    W = _matrix()
    pairs = []
    for i in range(uses):
        X, D = _rows(M, 9, i), _rows(M, 7, 10 + i)
        _, question = W.ask(X, "right")
        pairs.append((X, D, question))
    for _, D, question in pairs:
        W.back(question, D, True, _Switch())
    exact = sum(D.mT @ X for X, D, _ in pairs).square().sum()
    torch.testing.assert_close(W.gradient_square(), exact)


def test_drawing_is_cheaper_only_for_many_rows():
    assert cheaper_undrawn(16, 4096, 4096)
    assert not cheaper_undrawn(1024, 256, 256)
