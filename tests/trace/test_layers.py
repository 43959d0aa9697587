"""What a call knows of its surroundings, against independent readings of the same pass."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kadanoff.trace import Layers, Observer, Recorder, record
from kadanoff.trace.graph import main_chain
from kadanoff.trace.roles import roles_of
from tests.trace.models import GPT, Functional, ResNet18, hugging_face, mlp


def listed(model: nn.Module, *args, **kwargs):
    with Recorder(model, layers := Layers(graph=True, adds=True)):
        output = model(*args, **kwargs)
    return output, layers


def llama(**sizes):
    transformers = hugging_face()
    config = transformers.LlamaConfig(
        num_hidden_layers=2,
        hidden_size=16,
        intermediate_size=32,
        num_attention_heads=2,
        vocab_size=50,
        **sizes,
    )
    return transformers.LlamaForCausalLM(config)


def several():
    ids = torch.randint(0, 48, (2, 8), generator=torch.Generator().manual_seed(0))
    return [
        (mlp(nn.Tanh, 4, 8), torch.randn(3, 32)),
        (ResNet18(), torch.randn(2, 3, 32, 32)),
        (GPT(2), ids),
        (Functional(), torch.randn(3, 6)),
        (llama(), ids),
        (nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), torch.randn(3, 4, 8)),
    ]


def activation_scanned(calls, index):
    for call in calls[index + 1 :]:
        if call.kind == "activation":
            return call
        if call.kind in ("linear", "recurrent", "attention"):
            return None
    return None


def normalised_scanned(calls, index):
    for call in reversed(calls[:index]):
        if call.kind == "norm":
            return True
        if call.kind in ("linear", "recurrent"):
            break
    for call in calls[index + 1 :]:
        if call.kind == "norm":
            return True
        if call.kind != "add":
            return False
    return False


@pytest.mark.parametrize("case", range(6))
def test_surroundings_agree_with_a_scan_of_the_finished_list(case):
    model, x = several()[case]
    _, layers = listed(model, x)
    seen = set()
    for index, call in enumerate(layers.calls):
        assert call.after is activation_scanned(layers.calls, index)
        assert call.normalised == normalised_scanned(layers.calls, index)
        seen |= {("activation", call.after is None), ("norm", call.normalised)}
    assert len(seen) >= 3  # the scan had something to find


def test_role_and_chain_are_told_once_the_output_is_known():
    output, layers = listed(GPT(2), torch.randint(0, 48, (2, 8)))
    assert all(call.role is None for call in layers.calls)
    chain = layers.complete(output)
    useful = [i for i, c in enumerate(layers.calls) if c.kind in ("linear", "add")]
    expected = [useful[i] for i in main_chain(output, [layers.calls[i].edge for i in useful])]
    assert chain == expected
    assert [i for i, call in enumerate(layers.calls) if call.on_chain] == chain
    assert [call.role for call in layers.calls] == roles_of(layers.calls, chain)
    assert {"embedding", "stream", "attention", "readout"} <= {c.role for c in layers.calls}


def test_sources_follow_the_data_not_the_order_of_calls():
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.c = (nn.Linear(4, 4) for _ in range(3))

        def forward(self, x):
            up, gate = self.a(x), self.b(x)
            gate = F.silu(gate.clone())
            joined = torch.cat([up.view(-1, 4) * gate, up], 0)
            return self.c(joined[: len(x)])

    calls = record(Branches(), torch.randn(3, 4))
    a, b, silu, c = calls
    assert [call.op for call in calls] == ["linear", "linear", "silu", "linear"]
    assert a.sources == () == b.sources
    assert silu.sources == (b,)
    assert set(c.sources) == {a, silu}


def test_sources_survive_in_place_changes_and_reuse_of_memory():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(30))

        def forward(self, x):
            for layer in self.layers:
                x = layer(x)
                x.relu_()
                x.add_(1.0)
            return x

    calls = record(Net(), torch.randn(3, 4))
    assert len(calls) == 60
    for before, call in pairwise(calls):
        assert call.sources == (before,)


def test_weights_computed_in_the_forward_pass_are_told_by_their_parameters():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.W, self.gain = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.ones(1, 3))
            self.register_buffer("mask", torch.ones(4, 3))

        def forward(self, x):
            return x @ (self.W * self.gain * self.mask)

    (call,) = record(Scaled(), torch.randn(2, 4))
    assert (call.op, call.parameter, call.derived) == ("matmul", "W", True)
    assert (call.fan_in, call.fan_out) == (4, 3)
    assert set(call.parameters) == {"W", "gain"}

    normed = nn.utils.parametrizations.weight_norm(nn.Linear(5, 7))
    (call,) = record(normed, torch.randn(2, 5))  # the norm of a weight is no layer
    assert call.parameter == "parametrizations.weight.original1"
    assert (call.fan_in, call.fan_out, call.derived, call.normalised) == (5, 7, True, False)

    # the product of two activations is no layer, though both depend on parameters
    attention = GPT(1)
    calls = record(attention, torch.randint(0, 48, (2, 8)))
    assert not any(c.op in ("matmul", "bmm", "einsum") for c in calls if c.parameter is None)


def test_all_parameters_of_a_call_are_named():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2))
    calls = record(model, torch.randn(2, 3, 4, 4))
    assert [call.parameters for call in calls] == [
        ("0.weight", "0.bias"),
        ("1.weight", "1.bias"),
        ("3.weight", "3.bias"),
    ]
    (call,) = record(nn.LSTM(3, 4), torch.randn(5, 2, 3))
    assert call.parameters == ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    assert call.op == "lstm"
    (call,) = record(nn.GRUCell(3, 4), torch.randn(2, 3))
    assert (call.kind, call.op) == ("recurrent", "gru_cell")


def test_parameters_on_the_meta_device_are_told_apart():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 5, bias=False))
        x = torch.empty(2, 3)

    class Names(Observer):
        def __init__(self):
            self.seen = []

        def after(self, call, output):
            weight = call.arguments["weight"]
            self.seen.append((self.recorder.parameter_of(weight), call.path))
            assert self.recorder.parameter_of(weight.T) == self.seen[-1][0]

    with Recorder(model, names := Names()):
        model(x)
    assert names.seen == [("0.weight", "0"), ("1.weight", "1")]


def test_several_observers_hear_the_same_calls_in_order():
    class Log(Observer):
        def __init__(self, log):
            self.log = log

        def begin(self, recorder):
            super().begin(recorder)
            self.log.append("begin")

        def started(self, frame):
            self.log.append(f"in {frame.path}")

        def ended(self, frame, output):
            self.log.append(f"out {frame.path}")

        def before(self, call):
            self.log.append(f"before {call.name}")

        def after(self, call, output):
            self.log.append(f"after {call.name}")

        def finish(self):
            self.log.append("finish")

    model, first, second = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), [], []
    x = torch.ones(2, 3)
    with Recorder(model, Log(first), Log(second)):
        model(x)
    assert (
        first
        == second
        == [
            "begin",
            "in ",
            "in 0",
            "before linear",
            "after linear",
            "out 0",
            "in 1",
            "before relu",
            "after relu",
            "out 1",
            "out ",
            "finish",
        ]
    )
    first.clear()
    with Recorder(model, Log(first), paths=False):
        model(x)
    assert first == [
        "begin",
        "before linear",
        "after linear",
        "before relu",
        "after relu",
        "finish",
    ]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())
