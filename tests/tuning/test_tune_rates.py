"""``tune`` with an optimiser: critical weights and one learning rate per group, ready for torch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import kadanoff as kd
from kadanoff.errors import UsageError


def build(width: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Linear(20, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 5)
    )


@pytest.mark.parametrize(("name", "cls"), [("sgd", torch.optim.SGD), ("adamw", torch.optim.AdamW)])
def test_groups_train_a_model(name: str, cls) -> None:
    model = build(96)
    x = torch.randn(64, 20, generator=torch.Generator().manual_seed(1))
    y = torch.arange(64) % 5
    groups = kd.tune(model, x, optimizer=name)
    held = [p for group in groups for p in group["params"]]
    assert len(held) == len({id(p) for p in held}) == len(list(model.parameters()))
    assert kd.describe(model).C_W[1] == pytest.approx(1.0, rel=0.05)
    optimiser = cls(groups)
    losses = []
    for _ in range(60):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_hidden_rates_fall_with_width_under_adam() -> None:
    x = torch.randn(32, 20, generator=torch.Generator().manual_seed(1))

    def hidden_rate(width: int) -> float:
        model = build(width)
        groups = kd.tune(model, x, optimizer="adamw")
        weight = model[2].weight
        return next(g["lr"] for g in groups if any(p is weight for p in g["params"]))

    # maximal-update scaling: a hidden matrix's Adam rate goes as 1/n
    assert hidden_rate(64) / hidden_rate(512) == pytest.approx(8, rel=0.35)


def test_unknown_optimiser() -> None:
    with pytest.raises(UsageError, match="adagrad"):
        kd.tune(build(8), torch.randn(4, 20), optimizer="adagrad")
