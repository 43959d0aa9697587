"""Every family of the collection builds, runs, learns and is the same again from the same seed."""

from __future__ import annotations

import math
import statistics

import pytest
import torch
from torch import Tensor

pytest.importorskip("transformers", reason="transformers is missing: pip install '.[hf]'")

from benchmarks import zoo

EVERY = sorted(zoo.FAMILIES)


def _gradients(model: torch.nn.Module) -> dict[str, Tensor | None]:
    return {name: p.grad for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("name", EVERY)
def test_runs_forward_and_backward(name):
    family = zoo.FAMILIES[name]
    model = family.build(0)
    loss = family.run(model, *family.data(seed=0))
    loss.backward()
    assert loss.ndim == 0
    assert math.isfinite(float(loss.detach()))
    grads = _gradients(model)
    assert [n for n, g in grads.items() if g is None] == []
    assert all(torch.isfinite(g).all() for g in grads.values() if g is not None)
    assert model.training == family.training


@pytest.mark.parametrize("name", EVERY)
def test_same_seed_same_model_and_data(name):
    family = zoo.FAMILIES[name]
    before = torch.random.get_rng_state()
    one, two, other = family.build(3), family.build(3), family.build(4)
    assert torch.equal(before, torch.random.get_rng_state())
    trainable = {n for n, p in one.named_parameters() if p.requires_grad}
    pairs = list(zip(one.named_parameters(), two.parameters(), other.parameters()))
    assert all(torch.equal(p, q) for (_, p), q, _ in pairs)
    assert any(not torch.equal(p, r) for (n, p), _, r in pairs if n in trainable)
    (x1, y1), (x2, y2) = family.data(8, seed=5), family.data(8, seed=5)
    (_, kept) = family.data(8, seed=5, held_out=True)
    assert torch.equal(y1, y2)
    assert not torch.equal(y1, kept)
    if isinstance(x1, dict):
        assert isinstance(x2, dict)
        assert all(torch.equal(x1[k], x2[k]) for k in x1)
    else:
        assert isinstance(x2, Tensor)
        assert torch.equal(x1, x2)


@pytest.mark.parametrize("name", EVERY)
def test_width_and_depth_change_what_they_say(name):
    family = zoo.FAMILIES[name]

    def count(**sizes: int) -> int:
        return sum(p.numel() for p in family.build(0, **sizes).parameters())

    wide = count(width=2 * family.sizes["width"])
    assert wide > 1.5 * count()
    deeper = family.build(0, depth=family.sizes["depth"] + 2)
    if name != "albert":  # one block, used more often
        assert sum(p.numel() for p in deeper.parameters()) > count()
    assert math.isfinite(float(family.run(deeper, *family.data(4)).detach()))


def test_unknown_sizes_are_named():
    with pytest.raises(TypeError, match="height"):
        zoo.FAMILIES["mlp"].build(0, height=3)


@pytest.mark.parametrize("name", ["mlp", "nanogpt", "resnet", "siren"])
def test_the_ordinary_recipe_learns(name):
    family = zoo.FAMILIES[name]
    losses = zoo.train(family, family.build(0), 40)
    start, end = statistics.mean(losses[:5]), statistics.mean(losses[-10:])
    assert end < 0.9 * start
