"""No false alarms: freshly built critical nets over seeds, depths, widths and activations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from kadanoff.diagnosis import diagnose
from tests.trace.models import GPT, ResNet18, hugging_face, mlp


class Erf(nn.Module):
    def forward(self, x):
        return torch.erf(x)


class Sin(nn.Module):
    def forward(self, x):
        return torch.sin(x)


CRITICAL = {
    "relu": (nn.ReLU, 2.0, 0.0),
    "tanh": (nn.Tanh, 1.0, 0.0),
    "erf": (Erf, math.pi / 4, 0.0),
    "sin": (Sin, 1.0, 0.0),
    "gelu": (nn.GELU, 1.98305826, 0.17292239),
}


def alarms(model, data) -> list[str]:
    return [f.sentence for f in diagnose(model, data).findings if f.severity != "note"]


@pytest.mark.parametrize("name", CRITICAL)
@pytest.mark.parametrize("depth,width", [(2, 64), (5, 32), (12, 64)])
def test_critical_mlps(name, depth, width):
    act, C_W, C_b = CRITICAL[name]
    for seed in range(2):
        x = torch.randn(24, 32, generator=torch.Generator().manual_seed(seed)) * (1, 3)[seed]
        model = mlp(act, depth, width, C_W, C_b, seed=100 * seed + depth)
        assert alarms(model, x) == [], (name, depth, width, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", CRITICAL)
def test_critical_mlps_over_many_seeds(name):
    act, C_W, C_b = CRITICAL[name]
    for depth, width in ((4, 24), (16, 64), (32, 128), (50, 128)):
        for seed in range(3):
            x = torch.randn(24, 32, generator=torch.Generator().manual_seed(seed))
            model = mlp(act, depth, width, C_W, C_b, seed=1000 + 10 * seed + depth)
            assert alarms(model, x) == [], (name, depth, width, seed)


@pytest.mark.parametrize("seed", range(3))
def test_pre_norm_transformer_and_resnet(seed):
    torch.manual_seed(seed)
    ids = torch.randint(0, 48, (4, 16))
    for depth in (2, 8):
        assert alarms(GPT(depth), ids) == []
    images = torch.randn(8, 3, 48, 48)
    model = ResNet18(8)
    assert alarms(model, images) == []
    assert alarms(model.eval(), images) == []


def test_torch_transformer_encoder():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(32, 2, 64, batch_first=True, norm_first=True)
    model = nn.Sequential(
        nn.TransformerEncoder(layer, 4, enable_nested_tensor=False), nn.Linear(32, 3)
    )
    assert alarms(model, torch.randn(4, 12, 32)) == []


def test_hugging_face_models():
    transformers = hugging_face()
    torch.manual_seed(0)
    ids = torch.randint(0, 48, (4, 16))
    gpt2 = transformers.GPT2Config(
        n_layer=4, n_embd=32, n_head=2, vocab_size=48, n_positions=32, bos_token_id=0,
        eos_token_id=0, loss_type="ForCausalLM",
    )  # fmt: skip
    llama = transformers.LlamaConfig(
        num_hidden_layers=4, hidden_size=32, intermediate_size=64, num_attention_heads=2,
        vocab_size=48,
    )  # fmt: skip
    bert = transformers.BertConfig(
        num_hidden_layers=4, hidden_size=32, intermediate_size=64, num_attention_heads=2,
        vocab_size=48,
    )  # fmt: skip
    found = diagnose(transformers.GPT2LMHeadModel(gpt2), {"input_ids": ids, "labels": ids})
    assert found.healthy
    assert found.loss_name == "the model's own loss"
    assert found.loss == pytest.approx(math.log(48), rel=0.05)
    assert alarms(transformers.LlamaForCausalLM(llama), {"input_ids": ids}) == []
    assert alarms(transformers.BertForSequenceClassification(bert), {"input_ids": ids}) == []


@pytest.mark.parametrize("act,gain", [(nn.ReLU, 2.0), (nn.Tanh, 1.0)])
def test_small_convolutional_nets(act, gain):
    generator = torch.Generator().manual_seed(3)
    modules: list[nn.Module] = []
    for i, o in ((1, 16), (16, 16), (16, 32), (32, 32), (32, 32)):
        conv = nn.Conv2d(i, o, 3, padding=1)
        with torch.no_grad():
            conv.weight.normal_(0, (gain / (9 * i)) ** 0.5, generator=generator)
            conv.bias.zero_()
        modules += [conv, act()]
    model = nn.Sequential(*modules, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, 10))
    assert alarms(model, torch.randn(12, 1, 14, 14, generator=generator)) == []
