"""Nets as strangers write them are accused of nothing, fresh or trained; their habits are known."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.fault_cases.strangers import STRANGERS, train
from kadanoff.diagnosis import diagnose
from kadanoff.errors import AnalysisError

BY_NAME = {net.name: net for net in STRANGERS}
QUICK = (
    "gpt that returns logits and loss",
    "post norm encoder with sinusoids",
    "bidirectional tagger with padding",
    "vector quantised autoencoder",
    "affine coupling flow",
    "diffusion unet with time",
    "two towers with a temperature",
    "student and a frozen teacher",
    "triplets",
    "graph attention",
    "physics informed",
    "ratings from factors",
    "new head on a trained body",
    "weights from another net",
)


def alarms(model: nn.Module, data, **options) -> list[str]:
    found = diagnose(model, data, **({"try_steps": 0} | options))
    return [f.sentence for f in found.findings if f.severity != "note"]


@pytest.mark.parametrize("name", QUICK)
def test_nothing_is_said_against_them(name):
    net = BY_NAME[name]
    model, data, loss = net.make()
    assert alarms(model, data, loss=loss) == []
    assert alarms(model, data, loss=loss, try_steps=None) == []
    train(net, model, data, loss, 60)
    assert alarms(model, data, loss=loss) == []


def test_a_fresh_net_in_evaluation_mode_is_told_so_and_no_more():
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for i in range(16):
        layers += [nn.Conv2d(3 if i == 0 else 8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 2)).eval()
    found = diagnose(model, torch.randn(8, 3, 8, 8), try_steps=0)
    assert found.exit_code == 0
    assert "evaluation-before-training" in {f.code for f in found.findings}
    # its signal dies in this mode, which stays to be read
    assert "ordered" in {f.code for f in found.findings}


class Masked(nn.Module):
    """Has a token for masked places that this call does not use."""

    def __init__(self, cut: bool = False) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.zeros(16))
        self.inp, self.out, self.cut = nn.Linear(4, 16), nn.Linear(16, 3), cut

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        h = self.inp(x)
        if mask is not None:
            h = torch.where(mask, h, self.token)
        return self.out((h + self.token).detach() if self.cut else h.relu())


def test_a_parameter_that_took_no_part_is_a_fact_and_a_detached_one_is_not():
    x, y = torch.randn(16, 4), torch.randint(0, 3, (16,))
    found = diagnose(Masked(), (x, y), try_steps=0)
    assert found.exit_code == 0
    assert [f.where for f in found.findings if f.code == "unused-parameters"] == [("token",)]
    cut = diagnose(Masked(cut=True), (x, y), try_steps=0)
    detached = next(f for f in cut.findings if f.code == "detached")
    assert "token" in detached.where


class Biased(nn.Module):
    """Attention with a bias by position eight times its scores, added to queries and scores."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.bias = nn.Parameter(8 * torch.randn(6, 6))
        self.shift = nn.Parameter(torch.randn(6, 16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        scores = (q + 9 * self.shift) @ k.mT / 4
        return x + self.out((scores + self.bias).softmax(-1) @ v)


def test_biases_of_scores_and_queries_are_no_streams():
    torch.manual_seed(0)
    model = nn.Sequential(Biased(), Biased())
    found = diagnose(model, torch.randn(8, 6, 16), try_steps=0)
    assert "drowned-summand" not in {f.code for f in found.findings}


class InPlace(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.a(x).sigmoid()
        out = h * 2
        h.add_(1)
        return out


def test_a_backward_pass_that_fails_is_said_so():
    with pytest.raises(AnalysisError, match="backward pass of InPlace") as caught:
        diagnose(InPlace(), torch.randn(4, 4))
    assert caught.value.exit_code == 3


def test_a_loss_of_zero_leaves_nothing_to_do():
    model = nn.Linear(3, 1)
    zero = diagnose(model, torch.randn(8, 3), loss=lambda z: torch.relu(z - 100).sum())
    assert zero.exit_code == 0
