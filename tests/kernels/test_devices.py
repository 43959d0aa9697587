"""Kernels and solvers on a chosen device; what needs a GPU skips without one."""

import pytest
import torch

import kadanoff as kd
from kadanoff.errors import DataError, UsageError
from kadanoff.kernels import (
    Act,
    Conv,
    ConvNet,
    Dense,
    GlobalAvgPool,
    empirical_ntk,
    kernel,
    solve,
    stream,
    tiles,
)

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

ARCHES = {
    "composite": (kd.MLP(12, [1] * 4, 1, "relu", C_W=2.0), False),
    "composite, equal": (kd.MLP(12, [1] * 4, 1, "tanh", C_W=1.2, C_b=0.1), True),
    "three variables": (kd.MLP(12, [1] * 2, 1, "erf", C_W=1.2, C_b=0.1), False),
    "layers": (kd.MLP(12, [1] * 2, 1, "relu", C_W=1.2, C_b=0.1), False),
}


def inputs(N=60, equal=False):
    X = torch.randn(N, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return X / X.norm(dim=1, keepdim=True) if equal else X


@needs_cuda
@pytest.mark.parametrize("name", ARCHES)
def test_cuda_equals_cpu(name):
    arch, equal = ARCHES[name]
    X = inputs(60, equal)
    cpu, cuda = kernel(arch)(X), kernel(arch, device="cuda")(X)
    assert cuda.method == cpu.method
    for a, b in zip(cpu, cuda):
        assert b.device.type == "cuda"
        assert float((a - b.cpu()).abs().max()) < 1e-11 * float(a.abs().max())
    low = kernel(arch)(X.float().cuda(), get="ntk")
    assert low.dtype == torch.float32
    assert low.device.type == "cuda"
    assert float((low.cpu() - cpu.ntk).abs().max()) < 3e-6 * float(cpu.ntk.abs().max())


@needs_cuda
@pytest.mark.parametrize("method", ["cholesky", "pcg", "eigenpro"])
def test_solves_on_cuda(method, tmp_path):
    X, k = inputs(300), kernel(ARCHES["composite"][0])
    y = torch.randn(300, 2, generator=torch.Generator().manual_seed(1)).double()
    expected = solve(k, y, 1.0, X=X).alpha
    more = {"tolerance": 1e-5, "rank": 300} if method == "eigenpro" else {}
    found = solve(k, y, 1.0, method, X=X, device="cuda", **more).alpha
    assert found.device.type == "cuda"
    assert float((found.cpu() - expected).abs().max()) < 2e-3 * float(expected.abs().max())
    stored = stream(kernel(k.arch, device="cuda"), X, tmp_path / "gram.npy", tile=100)
    assert float((torch.from_numpy(stored[:]) - k(X, get="ntk")).abs().max()) < 1e-9


@needs_cuda
def test_images_and_models_on_cuda():
    X = torch.randn(3, 2, 6, 6, generator=torch.Generator().manual_seed(0)).double()
    net = ConvNet([Conv(3, C_W=2.0), Act("relu"), GlobalAvgPool(), Dense()])
    a, b = kernel(net)(X).ntk, kernel(net, device="cuda")(X).ntk
    assert float((a - b.cpu()).abs().max()) < 1e-11
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 3), torch.nn.ReLU(), torch.nn.Flatten(),
                                    torch.nn.Linear(48, 2)).double()  # fmt: skip
    a = empirical_ntk(model, X, None, "full")
    b = empirical_ntk(model.cuda(), X.cuda(), None, "full")
    assert float((a - b.cpu()).abs().max()) < 1e-11 * float(a.abs().max())


@pytest.mark.parametrize("name", ARCHES)
def test_blocks_of_any_shape_give_the_same(name, monkeypatch):
    # the GPU takes other blocks than the CPU: the result must not know
    arch, equal = ARCHES[name]
    X = inputs(300, equal)
    Y = X[:50] * (1 if equal else 0.9)
    whole, cross = kernel(arch)(X), kernel(arch)(X, Y)
    monkeypatch.setattr(tiles, "_ROWS", 70)
    monkeypatch.setattr(tiles, "_SPAN", 90)
    monkeypatch.setattr(tiles, "_BLOCK", 1 << 20)
    for before, after in ((whole, kernel(arch)(X)), (cross, kernel(arch)(X, Y))):
        for a, b in zip(before, after):
            assert float((a - b).abs().max()) < 1e-10 * float(a.abs().max())
    assert torch.equal(whole.ntk, whole.ntk.T)


def test_device_is_checked():
    arch, _ = ARCHES["composite"]
    with pytest.raises(UsageError, match="'gpu'"):
        kernel(arch, device="gpu")
    with pytest.raises(UsageError, match="CUDA devices"):
        kernel(arch, device="cuda:99")
    with pytest.raises(UsageError, match="CUDA devices"):
        solve(torch.eye(3), torch.ones(3), device="cuda:99")
    with pytest.raises(DataError, match="meta"):
        kernel(arch)(inputs(), inputs().to("meta"))
    assert kernel(arch, device="cpu")(inputs(), get="ntk").device.type == "cpu"
