"""Gram matrices against the plain recursion, and their edge cases."""

import math

import numpy as np
import pytest
import torch

import kadanoff as kd
from kadanoff.errors import DataError, UsageError
from kadanoff.kernels import kernel
from tests.kernels.plain import recursion


def inputs(N=24, d=12, equal=False, seed=0):
    X = torch.randn(N, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return X / X.norm(dim=1, keepdim=True) * math.sqrt(d) if equal else X


def close(gram, expected, tolerance=1e-10):
    for found, wanted in zip(gram, expected):
        off = ~np.eye(len(wanted), dtype=bool)
        error = np.abs(found.numpy() - wanted) / np.abs(wanted).max()
        # NumPy's arccos loses half the digits at ρ = 1; the diagonal has a test of its own
        assert error[off].max() < tolerance
        assert error.max() < 1e-6


@pytest.mark.parametrize("depth", [2, 3, 10, 30])
@pytest.mark.parametrize("name", ["relu", "erf"])
@pytest.mark.parametrize("equal", [True, False])
def test_agrees_with_plain_recursion(name, depth, equal):
    X = inputs(equal=equal)
    arch = kd.MLP(12, [1] * (depth - 1), 1, name, C_b=0.0, C_W=2.0, lambda_b=0.7, lambda_W=1.3)
    gram = kernel(arch)(X)
    close(gram, recursion(name, X.numpy(), depth, 0.0, 2.0, 0.7, 1.3))
    assert gram.error < 1e-10
    if equal or name == "relu":
        assert gram.method == "composite"
    elif depth < 30:
        assert gram.method == "three variables"


@pytest.mark.parametrize("name", ["tanh", "gelu"])
@pytest.mark.parametrize("equal", [True, False])
def test_agrees_with_plain_quadrature(name, equal):
    X = inputs(N=7, equal=equal) * 0.5
    arch = kd.MLP(12, [1] * 3, 1, name, C_b=0.1, C_W=1.2)
    gram = kernel(arch)(X)
    close(gram, recursion(name, X.numpy(), 4, 0.1, 1.2))
    # a wrong map is noticed at run time and replaced by the recursion: it must not come to that
    assert gram.method == ("composite" if equal else "three variables")


@pytest.mark.parametrize("name", ["relu", "erf"])
def test_per_layer_constants_and_biases(name):
    X, depth = inputs(), 5
    rng = np.random.default_rng(3)
    C_b, C_W, l_b, l_W = rng.uniform(0.1, 1.5, (4, depth))
    arch = kd.MLP(12, [1] * 4, 1, name, C_b=list(C_b), C_W=list(C_W), lambda_b=list(l_b),
                  lambda_W=list(l_W))  # fmt: skip
    close(kernel(arch)(X), recursion(name, X.numpy(), depth, C_b, C_W, l_b, l_W))


@pytest.mark.parametrize("name", ["relu", "erf"])
@pytest.mark.parametrize("equal", [True, False])
def test_residual(name, equal):
    X = inputs(equal=equal)
    arch = kd.Residual(12, 8, 4, 1, name, gamma=0.8, C_b=0.0, C_W=0.7)
    C_W = np.array(arch.C_W)
    expected = recursion(name, X.numpy(), arch.L, arch.C_b, C_W, arch.lambda_b, arch.lambda_W, 0.8)
    assert arch.gamma == (0.0, *([0.8] * (arch.L - 2)), 0.0)
    close(kernel(arch)(X), expected)


def test_two_layer_blocks_follow_flow():
    X = inputs(N=8)
    arch = kd.Residual(12, 8, 3, 1, "erf", gamma=0.8, C_b=0.1, C_W=0.7, block="two_layer", hidden=5)
    flow = kd.flow(arch, X)
    close(kernel(arch)(X), (flow.K[-1].numpy(), flow.Theta[-1].numpy()))


@pytest.mark.parametrize("accuracy", [1e-8, 1e-10, 1e-12])
@pytest.mark.parametrize("method", ["composite", "layers"])
def test_correlations_one_and_minus_one(method, accuracy):
    x = inputs(N=1, equal=True)
    X = torch.cat([x, x, -x, x])
    depth, arch = 6, kd.MLP(12, [1] * 5, 1, "relu", C_W=2.0)
    k = kernel(arch, method=method, accuracy=accuracy)
    K, Theta = k(X)
    # criticality: K = K_1 = 2 and Theta grows by λ_b + λ_W K_1/2 a layer: exact at ρ = 1, whatever
    # the accuracy of the interpolant
    assert float((K[:2, :2] - 2).abs().max()) < 1e-14
    assert float((Theta[:2, :2] - 2 * depth).abs().max()) < 1e-13
    # ρ = −1 is an end of the interpolation, which is as good as was asked for, and no better
    expected = recursion("relu", X.numpy(), depth, 0.0, 2.0)
    assert abs(K[0, 2] - expected[0][0, 2]) < accuracy * 2
    assert abs(Theta[0, 2] - expected[1][0, 2]) < accuracy * 2 * depth
    cross = k(X[:2], X[1:])
    assert torch.allclose(cross.ntk, Theta[:2, 1:], rtol=1e-14)


@pytest.mark.parametrize("method", ["composite", "layers"])
def test_nearly_coincident_inputs_keep_their_distance(method):
    x = inputs(N=1, equal=True)
    nudge = torch.zeros_like(x)
    nudge[0, 0], nudge[0, 1] = x[0, 1], -x[0, 0]
    arch = kd.MLP(12, [1], 1, "relu", C_W=2.0)
    for size in (1e-4, 1e-5, 1e-6):
        X = torch.cat([x, x * math.sqrt(1 - size**2) + nudge * size])
        X = X / X.norm(dim=1, keepdim=True) * math.sqrt(12)
        _, Theta = kernel(arch, accuracy=1e-12, method=method)(X)
        d = X[0] - X[1]
        psi = 2 * math.asin(0.5 * float(d.norm()) / math.sqrt(12))
        # depth 2: Θ = 1 + ss + 2 dd Θ_1 with Θ_1 = 1 + cos ψ
        ss = (math.sin(psi) + (math.pi - psi) * math.cos(psi)) / math.pi
        expected = 1 + ss + (math.pi - psi) / math.pi * (1 + math.cos(psi))
        # ρ = 1 − ψ²/2 is rounded to ε/2, which moves the angle by ε/(2ψ) and Θ by as much
        rounding = torch.finfo(torch.float64).eps / (2 * psi)
        assert abs(float(Theta[0, 1]) - expected) < (1e-12 + rounding) * expected
        # the distance is seen at all: Θ at ψ = 0 is further away than that
        assert abs(4 - expected) > 20 * (1e-12 + rounding)


@pytest.mark.parametrize("name", ["relu", "tanh"])
@pytest.mark.parametrize("equal", [True, False])
def test_float32_in_float32_out_with_accurate_maps(name, equal):
    X = inputs(N=300, d=40, equal=equal)
    X[7] = X[3] + 1e-3 * X[5]
    X = X.float()
    arch = kd.MLP(40, [1] * 9, 1, name, C_W=2.0 if name == "relu" else 1.0)
    low = kernel(arch)(X)
    high = kernel(arch, method="layers" if name == "relu" else "auto")(X.double())
    for a, b in zip(low, high):
        assert a.dtype == torch.float32
        assert float((a.double() - b).abs().max() / b.abs().max()) < 2e-6


def test_rectangular_and_single_names():
    X, Y = inputs(N=300), inputs(N=270, seed=5)
    k = kernel(kd.MLP(12, [1, 1], 1, "relu", C_W=2.0, C_b=0.2))
    whole = k(torch.cat([X, Y]))
    assert torch.allclose(k(X, Y, get="ntk"), whole.ntk[:300, 300:], rtol=1e-11)
    assert torch.equal(k(X, Y, get="nngp"), k(X, Y, get=("nngp",)).nngp)
    assert torch.allclose(k.diagonal(X, "ntk"), k(X).ntk.diagonal())


def test_many_norms_are_interpolated_to_rounding():
    X = inputs(N=150) * torch.linspace(0.2, 2.0, 150).double()[:, None]
    k = kernel(kd.MLP(12, [1] * 4, 1, "tanh", C_b=0.1, C_W=1.3))
    found = k.diagonal(X)
    # few at once are computed one by one
    for i in range(0, 150, 50):
        for a, b in zip(found, k.diagonal(X[i : i + 50])):
            assert float((a[i : i + 50] - b).abs().max()) < 1e-12 * float(a.max())


@pytest.mark.parametrize("name, C_W", [("erf", 1.2), ("gelu", 1.9), ("relu", 2.0)])
def test_unequal_norms_up_to_full_correlation(name, C_W):
    X = inputs(N=30)
    X[10:20] = X[:10] * torch.linspace(0.6, 1.4, 10).double()[:, None]
    X[20:] = -X[:10] * 1.1 + 1e-3 * X[20:]
    arch = kd.MLP(12, [1] * 6, 1, name, C_W=C_W, lambda_b=0.4)
    compiled, layered = kernel(arch)(X), kernel(arch, method="layers")(X)
    assert compiled.method == ("composite" if name == "relu" else "three variables")
    for a, b in zip(compiled, layered):
        assert float((a - b).abs().max()) < 1e-10 * float(b.abs().max())


@pytest.mark.parametrize("close", [False, True])
def test_kinks_with_biases_and_unequal_norms(close):
    X = inputs(N=80, d=60)
    if close:
        X[40:] = X[:40] * 1.01 + 1e-3 * X[40:]
    arch = kd.MLP(60, [1] * 7, 1, "relu", C_b=0.2, C_W=1.7, lambda_b=0.4)
    compiled, layered = kernel(arch)(X), kernel(arch, method="layers")(X)
    assert compiled.method == "three variables"
    for a, b in zip(compiled, layered):
        assert float((a - b).abs().max()) < 1e-10 * float(b.abs().max())


def test_user_callable_and_elu_against_flow():
    X = inputs(N=5, equal=True)
    for act in (lambda z: z * torch.sigmoid(z), lambda z: torch.sin(z) + 0.5 * z):
        arch = kd.MLP(12, [1, 1], 1, act, C_b=0.1, C_W=1.1)
        flow = kd.flow(arch, X)
        close(kernel(arch)(X), (flow.K[-1].numpy(), flow.Theta[-1].numpy()))


def test_agrees_with_wide_finite_networks():
    X = inputs(N=4, d=6)
    arch = kd.MLP(6, [1500], 1, "relu", C_W=2.0, C_b=0.3)
    g = torch.Generator().manual_seed(0)
    draws = []
    for _ in range(60):
        (W1, b1), _ = arch.draw(g)
        h = torch.relu(X @ W1.T + b1)
        draws.append(0.3 + 2.0 * h @ h.T / 1500)
    draws = torch.stack(draws)
    stderr = draws.std(0) / math.sqrt(60)
    assert float(stderr.max()) < 0.01 * float(draws.mean(0).max())
    assert float(((kernel(arch)(X).nngp - draws.mean(0)) / stderr).abs().max()) < 4


def test_deep_chaotic_network_falls_back_to_layers():
    X = inputs(N=10, equal=True)
    arch = kd.MLP(12, [1] * 24, 1, "erf", C_W=8.0)
    gram = kernel(arch)(X)
    close(gram, recursion("erf", X.numpy(), 25, 0.0, 8.0), 1e-8)


def test_zero_input():
    X = inputs(N=4)
    X[1] = 0
    gram = kernel(kd.MLP(12, [1], 1, "relu", C_W=2.0))(X)
    assert float(gram.nngp[1].abs().max()) == 0
    assert torch.isfinite(gram.ntk).all()


@pytest.mark.parametrize(
    "bad, words",
    [
        (torch.ones(3, 12, dtype=torch.int64), "int64"),
        (torch.ones(3, 12).half(), "float16"),
        (torch.ones(0, 12), "N >= 1"),
        (torch.ones(3, 11), "n_0"),
        (torch.full((3, 12), float("nan")), "NaN"),
    ],
)
def test_bad_inputs_are_refused(bad, words):
    with pytest.raises(DataError, match=words):
        kernel(kd.MLP(12, [1], 1, "relu"))(bad)


def test_bad_calls_are_refused():
    k = kernel(kd.MLP(12, [1], 1, "tanh"))
    with pytest.raises(UsageError, match="get"):
        k(inputs(), get="ntks")
    with pytest.raises(DataError, match="float32"):
        k(inputs(), inputs().float())
    with pytest.raises(UsageError, match="one norm"):
        kernel(kd.MLP(12, [1], 1, "tanh"), method="composite")(inputs())
