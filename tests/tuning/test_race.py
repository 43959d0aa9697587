"""The race: reproducible, within its budget, without a trace, and won by what trains better."""

from __future__ import annotations

import copy
import functools
import itertools
import math

import pytest
import torch
from torch import nn

from benchmarks import zoo
from kadanoff import tune
from kadanoff.errors import AnalysisError, DataError, UsageError
from kadanoff.tuning import groups_from
from kadanoff.tuning.halving import USUAL, predicted


def mlp(depth=3, width=48, act=nn.ReLU, seed=0, n_in=64, n_out=10):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes = [n_in, *[width] * depth, n_out]
        layers = []
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Linear(a, b), act()]
        return nn.Sequential(*layers[:-1])


def stream(family, batch, seed=0):
    return lambda step: family.data(batch, seed=1_000_000 * (seed + 1) + step)


def digits(n=512):
    return zoo.FAMILIES["mlp"].data(n, seed=0)


def values(model):
    return copy.deepcopy(model.state_dict())


def same(model, before):
    return all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


def final(family, model, optimizers, batch, steps, seed=0):
    losses = []
    for step in range(steps):
        inputs, targets = family.data(batch, seed=1_000_000 * (seed + 1) + step)
        loss = family.run(model, inputs, targets)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        losses.append(float(loss.detach()))
    return sum(losses[-20:]) / 20


@pytest.mark.parametrize(
    ("name", "sizes", "batch"),
    [
        ("mlp_16", {"width": 32, "depth": 12}, 32),
        ("lstm", {"width": 32, "depth": 1}, 8),
    ],
)
def test_the_winner_trains_better_than_the_default(name, sizes, batch):
    """From defaults of 1e-3: a deep plain net, and a table of tokens."""
    family = zoo.FAMILIES[name]
    default = family.build(0, **sizes)
    usual = final(family, default, [torch.optim.AdamW(default.parameters())], batch, 200)
    model = family.build(0, **sizes)
    groups = tune(model, stream(family, batch), "adamw", loss=family.criterion, steps=300)
    assert groups.race is not None
    assert groups.race.steps <= 30
    tuned = final(family, model, [torch.optim.AdamW(groups)], batch, 200)
    assert tuned < 0.97 * usual


def test_what_is_right_is_left():
    """A SIREN at 1e-3 has no better rate: the winner is to leave everything as it is."""
    family = zoo.FAMILIES["siren"]
    model = family.build(0, width=32, depth=3)
    before = values(model)
    groups = tune(model, stream(family, 64), "adamw", loss=family.criterion, steps=300)
    assert same(model, before)
    assert [g["lr"] for g in groups] == [1e-3]
    assert "Leave everything as it is" in groups.verdict


def test_the_same_seed_gives_the_same_race():
    found = [tune(mlp(), digits(), "adamw", steps=800, seed=seed, batch=32) for seed in (3, 3, 4)]
    first, again, other = (groups.race.to_dict() for groups in found)
    assert first == again
    assert first["trials"] != other["trials"]
    assert found[0].race.steps <= 80


class Norms(nn.Module):
    """Batch norms and dropout: buffers and random numbers that a trial could leave changed."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10)
        )

    def forward(self, x):
        return self.body(x)


def test_nothing_is_changed_but_by_the_winner():
    torch.manual_seed(0)
    model = Norms()
    before, state = values(model), torch.get_rng_state()
    model.body[0].weight.grad = torch.ones(32, 64)
    groups = tune(model, digits(), "adamw", steps=300)
    assert same(model, before)  # normalised: theory proposes no other weights
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(model.body[0].weight.grad, torch.ones(32, 64))
    assert model.training
    assert len(groups) == 1


@pytest.mark.parametrize("when", [0, 11])
def test_a_failure_leaves_everything_as_it_was(when):
    model = mlp(depth=8, act=nn.Tanh)
    before, calls = values(model), []

    def loss(output, targets):
        calls.append(1)
        if len(calls) > when:
            raise KeyError("broken")
        return nn.functional.cross_entropy(output, targets)

    with pytest.raises(UsageError, match="broken"):
        tune(model, digits(), "adamw", loss=loss, steps=300)
    assert same(model, before)


def test_undo_takes_the_winning_weights_back():
    model = mlp(depth=8, act=nn.Tanh)
    before = values(model)
    groups = tune(model, digits(), "adamw", steps=300)
    assert not same(model, before)
    assert "critical weights" in groups.verdict
    groups.undo()
    assert same(model, before)


@pytest.mark.parametrize(
    "optimizer",
    [
        "sgd",
        "muon",
        torch.optim.RAdam,
        functools.partial(torch.optim.SGD, momentum=0.9, nesterov=True),
        lambda groups: torch.optim.AdamW(groups, weight_decay=0.1),
    ],
)
def test_any_optimiser_races_and_takes_its_groups(optimizer):
    model = mlp()
    if optimizer == "muon" and not hasattr(torch.optim, "Muon"):
        pytest.skip("this torch has no Muon")
    groups = tune(model, digits(), optimizer, steps=300)
    made = groups.optimizers()
    held = [p for o in made for g in o.param_groups for p in g["params"]]
    assert {id(p) for p in held} == {id(p) for p in model.parameters()}
    assert len(held) == len(list(model.parameters()))


def test_an_optimiser_already_made_keeps_its_options():
    model = mlp()
    mine = torch.optim.AdamW(
        [
            {"params": model[0].parameters(), "lr": 1e-4, "weight_decay": 0.3},
            {"params": model[2:].parameters()},
        ],
        lr=2e-3,
        betas=(0.8, 0.95),
    )
    groups = tune(model, digits(), mine, steps=300)
    again = groups.optimizers()[0]
    by_parameter = {id(p): g for g in again.param_groups for p in g["params"]}
    first, last = by_parameter[id(model[0].weight)], by_parameter[id(model[2].weight)]
    assert (first["weight_decay"], last["weight_decay"]) == (0.3, 0.01)
    assert last["betas"] == (0.8, 0.95)
    assert last["lr"] / first["lr"] == pytest.approx(20, rel=1e-6)


def test_forms_of_data_and_outputs():
    """Dicts and dataclasses, several outputs, the model's own loss, iterables that run out."""
    for name in ("nanogpt", "vae", "bert", "gnn", "t5"):
        family = zoo.FAMILIES[name]
        model = family.build(0, width=32, depth=1)
        batches = [family.data(8, seed=k) for k in range(3)]
        loss = None if name in ("bert",) else family.criterion
        if name == "bert":
            batches = [family.data(8, seed=0)]
            loss = nn.functional.cross_entropy
            batches = [(x, y.clamp_min(0)) for x, y in batches]
            loss = None
        groups = tune(model, iter(batches), "adamw", loss=loss, steps=250)
        assert all(0 < g["lr"] < 1 for g in groups), name


def test_half_precision_and_tied_weights():
    model = mlp().to(torch.bfloat16)
    x, y = digits()
    groups = tune(model, (x.bfloat16(), y), "adamw", steps=300)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert groups.race is not None
    family = zoo.FAMILIES["gpt2"]
    tied = family.build(0, width=32, depth=1)
    groups = tune(tied, stream(family, 4), "adamw", loss=family.criterion, steps=250)
    assert tied.lm_head.weight is tied.transformer.wte.weight
    names = [p for g in groups for p in g["params"]]
    assert len({id(p) for p in names}) == len(names)


def test_bad_input_has_one_clear_sentence():
    x, y = digits(64)

    def no_number(_output, _targets):
        return torch.tensor(math.nan, requires_grad=True)

    with pytest.raises(AnalysisError, match="first batch"):
        tune(mlp(), (x, y), "adamw", loss=no_number)
    with pytest.raises(DataError, match="Expected more than 1 value"):
        tune(Norms(), (x[:1], y[:1]), "adamw")
    with pytest.raises(DataError, match="run from 1 to 10"):
        tune(mlp(), (x, y + 1), "adamw")
    with pytest.raises(UsageError, match="not one number"):
        tune(mlp(), (x, y), "adamw", loss=lambda out, _: out)
    with pytest.raises(UsageError, match="no targets"):
        tune(mlp(), x, "adamw", race=True)
    with pytest.raises(UsageError, match="lr = -1"):
        tune(mlp(), (x, y), "adamw", lr=-1)
    with pytest.raises(UsageError, match="steps = 0"):
        tune(mlp(), (x, y), "adamw", steps=0)
    with pytest.raises(UsageError, match="is a int"):
        tune(mlp(), (x, y), 3)
    frozen = mlp().requires_grad_(False)
    with pytest.raises(UsageError, match="no trainable"):
        tune(frozen, (x, y), "adamw")
    with pytest.raises(DataError, match="empty"):
        tune(mlp(), (x[:0], y[:0]), "adamw")


def test_a_budget_too_small_changes_nothing():
    model = mlp(depth=8, act=nn.Tanh)
    before = values(model)
    groups = tune(model, digits(), "adamw", steps=50)
    assert same(model, before)
    assert [g["lr"] for g in groups] == [1e-3]
    assert "say nothing" in groups.notes[0]


def test_the_report_and_the_file(tmp_path):
    seen = []
    model = mlp(depth=8, act=nn.Tanh)
    groups = tune(
        model, digits(), "adamw", steps=300, progress=lambda done, total: seen.append((done, total))
    )
    assert seen[-1][0] <= seen[-1][1] == 30
    text = str(groups)
    for words in ("Best of", "critical C_W", "30 steps", "states kept", "optimizer = "):
        assert words in text
    groups.save(tmp_path / "g.json")
    assert [g["lr"] for g in groups_from(tmp_path / "g.json", model)] == [g["lr"] for g in groups]
    with pytest.raises(UsageError, match="another model"):
        groups_from(tmp_path / "g.json", mlp(depth=3))


def test_the_rate_for_a_long_run_from_a_short_one():
    usual = 1e-3 * USUAL["adam"]
    assert predicted(1e-2, 300, 300, usual) == 1e-2
    # 7 of 300 steps: half and a little trust in 3e-2 (7/300)^(1/3) = 8.6e-3
    trust = 0.5 + 0.5 * 21 / 300
    said = math.exp(trust * math.log(3e-2 * (7 / 300) ** (1 / 3)) + (1 - trust) * math.log(usual))
    assert predicted(3e-2, 7, 300, usual) == pytest.approx(said)
    assert predicted(3e-2, 7, 300, usual) < predicted(3e-2, 30, 300, usual) < 3e-2
    # below the usual rate the trial is believed
    assert predicted(3e-3, 7, 300, usual) == pytest.approx(3e-3 * (7 / 300) ** (1 / 3))
