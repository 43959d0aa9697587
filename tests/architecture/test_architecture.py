"""Descriptions: conventions, drawing weights, reading models, and errors that name the culprit."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import kstest
from torch import nn

import kadanoff as kd
from kadanoff.errors import DataError, DescribeError, UsageError


def test_layers_are_numbered_as_in_the_book() -> None:
    arch = kd.MLP(64, [256] * 20, 10, "tanh", C_W=2.0)
    assert arch.L == 21
    assert arch.n == (64, *[256] * 20, 10)
    assert len(arch.activations) == 20
    assert arch.C_W == (2.0,) * 21
    assert arch.ratio == pytest.approx(20 / 256)


# E w⁴ / (E w²)² of an entry; a column or row of an orthogonal matrix has a fixed length instead
KURTOSIS = {"gaussian": 3.0, "uniform": 1.8}


@pytest.mark.parametrize("init", ["gaussian", "uniform", "orthogonal"])
def test_drawn_weights_have_the_stated_law(init: str) -> None:
    arch = kd.MLP(300, [400, 200], 100, "relu", C_W=[1.0, 2.0, 0.5], C_b=0.3, init=init)
    maps = arch.draw(torch.Generator().manual_seed(0))
    for layer, (W, b) in enumerate(maps):
        fan_in = arch.n[layer]
        assert W.shape == (arch.n[layer + 1], fan_in)
        scaled = W * (fan_in / arch.C_W[layer]) ** 0.5
        if init == "orthogonal":
            # the mean square has no spread at all
            assert float(scaled.square().mean()) == pytest.approx(1.0, rel=1e-12)
            continue
        mean_square, fourth = float(scaled.square().mean()), float((scaled**4).mean())
        kurtosis, count = KURTOSIS[init], scaled.numel()
        # Var w² = (kurtosis − 1), and for w⁴ the eighth moment: 105 and 81/9
        assert abs(mean_square - 1) < 4 * ((kurtosis - 1) / count) ** 0.5
        eighth = 105.0 if init == "gaussian" else 9.0
        assert abs(fourth - kurtosis) < 4 * ((eighth - kurtosis**2) / count) ** 0.5
        assert abs(float(scaled.mean())) < 4 / count**0.5
        assert b.shape == (arch.n[layer + 1],)


def test_drawn_biases_are_normal() -> None:
    arch = kd.MLP(1, [20_000], 1, C_b=0.3)
    (_, biases), _ = arch.draw(torch.Generator().manual_seed(2))
    unit = biases / 0.3**0.5
    assert kstest(unit.numpy(), "norm").pvalue > 1e-3
    assert abs(float(unit.square().mean()) - 1) < 4 * (2 / len(unit)) ** 0.5  # 4 %


def test_orthogonal_matrices_are_orthogonal() -> None:
    W, _ = kd.MLP(50, [], 80, "linear", init="orthogonal", C_W=1.0).draw(
        torch.Generator().manual_seed(1)
    )[0]
    gram = W.T @ W
    assert torch.allclose(gram, gram[0, 0] * torch.eye(50, dtype=torch.float64), atol=1e-12)


def test_describe_reads_nested_sequentials() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Flatten(),
        nn.Linear(64, 512),
        nn.Tanh(),
        nn.Dropout(0.1),
        nn.Sequential(nn.Linear(512, 300, bias=False), nn.Identity(), nn.GELU()),
        nn.Linear(300, 10),
        nn.LogSoftmax(-1),
    ).eval()
    arch = kd.describe(model)
    assert arch.n == (64, 512, 300, 10)
    assert [a.name for a in arch.activations] == ["tanh", "gelu"]
    assert pytest.approx((1 / 3,) * 3, rel=0.05) == arch.C_W
    assert arch.C_b[1] == 0
    assert arch.C_b[0] == pytest.approx(1 / (3 * 64), rel=0.2)
    assert arch.head == "LogSoftmax"
    default = kd.describe(model, from_weights=False)
    assert default.C_W == (1 / 3,) * 3
    assert default.C_b == (1 / 192, 0.0, 1 / 900)


def test_describe_names_every_offender() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.LayerNorm(3), nn.Sequential(nn.Conv1d(3, 3, 1)))
    with pytest.raises(DescribeError, match=r"1 \(LayerNorm\); 2\.0 \(Conv1d\)"):
        kd.describe(model)
    with pytest.raises(DescribeError, match="training mode"):
        kd.describe(nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.5), nn.Linear(3, 1)))
    with pytest.raises(DescribeError, match="no Linear"):
        kd.describe(nn.Sequential(nn.Flatten()))
    with pytest.raises(DescribeError, match="Softmax inside"):
        kd.describe(nn.Sequential(nn.Linear(3, 3), nn.Softmax(-1), nn.Linear(3, 1)))
    broken = nn.Sequential(nn.Linear(3, 3))
    with torch.no_grad():
        broken[0].weight[0, 0] = float("nan")
    with pytest.raises(DataError, match=r"0\.weight holds NaN"):
        kd.describe(broken)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"widths": [0]}, "width must be a whole number >= 1, got 0"),
        ({"C_W": -1.0}, "C_W must be finite and >= 0, got -1"),
        ({"C_b": [0.0, 0.0]}, "C_b has 2 entries for 3 layers"),
        ({"activation": ["relu"]}, "1 activations were given for 2 hidden layers"),
        ({"init": "xavier"}, "init must be one of"),
    ],
)
def test_bad_descriptions_are_explained(change: dict, message: str) -> None:
    arguments = {"n_in": 3, "widths": [4, 4], "n_out": 1, "activation": "relu"} | change
    with pytest.raises(UsageError, match=message):
        kd.MLP(**arguments)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (torch.zeros(0, 3), "shape"),
        (torch.zeros(2, 4), r"\(N, 3\)"),
        (torch.full((2, 3), float("nan")), "6 NaN"),
        (torch.zeros(2, 3, dtype=torch.complex64), "complex"),
    ],
)
def test_bad_inputs_are_explained(X, message: str) -> None:
    with pytest.raises(DataError, match=message):
        kd.MLP(3, [4], 1).metric(X)
