"""Profiles of models whose activity is known."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from kadanoff.errors import AnalysisError, DataError, UsageError
from kadanoff.sparsity import TopKMLP, bytes_report, profile, profile_checkpoints
from kadanoff.sparsity.traffic import limit
from tests.needs import needs


def test_half_is_active_at_initialisation():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 2000, bias=False), nn.ReLU(), nn.Linear(2000, 2000, bias=False), nn.ReLU(),
        nn.Linear(2000, 3),
    )  # fmt: skip
    found = profile(model, torch.randn(400, 64))
    assert [layer.name for layer in found.layers] == ["0", "2"]
    first, second = found.layers
    assert first.exact
    assert first.active == pytest.approx(0.5, abs=0.01)
    # independent inputs share half of a ReLU layer's units; deeper, inputs have become alike
    assert first.overlap == pytest.approx(0.5, abs=0.02)
    assert second.overlap > 0.6
    assert first.union[1] == pytest.approx(0.5, abs=0.01)
    assert first.union[4] == pytest.approx(1 - 0.5**4, abs=0.02)


@pytest.mark.parametrize("make", [nn.ReLU, nn.GELU, nn.SiLU, lambda: nn.LeakyReLU(0.2)])
@pytest.mark.parametrize("gated", [False, True])
def test_theory_beside_fresh_weights(make, gated):
    """What random weights of the same size activate, against weights that are random."""
    generator = torch.Generator().manual_seed(2)
    d, m = 64, 6000
    model = TopKMLP(d, m, activation=make(), gated=gated).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(1.7 * torch.randn(p.shape, generator=generator) / d**0.5)
        (model.gate if gated else model.up).bias.add_(-0.3)
    # inputs of quite different sizes
    x = torch.randn(8, d, generator=generator) * torch.linspace(0.3, 2, 8)[:, None]
    layer = profile(model, x, error=0.2).layers[0]
    assert layer.expected is not None
    error = (layer.expected * (1 - layer.expected) / m) ** 0.5
    assert error < 0.01
    assert abs(layer.active - layer.expected) < 4 * error + 1e-3


def test_theory_knows_where_it_does_not_apply():
    x = torch.randn(16, 8)
    assert profile(TopKMLP(8, 64, 4), x).layers[0].expected is None
    conv = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    assert profile(conv, torch.randn(2, 1, 4, 4)).layers[0].expected is None
    many = nn.Sequential(nn.Linear(8, 64), nn.PReLU(64), nn.Linear(64, 2))
    assert profile(many, x).layers[0].expected is None


def test_counts_are_exact():
    """Weights set by hand: who fires for whom is known."""
    model = nn.Sequential(nn.Linear(2, 4, bias=False), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0], [-1, 0], [0, 1], [0, 0]]))
    x = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [1, 1]])
    layer = profile(model, x).layers[0]
    assert layer.frequency.tolist() == [0.75, 0.25, 0.75, 0.0]
    assert layer.never == 0.25
    assert layer.always == 0.0
    assert layer.active == pytest.approx((2 + 1 + 2 + 2) / 16)
    # neighbours: {0,2}&{0} = 1, {0}&{1,2} = 0, {1,2}&{0,2} = 1, of 2 + 1 + 2
    assert layer.overlap == pytest.approx(2 / 5)
    assert layer.union[4] == 0.75
    assert layer.token_quantiles[0.0] == 0.25
    batches = profile(model, [x[:2], x[2:]]).layers[0]
    assert batches.frequency.tolist() == layer.frequency.tolist()
    assert batches.tokens == 4


def test_sequences_have_their_own_neighbours():
    model = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
    x = torch.tensor([[1.0, 1, -1], [1, -1, -1]]).unsqueeze(-1)
    # pairs (1,1) (1,0) | (1,0) (0,0): one of the three active first tokens is followed by one
    assert profile(model, x).layers[0].overlap == pytest.approx(1 / 3)
    # the last token of one sequence and the first of the next both fire, and are no neighbours
    x = torch.tensor([[1.0, -1, 1], [1, 1, -1]]).unsqueeze(-1)
    assert profile(model, x).layers[0].overlap == pytest.approx(1 / 3)


@pytest.mark.parametrize("activation", [nn.GELU(), nn.SiLU()])
@pytest.mark.parametrize("gated", [False, True])
def test_threshold_holds_the_output_error(activation, gated):
    torch.manual_seed(1)
    model = TopKMLP(48, 300, activation=activation, gated=gated, bias=False).eval()
    x = torch.randn(256, 48)
    layer = profile(model, x, error=0.05).layers[0]
    assert layer.kind == ("gated" if gated else "mlp")
    assert 0 < layer.active < 1
    with torch.no_grad():
        gate = activation((model.gate if gated else model.up)(x))
        kept = gate * (gate.abs() >= layer.threshold)
        other = model.up(x) if gated else 1.0
        y = model.down(gate * other)
        error = float((model.down(kept * other) - y).norm() / y.norm())
    # calibrated on a few tokens; these are others as well
    assert 0.02 < error < 0.07


def test_convolutions():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(),
        nn.Linear(16 * 36, 10),
    )  # fmt: skip
    found = profile(model, torch.randn(4, 3, 18, 18))
    assert [(layer.kind, layer.width) for layer in found.layers] == [("conv", 8), ("conv", 16)]
    assert found.layers[0].tokens == 4 * 16 * 16
    assert found.layers[0].active == pytest.approx(0.5, abs=0.1)
    assert model.training


def test_hugging_face_blocks_by_structure():
    hf = needs("transformers", "hf")
    common = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
              "num_attention_heads": 4, "vocab_size": 50, "pad_token_id": 0,
              "bos_token_id": 1, "eos_token_id": 2}  # fmt: skip
    ids = torch.arange(12).reshape(2, 6)
    models = {
        "gated": hf.LlamaModel(hf.LlamaConfig(num_key_value_heads=4, **common)),
        "packed": hf.Phi3Model(hf.Phi3Config(num_key_value_heads=4, **common)),
        "gelu": hf.GPT2Model(hf.GPT2Config(n_embd=32, n_head=4, n_layer=2, vocab_size=50,
                                           bos_token_id=1, eos_token_id=2)),
        "relu": hf.OPTModel(hf.OPTConfig(hidden_size=32, ffn_dim=64, num_hidden_layers=2,
                                         num_attention_heads=4, vocab_size=50, pad_token_id=0,
                                         bos_token_id=1, eos_token_id=2, word_embed_proj_dim=32)),
    }  # fmt: skip
    for name, model in models.items():
        found = profile(model, {"input_ids": ids})
        assert len(found.layers) == 2, name
        assert {layer.kind for layer in found.layers} == {
            "gated" if name in ("gated", "packed") else "mlp"
        }
        assert all(layer.tokens == 12 for layer in found.layers)
        assert all(layer.exact == (name == "relu") for layer in found.layers)


def test_checkpoints_restore_the_model(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8))
    x = torch.randn(50, 8)
    shut = {k: (v - 100 if k == "0.bias" else v) for k, v in model.state_dict().items()}
    torch.save(shut, tmp_path / "late.pt")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    early, late = profile_checkpoints(
        model, {"early": model.state_dict(), "late": tmp_path / "late.pt"}, x
    )
    assert early.active > 0.3
    assert late.active == 0.0
    assert late.label == "late"
    assert late.layers[0].never == 1.0
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())


def test_json(tmp_path):
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8))
    profile(model, torch.randn(5, 8)).to_json(tmp_path / "p.json")
    read = json.loads((tmp_path / "p.json").read_text())
    assert read["layers"][0]["width"] == 32
    assert sum(read["layers"][0]["frequency_histogram"]) == 32


def test_bytes():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64))
    report = bytes_report(model, torch.randn(64, 64), measured_bandwidth=1e9)
    row = report.blocks[0]
    assert row.bytes == 2 * 64 * 256 * 4
    assert row.flops == 2 * 2 * 64 * 256
    assert row.skippable_bytes == pytest.approx((1 - row.active) * 64 * 256 * 4)
    assert row.skippable_flops == pytest.approx((1 - row.active) * 2 * 64 * 256)
    assert row.limit == pytest.approx(limit(row.active))
    assert report.mlp_share == 1.0
    assert row.dense_seconds == pytest.approx(row.bytes / 1e9)
    gated = bytes_report(TopKMLP(64, 256, 13, gated=True), torch.randn(8, 64), 0.01, 1e9).blocks[0]
    assert gated.limit == pytest.approx(limit(13 / 256, gated=True), rel=1e-6)
    assert gated.union_limit[8] < gated.union_limit[1]
    union = report.profile.layers[0].union
    assert set(row.union_limit) == set(union)
    for size, part in union.items():
        assert row.union_limit[size] == pytest.approx(limit(part))


def test_bad_calls():
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 8))
    with pytest.raises(UsageError, match="error = 2"):
        profile(model, torch.randn(5, 8), error=2)
    with pytest.raises(AnalysisError, match="No hidden activation"):
        profile(nn.Linear(3, 3), torch.randn(2, 3))
    with pytest.raises(DataError, match="NaN"):
        profile(model, torch.full((2, 8), float("nan")))
    with pytest.raises(DataError, match="no example"):
        profile(model, [])
    with pytest.warns(DeprecationWarning, match="jit"):
        scripted = torch.jit.script(model)
    with pytest.raises(UsageError, match="TorchScript"):
        profile(scripted, torch.randn(5, 8))
