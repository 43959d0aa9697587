"""Descriptions: conventions, drawing weights, reading models, and errors that name the culprit."""

from __future__ import annotations

import pytest
import torch
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


@pytest.mark.parametrize("init", ["gaussian", "uniform", "orthogonal"])
def test_drawn_weights_have_the_stated_variance(init: str) -> None:
    arch = kd.MLP(300, [400, 200], 100, "relu", C_W=[1.0, 2.0, 0.5], C_b=0.3, init=init)
    for layer, (W, b) in enumerate(arch.draw(torch.Generator().manual_seed(0))):
        fan_in = arch.n[layer]
        assert W.shape == (arch.n[layer + 1], fan_in)
        assert float(W.square().mean()) * fan_in == pytest.approx(arch.C_W[layer], rel=0.05)
        assert float(b.square().mean()) == pytest.approx(0.3, rel=0.5)


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
