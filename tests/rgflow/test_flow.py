"""Infinite width and order 1/n of plain networks: golden numbers, closed forms, symmetries."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch

import kadanoff as kd
from kadanoff.errors import DomainError, KadanoffError, UsageError
from kadanoff.gaussian import one
from kadanoff.rgflow import Flow, flow
from kadanoff.rgflow.observables import DIFFERENTIAL, INFINITE, RANK, TANGENT
from tests.rgflow.golden import TEXT, golden

SMOOTH_NAMES = ("G1", "V", "H1", "A", "B", "D", "F", "P", "Q", "R", "S", "T", "U")


def two_inputs(activation: str, L: int = 4):
    C_b, C_W = {"tanh": (0.2, 1.3), "relu": (0.1, 1.8)}[activation]
    K1 = torch.tensor([[1.0, 0.4], [0.4, 0.7]], dtype=torch.float64)
    X = torch.linalg.cholesky((K1 - C_b) / C_W * 2)
    arch = kd.MLP(2, [64] * (L - 1), 1, activation, C_b=C_b, C_W=C_W, lambda_b=0.5, lambda_W=0.8)
    return arch, X


@pytest.fixture(scope="module")
def tanh_flow():
    return flow(*two_inputs("tanh"), order=1)


@pytest.fixture(scope="module")
def relu_flow():
    return flow(*two_inputs("relu"), order=1)


@pytest.mark.parametrize("activation, layer", TEXT)
def test_golden_numbers(activation, layer, tanh_flow, relu_flow):
    f = tanh_flow if activation == "tanh" else relu_flow
    for name, slots, value in golden(activation, layer):
        assert float(getattr(f, name)[layer - 1][slots]) == pytest.approx(value, abs=1.1e-8), (
            name,
            slots,
        )


def test_stated_errors_are_small_and_cover_every_observable(tanh_flow):
    for name in SMOOTH_NAMES:
        assert tanh_flow.error[name].shape == getattr(tanh_flow, name).shape
        assert float(tanh_flow.error[name].max()) < 1e-9
    assert "lattice" in tanh_flow.strategy


@pytest.mark.parametrize("which", ["tanh", "relu"])
def test_symmetries(which, tanh_flow, relu_flow):
    f = tanh_flow if which == "tanh" else relu_flow
    same = {
        "V": ("bacd", "cdab"), "A": ("bacd", "cdab"), "D": ("bacd", "abdc"),
        "B": ("badc", "cdab"), "F": ("cdab",), "P": ("acbd",),
        "R": ("abdc",), "S": ("badc",), "T": ("dcba",), "U": ("cdab",),
    }  # fmt: skip
    for name, orders in same.items():
        value = getattr(f, name)
        if value is None:
            continue
        for order in orders:
            torch.testing.assert_close(
                value, torch.einsum(f"labcd->l{order}", value), rtol=0, atol=1e-9
            )


@pytest.mark.parametrize("which", ["tanh", "relu"])
def test_joint_covariance_of_metric_and_ntk_is_positive(which, tanh_flow, relu_flow):
    f = tanh_flow if which == "tanh" else relu_flow
    for l in range(4):
        V, D, A = (getattr(f, name)[l].reshape(4, 4) for name in "VDA")
        joint = torch.cat([torch.cat([V, D], 1), torch.cat([D.T, A], 1)])
        eigenvalues = torch.linalg.eigvalsh(joint)
        assert eigenvalues[0] > -1e-10 * eigenvalues[-1].clamp_min(1.0)


@pytest.mark.parametrize(
    "name, minus, plus",
    [("relu", 0.0, 1.0), ("linear", 1.0, 1.0), ("leaky_relu(0.3)", 0.3, 1.0), ("abs", -1.0, 1.0)],
)
def test_scale_invariant_closed_forms(name, minus, plus):
    act = kd.activation("leaky_relu", slope=0.3) if "leaky" in name else name
    A2, A4 = (minus**2 + plus**2) / 2, (minus**4 + plus**4) / 2
    K, lb, lw, L = 0.7, 0.5, 0.8, 7
    arch = kd.MLP(1, [50] * (L - 1), 1, act, C_W=1 / A2, lambda_b=lb, lambda_W=lw)
    X = torch.tensor([[math.sqrt(K * A2)]], dtype=torch.float64)
    f = flow(arch, X, order=1)
    # the first layer sees x itself, the others σ: its Θ is that of the closed form at λ_W x² = w
    w, beta = lw * A2 * K, A4 / A2**2
    c, alpha, nu = lb + w, beta - 1, 3 * beta - 1
    l = torch.arange(1, L + 1, dtype=torch.float64)
    expected = {
        "K": K + 0 * l,
        "Theta": c * l,
        "V": nu * (l - 1) * K**2,
        "B": beta * c**2 * (l - 1) * l * (2 * l - 1) / 6,
        "F": beta * K * c * l * (l - 1) / 2,
        "D": K * (nu * w + alpha * c) * l * (l - 1) / 2,
        "A": (nu * w**2 + 2 * alpha * w * c) * l * (l - 1) / 2
        + alpha * c**2 * (l - 1) * l * (2 * l - 1) / 6
        + w * (nu * w + alpha * c) * (l - 2) * (l - 1) * l / 3,
        "P": 0 * l,
        "Q": lw * A2 * beta * K * c * (l - 1) * l * (l + 1) / 6,
        "G1": 0 * l,
        "H1": 0 * l,
    }
    for name_, value in expected.items():
        got = getattr(f, name_).flatten()
        torch.testing.assert_close(got, value, rtol=1e-12, atol=2e-12, msg=name_)


def test_linear_network_has_no_curvature():
    arch = kd.MLP(2, [30] * 3, 1, "linear", C_b=0.2, C_W=1.1)
    f = flow(arch, torch.tensor([[1.0, 0.3], [-0.4, 0.8]]), order=1)
    # z is linear in x: the angle fluctuates through Wishart matrices alone
    K = f.K[1]
    q = f.K[0]
    wick = torch.einsum("ac,bd->abcd", q, q) + torch.einsum("ad,bc->abcd", q, q)
    torch.testing.assert_close(f.require("V")[1], 1.1**2 * wick, rtol=1e-11, atol=1e-11)
    assert float(f.require("G1").abs().max()) < 1e-12
    assert K.shape == (2, 2)


def test_all_derivatives_of_the_kernel_are_right_for_kinks():
    """J and the Hessian by finite differences of the closed-form kernel of ReLU."""
    from kadanoff.rgflow.averages import VERTEX, tables
    from kadanoff.rgflow.kernel import pairs

    act = kd.activation("relu")
    K = torch.tensor([[1.0, 0.4], [0.4, 0.7]], dtype=torch.float64)
    t = tables(act, K, VERTEX, 1e-10)[1][0]
    g = torch.Generator().manual_seed(0)
    X = torch.randn(2, 2, generator=g, dtype=torch.float64)
    X = X + X.T
    h = 1e-3
    for p in (0, 1):
        up, mid, down = (pairs(act, K + s * h * X, p, p).value for s in (1, 0, -1))
        first = t.J(p, X)
        torch.testing.assert_close(first, (up - down) / (2 * h), rtol=1e-4, atol=1e-6)
        second = t.hessian(p, torch.einsum("ab,cd->abcd", X, X))
        torch.testing.assert_close(
            second, (up - 2 * mid + down) / (2 * h * h), rtol=1e-3, atol=1e-5
        )


@pytest.mark.parametrize("name", ["tanh", "sin", "gelu", "swish"])
def test_derivatives_for_smooth_activations(name):
    from kadanoff.rgflow.averages import VERTEX, tables
    from kadanoff.rgflow.kernel import pairs

    act = kd.activation(name)
    K = torch.tensor([[1.0, 0.4], [0.4, 0.7]], dtype=torch.float64)
    t = tables(act, K, VERTEX, 1e-10)[1][0]
    X = torch.tensor([[0.3, -0.2], [-0.2, 0.5]], dtype=torch.float64)
    h = 1e-3
    for p in (0, 1):
        up, mid, down = (pairs(act, K + s * h * X, p, p).value for s in (1, 0, -1))
        first = t.J(p, X)
        torch.testing.assert_close(first, (up - down) / (2 * h), rtol=1e-4, atol=1e-6)
        second = t.hessian(p, torch.einsum("ab,cd->abcd", X, X))
        torch.testing.assert_close(
            second, (up - 2 * mid + down) / (2 * h * h), rtol=1e-3, atol=1e-5
        )


def test_one_input_equals_the_diagonal_of_many(tanh_flow):
    arch, X = two_inputs("tanh")
    alone = flow(arch, X[:1], order=1)
    for name in SMOOTH_NAMES:
        a, b = getattr(alone, name).flatten(), getattr(tanh_flow, name)
        torch.testing.assert_close(a, b.flatten(1)[:, 0], rtol=1e-10, atol=1e-12)


def test_three_inputs_contain_two_and_repeated_rows_cost_nothing(tanh_flow):
    arch, X = two_inputs("tanh")
    three = flow(arch, torch.cat([X, torch.tensor([[0.3, -0.8]]).double()]), order=1)
    twice = flow(arch, X[[0, 1, 0]], order=1)
    for name in SMOOTH_NAMES:
        cut = getattr(three, name)
        for axis in range(1, cut.ndim):
            cut = cut.narrow(axis, 0, 2)
        torch.testing.assert_close(cut, getattr(tanh_flow, name), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(
        twice.require("V")[:, 2, 2, 1, 0],
        tanh_flow.require("V")[:, 0, 0, 1, 0],
        rtol=1e-12,
        atol=1e-13,
    )


def test_five_inputs_agree_with_two_within_the_stated_error(tanh_flow):
    arch, X = two_inputs("tanh")
    g = torch.Generator().manual_seed(1)
    five = flow(arch, torch.cat([torch.randn(3, 2, generator=g).double(), X]), order=1)
    for name in SMOOTH_NAMES:
        value, error = getattr(five, name), five.error[name]
        for axis in range(1, value.ndim):
            value, error = value.narrow(axis, 3, 2), error.narrow(axis, 3, 2)
        off = (value - getattr(tanh_flow, name)).abs()
        assert bool((off <= error + 1e-9).all()), name
        assert float(five.error[name].max()) < 1e-6 * float(getattr(five, name).abs().max()), name


@pytest.mark.parametrize("name", ["tanh", "relu"])
def test_inputs_of_opposite_sign_and_parallel_inputs(name):
    arch = kd.MLP(2, [40] * 3, 1, name, C_W=1.5)
    x = torch.tensor([[1.0, 0.5]])
    f = flow(arch, torch.cat([x, 2 * x]), order=1)
    alone = flow(arch, 2 * x, order=1)
    torch.testing.assert_close(f.require("V")[:, 1, 1, 1, 1], alone.require("V").flatten())
    if name == "relu":
        # z(2x) = 2 z(x) exactly
        V, A = f.require("V"), f.require("A")
        torch.testing.assert_close(V[:, 0, 1, 0, 1], 4 * V[:, 0, 0, 0, 0])
        assert torch.isfinite(A).all()
    mirrored = flow(arch, torch.cat([x, -x]), order=1)
    assert torch.isfinite(mirrored.require("V")).all()


def test_unequal_widths_enter_as_ratios():
    """V/n is the covariance of the metric: doubling a width halves only what is born there."""
    X = torch.tensor([[0.9, 0.2], [-0.3, 1.0]])

    def cov(widths):
        return flow(kd.MLP(2, widths, 1, "tanh", C_W=1.2), X, order=1).require("V")[-1] / widths[-1]

    base, first, second = cov([60, 60]), cov([120, 60]), cov([60, 120])
    both = cov([120, 120])
    torch.testing.assert_close(base + both, first + second, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(both, base / 2, rtol=1e-10, atol=1e-12)


def test_rates_and_variances_per_layer():
    """Θ of a linear network by hand, every layer with its own constants."""
    Cb, CW = (0.1, 0.2, 0.3), (1.1, 0.9, 0.7)
    lb, lw = (0.5, 0.6, 0.7), (0.8, 0.3, 0.2)
    arch = kd.MLP(1, [20, 20], 1, "linear", C_b=Cb, C_W=CW, lambda_b=lb, lambda_W=lw)
    f = flow(arch, torch.tensor([[2.0]]))
    k, theta = Cb[0] + CW[0] * 4, lb[0] + lw[0] * 4
    for l in (1, 2):
        theta = lb[l] + lw[l] * k + CW[l] * theta
        k = Cb[l] + CW[l] * k
    assert float(f.K[-1, 0, 0]) == pytest.approx(k, rel=1e-13)
    assert float(f.Theta[-1, 0, 0]) == pytest.approx(theta, rel=1e-13)


def test_six_point_vertex_of_scale_invariant_networks():
    """E[Ĝ³] = K³ Π (1 + 15/n + 44/n²) for ReLU at C_W = 2 (exact), to order 1/n²."""
    L = 6
    f = flow(kd.MLP(1, [10] * (L - 1), 1, "relu", C_W=2.0), torch.tensor([[math.sqrt(0.5)]]), 1)
    n = 1e4  # cumulant from exact moments at large n
    for l in range(2, L + 1):
        p = l - 1
        m2 = math.expm1(p * math.log1p(5 / n))
        m3 = math.expm1(p * math.log1p(15 / n + 44 / n**2))
        kappa3 = m3 - 3 * m2
        assert float(f.require("U6")[l - 1]) == pytest.approx(kappa3 * n**2, rel=3e-2)
    # tanh, second layer: nothing carried, third cumulant of σ² itself
    f = flow(kd.MLP(1, [10, 10], 1, "tanh", C_W=1.4), torch.tensor([[1.0]]), 1)
    m = [float(one(lambda z, p=p: (1.4 * torch.tanh(z) ** 2) ** p, 1.4).value) for p in (1, 2, 3)]
    assert float(f.require("U6")[1]) == pytest.approx(m[2] - 3 * m[1] * m[0] + 2 * m[0] ** 3)


def test_kinks_leave_the_ddntk_undefined(relu_flow):
    assert relu_flow.R is None
    with pytest.raises(UsageError, match="delta function"):
        relu_flow.require("S")
    with pytest.raises(UsageError, match="No observable"):
        relu_flow.require("W")
    with pytest.raises(UsageError, match="order=1"):
        flow(*two_inputs("relu")).require("V")


@pytest.mark.parametrize(
    "X, message",
    [
        (torch.zeros(0, 2), "shape"),
        (torch.zeros(3, 5), "shape"),
        (torch.tensor([[1.0, float("nan")]]), "NaN"),
        (torch.zeros(2, 2, dtype=torch.complex64), "real"),
        ("nonsense", "tensor"),
    ],
)
def test_bad_inputs_are_explained(X, message):
    with pytest.raises(KadanoffError, match=message):
        flow(two_inputs("tanh")[0], X, order=1)


def test_bad_order_zero_inputs_and_overflow_are_explained():
    arch, X = two_inputs("tanh")
    with pytest.raises(UsageError, match="order"):
        flow(arch, X, order=2)
    with pytest.raises(DomainError, match="zero norm"):
        flow(kd.MLP(2, [8], 1, "relu"), torch.zeros(1, 2), order=1)
    with pytest.raises(DomainError):
        flow(kd.MLP(2, [8] * 400, 1, "relu", C_W=60.0), X)


@pytest.mark.parametrize("expanded", [False, True])
def test_many_inputs_agree_with_few_of_them(monkeypatch, expanded):
    """Components of four inputs are what a flow of those four gives, within the stated error."""
    if expanded:
        monkeypatch.setattr("kadanoff.gaussian.rules._SUBSETS", 8)
    arch = kd.MLP(6, [20, 30], 1, "gelu", C_W=1.4, C_b=0.1)
    X = torch.randn(9, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pick, steps = torch.tensor([0, 3, 7, 8]), []
    every = flow(arch, X, order=1, progress=lambda done, total: steps.append((done, total)))
    few = flow(arch, X[pick], order=1)
    assert ("expanded" in every.strategy) == expanded
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1][0] == steps[-1][1]
    assert every.names() == few.names()
    for name in few.names():
        if name in ("K", "Theta"):
            continue
        got, expected, error = every.require(name), few.require(name), every.error[name]
        for axis in range(1, got.ndim):
            got, error = got.index_select(axis, pick), error.index_select(axis, pick)
        scale = expected.flatten(1).abs().amax(1)
        bound = 7 * error.flatten(1) + 1e-8 * scale[:, None] + 1e-12
        assert ((got - expected).abs().flatten(1) <= bound).all(), name
        assert (error.flatten(1).amax(1) <= 1e-5 * scale)[-1].all(), name
        assert (error[1:] > 0).all(), name


def test_too_many_inputs_for_the_memory_are_refused():
    arch = kd.MLP(2, [64] * 4, 1, "sin")
    X = torch.randn(400, 2, generator=torch.Generator().manual_seed(0))
    with pytest.raises(UsageError, match=r"400 inputs.*[\d,]+ bytes"):
        flow(arch, X, order=1)


def test_networks_without_hidden_layers():
    f = flow(kd.MLP(2, [], 1), torch.eye(2), order=1)
    assert f.K.shape == (1, 2, 2)
    assert not f.require("V").any()


def test_every_observable_of_the_one_list_is_a_field():
    fields = {field.name for field in dataclasses.fields(Flow)}
    assert set(RANK) == fields & set(RANK)
    families = {*INFINITE, *TANGENT, *DIFFERENTIAL, "U6"}
    assert set(RANK) == families
