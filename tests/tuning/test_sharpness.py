"""The edge of stability: where it lies on a quadratic, how it is measured, where Adam settles."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from torch import nn

from benchmarks import zoo
from kadanoff import tune
from kadanoff.tuning.objective import Objective
from kadanoff.tuning.optimizers import maker, trainable
from kadanoff.tuning.sharpness import edge, largest_curvature, stable_rate
from kadanoff.tuning.stream import Stream
from kadanoff.tuning.trials import Contender, Trials


@pytest.mark.parametrize(("kind", "beta"), [("sgd", 0.0), ("sgd", 0.9), ("adam", 0.9)])
@pytest.mark.parametrize("part", [0.99, 1.01])
def test_a_quadratic_shrinks_below_the_edge_and_grows_above(kind, beta, part):
    curvature = 3.0
    rate = part * stable_rate(kind, curvature, beta)
    average = 1.0 if kind == "sgd" else 1 - beta
    x, m, sizes = 1.0, 0.0, []
    for _ in range(6000):
        m = beta * m + average * curvature * x
        x -= rate * m
        sizes.append(abs(x))
    early, late = max(sizes[1000:1500]), max(sizes[4500:5000])
    assert (late < early) == (part < 1)


def test_for_adam_it_is_38_over_the_curvature():
    assert stable_rate("adam", 1.0, 0.9) == pytest.approx(38)
    assert stable_rate("sgd", -1.0, 0.9) == math.inf


def test_lanczos_finds_the_largest_eigenvalue():
    g = torch.Generator().manual_seed(0)
    a = torch.randn(40, 40, generator=g, dtype=torch.float64)
    a = a + a.mT
    first = [torch.randn(40, generator=g, dtype=torch.float64)]
    exact = float(torch.linalg.eigvalsh(a)[-1])
    assert largest_curvature(lambda v: [a @ v[0]], first, 40) == pytest.approx(exact, rel=1e-9)
    # a lower bound with fewer products, and what is zero begins somewhere at random
    assert 0.8 * exact < largest_curvature(lambda v: [a @ v[0]], first, 10) <= exact
    nothing = [torch.zeros(40, dtype=torch.float64)]
    assert largest_curvature(lambda v: [a @ v[0]], nothing, 40) == pytest.approx(exact, rel=1e-9)


def small(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def trials_of(model, optimizer, x, y):
    return Trials(model, Stream([(x, y)], model), Objective(), maker(optimizer))


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_the_edge_is_that_of_the_exact_hessian(name):
    """Twelve products with differences of gradients beside all of the preconditioned Hessian."""
    model = small()
    g = torch.Generator().manual_seed(1)
    x = torch.randn(32, 6, generator=g, dtype=torch.float64)
    y = torch.randint(3, (32,), generator=g)
    trials = trials_of(model, name, x, y)
    relative = {n: 2.0 if "bias" in n else 1.0 for n in trainable(model)}
    with trials.running():
        found = edge(trials, relative, warm=5, products=12)
    # the same five steps by hand
    groups = [{"params": [p], "lr": 1e-3 * relative[n]} for n, p in model.named_parameters()]
    optimizer = maker(name).make(groups)[0]
    for _ in range(5):
        model.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    parameters = dict(model.named_parameters())

    def loss(*values):
        output = torch.func.functional_call(model, dict(zip(parameters, values)), (x,))
        return nn.functional.cross_entropy(output, y)

    values = tuple(p.detach().clone() for p in parameters.values())
    blocks = torch.autograd.functional.hessian(loss, values)
    sizes = [v.numel() for v in values]
    rows = [
        torch.cat([b.reshape(n, -1) for b in row], 1) for n, row in zip(sizes, blocks, strict=True)
    ]
    hessian = torch.cat(rows)
    scale = []
    for n, p in parameters.items():
        v = torch.ones_like(p)
        if name == "adamw":
            v = (optimizer.state[p]["exp_avg_sq"] / (1 - 0.999**5)).sqrt() + 1e-8
        scale.append((relative[n] / v).sqrt().detach().reshape(-1))
    d = torch.cat(scale)
    exact = float(torch.linalg.eigvalsh(d[:, None] * hessian * d)[-1])
    assert found.sharpness == pytest.approx(exact, rel=0.02)
    assert found.size == pytest.approx((38 if name == "adamw" else 2) / exact, rel=0.02)


@pytest.mark.parametrize("rate", [3e-3, 1e-2, 3e-2])
def test_adam_settles_at_38_over_the_rate(rate):
    """Full batches of digits: the preconditioned sharpness rises to the edge and stays there."""
    x, y = zoo.FAMILIES["mlp_tanh"].data(256, seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh())
        model.append(nn.Linear(48, 10))
    target = nn.functional.one_hot(y, 10).float()
    optimizer = maker(functools.partial(torch.optim.Adam, lr=rate, betas=(0.9, 0.99)))
    stream = Stream([(x, target)], model, batch=256)
    trials = Trials(model, stream, Objective(nn.functional.mse_loss), optimizer)
    relative = dict.fromkeys(trainable(model), 1.0)
    contender = Contender("one run", dict.fromkeys(relative, rate))
    with trials.running():
        ratios = [
            edge(trials, relative, warm=warm, products=10, contender=contender).size / rate
            for warm in (10, *range(150, 401, 50))
        ]
    assert ratios[0] > 1.3  # not yet there
    assert sum(ratios[1:]) / 6 == pytest.approx(1, abs=0.1)


def test_theory_alone_takes_its_size_from_the_loss():
    """A loss times 100 has a hundredth of the rate under SGD, the same under AdamW."""
    family = zoo.FAMILIES["mlp"]
    data = family.data(128, seed=0)
    found = {}
    for name in ("sgd", "adamw"):
        for factor in (1.0, 100.0):
            model = family.build(0, width=32, depth=3)

            def loss(output, targets, factor=factor):
                return factor * family.criterion(output, targets)

            groups = tune(model, data, name, loss=loss, race=False, lr=1e-6)
            assert "edge of stability" in groups.notes[0]
            found[name, factor] = groups[0]["lr"]
    assert found["sgd", 1.0] / found["sgd", 100.0] == pytest.approx(100, rel=0.05)
    assert found["adamw", 1.0] / found["adamw", 100.0] == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_the_model_is_left_as_it_was(name):
    family = zoo.FAMILIES["gpt2"]
    model = family.build(0, width=32, depth=2)
    trials = Trials(
        model, Stream(family.data(4, seed=0), model), Objective(family.criterion), maker(name),
        muon=[n for n in trainable(model) if ".mlp." in n and n.endswith("weight")],
    )  # fmt: skip
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    with trials.running():
        found = edge(trials, dict.fromkeys(trainable(model), 1.0), warm=3)
    assert 1e-4 < found.size < 10
    assert found.gradients == 3 + 1 + 4
    assert all(torch.equal(before[n], p) for n, p in model.named_parameters())


def test_half_precision_has_no_edge_and_says_so():
    family = zoo.FAMILIES["mlp"]
    x, y = family.data(64, seed=0)
    model = family.build(0, width=32, depth=3).to(torch.bfloat16)
    groups = tune(model, (x.bfloat16(), y), "adamw", race=False)
    assert "half precision" in groups.notes[0]
    assert all(0 < g["lr"] < 1 for g in groups)


def test_batch_norm_in_train_mode_keeps_its_averages():
    """Dropout draws the same numbers in both gradients of a difference."""
    x, y = zoo.FAMILIES["mlp"].data(64, seed=0)
    model = nn.Sequential(
        nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2), nn.Linear(32, 10)
    ).train()
    before = [b.clone() for b in model.buffers()]
    first = tune(model, (x, y), "sgd", race=False, seed=3)
    first.undo()
    again = tune(model, (x, y), "sgd", race=False, seed=3)
    assert all(torch.equal(a, b) for a, b in zip(before, model.buffers(), strict=True))
    assert [g["lr"] for g in first] == pytest.approx([g["lr"] for g in again])
    assert all(1e-4 < g["lr"] < 100 for g in first)
