"""What sampled networks do, against samplers of described networks, exact values, real models."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kadanoff as kd
from kadanoff.program import Law
from tests.known import assert_consistent


def _plain(widths: list[int], skip: float = 0.0) -> nn.Module:
    """tanh networks without biases, (skip z + W tanh z) after the first layer."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.maps = nn.ModuleList(
                nn.Linear(a, b, bias=False) for a, b in itertools.pairwise(widths)
            )

        def forward(self, x):
            z = self.maps[0](x)
            for i, layer in enumerate(self.maps[1:], 2):
                more = layer(torch.tanh(z))
                z = more if i == len(self.maps) or not skip else skip * z + more
            return z

    return Net().double()


def _laws(net: nn.Module, C_W: float) -> dict[str, Law]:
    return {n: Law(std=math.sqrt(C_W / p.shape[1])) for n, p in net.named_parameters()}


def test_fully_connected_networks_equal_the_sampler_of_described_ones():
    widths, C_W, count = [4, 24, 24, 24, 1], 1.5, 700
    x = torch.tensor([[0.8, -1.1, 0.4, 1.3]], dtype=torch.float64)
    net = _plain(widths)
    described = kd.MLP(4, widths[1:-1], 1, activation="tanh", C_W=C_W, lambda_b=0.0)
    theirs = kd.ensemble(described, x, 8_000, observables=["K", "V", "Theta"])
    ours = kd.ensemble(
        net, x, count, laws=_laws(net, C_W), loss=lambda z: z.sum(), probes=0, method="undrawn"
    )
    for layer in (1, 2):
        found = ours[f"maps.{layer}"]["second_moment"]
        K, V = (float(getattr(theirs, name).value[layer].flatten()[0]) for name in "KV")
        assert_consistent(K, found.value, found.stderr, relative_error=0.03)
        # the mean square of n neurons that are Gaussian given their metric G:
        # Var G + 2 E[G²]/n, with Var G = V/n
        n = widths[layer]
        variance = V / n + 2 * (K * K + V / n) / n
        assert_consistent(variance**0.5, found.spread, found.spread_stderr, relative_error=0.1)
    # Θ of the one output: Σ λ |∂z/∂W|², λ = 1/n_in
    found = [q for n, q in ours.gradients.items()]
    Theta = sum(q.value * b for q, b in zip(found, widths[1:]))
    error = math.hypot(*(q.stderr * b for q, b in zip(found, widths[1:])))
    assert_consistent(
        float(theirs.Theta.value[3].flatten()[0]), Theta, 2 * error, relative_error=0.1
    )


def test_residual_networks_equal_the_sampler_of_described_ones():
    widths, C_W = [4, 24, 24, 24, 1], 1.5
    x = torch.tensor([[0.8, -1.1, 0.4, 1.3]], dtype=torch.float64)
    net = _plain(widths, skip=0.7)
    described = kd.Residual(4, 24, 2, 1, "tanh", C_W=C_W, gamma=0.7)
    theirs = kd.ensemble(described, x, 8_000, observables=["K"])
    ours = kd.ensemble(net, x, 400, laws=_laws(net, C_W), probes=0, method="undrawn")
    for layer, key in ((1, ":add"), (2, ":add#1")):
        found = ours.calls[key]["second_moment"]
        K = float(theirs.K.value[layer].flatten()[0])
        assert_consistent(K, found.value, found.stderr, relative_error=0.03)


def test_rows_of_batch_norm_are_anticorrelated_as_a_centred_batch_must_be():
    B = 8
    net = nn.Sequential(nn.Linear(20, 512, bias=False), nn.BatchNorm1d(512), nn.ReLU())

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = net[:2]

        def forward(self, x):
            z = self.net(x)
            return (z @ z.T) / z.shape[1]

    x = torch.randn(B, 20, generator=torch.Generator().manual_seed(0))
    seen = []
    kd.ensemble(
        Scaled(), x, 2, laws={"net.0.weight": Law(std=0.2), "net.1.weight": Law.constant(1.0),
                              "net.1.bias": Law.constant(0.0)},
        loss=lambda gram: seen.append(gram.detach()) or gram.sum(), probes=0, method="undrawn",
    )  # fmt: skip
    off = seen[0][~torch.eye(B, dtype=torch.bool)]
    # each channel sums to zero over the batch: the off-diagonal mean is −1/(B−1) of the diagonal
    assert float(off.mean()) == pytest.approx(-1 / (B - 1), rel=1e-3)


class Causal(nn.Module):
    """One causal attention layer of many heads; no output map."""

    def __init__(self, width=512, heads=32):
        super().__init__()
        self.maps = nn.ModuleDict({k: nn.Linear(width, width, bias=False) for k in "qkv"})
        self.heads = heads

    def forward(self, x):
        N, T, _ = x.shape
        q, k, v = (self.maps[c](x).view(N, T, self.heads, -1).transpose(1, 2) for c in "qkv")
        return F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2)


def test_the_first_position_of_causal_attention_copies_its_value():
    T, n, C_V = 4, 512, 1.3
    x = torch.randn(2, T, n, generator=torch.Generator().manual_seed(2))
    x = F.normalize(x, dim=-1) * n**0.5
    laws = {f"maps.{c}.weight": Law(std=(C_V / n) ** 0.5) for c in "qkv"}
    seen = []
    kd.ensemble(
        Causal(), x, 16, laws=laws, probes=0,
        loss=lambda out: seen.append(out[:, 0].detach().square().mean()) or out.sum(),
    )  # fmt: skip
    found = torch.stack(seen)
    # K[0, 0] = C_V exactly, whatever the scores are
    assert_consistent(C_V, found.mean(), found.std() / len(found) ** 0.5, relative_error=0.02)


V, LENGTH = 512, 24


def _gpt2(width: int, layers: int = 4):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(
        vocab_size=V, n_positions=LENGTH, n_embd=width, n_layer=layers, n_head=4,
        initializer_range=0.1, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, use_cache=False,
    )  # fmt: skip
    with torch.device("meta"):
        return transformers.GPT2LMHeadModel(config).eval()


def _tokens():
    generator = torch.Generator().manual_seed(1)
    shape = (2, LENGTH)
    return tuple(torch.randint(0, V, shape, generator=generator) for _ in range(2))


@pytest.mark.slow
def test_a_transformer_has_the_values_of_really_initialised_ones():
    x, y = _tokens()
    ours = kd.ensemble(_gpt2(256), ({"input_ids": x}, y), 20, probes=0)
    # means over 500 really initialised networks of this configuration, with their errors
    known = {0: (1.9682, 0.0030), 3: (8.255, 0.016)}
    for block, (value, error) in known.items():
        found = ours[f"transformer.h.{block}"]
        stream = ours.calls[f"transformer.h.{block}:add#1"]["second_moment"]
        assert found
        assert_consistent(
            value, stream.value, math.hypot(error, stream.stderr), relative_error=0.02
        )
    # the tied readout: a token's own logit is not random at leading order
    assert ours.drawn == {}
    assert ours.loss.value > 6.5


def _llama(layers: int = 1):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=V, hidden_size=256, intermediate_size=512, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, use_cache=False, initializer_range=0.1,
        max_position_embeddings=LENGTH, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    with torch.device("meta"):
        return transformers.LlamaForCausalLM(config).eval()


@pytest.mark.slow
def test_the_pooled_limit_is_that_of_infinite_width_where_finite_networks_are_a_third_off():
    x, y = _tokens()
    batch = ({"input_ids": x}, y)
    narrow = kd.ensemble(_llama(), batch, 32, probes=0)
    limit = kd.ensemble(_llama(), batch, 32, limit=True, probes=0)
    key = "model.layers.0:add#1"
    found = [e.calls[key]["correlation"] for e in (narrow, limit)]
    # 500 really initialised networks of width 256; closed form at infinite width
    assert_consistent(0.0402, found[0].value, found[0].stderr, relative_error=0.08)
    assert_consistent(0.0323, found[1].value, found[1].stderr + 0.0002, relative_error=0.08)
    assert found[1].value < 0.036 < found[0].value
    # without the projection off known directions gradients would grow by M/(S n) a map
    ratios = [limit.gradients[n].value / narrow.gradients[n].value for n in limit.gradients]
    assert 0.8 < np.median(ratios) < 1.25


# infinite width in closed form, 2048 heads sampled: mean square and row correlation by block
GPT2_LIMIT = [(1.970, 0.2607), (4.019, 0.3597), (6.106, 0.4145), (8.214, 0.4511)]
LLAMA_LIMIT = [(17.20, 0.0309), (34.66, 0.0368), (52.15, 0.0394), (69.66, 0.0409)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("build", "prefix", "golden", "bias"),
    [
        # what is left of 1/n: S = 8 replicas of width 256 are one network of width 2048
        (lambda: _gpt2(256), "transformer.h", GPT2_LIMIT, 0.003),
        (lambda: _llama(4), "model.layers", LLAMA_LIMIT, 0.002),
    ],
)
def test_the_limit_of_transformers_is_the_closed_form(build, prefix, golden, bias):
    x, y = _tokens()
    ens = kd.ensemble(build(), ({"input_ids": x}, y), 48, limit=True, probes=0)
    assert ens.loss.n == 6  # pools of eight replicas
    for block, (mean_square, correlation) in enumerate(golden):
        found = ens.calls[f"{prefix}.{block}:add#1"]
        q = found["second_moment"]
        assert_consistent(mean_square, q.value, q.stderr, relative_error=0.02)
        q = found["correlation"]
        assert_consistent(correlation, q.value, q.stderr, relative_error=0.06, bias=bias)


@pytest.mark.slow
def test_gpt2_small_at_its_own_initialisation_from_the_meta_device():
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, use_cache=False)
    with torch.device("meta"):
        model = transformers.GPT2LMHeadModel(config).eval()
    generator = torch.Generator().manual_seed(1)
    x, y = (torch.randint(0, 50257, (2, 24), generator=generator) for _ in range(2))
    ens = kd.ensemble(model, ({"input_ids": x}, y), 10, probes=0)
    assert not ens.drawn
    # 60 networks of an independent implementation, with their errors
    blocks = {0: (0.006835, 1.6e-5), 5: (0.04521, 1.8e-4), 11: (0.09433, 3.7e-4)}
    for block, (value, error) in blocks.items():
        q = ens.calls[f"transformer.h.{block}:add#1"]["second_moment"]
        assert_consistent(value, q.value, math.hypot(error, q.stderr), relative_error=0.04)
    correlations = {0: (0.2141, 0.0019), 11: (0.5272, 0.0035)}
    for block, (value, error) in correlations.items():
        q = ens.calls[f"transformer.h.{block}:add#1"]["correlation"]
        assert_consistent(value, q.value, math.hypot(error, q.stderr), relative_error=0.06)
    gradients = {
        "0.attn.c_attn": (5.94e-6, 1.1e-7), "0.attn.c_proj": (4.08e-4, 7e-6),
        "6.attn.c_attn": (5.56e-7, 6e-9), "11.mlp.c_fc": (4.24e-7, 2e-9),
        "11.mlp.c_proj": (9.55e-6, 6e-8),
    }  # fmt: skip
    for name, (value, error) in gradients.items():
        q = ens.gradients[f"transformer.h.{name}.weight"]
        assert_consistent(value, q.value, math.hypot(error, q.stderr), relative_error=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("training", [True, False])
def test_a_resnet_has_the_values_of_really_initialised_ones(training):
    transformers = pytest.importorskip("transformers")
    config = transformers.ResNetConfig(
        embedding_size=32, hidden_sizes=[32, 64, 128], depths=[2, 2, 2], layer_type="basic",
        num_labels=10,
    )  # fmt: skip

    def factory():
        return transformers.ResNetForImageClassification(config).train(training)

    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(4))
    batch = ({"pixel_values": images}, torch.arange(4))
    ours = kd.ensemble(factory, batch, 60, probes=0, method="undrawn")
    theirs = kd.ensemble(factory, batch, 60, probes=0, method="instances", seed=1)
    table = kd.compare(ours, theirs)
    # tails are heavy without batch statistics: logarithms of what is positive
    z = [
        (a.log_value - b.log_value) / math.hypot(a.log_spread, b.log_spread) * a.n**0.5
        for a, b in ((line.first, line.second) for line in table.lines)
        if a.log_spread > 1e-4 and b.log_spread > 1e-4
    ]
    assert len(z) > 60
    assert max(map(abs, z)) < 4.5
    assert 0.5 < np.sqrt(np.mean(np.square(z))) < 1.7
