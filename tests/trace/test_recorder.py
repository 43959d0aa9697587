"""Exact numbers of recorded calls, and that nothing is left behind."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from kadanoff.trace import Layers, Recorder, record, unwrap
from tests.trace.models import GPT, Functional, ResNet18, hugging_face


def kinds(calls) -> Counter:
    return Counter(call.kind for call in calls)


def paths(calls, kind: str) -> Counter:
    return Counter(call.path for call in calls if call.kind == kind)


def state(model: nn.Module) -> list:
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._forward_hooks_always_called))
        for m in model.modules()
    ]
    return [
        hooks,
        [m.training for m in model.modules()],
        [sorted(vars(m)) for m in model.modules()],
        [(p.requires_grad, p.grad is None) for p in model.parameters()],
        [b.clone() for b in model.buffers()],
        torch.get_rng_state(),
    ]


def same(a: list, b: list) -> bool:
    return all(x == y for x, y in zip(a[:4], b[:4], strict=True)) and all(
        torch.equal(x, y) for x, y in zip([*a[4], a[5]], [*b[4], b[5]], strict=True)
    )


def test_resnet18_shows_all_17_relu_calls():
    calls = record(ResNet18(), torch.randn(2, 3, 32, 32))
    relu = [call for call in calls if call.kind == "activation"]
    assert len(relu) == 17
    assert {call.op for call in relu} == {"relu"}
    assert all(call.in_place for call in relu)
    assert kinds(calls) == Counter(linear=21, activation=17, norm=20)
    assert paths(calls, "activation")["layer1.0.relu"] == 2
    assert [c.call_index for c in relu if c.path == "layer1.0.relu"] == [0, 1]


def test_functional_reused_tied_and_in_place():
    calls = record(Functional(), torch.randn(3, 6))
    assert [call.op for call in calls] == [
        "linear", "relu", "linear", "relu", "linear", "tanh", "linear", "gelu", "tanh", "matmul",
        "tanh",
    ]  # fmt: skip
    assert [call.parameter for call in calls if call.kind == "linear"] == [
        "a.weight", "a.weight", "b.weight", "b.weight", "b.weight",
    ]  # fmt: skip
    assert [call.path for call in calls] == ["a", "", "a", "", "b", "", "c", "", "act", "", "act"]
    assert [call.in_place for call in calls if call.op == "relu"] == [False, True]


def test_in_place_activation_does_not_change_what_was_recorded():
    model = nn.Sequential(nn.Linear(4, 5), nn.ReLU(inplace=True), nn.Linear(5, 2))
    x = torch.randn(7, 4)
    with Recorder(model, layers := Layers(keep=True)):
        output = model(x)
    z = nn.functional.linear(x, model[0].weight, model[0].bias)
    first = layers.calls[0]
    assert torch.equal(first.output, z)
    assert torch.equal(layers.calls[1].input, z)
    assert torch.allclose(first.statistics.second_moment, z.square().mean(1))
    assert torch.equal(output, model(x))


def test_hugging_face_gpt2_and_llama():
    transformers = hugging_face()
    ids = torch.randint(0, 50, (2, 9))
    config = transformers.GPT2Config(
        n_layer=2, n_embd=16, n_head=2, vocab_size=50, n_positions=32,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    calls = record(transformers.GPT2LMHeadModel(config), input_ids=ids)
    assert kinds(calls) == Counter(linear=11, norm=5, attention=2, activation=2)
    assert [c.op for c in calls if c.kind == "activation"] == ["gelu", "gelu"]
    fc = next(c for c in calls if c.path.endswith("mlp.c_fc"))
    # the transposed Conv1D: weight is (in, out)
    assert (fc.op, fc.fan_in, fc.fan_out) == ("addmm", 16, 64)
    assert calls[-1].parameter == "transformer.wte.weight"  # tied head

    config = transformers.LlamaConfig(
        num_hidden_layers=2, hidden_size=16, intermediate_size=32, num_attention_heads=2,
        vocab_size=50,
    )  # fmt: skip
    calls = record(transformers.LlamaForCausalLM(config), input_ids=ids)
    assert kinds(calls) == Counter(linear=16, norm=5, attention=2, activation=2)
    assert {c.op for c in calls if c.kind == "activation"} == {"silu"}
    assert {c.op for c in calls if c.kind == "norm"} == {"rms_norm"}


def test_looks_inside_multi_head_attention():
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    calls = record(layer, torch.randn(3, 4, 8))
    assert [c.op for c in calls if c.kind == "linear"] == ["linear"] * 4
    assert calls[0].parameter == "self_attn.in_proj_weight"
    assert kinds(calls) == Counter(linear=4, norm=2, attention=1, activation=1)


def test_fans_by_operation():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(4, 6, 3, groups=2)
            self.up = nn.ConvTranspose2d(6, 4, 2, groups=2)
            self.W = nn.Parameter(torch.randn(4, 3))

        def forward(self, x):
            y = self.up(self.conv(x)).mean((2, 3))
            return y @ self.W + (self.W.T @ y.T).T

    calls = record(Net(), torch.randn(2, 4, 8, 8))
    assert [(c.op, c.fan_in, c.fan_out) for c in calls] == [
        ("conv2d", 18, 6), ("conv_transpose2d", 12, 4), ("matmul", 4, 3), ("matmul", 4, 3),
    ]  # fmt: skip


@pytest.mark.parametrize("training", [True, False])
def test_leaves_nothing_behind(training):
    model = nn.Sequential(ResNet18(), nn.Dropout(0.5))
    model.train(training)
    model[0].layer2.eval()  # a mixture of modes survives
    model[0].fc.weight.requires_grad_(False)
    before = state(model)
    record(model, torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert same(before, state(model))


def test_leaves_nothing_behind_after_an_exception():
    class Broken(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.bn, self.b = nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(3, 2)

        def forward(self, x):
            return self.b(self.bn(torch.relu(self.a(x))))

    model = Broken()
    before = state(model)
    x = torch.ones(5, 4)
    recorder = Recorder(model, layers := Layers())
    with pytest.raises(RuntimeError), recorder:
        model(x)
    assert [call.op for call in layers.calls] == ["linear", "relu", "batch_norm"]
    assert recorder.last_path == "b"
    model.bn.reset_running_stats()
    assert same(before, state(model))
    with pytest.raises(RuntimeError):
        record(model, x)
    assert same(before, state(model))
    assert torch.relu(torch.tensor(-1.0)) == 0  # the function mode is gone


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, when it compiles
def test_unwraps_compiled_models():
    model = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    compiled = torch.compile(model)
    inner, note = unwrap(compiled)  # pyright: ignore
    assert inner is model
    assert "compiled" in note
    assert [call.op for call in record(compiled, torch.ones(1, 3))] == ["linear", "relu"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_exported_programs_are_seen():
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 2))
    program = torch.export.export(model, (torch.randn(3, 5),)).module()
    assert [call.op for call in record(program, torch.randn(3, 5))] == ["linear", "tanh", "linear"]


def test_residual_sums_are_recorded_on_request():
    ids = torch.randint(0, 48, (2, 8))
    with Recorder(model := GPT(3), layers := Layers(adds=True)):
        model(ids)
    assert kinds(layers.calls)["add"] == 6
    assert kinds(record(model, ids))["add"] == 0


def test_dead_saturated_and_zero_counts():
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.eye(4))

        def forward(self, x):
            return torch.tanh(torch.relu(x @ self.w))

    x = torch.tensor([[-1.0, 1.0, 10.0, 0.0], [-2.0, -1.0, 10.0, 3.0]])
    _, relu, tanh = record(Fixed(), x)
    assert relu.units.zeros.tolist() == [0.5, 0.5]
    assert relu.units.dead.item() == 0.25
    assert tanh.units.saturated.tolist() == [0.25, 0.5]
