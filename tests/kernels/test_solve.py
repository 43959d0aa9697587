"""Solvers, storage and adapters."""

import errno
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch

import kadanoff as kd
from kadanoff.errors import AnalysisError, ConvergenceError, DataError, StorageError, UsageError
from kadanoff.kernels import kernel, sklearn_kernel, solve, stream
from tests.needs import needs


@pytest.fixture(scope="module")
def problem():
    g = torch.Generator().manual_seed(0)
    X = torch.randn(300, 10, dtype=torch.float64, generator=g)
    y = torch.randn(300, 2, dtype=torch.float64, generator=g)
    return kernel(kd.MLP(10, [1, 1], 1, "relu", C_W=2.0)), X, y


@pytest.mark.parametrize("method", ["cholesky", "pcg", "auto"])
def test_solves_to_float64_accuracy(problem, method):
    k, X, y = problem
    K = k(X, get="ntk")
    expected = torch.linalg.solve(K + 0.1 * torch.eye(300), y)
    found = solve(K, y, 0.1, method, tolerance=1e-12, rank=100)
    assert torch.allclose(found.alpha, expected, rtol=1e-8, atol=1e-9)
    assert found.residual < 1e-11
    single = solve(K, y[:, 0], 0.1, method, tolerance=1e-12, rank=100)
    assert torch.allclose(single.alpha, found.alpha[:, 0], rtol=1e-7, atol=1e-8)


def test_preconditioner_saves_iterations(problem):
    k, X, y = problem
    K = k(X, get="ntk")
    plain, helped = (solve(K, y, 1e-2, "pcg", rank=r).iterations for r in (2, 200))
    assert helped < plain / 2


def test_float32_matrix(problem):
    k, X, y = problem
    K = k(X.float(), get="ntk")
    for method in ("cholesky", "pcg"):
        found = solve(K, y, 0.1, method)
        r = y - K.double() @ found.alpha - 0.1 * found.alpha
        assert float(r.norm() / y.norm()) < 1e-7


def test_eigenpro_on_a_kernel(problem):
    k, X, y = problem
    exact = solve(k, y, 1.0, "cholesky", X=X)
    found = solve(k, y, 1.0, "eigenpro", X=X, tolerance=1e-4, rank=300, iterations=400)
    assert torch.allclose(found.alpha, exact.alpha, atol=2e-3)


def test_kernel_streams_to_disk_when_memory_is_short(problem, tmp_path):
    k, X, y = problem
    found = solve(k, y, 0.1, X=X, memory=300_000, path=tmp_path)
    assert found.method == "pcg"
    assert torch.allclose(found.alpha, solve(k, y, 0.1, X=X).alpha, atol=1e-5)
    assert not list(tmp_path.iterdir())


def test_singular_matrices_are_explained(problem):
    k, X, y = problem
    linear = kernel(kd.MLP(10, [], 1, "relu"))
    with pytest.raises(AnalysisError, match="singular"):
        solve(linear(X, get="nngp"), y)
    twice = torch.cat([X[:20], X[3:4]])
    with pytest.raises(AnalysisError, match=r"conflicting labels \(points 3 and 20\)"):
        solve(k(twice, get="ntk"), torch.arange(21.0))
    assert solve(k(twice, get="ntk"), torch.arange(21.0), 1e-3).residual < 1e-9


def test_bad_input(problem):
    k, X, y = problem
    K = k(X, get="ntk")
    with pytest.raises(DataError, match="N >= 1"):
        solve(torch.zeros(0, 0), torch.zeros(0))
    with pytest.raises(DataError, match="int64"):
        solve(torch.ones(3, 3, dtype=torch.int64), torch.ones(3))
    with pytest.raises(DataError, match="300 points"):
        solve(K, y[:5])
    with pytest.raises(DataError, match="NaN"):
        solve(K, y * float("nan"))
    with pytest.raises(DataError, match="tensor"):
        solve(K, "labels")
    with pytest.raises(DataError, match="symmetric"):
        solve(torch.triu(K), y)
    with pytest.raises(DataError, match="no kernel"):
        solve(-K, y)
    with pytest.raises(UsageError, match="regulariser"):
        solve(K, y, -1.0)
    with pytest.raises(UsageError, match="X="):
        solve(k, y)
    with pytest.raises(ConvergenceError, match="iterations"):
        solve(K, y, 1e-6, "pcg", rank=2, iterations=3)


def test_nothing_fits_states_the_bytes(problem, monkeypatch):
    k, _, _ = problem
    from kadanoff.kernels import solvers

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(AnalysisError, match="4,000,000,000,000"):
        solvers._choose(k, None, 1_000_000, 4, 10**9, None)


def test_stream_equals_memory_and_resumes(problem, tmp_path):
    k, X, _ = problem
    expected = k(X, get="ntk").numpy()
    path, seen = tmp_path / "gram.npy", []

    def stop(done, total, **info):
        seen.append((done, total))
        if done >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stream(k, X, path, tile=64, progress=stop)
    seen.clear()
    found = stream(k, X, path, tile=64, progress=lambda d, t, **i: seen.append((d, t, i)))
    assert seen[0] == (3, 15, {"resumed": True})
    assert seen[-1][:2] == (15, 15)
    assert np.allclose(found, expected, rtol=1e-11)
    with pytest.raises(StorageError, match="another kernel"):
        stream(k, X + 1, path, tile=64)


@pytest.mark.slow
def test_stream_survives_kill(tmp_path):
    script = tmp_path / "run.py"
    script.write_text(
        textwrap.dedent("""
        import sys, time, torch, kadanoff as kd
        from kadanoff.kernels import kernel, stream
        X = torch.randn(600, 5, generator=torch.Generator().manual_seed(0)).double()
        slow = lambda *a, **k: time.sleep(float(sys.argv[2]))
        k = kernel(kd.MLP(5, [1], 1, "relu"))
        stream(k, X, sys.argv[1], tile=50, progress=slow)
        """)
    )
    path = tmp_path / "gram.npy"
    journal = tmp_path / "gram.npy.journal"
    run = subprocess.Popen([sys.executable, script, path, "0.3"])
    deadline = time.time() + 90
    while not (journal.exists() and journal.read_text().count("\n") >= 2):
        assert time.time() < deadline
        time.sleep(0.05)
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    kept = journal.read_text().count("\n")
    assert kept < 12
    X = torch.randn(600, 5, generator=torch.Generator().manual_seed(0)).double()
    k, first = kernel(kd.MLP(5, [1], 1, "relu")), []
    found = stream(k, X, path, tile=50, progress=lambda d, t, **i: first.append(d))
    assert first[0] == kept * (kept + 1) // 2
    assert np.allclose(found, k(X, get="ntk").numpy(), rtol=1e-11)


def test_full_disk_is_a_storage_error(problem, tmp_path, monkeypatch):
    k, X, _ = problem

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageError, match="720,000 bytes"):
        stream(k, X, tmp_path / "gram.npy")
    assert not list(tmp_path.iterdir())


def test_scikit_learn(problem):
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.kernel_ridge import KernelRidge

    k, X, y = problem
    X, y = X[:60].numpy(), y[:60, 0].numpy()
    K = k(X, get="nngp").numpy()
    ours = GaussianProcessRegressor(sklearn_kernel(k), alpha=0.1, optimizer=None).fit(X, y)
    alpha = np.linalg.solve(K + 0.1 * np.eye(60), y)
    assert np.allclose(ours.alpha_, alpha)
    ridge = KernelRidge(alpha=0.1, kernel=sklearn_kernel(k)).fit(X[:8], y[:8])
    assert np.allclose(ridge.dual_coef_, np.linalg.solve(K[:8, :8] + 0.1 * np.eye(8), y[:8]))


def test_gpytorch(problem):
    gpytorch = needs("gpytorch", "gp")
    from kadanoff.kernels import gpytorch_kernel

    k, X, _ = problem
    covariance = gpytorch.kernels.ScaleKernel(gpytorch_kernel(k))
    covariance.outputscale = 2.0
    scale = covariance.outputscale.double()
    with torch.no_grad():
        dense = covariance.double()(X[:5], X[:7]).to_dense()
        assert torch.allclose(dense, scale * k(X[:5], X[:7], get="nngp"), rtol=1e-6)
        diagonal = covariance(X[:5], diag=True)
    assert torch.allclose(diagonal, scale * k.diagonal(X[:5], "nngp"), rtol=1e-6)
