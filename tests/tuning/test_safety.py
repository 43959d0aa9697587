"""What ``tune`` must never do: touch what is frozen, trained, or right already."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from benchmarks import zoo
from kadanoff import tune
from kadanoff.tuning import groups_from, initialise
from kadanoff.tuning.parts import parameter_roles
from kadanoff.tuning.rates import CAP, parameter_groups


def values(model):
    return copy.deepcopy(model.state_dict())


def same(model, before):
    return all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


def mlp(*sizes, act=nn.Tanh):
    layers = []
    for a, b in itertools.pairwise(sizes):
        layers += [nn.Linear(a, b), act()]
    return nn.Sequential(*layers[:-1])


def batch(n=64, d=16, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def test_frozen_parameters_keep_every_bit():
    torch.manual_seed(0)
    model = mlp(16, 48, 48, 48, 3)
    for parameter in model[2].parameters():
        parameter.requires_grad_(False)
    before = values(model)
    groups = tune(model, batch(), "adamw")
    assert torch.equal(model[2].weight, before["2.weight"])
    assert torch.equal(model[2].bias, before["2.bias"])
    assert not torch.equal(model[4].weight, before["4.weight"])
    assert {id(p) for g in groups for p in g["params"]} == {
        id(p) for p in model.parameters() if p.requires_grad
    }
    assert [e.why for e in groups.entries if e.name == "2.weight"] == ["frozen: untouched"]
    groups.undo()
    assert same(model, before)


def test_a_trained_model_is_left_alone_unless_asked():
    family = zoo.FAMILIES["mlp"]
    model = family.build(0, width=32, depth=3)
    zoo.train(family, model, 300, optimizer=torch.optim.Adam(model.parameters(), 3e-3))
    before = values(model)
    groups = tune(model, family.data(64, seed=1), "adamw")
    assert same(model, before)
    assert "looks trained" in groups.notes[0]
    assert "looks trained" in str(groups)
    tune(model, family.data(64, seed=1), "adamw", trained=True)
    assert not same(model, before)


@pytest.mark.parametrize("omega", [1.0, 30.0])
def test_the_frequencies_of_a_siren_are_its_own(omega):
    class Sine(nn.Module):
        def forward(self, x):
            return torch.sin(omega * x)

    torch.manual_seed(0)
    model = mlp(2, 64, 64, 1, act=Sine)
    with torch.no_grad():
        nn.init.uniform_(model[0].weight, -0.5, 0.5)
        for layer in (model[2], model[4]):
            nn.init.uniform_(layer.weight, -((6 / 64) ** 0.5) / omega, (6 / 64) ** 0.5 / omega)
    before = values(model)
    report = initialise(model, 2 * torch.rand(200, 2) - 1)
    assert torch.equal(model[0].weight, before["0.weight"])
    gain = 64 * float(model[2].weight.detach().square().mean())
    # a factor w inside the sine belongs to the layer: critical is w^-2 / <cos^2>, and <cos^2> is
    # 1/2 for angles as large as 30 x, near 1 for small ones
    mean = 0.5 if omega > 1 else 0.85
    assert gain * omega**2 == pytest.approx(1 / mean, rel=0.1)
    assert any("0.weight" in item for item in report.left)


@pytest.mark.parametrize("spoil", ["pixels", "column", "tiny"])
def test_inputs_out_of_scale_are_named_not_compensated(spoil):
    x = batch(n=128)
    if spoil == "pixels":
        x = (x.sigmoid() * 255).round()
    elif spoil == "column":
        x[:, 3] *= 1e5
    else:
        x = x * 1e-4
    for model in (mlp(16, 32, 32, 3), nn.Sequential(mlp(16, 32, 32, act=nn.ReLU), nn.Softplus())):
        first = next(model.parameters())
        before = first.detach().clone()
        groups = tune(model, x, "adamw")
        assert torch.equal(first, before)
        assert any("standardise" in note for note in groups.notes)


def test_groups_leave_the_weight_decay_to_the_optimiser():
    model = mlp(16, 32, 3)
    optimiser = torch.optim.AdamW(tune(model, batch(), "adamw"), weight_decay=0.1)
    assert {g["weight_decay"] for g in optimiser.param_groups} == {0.1}
    optimiser = torch.optim.AdamW(tune(model, batch()), weight_decay=0.1)
    assert {g["weight_decay"] for g in optimiser.param_groups} == {0.1}
    asked = torch.optim.AdamW(tune(model, batch(), "adamw", no_decay=True), weight_decay=0.1)
    for group in asked.param_groups:
        assert group["weight_decay"] == (0.1 if group["params"][0].ndim > 1 else 0.0)


def test_lora_trains_its_matrices_alone():
    family = zoo.FAMILIES["lora"]
    model = family.build(0)
    before = values(model)
    inputs, targets = family.data(64, seed=0)
    groups = tune(model, (inputs, targets), "adamw")
    where = parameter_roles(model, inputs)
    assert {where[n].role for n in where if n.endswith((".A", ".B"))} == {"hidden"}
    assert all(math.isfinite(g["lr"]) and g["lr"] > 0 for g in groups)
    for name, value in before.items():
        if not name.endswith(".A"):  # B is zero on purpose, the rest is frozen
            assert torch.equal(model.state_dict()[name], value), name


@pytest.mark.parametrize("name", ["lstm", "bert", "llama", "pinn", "unet", "gnn"])
def test_rates_stay_under_the_cap_and_near_what_width_says(name):
    family = zoo.FAMILIES[name]
    model = family.build(0)
    for optimizer in ("adamw", "sgd", "muon"):
        groups = parameter_groups(model, family.data(16, seed=0), optimizer, bound=4.0)
        for group in groups:
            assert 0 < group["lr"] <= CAP[group["algorithm"]]


def test_groups_come_back_from_a_file(tmp_path):
    model = mlp(16, 32, 3)
    groups = tune(model, batch(), "adamw")
    groups.save(tmp_path / "groups.json")
    again = groups_from(tmp_path / "groups.json", model)
    assert [g["lr"] for g in again] == [g["lr"] for g in groups]
    assert [g["params"][0] is h["params"][0] for g, h in zip(again, groups)] == [True] * len(groups)
    torch.optim.AdamW(again)
    assert "groups.json" in groups.line


def test_skips_of_several_lengths_that_meet():
    """Inner layers of a U-Net of plain convolutions get signals of the size of their neighbours."""

    class UNet(nn.Module):
        def __init__(self, n=12):
            super().__init__()
            sizes = ((1, n), (n, n), (n, n), (n, n), (n, n), (2 * n, n), (2 * n, n), (n, 1))
            self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in sizes)
            for conv in self.convs[1:-1]:
                nn.init.normal_(conv.weight, std=0.01)
                nn.init.zeros_(conv.bias)

        def forward(self, x):
            c, r, up = self.convs, torch.relu, nn.functional.interpolate
            a = r(c[0](x))
            b = r(c[1](nn.functional.avg_pool2d(a, 2)))
            m = r(c[3](r(c[2](nn.functional.avg_pool2d(b, 2)))))
            m = r(c[4](m))
            u = r(c[5](torch.cat([up(m, scale_factor=2.0), b], 1)))
            u = r(c[6](torch.cat([up(u, scale_factor=2.0), a], 1)))
            return c[7](u)

    torch.manual_seed(0)
    model, x = UNet(), torch.randn(8, 1, 16, 16)
    sizes: dict[int, float] = {}
    for k, conv in enumerate(model.convs):
        conv.register_forward_hook(
            lambda _m, _i, out, k=k: sizes.__setitem__(k, float(out.detach().square().mean()))
        )
    model(x)
    assert min(sizes.values()) < 1e-6
    initialise(model, x)
    model(x)
    inner = [sizes[k] for k in range(7)]
    assert max(inner) / min(inner) < 30
