"""Orthogonal matrices known by their action answer as drawn ones do."""

import pytest
import torch
from scipy.stats import ks_2samp

from kadanoff.ensembles.haar import Haar
from kadanoff.ensembles.normals import Normals
from kadanoff.ensembles.trunk import Map, draw_matrix

SHAPES = [(7, 5), (6, 6), (5, 7)]


def implicit(n_out, n_in, S=3, C_b=0.3, seed=0):
    return Haar(S, n_out, n_in, 1.7, C_b, Normals(seed, 0))


@pytest.mark.parametrize("n_out,n_in", SHAPES)
def test_answers_belong_to_one_matrix(n_out, n_in):
    op, more = implicit(n_out, n_in), Normals(1, 0)
    x, y, d = more.normal(3, 2, n_in), more.normal(3, 1, n_in), more.normal(3, 3, n_out)
    Wx = op.apply(x)
    back = op.transpose(d)
    Wy = op.apply(y)
    for forward, vector in ((Wx, x), (Wy, y)):
        torch.testing.assert_close(forward @ d.mT, vector @ back.mT, atol=1e-12, rtol=0)
    again = op.apply(2 * x[:, :1] - 3 * y)
    torch.testing.assert_close(again, 2 * Wx[:, :1] - 3 * Wy, atol=1e-12, rtol=0)
    b = op.apply(x, bias=True) - Wx
    torch.testing.assert_close(b[:, 0], b[:, 1], atol=1e-12, rtol=0)
    assert b.abs().max() > 0.1


@pytest.mark.parametrize("n_out,n_in", SHAPES)
def test_asking_for_everything_gives_an_isometry(n_out, n_in):
    op = implicit(n_out, n_in, S=2)
    # half from either side, and more questions than there are directions
    d = Normals(4, 0).normal(2, 3, n_out)
    back = op.transpose(d)
    W = op.apply(torch.eye(n_in, dtype=torch.float64).expand(2, -1, -1)).mT
    torch.testing.assert_close(back, d @ W, atol=1e-11, rtol=0)
    product = W @ W.mT if n_out <= n_in else W.mT @ W
    scale = 1.7 * max(n_out, n_in) / n_in
    expected = scale * torch.eye(min(n_out, n_in), dtype=torch.float64).expand(2, -1, -1)
    torch.testing.assert_close(product, expected, atol=1e-11, rtol=0)
    torch.testing.assert_close(op.transpose(d), back, atol=1e-11, rtol=0)


def test_parallel_and_zero_questions():
    op = implicit(5, 4, C_b=0.0)
    x = Normals(2, 0).normal(3, 1, 4)
    answer = op.apply(torch.cat([x, 2 * x, 0 * x], 1))
    torch.testing.assert_close(answer[:, 1], 2 * answer[:, 0], atol=1e-12, rtol=0)
    assert (answer[:, 2] == 0).all()
    assert torch.isfinite(op.transpose(answer)).all()
    torch.testing.assert_close(op.transpose(answer[:, :1]), 1.7 * 5 / 4 * x, atol=1e-12, rtol=0)


@pytest.mark.parametrize("n_out,n_in", [(4, 3), (3, 3), (3, 4)])
@pytest.mark.parametrize("order", ["forward", "back"])
def test_joint_law_of_answers_is_that_of_drawn_matrices(n_out, n_in, order):
    S = 40_000
    more = Normals(6, 0)
    x, y = more.normal(2, 1, n_in).unbind()
    d = more.normal(1, n_out)

    def functionals(op):
        xs, ys, ds = (t.expand(S, *t.shape) for t in (x, y, d))
        if order == "forward":
            z, back, other = op.apply(xs, bias=True), op.transpose(ds), op.apply(ys)
        else:
            back, z, other = op.transpose(ds), op.apply(xs, bias=True), op.apply(ys)
        return torch.stack(
            [z[:, 0, 0], z[:, 0, 2], back[:, 0, 1], other[:, 0, 0], z[:, 0, 0] * other[:, 0, 1],
             back[:, 0, 0] * z[:, 0, 1], z[:, 0, 0] ** 2 * z[:, 0, 1] ** 2], 1,
        )  # fmt: skip

    m = Map(1, None, n_in, n_out, 0.3, 1.7, 0.0, 0.0)
    from kadanoff.ensembles.matrices import DrawnMatrix

    a = functionals(implicit(n_out, n_in, S, seed=11))
    b = functionals(DrawnMatrix(*draw_matrix(m, "orthogonal", S, Normals(12, 0))))
    for i in range(a.shape[1]):
        assert ks_2samp(a[:, i].numpy(), b[:, i].numpy()).pvalue > 1e-3, i
    products = [(t[:, :, None] * t[:, None]).flatten(1) for t in (a, b)]
    gap = products[0].mean(0) - products[1].mean(0)
    error = ((products[0].var(0) + products[1].var(0)) / S).sqrt()
    assert (gap.abs() < 4 * error).all()
    assert error[0] < 0.02 * products[1][:, 0].mean()
