"""A module's kernel as a function of data: what is built on kernels, and what it refuses."""

import numpy as np
import pytest
import torch
from torch import nn

import kadanoff as kd
from kadanoff.errors import AnalysisError, DataError, UsageError
from kadanoff.kernels import gpytorch_kernel, sklearn_kernel, solve, stream
from kadanoff.program import module_kernel
from tests.needs import needs


def net(n=16, outputs=1):
    return nn.Sequential(nn.Linear(4, n), nn.ReLU(), nn.Linear(n, outputs))


def convnet():
    return nn.Sequential(nn.Conv2d(2, 8, 3), nn.Tanh(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                         nn.Linear(8, 1))  # fmt: skip


def data(N=12, *shape, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(N, *(shape or (4,)), dtype=torch.float64, generator=g)


def described(model):
    """The same network as a description, with the rates of SGD on the module."""
    b = 1 / 12
    return kd.MLP(4, [16], 1, "relu", C_b=[b, b / 4], C_W=[1 / 3, 1 / 3],
                  lambda_b=[1, 1], lambda_W=[4, 16])  # fmt: skip


def test_a_module_is_the_network_it_describes():
    X = data()
    gram, wanted = kd.kernel(net())(X), kd.kernel(described(net()))(X)
    for name in ("nngp", "ntk"):
        assert torch.allclose(getattr(gram, name), getattr(wanted, name), rtol=1e-9)


def test_blocks_diagonal_and_order_agree():
    kernel, X = kd.kernel(convnet()), data(5, 2, 6, 6)
    whole = kernel(X)
    assert torch.allclose(kernel(X[3:], X[:3]).ntk, whole.ntk[3:, :3], rtol=1e-9)
    assert torch.allclose(kernel.diagonal(X, "ntk"), whole.ntk.diagonal())
    ntk, nngp = kernel(X, get=("ntk", "nngp"))
    assert torch.equal(ntk, whole.ntk)
    assert torch.equal(nngp, whole.nngp)
    assert kernel(X.float(), get="nngp").dtype == torch.float32


def test_a_model_is_traced_once(monkeypatch):
    calls, inner = [], module_kernel.trace
    monkeypatch.setattr(module_kernel, "trace", lambda *a, **k: calls.append(1) or inner(*a, **k))
    kernel = kd.kernel(net())
    kernel(data(3)), kernel(data(9, seed=1)), kernel(data(2), data(4))
    assert len(calls) == 1


def test_predictions_solutions_and_files(tmp_path):
    X, y = data(12), torch.sin(data(12)[:, 0])
    kernel = kd.kernel(net())
    found = kd.predict(kernel, X[:8], y[:8], X[8:])
    theta = kernel(X, get="ntk")
    wanted = theta[8:, :8] @ torch.linalg.solve(theta[:8, :8], y[:8, None])
    assert torch.allclose(found.mean, wanted, rtol=1e-6)
    again = kd.predict(net(), X[:8], y[:8], X[8:], method="bayes", noise=0.1)
    assert torch.isfinite(again.mean).all()
    alpha = solve(kernel, y, 0.1, X=X).alpha
    assert torch.allclose(theta @ alpha + 0.1 * alpha, y, rtol=1e-6)
    rough = solve(kernel, y, 0.1, "eigenpro", X=X, tolerance=1e-5).alpha
    assert torch.allclose(rough, alpha, rtol=1e-2, atol=1e-2)
    kept = stream(kernel, X, tmp_path / "gram.npy", tile=5)
    assert np.allclose(kept, theta.numpy(), rtol=1e-10)
    # the same file of another module is refused
    with pytest.raises(Exception, match="belongs to another"):
        stream(kd.kernel(net(32)), X, tmp_path / "gram.npy", tile=5)


def test_scikit_learn():
    from sklearn.gaussian_process import GaussianProcessRegressor

    X, y = data(10, 2 * 36).numpy(), np.sin(np.arange(10))
    kernel = kd.kernel(convnet(), input_shape=(2, 6, 6))
    model = GaussianProcessRegressor(sklearn_kernel(kernel), alpha=1e-2, optimizer=None).fit(X, y)
    K = kernel(torch.tensor(X), get="nngp").numpy()
    wanted = K @ np.linalg.solve(K + 1e-2 * np.eye(10), y)
    assert np.allclose(model.predict(X), wanted, rtol=1e-6)


def test_gpytorch():
    needs("gpytorch", "gp")
    X = data(6)
    kernel = kd.kernel(net())
    found = gpytorch_kernel(kernel, "ntk")(X).to_dense()
    assert torch.allclose(found, kernel(X, get="ntk"))


def test_rates_and_parametrisations():
    X, model = data(4), net()
    standard = kd.kernel(model)(X, get="ntk")
    ntk = kd.kernel(model, parametrization="ntk")(X, get="ntk")
    # only the last weights learn: Θ = K without the bias, over the variance of the weights
    rates = {name: 0.0 for name, _ in model.named_parameters()} | {"2.weight": 1.0}
    last = kd.kernel(model, rates=rates)(X)
    law = kd.kernel(model).laws
    K = last.nngp - law["2.bias"].std ** 2
    assert torch.allclose(last.ntk * law["2.weight"].std ** 2, K, rtol=1e-9)
    assert float((standard / ntk).min()) > 1
    frozen = net()
    frozen[0].weight.requires_grad_(False)
    assert bool((kd.kernel(frozen).diagonal(X, "ntk") < standard.diagonal()).all())


@pytest.mark.parametrize(
    "X, words",
    [
        (torch.zeros(0, 4), "N >= 1"),
        (torch.ones(3, 4, dtype=torch.complex64), "real numbers"),
        (torch.ones(3, 4, dtype=torch.bool), "real numbers"),
        (torch.ones(3, 4, dtype=torch.int64), "floating-point"),
        (torch.full((3, 4), float("nan")), "NaN"),
        ("text", "tensor"),
    ],
)
def test_inputs_that_are_no_inputs(X, words):
    with pytest.raises(DataError, match=words):
        kd.kernel(net())(X)


def test_zero_vectors():
    X = torch.cat([torch.zeros(1, 4, dtype=torch.float64), data(3)])
    for model in (net(), nn.Sequential(nn.Linear(4, 8, bias=False), nn.GELU(), nn.Linear(8, 1))):
        gram = kd.kernel(model)(X)
        assert torch.isfinite(gram.ntk).all()
    assert float(gram.nngp[0, 0]) == pytest.approx(kd.kernel(model).laws["2.bias"].std ** 2)


class Odd(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.one, self.two, self.function = nn.Linear(4, 8), nn.Linear(8, 1), function

    def forward(self, x):
        return self.two(self.function(self.one(x)))


def test_an_operation_outside_the_list_is_named_with_its_path():
    model = Odd(lambda h: torch.linalg.svdvals(h[:, :, None] * h[:, None])[:, :8])
    kernel = kd.kernel(model)
    gram = kernel(data(3))
    # it is sampled as a whole, and the result says where it could not go on
    assert gram.method in ("sampled", "pooled")
    assert any("svd" in why for why in gram.sampled)


def test_a_given_matrix_over_positions():
    A = torch.tensor([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5]], dtype=torch.float64)
    X = data(4, 3, 4)

    class Graph(nn.Module):
        def __init__(self, before):
            super().__init__()
            self.one, self.two, self.before = nn.Linear(4, 8), nn.Linear(16, 1), before

        def forward(self, x):
            # linear maps of channels and of positions commute
            h = self.one(A.to(x) @ x) if self.before else A.to(x) @ self.one(x)
            return self.two(torch.relu(h).flatten(1))

    one, two = (kd.kernel(Graph(before))(X) for before in (True, False))
    assert two.sampled == ()
    assert torch.allclose(one.nngp, two.nngp, rtol=1e-6)


def test_transposed_convolutions_are_pooled():
    model = nn.Sequential(nn.Conv1d(2, 32, 3), nn.ReLU(), nn.ConvTranspose1d(32, 32, 2), nn.ReLU(),
                          nn.Flatten(), nn.Linear(32 * 5, 1))  # fmt: skip
    assert kd.kernel(model)(data(2, 2, 6)).method == "pooled"


def test_models_that_fail_or_have_positions():
    with pytest.raises(UsageError, match="The model failed"):
        kd.kernel(net())(data(3, 5))
    tokens = nn.Sequential(nn.Embedding(9, 8), nn.Linear(8, 2))
    X = torch.randint(0, 9, (3, 5))
    with pytest.raises(UsageError, match="5 positions"):
        kd.kernel(tokens)(X)
    assert kd.kernel(tokens, output=lambda y: y.mean(1))(X).ntk.shape == (3, 3)
    with pytest.raises(AnalysisError, match="does not depend"):
        kd.kernel(net(), output=lambda y: torch.zeros(3, 1))(data(3))


def test_options_that_are_none():
    with pytest.raises(UsageError, match="parametrization"):
        kd.kernel(net(), parametrization="mup")
    with pytest.raises(UsageError, match="no parameter"):
        kd.kernel(net(), rates={"3.weight": 1.0})
    with pytest.raises(UsageError, match="finite and >= 0"):
        kd.kernel(net(), rates={"0.weight": -1.0})
    with pytest.raises(UsageError, match="order 1/n"):
        kd.predict(net(), data(3), data(3)[:, 0], data(2), order=1)
    with pytest.raises(DataError, match="shapes"):
        kd.kernel(convnet())(data(3, 2, 6, 6), data(3, 2, 5, 5))


def test_matrices_that_do_not_fit(monkeypatch):
    monkeypatch.setattr("kadanoff.devices.free_memory", lambda: 1000)
    with pytest.raises(DataError, match=r"2,304 bytes.*stream"):
        kd.kernel(net())(data(12))
