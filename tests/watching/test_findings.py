"""Findings against runs in which the thing happens, and against runs in which nothing does."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kadanoff.watching import Watch
from tests.watching.runs import Attention, classes, codes, mlp, train

RUNAWAY = 12.0  # a rate of SGD at which the small net runs away


def event(watch, code):
    """The first event of a code."""
    return next(e for e in watch.film.events if e.finding.code == code)


@pytest.mark.parametrize("seed", range(3))
def test_a_rate_that_diverges(seed):
    """Said while the loss is finite still, with the pace and the rate that would be stable."""
    x, y = classes(seed)
    y = F.one_hot(y, 4).float()
    model = mlp(seed)
    w = train(
        model,
        (x, y),
        torch.optim.SGD(model.parameters(), lr=RUNAWAY),
        60,
        loss=F.mse_loss,
        seed=seed,
    )
    found = event(w, "loss-diverges")
    assert found.step <= 20
    assert found.finding.severity == "critical"
    finite = [s for s, v in w.film.recent if v == v and abs(v) != float("inf")]
    assert found.step <= finite[-1]


def test_the_stable_rate_that_is_named_is_stable():
    """The rate of the sentence, taken, trains; the user's does not."""
    x, y = classes(3)
    y = F.one_hot(y, 4).float()
    start = mlp(3)
    model = copy.deepcopy(start)
    optimizer = torch.optim.SGD(model.parameters(), lr=RUNAWAY)
    with Watch(model, (x, y), every=10, optimizer=optimizer, loss=F.mse_loss, on_finding=None) as w:
        for step in range(30):
            rows = slice(32 * (step % 16), 32 * (step % 16) + 32)
            optimizer.zero_grad()
            F.mse_loss(model(x[rows]), y[rows]).backward()
            optimizer.step()
    sentence = event(w, "loss-diverges").finding.sentence
    stable = float(sentence.split("stable one was ")[1].split(" ")[0])
    assert stable < RUNAWAY
    model = copy.deepcopy(start)
    w = train(
        model, (x, y), torch.optim.SGD(model.parameters(), lr=0.5 * stable), 60, loss=F.mse_loss
    )
    assert w.healthy
    assert w.film.losses()[1][-1] < w.film.losses()[1][0]


@pytest.mark.parametrize("seed", range(3))
def test_units_that_die(seed):
    """A rate that throws units past zero: how many died is what a count over all data says."""
    data = classes(seed)
    model = mlp(seed, width=64, depth=4)
    w = train(model, data, torch.optim.Adam(model.parameters(), lr=0.3), 100, seed=seed, samples=64)
    found = event(w, "units-die").finding
    with torch.no_grad():
        name = found.where[0]
        hidden = model[: int(name) + 2](data[0])
        dead = float((hidden == 0).all(0).float().mean())
    now = w.film.layer("dead", name)[1][-1]
    assert dead > 0.25
    assert abs(now - dead) < 0.2
    assert "died in the last" in found.sentence


def test_units_that_saturate():
    data = classes()
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh(), nn.Linear(32, 4)
    )
    w = train(model, data, torch.optim.SGD(model.parameters(), lr=30.0), 80)
    assert "units-saturate" in codes(w)


@pytest.mark.parametrize("seed", range(2))
def test_attention_logits_that_grow(seed):
    """Query and key that feed each other: doubling time and forecast hold as it goes on."""
    torch.manual_seed(seed)
    x = torch.randn(256, 12, 8)
    y = x[:, :, 0].argmax(1) % 4
    model = Attention(seed=seed)
    rate = 1.02

    def feed(_step):
        with torch.no_grad():  # a growth of both by 2 % a step, as a feedback does
            model.query.weight *= rate
            model.key.weight *= rate

    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    w = train(model, (x, y), optimizer, 160, each=feed, seed=seed)
    found = event(w, "logits-grow")
    # both weights: the logits double every ln 2 / (2 ln 1.02) = 17.5 steps
    assert found.finding.value == pytest.approx(17.5, rel=0.1)
    assert "float16 would overflow in about" in found.finding.sentence
    left = int(found.finding.sentence.split("in about ")[1].split(" ")[0].replace(",", ""))
    # go on until float16 really overflows
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    at = w.film.step
    more = train(model, (x, y), optimizer, 180, each=feed, seed=seed)
    steps, values = more.film.layer(
        "max_logit",
        "attention" if not more.film.names("max_logit") else more.film.names("max_logit")[0],
    )
    overflow = next(s for s, v in zip(steps, values) if v > 65504)
    assert abs(at + overflow - (found.step + left)) < 40


class Root(nn.Module):
    """Something that is not finite where its input has a zero."""

    def __init__(self, operation):
        super().__init__()
        self.inner, self.outer, self.operation = nn.Linear(16, 8), nn.Linear(8, 4), operation

    def forward(self, x):
        return self.outer(self.operation(F.relu(self.inner(x))))


class Length(nn.Module):
    """The length of a vector that is zero."""

    def forward(self, x):
        return x + (x - x.detach()).square().sum(-1, keepdim=True).sqrt()


class TestNotFinite:
    def test_forward(self):
        """Named is the operation, the layer, and the sample of the batch."""

        class Log(nn.Module):
            def forward(self, x):
                return torch.log(x)

        model = Root(Log())
        data = classes()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        with torch.no_grad():
            model.inner.bias += 100.0
        with Watch(model, data, every=5, on_finding=None) as w:
            for step in range(8):
                x = data[0][:32].clone()
                if step == 6:
                    x[3] = -1e3 * model.inner.weight.detach().sum(0).sign()
                optimizer.zero_grad()
                F.cross_entropy(model(x), data[1][:32]).backward()
                optimizer.step()
        found = event(w, "not-finite-in-training")
        assert found.step == 6
        assert found.finding.where == ("operation",)
        assert "log gives" in found.finding.sentence
        assert "sample 3 of the batch" in found.finding.sentence

    def test_backward(self):
        """√0 is finite, its gradient is not: said before the weights are lost."""

        model = Root(Length())
        w = train(model, classes(), torch.optim.SGD(model.parameters(), lr=0.1), 10)
        found = event(w, "not-finite-in-training")
        assert found.step == 0
        assert found.finding.where == ("inner",)  # what the gradient meets first behind the root
        assert "a gradient is not finite" in found.finding.sentence

    def test_a_diverging_rate_is_named_as_the_cause(self):
        x, y = classes(0)
        model = mlp(0)
        y = F.one_hot(y, 4).float()
        w = train(model, (x, y), torch.optim.SGD(model.parameters(), lr=30.0), 60, loss=F.mse_loss)
        assert "not-finite-in-training" in codes(w)
        assert codes(w).index("loss-diverges") < codes(w).index("not-finite-in-training")

    def test_raising_comes_before_the_weights_are_lost(self):
        from kadanoff.watching import FindingRaised

        model = Root(Length())
        with pytest.raises(FindingRaised, match="not finite"):
            train(
                model,
                classes(),
                torch.optim.SGD(model.parameters(), lr=0.1),
                10,
                on_finding="raise",
            )
        assert all(bool(torch.isfinite(p).all()) for p in model.parameters())


@pytest.mark.parametrize("layer", [0, 2, 4])
def test_a_spike_and_the_layer_where_it_begins(layer):
    """One layer's weights jump, as by a bad update: that layer is named."""
    data = classes(1)
    model = mlp(1, width=64, depth=4)

    def jump(step):
        if step == 150:
            with torch.no_grad():
                model[layer].weight *= -20

    w = train(model, data, torch.optim.Adam(model.parameters(), lr=2e-3), 170, each=jump)
    found = event(w, "loss-spike")
    assert 150 <= found.step <= 155
    assert found.finding.where == (str(layer),)


def test_a_signal_that_grows_until_float16_overflows():
    """A decay of the wrong sign in one layer."""
    data = classes(1)
    model = nn.Sequential(
        nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.LayerNorm(32), nn.Linear(32, 4)
    )

    def grow(_step):
        with torch.no_grad():
            model[2].weight *= 1.05

    w = train(model, data, torch.optim.SGD(model.parameters(), lr=0.05), 250, each=grow)
    found = event(w, "signal-grows").finding
    assert found.where == ("2",)
    assert "float16 would overflow" in found.sentence


def test_full_batch_descent_rises_to_the_edge_of_stability():
    """Sharpness climbs to 2/η and stays there (Cohen et al. 2021): a note, no alarm."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(24, 8, generator=g)
    y = torch.randn(24, 1, generator=g)
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(8, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.15)
    with Watch(model, (x, y), every=100, thorough=True, on_finding=None, samples=48) as w:
        w._probe._part = w._probe._whole  # the loss that is descended, exactly
        for _ in range(3000):
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step()
    ratios = w.film.scalar("sharpness_over_edge")[1]
    assert ratios[0] < 0.7
    assert 0.8 < sorted(ratios[-10:])[5] < 1.3
    assert w.healthy
    assert all(f.code == "above-the-edge" for f in w.findings)


def test_weights_that_stand_still():
    """Updates lost in the rounding of bfloat16 weights."""
    x, y = classes()
    model = mlp().bfloat16()
    w = train(model, (x.bfloat16(), y), torch.optim.SGD(model.parameters(), lr=1e-6), 60)
    assert "weights-stand-still" in codes(w)


def test_a_layer_that_loses_its_gradient():
    """All ReLUs of a layer die at once: everything before it stands still."""
    model = mlp(depth=4)

    def kill(step):
        if step == 40:
            with torch.no_grad():
                model[4].bias -= 1e3

    w = train(
        model, classes(), torch.optim.SGD(model.parameters(), lr=0.1), 100, each=kill, thorough=True
    )
    assert "gradient-lost" in codes(w)
    assert set(event(w, "gradient-lost").finding.where) == {"0", "2", "4"}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_healthy_runs_have_no_findings(name, seed):
    model, data = mlp(seed, depth=4), classes(seed)
    optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, lr=0.1),
        "momentum": lambda p: torch.optim.SGD(p, lr=0.02, momentum=0.9),
        "adam": lambda p: torch.optim.Adam(p, lr=2e-3),
    }[name](model.parameters())
    w = train(model, data, optimizer, 300, seed=seed, thorough=True)
    assert codes(w) == []
    losses = w.film.losses()[1]
    assert losses[-1] < 0.6 * losses[0]
