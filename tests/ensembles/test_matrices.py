"""Implicit Gaussian matrices answer as drawn ones do."""

import pytest
import torch

from kadanoff.ensembles.matrices import DrawnMatrix, Implicit
from kadanoff.ensembles.normals import Normals
from kadanoff.ensembles.undrawn import residue
from kadanoff.gaussian.cholesky import batch_factor_inverse


def implicit(S=3, n_out=7, n_in=5, C_b=0.3, seed=0):
    return Implicit(S, n_out, n_in, 1.7, C_b, Normals(seed, 0))


def test_answers_belong_to_one_matrix():
    op, more = implicit(), Normals(1, 0)
    x, y, d = more.normal(3, 2, 5), more.normal(3, 1, 5), more.normal(3, 3, 7)
    Wx = op.apply(x, bias=False)
    back = op.transpose(d)
    Wy = op.apply(y, bias=False)
    for forward, vector in ((Wx, x), (Wy, y)):
        torch.testing.assert_close(forward @ d.mT, vector @ back.mT, atol=1e-12, rtol=0)
    again = op.apply(2 * x[:, :1] - 3 * y)
    torch.testing.assert_close(again, 2 * Wx[:, :1] - 3 * Wy, atol=1e-12, rtol=0)


def test_asking_for_everything_gives_the_matrix():
    op = implicit(S=2)
    W = op.apply(torch.eye(5, dtype=torch.float64).expand(2, 5, 5)).mT
    d = Normals(4, 0).normal(2, 3, 7)
    torch.testing.assert_close(op.transpose(d), d @ W, atol=1e-11, rtol=0)


@pytest.mark.parametrize("order", ["forward", "back"])
def test_entries_have_the_right_law(order):
    op = implicit(S=40_000, n_out=3, n_in=2)
    x = torch.tensor([[1.0, 2.0]], dtype=torch.float64).expand(40_000, 1, 2)
    d = torch.tensor([[0.5, -1.0, 2.0]], dtype=torch.float64).expand(40_000, 1, 3)
    if order == "forward":
        z, back = op.apply(x, bias=True), op.transpose(d)
    else:
        back, z = op.transpose(d), op.apply(x, bias=True)
    # Var z = C_b + C_W |x|²/n; Var (Wᵀδ) = C_W |δ|²/n; Cov(z_i, (Wᵀδ)_j) = C_W δ_i x_j / n
    cases = [
        (z[:, 0, 0] ** 2, 0.3 + 1.7 * 5 / 2),
        (z[:, 0, 0] * z[:, 0, 1], 0.0),
        (back[:, 0, 1] ** 2, 1.7 * 5.25 / 2),
        (z[:, 0, 2] * back[:, 0, 1], 1.7 * 2.0 * 2.0 / 2),
    ]
    for sample, expected in cases:
        error = sample.std() / len(sample) ** 0.5
        assert error < 0.05
        assert abs(sample.mean() - expected) < 4 * error


def test_cholesky_of_singular_matrices():
    x = Normals(0, 0).normal(4, 2, 6)
    x = torch.cat([x, x[:, :1] - 2 * x[:, 1:2]], 1)
    A = x @ x.mT
    L, inverse = batch_factor_inverse(A)
    torch.testing.assert_close(L @ L.mT, A, atol=1e-10, rtol=0)
    g = inverse.mT @ inverse
    torch.testing.assert_close(A @ g @ A, A, atol=1e-10, rtol=0)


def test_drawn():
    W, b = torch.randn(2, 3, 4), torch.randn(2, 3)
    x, d = torch.randn(2, 5, 4), torch.randn(2, 1, 3)
    op = DrawnMatrix(W, b)
    torch.testing.assert_close(
        op.apply(x, bias=True), torch.einsum("sij,skj->ski", W, x) + b[:, None]
    )
    torch.testing.assert_close(op.transpose(d), torch.einsum("sij,ski->skj", W, d))


def test_what_is_left_is_orthogonal_however_little_it_is():
    g = torch.Generator().manual_seed(0)
    Q = torch.linalg.qr(torch.randn(4, 30, 6, generator=g, dtype=torch.float64))[0].mT
    inside = torch.randn(4, 2, 6, generator=g, dtype=torch.float64) @ Q
    X = inside + 1e-9 * torch.randn(4, 2, 30, generator=g, dtype=torch.float64)
    left, share, floor = residue(X, Q)
    length = left.norm(dim=-1)
    assert bool((length**2 > floor).all())
    assert float(((left @ Q.mT).norm(dim=-1) / length).max()) < 1e-12
    torch.testing.assert_close(share @ Q + left, X, rtol=0, atol=1e-14)
