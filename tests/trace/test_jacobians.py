"""Random vector–Jacobian products against full Jacobians, and the main chain of the graph."""

from __future__ import annotations

import torch
from torch import nn

from kadanoff.trace.graph import main_chain
from kadanoff.trace.jacobians import jacobians_along, jacobians_to_output
from kadanoff.trace.layers import Layers
from kadanoff.trace.recorder import Recorder
from kadanoff.trace.roles import roles_of
from tests.known import assert_consistent
from tests.trace.models import GPT, ResNet18, mlp


def traced(model, x):
    with Recorder(model, layers := Layers(graph=True, adds=True)):
        output = model(x)
    useful = [c for c in layers.calls if c.kind in ("linear", "add")]
    return output, useful, [useful[i] for i in main_chain(output, [c.edge for c in useful])]


def test_norms_agree_with_full_jacobians():
    model = mlp(nn.Tanh, 3, 12, 1.3, 0.1, n_in=5, n_out=4).double()
    x = torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    output, calls, _ = traced(model, x)
    edges, probes = [c.edge for c in calls], 3000
    generator = torch.Generator().manual_seed(2)
    found = jacobians_to_output(output, edges, 6, probes, generator)
    along = jacobians_along(
        edges, [c.statistics.shape for c in calls], [torch.float64] * 4, x.device, 6, probes,
        generator,
    )  # fmt: skip
    z = x
    for layer in range(3):
        z = model[2 * layer](torch.tanh(z) if layer else z)
        after = model[2 * layer + 1 :]
        step = model[2 * layer + 1 : 2 * layer + 3]
        for rest, values, n in ((after, found[layer], 4), (step, along[layer], len(step[-1].bias))):
            exact = torch.stack(
                [torch.autograd.functional.jacobian(rest, row).square().sum() / n for row in z]
            )
            # |vᵀJ|² has a relative variance of at most 2 a probe
            error = exact * (2 / probes) ** 0.5
            assert_consistent(exact, values, error, relative_error=0.03)


def test_main_chain_of_an_mlp_is_every_layer():
    _, calls, chain = traced(mlp(nn.Tanh, 5, 8), torch.randn(3, 32))
    assert chain == calls
    names = roles_of(calls, list(range(len(calls))))
    assert names == ["input", *["hidden"] * 4, "readout"]


def test_main_chain_of_residual_nets_is_the_stream():
    _, _, chain = traced(ResNet18(), torch.randn(2, 3, 32, 32))
    assert [c.path for c in chain] == [
        "conv1", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1",
        "layer4.0", "layer4.1", "fc",
    ]  # fmt: skip
    _, _, chain = traced(GPT(3), torch.randint(0, 48, (2, 8)))
    assert [c.kind for c in chain] == ["linear", *["add"] * 6, "linear"]


def test_attention_roles():
    _, calls, chain = traced(GPT(1), torch.randint(0, 48, (2, 8)))
    found = {
        c.path: r
        for c, r in zip(calls, roles_of(calls, [calls.index(c) for c in chain]), strict=True)
    }
    assert found["emb"] == "embedding"
    assert found["blocks.0.qkv"] == "attention"
    assert found["head"] == "readout"
