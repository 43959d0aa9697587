"""Ensembles against what is known exactly, and against numbers computed elsewhere."""

import math

import pytest
import torch

import kadanoff as kd
from kadanoff.ensembles import scaling
from tests.known import assert_consistent

ONE = torch.ones(1, 4, dtype=torch.float64)


@pytest.mark.parametrize("name,C_W,nu", [("linear", 1.0, 2.0), ("relu", 2.0, 5.0)])
@pytest.mark.parametrize("method,networks", [("exact", 60_000), ("weights", 30_000)])
def test_scale_invariant_networks_to_all_orders(name, C_W, nu, method, networks):
    n, L = 24, 5
    arch = kd.MLP(4, [n] * (L - 1), 2, name, C_W=C_W)
    found = kd.ensemble(arch, ONE, networks, method, seed=5, observables=["V", "G1"])
    K2 = C_W**2
    exact = [n * ((1 + nu / n) ** l - 1) * K2 for l in range(1, L)]
    for l in range(1, L):
        value, error = found.V.value[l].squeeze(), found.V.stderr[l].squeeze()
        assert_consistent(exact[l - 1], value, error, relative_error=0.06)
        shift, noise = found.G1.value[l].squeeze(), found.G1.stderr[l].squeeze()
        assert abs(shift) <= 4 * noise + 1e-9
        assert noise < 0.2 * K2 * nu


def test_unequal_widths_to_all_orders():
    widths = [16, 40, 24]
    arch = kd.MLP(4, widths, 2, "relu", C_W=2.0)
    found = kd.ensemble(arch, ONE, 60_000, seed=1, observables=["V"])
    product = 1.0
    for l, n in enumerate(widths, 1):
        product *= 1 + 5 / n
        assert_consistent(
            n * (product - 1) * 4, found.V.value[l].squeeze(), found.V.stderr[l].squeeze(),
            relative_error=0.05,
        )  # fmt: skip


def test_small_tanh_network_against_the_all_orders_series():
    # n = 20, C_W = 1, C_b = 0, K1 = 1, layer 6: the series to third order, summed elsewhere
    arch = kd.MLP(4, [20] * 5, 1, "tanh", C_W=1.0)
    found = kd.ensemble(arch, ONE, 60_000, seed=2, observables=["K", "V"])
    assert_consistent(
        0.099493, found.K.value[-1].squeeze(), found.K.stderr[-1].squeeze(),
        relative_error=0.001, bias=2e-5,
    )  # fmt: skip
    assert_consistent(
        1.5614e-3 * 20, found.V.value[-1].squeeze(), found.V.stderr[-1].squeeze(),
        relative_error=0.01,
    )  # fmt: skip


def test_six_point_vertex_of_relu():
    # E g³ of one layer: 1 + 3c/n + s/n² with c = 5, s = 44, so κ₃ n² = 44 K³ at layer 2
    arch = kd.MLP(4, [20], 1, "relu", C_W=2.0)
    found = kd.ensemble(arch, ONE, 200_000, seed=3, observables=["U6"])
    assert_consistent(44 * 8, found.U6.value[1], found.U6.stderr[1], relative_error=0.06)


def test_skip_of_relu_feels_the_odd_vertex():
    # n → ∞: 2.25, 5.40, 9.19 with the three-point vertex; 2.25, 4.5, 6.75 without
    arch = kd.Residual(4, 48, 2, 2, "relu", gamma=math.sqrt(0.5), C_W=1.0)
    found = kd.ensemble(arch, ONE, 20_000, "weights", seed=1, observables=["V"])
    ratio = found.V.value.reshape(-1)
    error = found.V.stderr.reshape(-1)
    assert_consistent(2.25, ratio[1], error[1], relative_error=0.03)
    # the 1/n² drift at n = 48 is below V/(nK²) of the value
    assert_consistent(5.40, ratio[2], error[2], relative_error=0.03, bias=5.4 * 2.25 / 48)
    assert abs(ratio[2] - 4.5) > 8 * error[2]


def test_orthogonal_tanh_is_bounded_in_depth():
    arch = kd.MLP(32, [32] * 5, 32, "tanh", C_W=1.0, init="orthogonal")
    X = torch.ones(1, 32, dtype=torch.float64)
    found = kd.ensemble(arch, X, 3000, "weights", seed=1, observables=["K", "V"])
    ratio = (found.V.value.reshape(-1) / found.K.value.reshape(-1) ** 2)[1:]
    assert (found.V.stderr.reshape(-1) / found.K.value.reshape(-1) ** 2)[1:].max() < 0.02
    expected = -2 * 32 / 34
    assert (ratio - expected).abs().max() < 0.25
    assert ratio.std() < 0.15


GOLDEN = {  # layer 4 of tanh, leading order; component -> value
    ("V", 0, 0, 0, 0): 0.14855781, ("V", 0, 1, 0, 1): 0.20850368,
    ("A", 0, 0, 0, 0): 0.56327850, ("A", 0, 1, 0, 1): 0.39777841,
    ("B", 0, 0, 0, 0): 2.92106352, ("B", 0, 1, 1, 0): 1.20577257,
    ("D", 0, 0, 0, 0): -0.25790607, ("D", 1, 0, 0, 0): -0.19449298,
    ("F", 0, 0, 0, 0): 0.25992768, ("F", 0, 0, 1, 0): 0.15512378,
    ("P", 0, 0, 0, 0): -1.08600979, ("P", 1, 0, 0, 0): -0.23122893,
    ("Q", 0, 0, 0, 0): -0.49591166, ("Q", 0, 1, 0, 1): 0.34646811,
    ("R", 0, 0, 0, 0): -9.20345705, ("S", 0, 0, 0, 0): 5.09919480,
    ("T", 0, 0, 0, 0): 1.21254066, ("U", 0, 0, 0, 0): 1.77874378,
    ("G1", 0, 0): -0.04563993,
}  # fmt: skip


@pytest.mark.slow
def test_golden_numbers_of_two_inputs_by_extrapolation():
    metric = torch.tensor([[1, 0.4], [0.4, 0.7]], dtype=torch.float64)
    X = torch.linalg.cholesky((metric - 0.2) / 1.3) * 2**0.5
    arch = kd.MLP(2, [32] * 3, 1, "tanh", C_b=0.2, C_W=1.3, lambda_b=0.5, lambda_W=0.8)
    one = {"layers": [4], "seed": 11}
    widths = [36, 72, 144]
    limits = scaling(
        arch, X, widths, [4000, 8000, 8000], observables=["V", "A", "B", "D", "F", "G1"], rows=8,
        degree=1, **one,
    )  # fmt: skip
    more = scaling(arch, X, widths, [500, 1000, 1000], observables=[*"PQRSTU"], degree=1, **one)
    for (name, *component), expected in GOLDEN.items():
        source = more if name in "PQRSTU" else limits
        m = source.limit[name]
        at = (3, *component)
        scale = float(m.value[3].abs().max())
        rest = float(source.remainder[name][at])
        assert abs(float(m.value[at]) - expected) < 4 * float(m.stderr[at]) + rest, name
        assert rest < 0.02 * scale, (name, rest / scale)
        tight = 0.1 if name in ("P", "Q", "R", "S", "T", "U") else 0.02
        assert float(m.stderr[at]) < tight * scale, (name, float(m.stderr[at]) / scale)
