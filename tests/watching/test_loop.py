"""The loop is seen as it is, and nothing is left behind."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
import torch.autograd
import torch.nn.functional as F
from torch import nn

import kadanoff as kd
from kadanoff.errors import DataError, UsageError
from kadanoff.watching import FindingRaised, FindingWarning, Watch
from tests.watching.runs import classes, codes, mlp, train


class Noisy(nn.Module):
    """Batch normalisation, dropout, and weights that are never used."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm = nn.Linear(16, 32), nn.BatchNorm1d(32)
        self.drop, self.outer = nn.Dropout(0.3), nn.Linear(32, 4)
        self.idle = nn.Parameter(torch.ones(3))

    def forward(self, x):
        return self.outer(self.drop(F.relu(self.norm(self.inner(x)))))


def run(model, data, watch=None, steps=45):
    """A loop with everything a look could disturb; the weights it ends with."""
    torch.manual_seed(5)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    model.train()
    for _ in range(steps):
        rows = torch.randint(0, 512, (32,))
        optimizer.zero_grad()
        F.cross_entropy(model(data[0][rows]), data[1][rows]).backward()
        optimizer.step()
    return copy.deepcopy(model.state_dict()), torch.rand(3), optimizer


def hooks_of(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        (name, kind): len(getattr(m, kind)) for name, m in model.named_modules() for kind in kinds
    }


def test_watched_training_is_the_same_to_the_last_bit():
    """Weights, running statistics, random numbers: as without a watch."""
    data = classes()
    torch.manual_seed(1)
    model = Noisy()
    twin = copy.deepcopy(model)
    before, plain = hooks_of(model), torch.autograd.backward
    alone, random_alone, _ = run(twin, data)
    with Watch(model, data, every=10, thorough=True, on_finding=None) as w:
        watched, random_watched, _ = run(model, data)
    for name, value in alone.items():
        assert torch.equal(value, watched[name]), name
    assert torch.equal(random_alone, random_watched)
    assert hooks_of(model) == before
    assert torch.autograd.backward is plain
    assert [f.step for f in w.film.frames] == [0, 10, 20, 30, 40]
    assert all(flag for flag in (m.training for m in model.modules()))


def test_an_exception_in_the_loop_passes_and_leaves_nothing():
    model, data = mlp(), classes()
    before, plain = hooks_of(model), torch.autograd.backward

    def loop():
        with Watch(model, data):
            F.cross_entropy(model(data[0]), data[1]).backward()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop()
    assert hooks_of(model) == before
    assert torch.autograd.backward is plain


def test_the_training_loss_and_the_update_are_what_they_are():
    """Pulses hold the mean loss; |Δw|/|w| is that of the step before the look."""
    model, data = mlp(), classes()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses, ratios = [], {}
    with Watch(model, data, every=20, on_finding=None) as w:
        for step in range(1, 21):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(data[0]), data[1])
            loss.backward()
            losses.append(loss.item())
            if step == 20:
                ratios = {
                    name: float(0.1 * p.grad.norm() / p.detach().norm())
                    for name, p in model.named_parameters()
                    if p.ndim > 1
                }
            optimizer.step()
    pulses = [p.loss for p in w.film.pulses]
    assert pulses == pytest.approx([sum(losses[i : i + 4]) / 4 for i in range(0, 20, 4)])
    measured = w.film.frames[-1].layers["update_ratio"]
    assert measured == pytest.approx(
        {n.removesuffix(".weight"): r for n, r in ratios.items()}, rel=1e-4
    )


@pytest.mark.parametrize("way", ["torch", "in place", "through data", "told"])
def test_steps_are_counted_however_they_are_taken(way):
    model, data = mlp(), classes()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    with Watch(model, data, every=5, on_finding=None) as w:
        for _ in range(20):
            model.zero_grad()
            loss = F.cross_entropy(model(data[0]), data[1])
            loss.backward()
            if way == "torch":
                optimizer.step()
                continue
            for p in model.parameters():
                if way == "through data":
                    p.data -= 0.05 * p.grad
                else:
                    with torch.no_grad():
                        p -= 0.05 * p.grad
            if way == "told":
                w.step(loss)
    assert w.film.step == 20
    assert [f.step for f in w.film.frames] == [0, 5, 10, 15, 20]
    assert len(w.film.recent) == 20


def test_accumulated_gradients_are_one_step():
    """The loss of a step is the sum of its parts, as the loop has divided them."""
    model, data = mlp(), classes()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Watch(model, data, every=4, on_finding=None) as w:
        for part in range(32):
            rows = slice(16 * (part % 32), 16 * (part % 32) + 16)
            (F.cross_entropy(model(data[0][rows]), data[1][rows]) / 4).backward()
            if part % 4 == 3:
                optimizer.step()
                optimizer.zero_grad()
    assert w.film.step == 8
    assert 1.0 < w.film.recent[0][1] < 2.0


def test_watches_may_be_nested_and_close_in_any_order():
    plain = torch.autograd.backward
    one, other, data = mlp(0), mlp(1), classes()
    outer = Watch(one, data, every=5, on_finding=None)
    inner = Watch(other, data, every=5, on_finding=None)
    with outer, inner:
        both = [*one.parameters(), *other.parameters()]
        optimizer = torch.optim.SGD(both, lr=0.1)
        for _ in range(10):
            optimizer.zero_grad()
            F.cross_entropy(one(data[0]) + other(data[0]), data[1]).backward()
            optimizer.step()
    assert outer.film.step == inner.film.step == 10
    assert torch.autograd.backward is plain
    with Watch(one, data, on_finding=None) as w, pytest.raises(UsageError, match="open already"):
        w.__enter__()


def test_a_compiled_model_is_looked_at_uncompiled():
    model, data = mlp(), classes()
    compiled = torch.compile(model, backend="eager")
    w = train(compiled, data, torch.optim.SGD(model.parameters(), lr=0.1), 20)
    assert w.film.step == 20
    assert "compiled" in w.film.notes[0]
    # and a model that is compiled elsewhere does not mind being watched
    other = mlp()
    fast = torch.compile(other, backend="eager")
    with Watch(other, data, every=5, on_finding=None) as w:
        optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
        for _ in range(10):
            optimizer.zero_grad()
            F.cross_entropy(fast(data[0]), data[1]).backward()
            optimizer.step()
    assert [f.step for f in w.film.frames] == [0, 5, 10]


@pytest.mark.parametrize("reentrant", [True, False])
def test_activation_checkpoints(reentrant):
    """Non-reentrant checkpoints hide nothing; reentrant ones hide gradients, which is said."""
    from torch.utils.checkpoint import checkpoint

    class Saving(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.body, self.last = (
                nn.Linear(16, 32),
                mlp(n_in=32, n_out=32),
                nn.Linear(32, 4),
            )

        def forward(self, x):
            h = self.first(x)
            return self.last(checkpoint(self.body, h, use_reentrant=reentrant))

    model = Saving()
    w = train(model, classes(), torch.optim.SGD(model.parameters(), lr=0.1), 20, thorough=True)
    assert w.film.step == 20
    assert len(w.film.recent) == 20  # the inner backward passes are no losses
    if reentrant:
        assert any("gradients cannot be measured" in note for note in w.film.notes)
    else:
        assert "body.0" in w.film.frames[-1].layers["gradient"]


def test_mixed_precision_and_a_gradient_scaler():
    """The loss is the one before scaling; precision is named; steps that are skipped are none."""
    model, data = mlp(), classes()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    with Watch(model, data, every=5, on_finding=None) as w:
        for step in range(20):
            optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16):
                loss = F.cross_entropy(model(data[0]), data[1])
            scaler.scale(loss).backward()
            if step == 3:
                model[0].weight.grad[0, 0] = torch.inf
            scaler.step(optimizer)
            scaler.update()
    assert w.film.step == 19
    assert w.film.precision == "bfloat16 (autocast)"
    assert 0.5 < w.film.recent[0][1] < 3
    assert w.healthy


def test_a_scaler_that_never_steps_is_found():
    model, data = mlp(), classes()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**60)
    with Watch(model, data, every=5, on_finding=None) as w:
        for _ in range(60):
            optimizer.zero_grad()
            scaler.scale(F.cross_entropy(model(data[0]), data[1])).backward()
            model[0].bias.grad[0] = torch.inf
            scaler.step(optimizer)
            scaler.update()
    assert codes(w) == ["scaler-skips"]


def test_resuming_goes_on_with_the_same_film():
    data = classes()

    def parts(split):
        model = mlp()
        optimizer = torch.optim.Adam(model.parameters(), 1e-2)
        first = train(model, data, optimizer, split, each=None, seed=1)
        if split == 40:
            return first.film
        again = Watch(model, data, every=10, on_finding=None, loss=F.cross_entropy)
        again.load_state_dict(first.state_dict())
        g = torch.Generator().manual_seed(1)
        for _ in range(split):
            torch.randint(0, 512, (32,), generator=g)
        with again:
            for _ in range(40 - split):
                rows = torch.randint(0, 512, (32,), generator=g)
                optimizer.zero_grad()
                F.cross_entropy(model(data[0][rows]), data[1][rows]).backward()
                optimizer.step()
        return again.film

    whole, resumed = parts(40), parts(20)
    assert [f.step for f in whole.frames] == [f.step for f in resumed.frames]
    assert whole.frames[-1].scalars["loss"] == resumed.frames[-1].scalars["loss"]
    assert whole.losses() == resumed.losses()


class TestFindingsAreSaid:
    """warn, raise, call, keep."""

    def diverging(self, **settings):
        model = mlp()
        return train(model, classes(), torch.optim.SGD(model.parameters(), lr=50.0), 60, **settings)

    def test_a_warning_names_the_step_and_the_remedy_and_points_at_the_loop(self):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            self.diverging(on_finding="warn")
        first = next(w for w in seen if issubclass(w.category, FindingWarning))
        assert str(first.message).startswith("step ")
        assert "rate" in str(first.message)
        assert first.filename.endswith("runs.py")

    def test_raising_ends_the_loop(self):
        with pytest.raises(FindingRaised) as caught:
            self.diverging(on_finding="raise")
        assert caught.value.event.finding.code in ("loss-diverges", "not-finite-in-training")
        assert caught.value.event.step < 20

    def test_calling(self):
        heard = []
        self.diverging(on_finding=heard.append)
        assert heard
        assert heard[0].finding.id.startswith("KD15")


class TestBadInput:
    @pytest.mark.parametrize("every", [0, -5, 1.5, True, "100", None])
    def test_every(self, every):
        with pytest.raises(UsageError, match="every ="):
            Watch(mlp(), classes(), every=every)

    def test_samples_and_what_to_do_with_findings(self):
        with pytest.raises(UsageError, match="samples = 0"):
            Watch(mlp(), classes(), samples=0)
        with pytest.raises(UsageError, match="on_finding = 'shout'"):
            Watch(mlp(), classes(), on_finding="shout")
        with pytest.raises(UsageError, match="not a torch"):
            Watch([mlp()], classes())
        with pytest.raises(UsageError, match="is no logger"):
            Watch(mlp(), classes(), log=3)

    def test_a_batch_that_does_not_fit_is_said_before_training(self):
        model = mlp()
        with pytest.raises(DataError, match="failed on the watched batch in '0'"):
            Watch(model, torch.randn(8, 7)).__enter__()
        assert not model._forward_pre_hooks

    def test_labels_out_of_range(self):
        with pytest.raises(DataError, match="labels-out-of-range"):
            Watch(mlp(), (torch.randn(8, 16), torch.arange(8))).__enter__()

    def test_a_model_that_is_replaced_in_the_loop(self):
        watched, data = mlp(0), classes()
        with Watch(watched, data, every=10, on_finding=None) as w:
            other = copy.deepcopy(watched)
            optimizer = torch.optim.SGD(other.parameters(), lr=0.1)
            for _ in range(15):
                optimizer.zero_grad()
                F.cross_entropy(other(data[0]), data[1]).backward()
                optimizer.step()
        assert codes(w) == ["another-model-trained"]

    def test_a_loop_without_a_step(self):
        with Watch(mlp(), classes(), on_finding=None) as w:
            pass
        assert codes(w) == ["another-model-trained"]

    def test_a_layer_that_is_replaced_in_the_loop(self):
        model, data = mlp(), classes()

        def swap(step):
            if step == 15:
                model[4] = nn.Linear(32, 4)
                optimizer.add_param_group({"params": model[4].parameters()})

        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        w = train(model, data, optimizer, 40, each=swap, thorough=True)
        assert w.film.step == 40
        assert "sharpness_over_edge" in w.film.frames[-1].scalars

    def test_a_look_that_fails_does_not_end_the_training(self):
        model, data = mlp(), classes()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

        def loop(w):
            x = data[0]
            with w:
                for step in range(40):
                    if step == 15:  # a model of narrower inputs, which the batch does not fit
                        x = x[:, :8]
                        model[0].weight = nn.Parameter(model[0].weight[:, :8].detach().clone())
                    optimizer.zero_grad()
                    F.cross_entropy(model(x), data[1]).backward()
                    optimizer.step()

        w = Watch(model, data, every=10, on_finding=None)
        with pytest.warns(FindingWarning, match="the look failed"):
            loop(w)
        assert w.film.step == 40


def test_the_public_name():
    assert kd.watch is Watch
