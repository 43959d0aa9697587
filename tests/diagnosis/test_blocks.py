"""Calls are grouped as the authors of models think of them; the verdict speaks in their words."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

pytest.importorskip("transformers")

import kadanoff as kd
from benchmarks import zoo
from kadanoff.diagnosis.block_table import growth
from kadanoff.diagnosis.blocks import blocks_of, part_of, pooled
from kadanoff.diagnosis.plain_words import summary
from kadanoff.diagnosis.result import Estimate, LayerReport
from tests.cli.run import run

ATTENTION = {"attention q, k", "attention v", "attention out"}
MLP = {"MLP up", "MLP down", "stream"}
# family -> blocks, groups outside, roles inside
EXPECTED = {
    "gpt2": (["h.0", "h.1", "h.2", "h.3"], ["wte", "wpe", "lm_head"],
             {"attention in", "attention out", *MLP}),
    "llama": ([f"layers.{k}" for k in range(4)], ["embed_tokens", "lm_head"], ATTENTION | MLP),
    "mixtral": ([f"layers.{k}" for k in range(4)], ["embed_tokens", "lm_head"],
                {*ATTENTION, *MLP, "router"}),
    "bert": ([f"layer.{k}" for k in range(4)], ["embeddings", "cls"], ATTENTION | MLP),
    "albert": ([f"pass {k}" for k in range(4)],
               ["embeddings", "embedding_hidden_mapping_in", "predictions"], ATTENTION | MLP),
    "t5": (["encoder.block.0", "encoder.block.1", "decoder.block.0", "decoder.block.1"],
           ["encoder", "decoder", "lm_head"],
           {*ATTENTION, *MLP, "positions", *(f"cross {part}" for part in ATTENTION)}),
    "swin": (["layers.0.blocks.0", "layers.0.blocks.1", "layers.1.blocks.0", "layers.1.blocks.1"],
             ["embeddings", "layers.0.downsample", "classifier"], ATTENTION | MLP),
    "resnet": (["layer1.0", "layer1.1", "layer2.0", "layer2.1"], ["conv1", "fc"],
               {"conv 1", "conv 2", "stream", "shortcut"}),
    "mobilenet": (["3", "4", "5", "6"], ["0", "9"], {"conv 1", "conv 2", "conv 3", "stream"}),
    "unet": (["down.0", "down.1", "mid", "up.0", "up.1"], ["inp", "out"],
             {"shortcut", "conv 1", "conv 2", "stream"}),
    "gnn": ([f"block {k}" for k in range(4)], ["embed", "readout"], {"own", "neighbour", "stream"}),
    "mamba": (["mixers.0", "mixers.1"], ["embedding", "readout"],
              {"in_proj", "conv 1", "x_proj", "dt_proj", "out_proj", "stream"}),
    "mlp": ([], ["0", "2", "4", "6"], set()),
    "vae": ([], ["encoder", "mu", "logvar", "decoder"], set()),
    "lstm": ([], ["embedding", "rnn", "readout"], set()),
}  # fmt: skip


def _diagnosed(name: str, **sizes: int) -> kd.Diagnosis:
    family = zoo.FAMILIES[name]
    return kd.diagnose(family.build(0, **sizes), family.data())


@pytest.mark.parametrize("name", EXPECTED)
def test_blocks_and_roles(name):
    d = _diagnosed(name)
    found = blocks_of(d.layers, d.sums)
    inside, outside, parts = EXPECTED[name]
    assert [g.label for g in found.numbered] == inside
    assert [g.label for g in found.groups if g.number is None] == outside
    assert set(found.parts) == parts
    assert bool(found) == (len(inside) > 1)
    # nothing is lost, nothing is counted twice
    everything = [r for g in found.groups for r in g.layers]
    assert sorted(map(id, everything)) == sorted(map(id, (*d.layers, *d.sums)))
    for group in found.groups:
        assert sum(map(len, group.parts.values())) == len(group.layers)


def test_blocks_of_any_number_keep_their_names():
    found = blocks_of(_diagnosed("gpt2", depth=7).layers)
    assert [g.number for g in found.numbered] == list(range(7))
    assert found.name(found.numbered[3]) == "block 3"
    found = blocks_of(_diagnosed("resnet", depth=5).layers)
    assert found.name(found.numbered[-1]) == "block layer2.1"


def _layer(path: str, **values) -> LayerReport:
    nothing = Estimate(1.0)
    given = {
        "index": 1, "op": "linear", "call_index": 0, "role": "hidden",
        "parameter": f"{path}.weight", "fan_in": 8, "fan_out": 8, "activation": None,
        "normalised": False, "residual": False, "mean": nothing, "second_moment": nothing,
    } | values  # fmt: skip
    return LayerReport(path=path, **given)


@pytest.mark.parametrize(
    "path, values, part",
    [
        ("h.0.attn.qkv", {}, "attention in"),
        ("h.0.attention.to_q", {"role": "attention"}, "attention q, k"),
        ("h.0.attn.proj", {}, "attention out"),
        ("h.0.crossattention.self.value", {"role": "attention"}, "cross attention v"),
        ("h.0.mlp.fc1", {"fan_out": 32}, "MLP up"),
        ("h.0.mlp.fc2", {"fan_in": 32}, "MLP down"),
        ("h.0.mlp.gate_proj", {"fan_out": 32}, "MLP up"),
        ("h.0.moe.gate", {"fan_out": 4}, "router"),
        ("h.0.in_proj", {}, "in_proj"),
        ("h.0.conv", {"op": "conv2d"}, "conv"),
        ("h.0", {"op": "add", "role": "stream", "parameter": None}, "stream"),
    ],
)
def test_roles_by_name(path, values, part):
    assert part_of(_layer(path, **values), "h.0") == part


def test_pooling_keeps_the_worst_distance_and_weighs_gradients_by_size():
    small = _layer("a", fan_in=1, fan_out=1, gradient=Estimate(3.0, 0.0, 2.0, 1.0, 1.0))
    large = _layer("b", fan_in=3, fan_out=1, gradient=Estimate(1.0, 0.0, 2.0, 1.0, -5.0))
    found = pooled([small, large], "gradient")
    assert found is not None
    assert found.value == pytest.approx(((9 + 3) / 4) ** 0.5)
    assert (found.predicted, found.spread, found.z) == (2.0, 1.0, -5.0)
    assert pooled([small, _layer("c")], "gradient") is not None
    assert pooled([_layer("c")], "gradient") is None


def test_growth_is_what_the_block_does_to_a_gradient():
    """Each block multiplies its input by a, so a squared gradient grows by a²."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inp, self.out = nn.Linear(6, 20), nn.Linear(20, 4)
            self.blocks = nn.ModuleList(
                nn.ModuleDict({"a": nn.Linear(20, 20, bias=False), "b": nn.Linear(20, 20)})
                for _ in range(3)
            )

        def forward(self, x):
            x = self.inp(x)
            for block in self.blocks:
                with torch.no_grad():
                    block["a"].weight.copy_(torch.eye(20))
                    block["b"].weight.copy_(0.5 * torch.eye(20))
                x = x + block["b"](block["a"](x))
            return self.out(x)

    found = blocks_of(kd.diagnose(Net(), torch.randn(8, 6)).layers)
    factors = growth(found.groups)
    assert len(factors) == 3
    assert all(factor == pytest.approx(1.5**2, rel=1e-4) for factor in factors.values())


def test_the_verdict_names_what_stands_out():
    d = _diagnosed("llama")
    assert d.healthy
    assert d.verdict.startswith("signal and gradient reach all 4 blocks")
    assert re.search(r"queries and keys of block 3 get \d+ times less", d.verdict)
    assert "χ" in d.physics
    model = zoo.FAMILIES["gpt2"].build(0)
    with torch.no_grad():  # what is added to the stream in block 2 hardly matters
        for name in ("attn", "mlp"):
            getattr(model.transformer.h[2], name).c_proj.weight *= 1e-3
    d = kd.diagnose(model, zoo.FAMILIES["gpt2"].data())
    by_block = {
        g.number: pooled(g.parts["MLP up"], "gradient").value for g in blocks_of(d.layers).numbered
    }
    less = sorted(by_block.values())[2] / by_block[2]
    assert less > 100
    said = re.search(r"(\S+) of block 2 gets (\S+) times less gradient than the others", summary(d))
    assert said
    assert float(said[2].replace(",", "")) > 100


def test_the_terminal_prints_blocks_and_opens_to_calls(capsys, tmp_path):
    page = tmp_path / "report.html"
    (tmp_path / "made.py").write_text(
        "from benchmarks import zoo\nfamily = zoo.FAMILIES['gpt2']\n"
        "def model():\n    return family.build(0)\n"
        "def data():\n    return family.data()\n"
    )
    words = ["diagnose", f"{tmp_path}/made.py:model", "--data", f"{tmp_path}/made.py:data"]
    code, out, _ = run(capsys, *words, "--html", str(page))
    assert code == 0
    assert "h.3" in out
    assert "mlp.c_fc" not in out
    assert "--calls" in out
    code, out, _ = run(capsys, *words, "--calls")
    assert "mlp.c_fc" in out
    html = page.read_text()
    assert "Block by block" in html
    assert "<details>" in html
    assert "attention out" in html
