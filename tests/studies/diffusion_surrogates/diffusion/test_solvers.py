"""Exact solvers against sparse factorisation, closed forms, and finite differences of gradients."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.sparse as sparse
import scipy.sparse.linalg
import torch

from kadanoff.errors import ConvergenceError, DataError, UsageError
from kadanoff.studies.diffusion_surrogates.diffusion import (
    FixedValues2D,
    ScreenedPoisson2D,
    Sources,
    Uptake2D,
    VariableDiffusion2D,
    conjugate_gradients,
    draw_sources,
    relax,
)
from kadanoff.studies.diffusion_surrogates.diffusion.poisson import laplacian

WALLS = ("dirichlet", "neumann", "periodic")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def line(M: int, wall: str) -> sparse.csr_matrix:
    T = sparse.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(M, M)).tolil()
    if wall == "neumann":
        T[0, 0] = T[-1, -1] = 1.0
    if wall == "periodic":
        T[0, -1] = T[-1, 0] = -1.0
    return T.tocsr()


@pytest.mark.parametrize("method", ["dense", "fast"])
@pytest.mark.parametrize("walls", list(itertools.product(WALLS, repeat=2)))
def test_matches_sparse_lu(walls: tuple[str, str], method: str) -> None:
    for H, W in ((7, 10), (12, 9)):
        solver = ScreenedPoisson2D((H, W), D=0.7, gamma=0.03, walls=walls, method=method)
        A = sparse.kron(line(H, walls[0]), sparse.eye(W)) * 0.7
        A = A + sparse.kron(sparse.eye(H), line(W, walls[1])) * 0.7 + 0.03 * sparse.eye(H * W)
        alpha = normal(2, H, W)
        expected = scipy.sparse.linalg.splu(A.tocsc()).solve(alpha.view(2, -1).numpy().T).T
        u = solver(alpha)
        assert np.abs(u.reshape(2, -1).numpy() - expected).max() < 1e-12 * np.abs(expected).max()
        applied = (A @ alpha.view(2, -1).numpy().T).T
        assert np.abs(solver.apply(alpha).reshape(2, -1).numpy() - applied).max() < 1e-13
        low = float(np.linalg.eigvalsh(A.toarray())[0])
        assert float(solver.smallest_eigenvalue()) == pytest.approx(low, rel=1e-10)
        inverse = np.linalg.inv(A.toarray())
        assert solver.inverse_norm() == pytest.approx(np.abs(inverse).sum(1).max(), rel=1e-10)


def test_single_precision_and_batches() -> None:
    solver = ScreenedPoisson2D(100)
    alpha = normal(3, 2, 100, 100)
    exact = solver(alpha)
    single = solver(alpha.float())
    assert single.dtype == torch.float32
    assert float((single - exact).norm() / exact.norm()) < 3e-6
    assert torch.equal(solver(alpha[1, 1]), exact[1, 1]) or torch.allclose(
        solver(alpha[1, 1]), exact[1, 1], rtol=1e-12
    )


def test_gradients_of_the_direct_solver() -> None:
    alpha = normal(2, 5, 6).requires_grad_()
    D = torch.tensor([0.5, 2.0], dtype=torch.float64, requires_grad=True)
    gamma = torch.tensor([0.1, 0.3], dtype=torch.float64, requires_grad=True)
    for method in ("dense", "fast"):
        for walls in (("dirichlet", "neumann"), ("periodic", "dirichlet")):

            def field(a, d, g, method=method, walls=walls):
                return ScreenedPoisson2D((5, 6), d, g, walls, method)(a)

            assert torch.autograd.gradcheck(field, (alpha, D, gamma))


def test_evolution_is_exact() -> None:
    solver = ScreenedPoisson2D((8, 9), D=1.0, gamma=0.1, walls=("neumann", "dirichlet"))
    u, alpha = normal(8, 9), normal(8, 9, seed=1)
    once = solver.evolve(u, alpha, 3.0)
    twice = solver.evolve(solver.evolve(u, alpha, 1.0), alpha, 2.0)
    assert torch.allclose(once, twice, atol=1e-12)
    h = 1e-5
    slope = (solver.evolve(u, alpha, h) - u) / h
    assert torch.allclose(slope, solver.residual(u, alpha), atol=1e-3)
    assert torch.allclose(solver.evolve(u, alpha, 1e4), solver(alpha), atol=1e-12)


@pytest.mark.parametrize("method", ["chebyshev", "euler"])
def test_time_stepping_reaches_the_same_state(method: str) -> None:
    solver = ScreenedPoisson2D(20, gamma=0.02)
    alpha = normal(20, 20).abs()
    end = relax(solver, alpha, t_end=600.0, method=method)
    exact = solver(alpha)
    assert float((end.u - exact).norm() / exact.norm()) < 1e-5
    # transients too: half way through the slowest decay
    part = relax(solver, alpha, t_end=5.0, method=method, steps=400)
    exact = solver.evolve(alpha, alpha, 5.0)
    error = float((part.u - exact).norm() / exact.norm())
    assert error < (1e-5 if method == "chebyshev" else 1e-2)


def test_chebyshev_is_of_second_order() -> None:
    solver = ScreenedPoisson2D(12, gamma=0.02)
    # a smooth start: rough modes are damped, not followed
    alpha = solver(solver(normal(12, 12)))
    exact = solver.evolve(alpha, alpha, 8.0)
    errors = [float((relax(solver, alpha, t_end=8.0, steps=k).u - exact).norm()) for k in (40, 80)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2.0, abs=0.2)


def dense_variable(D: torch.Tensor, gamma: float, walls: tuple[str, str]) -> torch.Tensor:
    H, W = D.shape
    A = torch.zeros(H * W, H * W, dtype=torch.float64)
    for i in range(H):
        for j in range(W):
            k = i * W + j
            A[k, k] += gamma
            for wall, (di, dj) in (
                (walls[0], (1, 0)), (walls[0], (-1, 0)),
                (walls[1], (0, 1)), (walls[1], (0, -1)),
            ):  # fmt: skip
                ii, jj = i + di, j + dj
                outside = not (0 <= ii < H and 0 <= jj < W)
                if outside and wall == "neumann":
                    continue
                if outside and wall == "dirichlet":
                    A[k, k] += D[i, j]
                    continue
                ii, jj = ii % H, jj % W
                d = 2 * D[i, j] * D[ii, jj] / (D[i, j] + D[ii, jj])
                A[k, k] += d
                A[k, ii * W + jj] -= d
    return A


@pytest.mark.parametrize("walls", [("dirichlet", "neumann"), ("periodic", "dirichlet")])
def test_variable_diffusion(walls: tuple[str, str]) -> None:
    D = torch.exp(1.5 * normal(6, 7))
    solver = VariableDiffusion2D(D, 0.05, walls, tolerance=1e-12)
    alpha = normal(3, 6, 7, seed=1)
    A = dense_variable(D, 0.05, walls)
    expected = torch.linalg.solve(A, alpha.view(3, -1).mT).mT.view(3, 6, 7)
    assert torch.allclose(solver(alpha), expected, rtol=1e-9, atol=1e-9)
    assert solver.last is not None
    assert solver.last.iterations > 3

    def field(a, d):
        return VariableDiffusion2D(d, 0.05, walls, tolerance=1e-13)(a)

    inputs = (normal(5, 4).requires_grad_(), torch.exp(normal(5, 4, seed=2)).requires_grad_())
    assert torch.autograd.gradcheck(field, inputs, atol=1e-5)


def test_preconditioner_earns_its_cost() -> None:
    solver = ScreenedPoisson2D(64)
    D = torch.exp(0.3 * solver(normal(64, 64)))
    variable = VariableDiffusion2D(D, 1 / 400)
    alpha = draw_sources(1, torch.Generator().manual_seed(0), size=64, dtype=torch.float64)[0]
    plain = conjugate_gradients(variable.apply, alpha, tolerance=1e-8)
    assert float(D.max() / D.min()) > 30
    assert variable.solve(alpha).iterations < plain.iterations / 4


def test_variable_diffusion_with_constant_coefficient_is_one_iteration() -> None:
    solver = VariableDiffusion2D(torch.full((9, 9), 2.0, dtype=torch.float64), 0.1)
    alpha = normal(9, 9)
    u = solver(alpha)
    assert solver.last is not None
    assert solver.last.iterations == 1
    assert torch.allclose(u, ScreenedPoisson2D(9, 2.0, 0.1)(alpha), atol=1e-9)


def discs(size: int, count: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    return draw_sources(count, generator, size=size, radius=3)[0] > 0


def test_fixed_values() -> None:
    solver = ScreenedPoisson2D(24, gamma=0.01)
    alpha, mask = normal(2, 24, 24), discs(24, 2)
    one = FixedValues2D(solver, mask[0])
    assert one.factor is not None
    u = one(alpha, 1.5)
    assert torch.allclose(u[:, mask[0]], torch.tensor(1.5, dtype=torch.float64), atol=1e-10)
    off = solver.residual(u, alpha)[:, ~mask[0]]
    assert float(off.abs().max()) < 1e-10
    iterated = FixedValues2D(solver, mask[0], "cg", tolerance=1e-12)(alpha, 1.5)
    assert torch.allclose(u, iterated, atol=1e-8)
    # a mask each
    both = FixedValues2D(solver, mask, tolerance=1e-12)(alpha, 1.5)
    assert torch.allclose(both[0], u[0], atol=1e-8)
    assert torch.allclose(both[1][mask[1]], torch.tensor(1.5, dtype=torch.float64), atol=1e-8)


@pytest.mark.parametrize("method", ["factor", "cg"])
def test_gradients_through_fixed_values(method: str) -> None:
    mask = torch.zeros(6, 5, dtype=torch.bool)
    mask[2:4, 1:3] = True
    D = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)

    def field(a, v, d):
        return FixedValues2D(ScreenedPoisson2D((6, 5), d, 0.1), mask, method, tolerance=1e-13)(a, v)

    inputs = (normal(6, 5).requires_grad_(), normal(6, 5, seed=1).requires_grad_(), D)
    assert torch.autograd.gradcheck(field, inputs, atol=1e-5)


def test_uptake_solves_its_equation() -> None:
    solver = ScreenedPoisson2D(20, 1.0, 1e-3, "neumann")
    mask = discs(20, 3)
    V = torch.tensor([0.01, 0.05, 0.2], dtype=torch.float64)
    uptake = Uptake2D(solver, V, 0.1, mask, 1.0, tolerance=1e-10)
    found = uptake.solve(torch.zeros(3, 20, 20, dtype=torch.float64))
    u = found.u
    assert float(u.min()) >= 0
    assert float(u.max()) <= 1 + 1e-12
    eaten = V[:, None, None] * u / (0.1 + u)
    balance = (1e-3 * u - laplacian(u, ("neumann", "neumann")) + eaten)[~mask]
    assert float(balance.abs().max()) < 1e-9
    # more uptake, less field
    assert torch.all(uptake.solve(torch.zeros(20, 20, dtype=torch.float64)).u >= -1e-12)
    warm = uptake.solve(torch.zeros(3, 20, 20, dtype=torch.float64), u0=u)
    assert warm.newton == 0


def test_uptake_without_saturation_is_linear() -> None:
    # K much larger than u: V u/(K + u) = (V/K) u, one more decay rate
    alpha = normal(10, 10).abs()
    u = Uptake2D(ScreenedPoisson2D(10, 1.0, 0.1), 3e8, 1e9).solve(alpha).u
    assert torch.allclose(u, ScreenedPoisson2D(10, 1.0, 0.4)(alpha), rtol=1e-6)


def test_gradients_through_uptake() -> None:
    mask = torch.zeros(5, 5, dtype=torch.bool)
    mask[1, 1] = mask[3, 2] = True

    def field(a, v, k):
        solver = ScreenedPoisson2D(5, 1.0, 0.05)
        return Uptake2D(solver, v, k, mask, 1.0, tolerance=1e-12)(a)

    a = (0.1 * normal(2, 5, 5).abs()).requires_grad_()
    v = torch.tensor([0.3, 0.1], dtype=torch.float64, requires_grad=True)
    k = torch.tensor([0.2, 0.4], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(field, (a, v, k), atol=1e-5)


def test_sources_follow_the_generator() -> None:
    alpha, centres = draw_sources(1200, torch.Generator().manual_seed(0), dtype=torch.float64)
    assert alpha.shape == (1200, 100, 100)
    assert float(alpha.amax((-2, -1)).min()) == 1.0
    assert int(centres.min()) == 5
    assert int(centres.max()) == 95
    # uniform centres: mean 50, variance (91² − 1)/12
    mean = centres.double().mean((0, 1))
    sigma = math.sqrt((91**2 - 1) / 12 / 2400)
    assert torch.all((mean - 50).abs() < 4 * sigma * math.sqrt(2))
    # discs that do not touch: a full one of strength 1, the earlier one weaker and uniform
    apart = (centres[:, 0] - centres[:, 1]).abs().amax(-1) > 11
    inside = ((centres > 5) & (centres <= 95)).all(-1).all(-1)
    some = alpha[apart & inside]
    k = torch.arange(1, 101)
    full = int(((k[:, None] - 50) ** 2 + (k[None, :] - 50) ** 2 <= 25).sum())
    assert torch.all((some == 1).sum((-2, -1)) == full)
    weak = torch.where(some < 1, some, 0.0).amax((-2, -1))
    n = len(weak)
    assert n > 700
    assert abs(float(weak.mean()) - 0.5) < 4 / math.sqrt(12 * n)
    assert abs(float(weak.var()) - 1 / 12) < 4 * math.sqrt(1 / 180 / n)


def test_pairs_solve_the_equation_and_repeat() -> None:
    pairs = Sources(size=40, radius=3, seed=4)
    alpha, y = pairs.batch(7, 3)
    again = pairs.batch(7, 3)
    assert torch.equal(alpha, again[0])
    assert not torch.equal(alpha, pairs.batch(8, 3)[0])
    assert float(y.max()) == 1.0
    source = pairs.solver().apply(y.double())
    scale = (source * alpha).sum((-2, -1), keepdim=True) / (source**2).sum((-2, -1), keepdim=True)
    assert float((scale * source - alpha).abs().max()) < 1e-4
    finite = Sources(size=20, radius=2, pairs=6)
    epoch = torch.cat([finite.alpha(k, 3) for k in (0, 1)])
    other = torch.cat([finite.alpha(k, 3) for k in (2, 3)])
    key = [{tuple(a.flatten().tolist()) for a in part} for part in (epoch, other)]
    assert key[0] == key[1]
    assert len(key[0]) == 6
    assert not torch.equal(epoch, other)


def test_what_is_wrong_is_said() -> None:
    with pytest.raises(UsageError, match="grows for ever"):
        ScreenedPoisson2D(8, gamma=0.0, walls="neumann")
    with pytest.raises(UsageError, match="Unknown wall 'open'"):
        ScreenedPoisson2D(8, walls="open")
    with pytest.raises(DataError, match=r"\(3, 9\)"):
        ScreenedPoisson2D(8)(torch.zeros(3, 9))
    solver = ScreenedPoisson2D(30)
    with pytest.raises(ConvergenceError, match="relative residual"):
        conjugate_gradients(solver.apply, normal(30, 30), max_iterations=3)
    with pytest.raises(DataError, match="bool"):
        FixedValues2D(ScreenedPoisson2D(8), torch.zeros(8, 8))
    with pytest.raises(UsageError, match="do not fit"):
        draw_sources(1, torch.Generator(), size=8, radius=5)


@pytest.mark.gpu
def test_on_a_gpu() -> None:
    solver = ScreenedPoisson2D(100).cuda()
    alpha = normal(4, 100, 100).cuda()
    assert torch.allclose(solver(alpha).cpu(), ScreenedPoisson2D(100)(alpha.cpu()), atol=1e-10)
