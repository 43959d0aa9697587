"""Fresh models look fresh, trained ones trained, half-loaded ones partly."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

pytest.importorskip("transformers", reason="transformers is missing: pip install '.[hf]'")

from benchmarks import zoo
from kadanoff.program import build, laws, looks_trained
from kadanoff.program.freshness import TW_MEAN, TW_STD, _edge, _unequal

FRESH = sorted(set(zoo.FAMILIES) - {"lora"})


@pytest.mark.parametrize("name", FRESH)
def test_every_family_is_fresh_at_first(name):
    family = zoo.FAMILIES[name]
    found = looks_trained(family.build(11))
    assert found.state == "fresh", found
    assert not found
    assert laws(family.build(12)).freshness.state == "fresh"


@pytest.mark.parametrize("name", FRESH)
def test_laws_are_those_of_really_rebuilt_models(name):
    """Mean squares of every random parameter over six instances, in standard errors."""
    family = zoo.FAMILIES[name]
    built = build(lambda: family.factory(**family.sizes))
    meta = build(lambda: family.factory(**family.sizes), meta=True)
    models = [dict(family.build(seed).named_parameters()) for seed in range(6)]
    for key, law in built.laws.items():
        theirs = meta.laws[key]
        if "instances" in law.source:
            continue  # measured, on the meta device on fewer
        assert (theirs.kind, theirs.zero_rows) == (law.kind, law.zero_rows), key
        assert theirs.std == pytest.approx(law.std, rel=1e-6), key
        entries = torch.stack([m[key].detach() for m in models]).double()
        if not law.random:
            value = torch.as_tensor(law.mean if law.value is None else law.value).double()
            torch.testing.assert_close(entries, value.expand_as(entries), rtol=1e-6, atol=0)
            continue
        if law.zero_rows:
            assert not entries[:, list(law.zero_rows)].any(), key
            keep = [k for k in range(entries.shape[1]) if k not in law.zero_rows]
            entries = entries[:, keep]
        ratio = float((entries - law.mean).square().mean()) / law.std**2
        # 900 parameters in all: one in 10^7 tests of 5.3 standard errors fails by chance
        assert abs(ratio - 1) < 5.3 * math.sqrt((2 + law.excess) / entries.numel()), key


@pytest.mark.parametrize(
    "name", ["mlp", "mlp_tanh", "vae", "deepsets", "groupnorm", "mixer", "gnn"]
)
def test_trained_models_look_trained(name):
    family = zoo.FAMILIES[name]
    model = family.build(0)
    zoo.train(family, model, 150)
    found = looks_trained(model)
    assert found.state in ("trained", "partly")
    matrices = {n for n, p in model.named_parameters() if p.ndim > 1}
    trained, fresh = (matrices & set(found.names(s)) for s in ("trained", "fresh"))
    assert len(trained) >= len(fresh), str(found)
    # the laws are still those of the initialisation
    fresh = laws(family.build(1))
    for key, law in laws(model).items():
        if key in found.names("trained"):
            assert law.std == pytest.approx(fresh[key].std, rel=1e-6)


def test_a_checkpoint_loaded_in_part_is_told_apart():
    family = zoo.FAMILIES["mlp_16"]
    model = family.build(0)
    zoo.train(family, model, 150)
    torch.manual_seed(7)
    model[8] = nn.Linear(64, 64)
    found = looks_trained(model)
    assert found.state == "partly"
    assert "8.weight" in found.names("fresh")
    assert "0.weight" in found.names("trained")
    assert "look fresh" in str(found)


def test_lora_is_trained_below_and_fresh_above():
    found = looks_trained(zoo.FAMILIES["lora"].build(0))
    assert found
    assert set(found.names("trained")) >= {"0.base.weight", "2.base.weight"}
    assert "0.A" not in found.names("trained")


@pytest.mark.parametrize("shape", [(20, 30), (64, 256), (300, 80)])
def test_the_edge_has_the_law_of_tracy_and_widom(shape):
    g = torch.Generator().manual_seed(0)
    z = torch.tensor([_edge(torch.randn(*shape, generator=g).double())[0] for _ in range(300)])
    # the law holds up to corrections of relative order min(n, m)^(-2/3)
    rest = min(shape) ** (-2 / 3)
    assert abs(float(z.mean())) < 4 / math.sqrt(300) + rest
    assert abs(float(z.std()) - 1) < 4 / math.sqrt(600) + rest
    # entries with lighter tails stay below the edge
    flat = [_edge(torch.rand(*shape, generator=g).double())[0] for _ in range(300)]
    assert max(*flat, float(z.max())) < 6
    assert TW_MEAN < 0 < TW_STD


def test_a_direction_beyond_the_edge_is_found():
    g = torch.Generator().manual_seed(0)
    noise = torch.randn(100, 200, generator=g).double()
    u, v = torch.randn(100, 1, generator=g).double(), torch.randn(1, 200, generator=g).double()
    spike = 2 * (10 + math.sqrt(200)) * (u / u.norm()) @ (v / v.norm())
    assert _edge(noise)[0] < 6 < 20 < _edge(noise + spike)[0]
    stretched = noise * torch.linspace(0.5, 1.5, 200)
    assert max(z for z, _ in _unequal(noise)) < 6 < 20 < max(z for z, _ in _unequal(stretched))


def test_nothing_is_claimed_without_values():
    with torch.device("meta"):
        model = nn.Linear(20, 20)
    assert looks_trained(model).state == "unclear"
    assert looks_trained(nn.Identity()).state == "unclear"
