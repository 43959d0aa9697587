"""Rates that fall to zero: as far as constant ones, and without what those add at the end."""

from __future__ import annotations

import pytest
import torch

from benchmarks import zoo
from kadanoff import tune
from kadanoff.errors import UsageError
from kadanoff.tuning import groups_from
from kadanoff.tuning.halving import WayToTrain, _calmest, _Entry
from kadanoff.tuning.trials import Contender


def final(family, model, optimizers, schedulers=(), steps=300, seed=0):
    losses = []
    for step in range(steps):
        inputs, targets = family.data(128, seed=1000 * (seed + 1) + step)
        loss = family.run(model, inputs, targets)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        for each in (*optimizers, *schedulers):
            each.step()
        losses.append(float(loss.detach()))
    return sum(losses[-20:]) / 20


def tuned(seed=0, optimizer="adamw", name="mlp", steps=300, **options):
    family = zoo.FAMILIES[name]
    model = family.build(seed, width=32, depth=4)
    return model, tune(model, family.data(64, seed=0), optimizer, steps=steps, **options)


def test_the_rates_add_up_to_the_constant_ones_and_end_at_zero():
    _, groups = tuned(steps=40)
    optimizers, schedulers = groups.with_decay()
    rates = []
    for _ in range(40):
        rates.append(optimizers[0].param_groups[0]["lr"])
        optimizers[0].step()
        schedulers[0].step()
    constant = groups[0]["lr"]
    # 2 (1 - t/T) summed over t = 0 … T - 1 is T + 1
    assert sum(rates) == pytest.approx(41 * constant)
    assert optimizers[0].param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)


def test_sgd_begins_no_higher_than_its_constant_rate():
    """Its best rate is near the edge of stability: twice as much may diverge."""
    _, groups = tuned(optimizer="sgd")
    optimizers, _ = groups.with_decay()
    assert optimizers[0].param_groups[0]["lr"] == groups[0]["lr"]


def test_muon_has_two_of_each():
    _, groups = tuned(optimizer="muon")
    optimizers, schedulers = groups.with_decay()
    assert len(optimizers) == len(schedulers) == 2


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_rate_too_high_for_the_end_costs_nothing_when_it_falls(seed):
    """SIREN: 1e-3 ends four times higher than 3e-4, and no short race can see it."""
    family = zoo.FAMILIES["siren"]
    sizes = {"width": 64, "depth": 3}
    constant = []
    for rate in (1e-3, 3e-4):
        model = family.build(seed, **sizes)
        made = [torch.optim.AdamW(model.parameters(), lr=rate)]
        constant.append(final(family, model, made, seed=seed))
    assert constant[0] > 1.5 * constant[1]
    model = family.build(seed, **sizes)
    groups = tune(
        model, lambda k: family.data(128, seed=10_000 + k), "adamw",
        loss=family.criterion, steps=300, seed=seed,
    )  # fmt: skip
    assert final(family, model, *groups.with_decay(), seed=seed) < 1.03 * min(constant)


def test_the_file_knows_how_long_the_run_is(tmp_path):
    model, groups = tuned(steps=77)
    groups.save(tmp_path / "groups.json")
    back = groups_from(tmp_path / "groups.json", model)
    assert back.steps == 77
    assert back.with_decay()[1][0].total_iters == 77
    assert "total_iters=77" in groups.decay_lines
    scope = {"torch": torch, "model": model}
    exec(groups.decay_lines, scope)
    assert scope["optimizer"].param_groups[0]["lr"] == pytest.approx(2 * groups[0]["lr"], rel=1e-3)


def test_without_a_length_it_says_so(tmp_path):
    _, groups = tuned()
    groups.steps = 0
    assert groups.decay_lines == ""
    with pytest.raises(UsageError, match="length"):
        groups.with_decay()


def entry(losses, size=1e-3, changes=0):
    contender = Contender("", {}, losses=list(losses))
    return _Entry(WayToTrain(f"kind {changes}", {}, {}, changes), size, contender)


def noise(seed, size=0.1, n=40):
    return (size * torch.randn(n, generator=torch.Generator().manual_seed(seed))).tolist()


def test_a_lead_within_the_noise_is_none():
    batches = noise(0, 0.3)
    plain = entry([1 + b + e for b, e in zip(batches, noise(1))])
    luck = entry([1 + b + e - 0.01 for b, e in zip(batches, noise(2))], 2e-3, 1)
    assert not luck.ahead(plain, 40)
    assert _calmest(luck, [luck, plain]) is plain


def test_the_same_batches_make_a_small_lead_certain():
    """The batches differ by a third; the two runs on the same batch by a tenth of that."""
    batches = noise(0, 0.3)
    plain = entry([1 + b + e for b, e in zip(batches, noise(1, 0.01))])
    better = entry([0.97 + b + e for b, e in zip(batches, noise(2, 0.01))], 2e-3, 1)
    assert better.ahead(plain, 40)
    assert _calmest(better, [better, plain]) is better


def test_a_lead_that_is_lost_at_the_end_is_none():
    plain = entry([1 - 0.02 * k for k in range(40)])
    fast = entry([0.48 - 0.004 * k for k in range(40)], 2e-3, 1)
    assert sum(fast.contender.losses[20:]) < sum(plain.contender.losses[20:])
    assert not fast.ahead(plain, 40)


def test_a_diverged_one_is_behind():
    plain, blown = entry([1.0] * 40), entry([0.1] * 39 + [float("inf")], 2e-3)
    assert not blown.ahead(plain, 40)
    assert plain.ahead(blown, 40)
