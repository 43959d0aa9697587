"""Learning rates by the equivalence principle reproduce the known scalings on real models."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from kadanoff.errors import AnalysisError, UsageError
from kadanoff.tuning.families import mlp, residual, transformer
from kadanoff.tuning.parts import Branches, branches, parameter_roles
from kadanoff.tuning.rates import measure_response, parameter_groups, scale_readout_, split_muon
from tests.needs import needs

WIDTHS = (64, 160, 400)


def slopes(build, sizes, optimizer, s, sample, **options):
    """Log-log slope of each parameter's rate against size; names with digits removed pool."""
    table: dict[str, list[float]] = {}
    for size in sizes:
        pooled: dict[str, list[float]] = {}
        for seed in range(4):
            model = build(size, seed)
            for g in parameter_groups(model, sample, optimizer, s=s, probes=24, **options):
                pooled.setdefault(_kind(g), []).append(math.log(g["lr"]))
        for key, values in pooled.items():
            table.setdefault(key, []).append(sum(values) / len(values))
    x = torch.tensor([math.log(v) for v in sizes])
    x = x - x.mean()
    return {k: float((x * torch.tensor(v)).sum() / (x * x).sum()) for k, v in table.items()}


def _kind(group):
    kind = "bias" if group["name"].endswith("bias") else "weight"
    return f"{group['role']}.{kind}"


@pytest.mark.parametrize(
    ("optimizer", "s", "want"),
    [
        # section 3.1: SGD steps of input weight, hidden weight, hidden bias, readout
        ("sgd", 0.0, {"input.weight": 0, "hidden.weight": -1, "hidden.bias": 0}),
        ("sgd", 1.0, {"input.weight": 1, "hidden.weight": 0, "hidden.bias": 1}),
        ("sgd", 0.5, {"input.weight": 0.5, "hidden.weight": -0.5, "hidden.bias": 0.5}),
        # sections 3.2 and 3.7: Adam
        ("adam", 0.0, {"input.weight": -0.5, "hidden.weight": -1.5, "hidden.bias": -0.5}),
        ("adamw", 1.0, {"input.weight": 0, "hidden.weight": -1, "hidden.bias": 0}),
    ],
)
def test_width_exponents(optimizer, s, want):
    sample = torch.randn(16, 20, generator=torch.Generator().manual_seed(0))
    found = slopes(
        lambda n, k: mlp(20, n, 3, 5, activation="tanh", seed=k), WIDTHS, optimizer, s, sample
    )
    for name, exponent in (want | {"readout.weight": -1, "readout.bias": 0}).items():
        assert abs(found[name] - exponent) < 0.15, (name, found[name], exponent)


@pytest.mark.parametrize(
    ("optimizer", "build", "depths", "want", "ends"),
    [
        # class I and an unscaled stack: 1/L; branches times L^(-1/2), beyond the growth of
        # (1 + 1/L)^L: section 3.8
        ("sgd", lambda L, k: mlp(20, 512, L, 5, activation="relu", seed=k), (4, 8, 16), -1.0, -1.0),
        ("sgd", lambda L, k: residual(20, 128, L, 5, seed=k), (8, 16, 32), 0.0, 0.0),
        ("adam", lambda L, k: residual(20, 128, L, 5, seed=k), (8, 16, 32), -0.5, 0.0),
    ],
)
def test_depth_exponents(optimizer, build, depths, want, ends):
    sample = torch.randn(16, 20, generator=torch.Generator().manual_seed(0))
    found = slopes(build, depths, optimizer, 1.0, sample)
    assert abs(found["hidden.weight"] - want) < 0.2, found
    # what lies before and after the blocks of a residual network knows nothing of their number
    assert abs(found["readout.weight"] - ends) < 0.2, found
    assert abs(found["input.weight"] - ends) < 0.25, found


class _Strided(nn.Module):
    """A block whose skip is a convolution, as where a ResNet halves its images."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(4, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.norm, self.skip = nn.BatchNorm2d(8), nn.Conv2d(4, 8, 1, 2)

    def forward(self, x):
        y = self.norm(self.b(torch.relu(self.a(x))))
        y += self.skip(x)
        return torch.relu(y)


def _parts(found):
    return found.inside, found.ends, found.count


def test_branches_are_told_from_the_stream():
    X, tokens = torch.randn(4, 12), torch.randint(0, 10, (2, 8))
    assert branches(mlp(12, 16, 5, 3), X) == Branches(set(), set(), 0)
    found, ends, count = _parts(branches(residual(12, 16, 5, 3), X))
    assert count == 5
    assert found == {f"{k}.linear.{kind}" for k in range(1, 6) for kind in ("weight", "bias")}
    assert ends == found
    model = transformer(16, 3, 10, vocabulary=10, context=8)
    found, ends, count = _parts(branches(model, tokens))
    assert count == 6
    assert {n.split(".")[0] for n, _ in model.named_parameters() if n in found} == {"blocks"}
    assert all(n in found for n, _ in model.named_parameters() if n.startswith("blocks"))
    assert {n.split(".", 2)[2] for n in ends} == {
        "attn.out.weight", "attn.out.bias", "mlp.2.weight", "mlp.2.bias",
    }  # fmt: skip
    encoder = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    model = nn.Sequential(nn.Linear(5, 16), encoder, nn.Linear(16, 2))
    found, _, count = _parts(branches(model, torch.randn(2, 7, 5)))
    # of a layer normalised after the sum the norms belong to the stream
    assert count == 2
    assert found == {n for n, _ in model.named_parameters() if "self_attn" in n or ".linear" in n}
    model = nn.Sequential(nn.Conv2d(3, 4, 3), _Strided(), nn.Flatten(), nn.Linear(128, 2))
    found, _, count = _parts(branches(model, torch.randn(2, 3, 9, 9)))
    assert count == 1
    assert found == {n for n, _ in model.named_parameters() if n.startswith("1.")}


def test_a_step_moves_the_output_by_base():
    """The first step moves the output by ``base``: matrices equally, vectors by a tenth of it."""
    torch.manual_seed(0)
    sample = torch.randn(32, 20)
    for width in (64, 256):
        model = mlp(20, width, 3, 5, seed=1)
        groups = parameter_groups(model, sample, "sgd", base=0.3, probes=400)
        out = model(sample)
        parts = [0.0] * len(groups)
        for row in range(32):
            for k in range(5):
                grads = torch.autograd.grad(
                    out[row, k], [g["params"][0] for g in groups], retain_graph=True
                )
                for i, (g, grad) in enumerate(zip(groups, grads)):
                    parts[i] += g["lr"] * float(grad.pow(2).sum()) / 160
        assert sum(parts) == pytest.approx(0.3, rel=0.15)
        matrices = [x for x, g in zip(parts, groups) if g["params"][0].ndim == 2]
        vectors = [x for x, g in zip(parts, groups) if g["params"][0].ndim == 1]
        assert len(matrices) == len(vectors) == 4
        assert max(matrices) / min(matrices) < 1.3
        assert max(vectors) / min(vectors) < 1.3
        assert sum(vectors) / sum(matrices) == pytest.approx(0.1, rel=0.15)


def test_readout_scaling():
    sample = torch.randn(4, 20)
    model = mlp(20, 256, 3, 5, seed=0)
    before = model[-1].weight.detach().clone()
    assert scale_readout_(model, sample, 1.0, 64) == pytest.approx(0.5)
    torch.testing.assert_close(model[-1].weight, before / 2)
    assert scale_readout_(model, sample, 0.0) == 1.0


def test_roles_of_a_transformer():
    model = transformer(width=32, depth=2, n_out=11, vocabulary=11, context=8)
    sample = torch.randint(0, 11, (2, 8))
    found = {r.role for r in parameter_roles(model, sample).values()}
    assert found == {"embedding", "attention", "mlp", "norm", "readout"}
    groups = parameter_groups(model, sample, "adamw", weight_decay=1e-4)
    assert sum(p.numel() for g in groups for p in g["params"]) == sum(
        p.numel() for p in model.parameters()
    )
    torch.optim.AdamW(groups)
    for g in groups:  # norms, biases and embeddings do not shrink; the others do so equally
        shrink = g["lr"] * g["weight_decay"]
        assert shrink == pytest.approx(0) or shrink == pytest.approx(1e-4)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw", "muon"])
def test_every_optimizer_takes_the_groups_and_trains(optimizer):
    torch.manual_seed(0)
    x = torch.randn(64, 20)
    y = torch.sin(x[:, :5])
    model = mlp(20, 64, 3, 5, seed=0)
    groups = parameter_groups(model, x, optimizer)
    if optimizer == "muon":
        muon, rest = split_muon(groups)
        assert muon
        assert rest
        optimizers = [torch.optim.Muon(muon), torch.optim.AdamW(rest)]
    else:
        cls = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        optimizers = [cls[optimizer](groups)]
    losses = []
    for _ in range(60):
        loss = nn.functional.mse_loss(model(x), y)
        for o in optimizers:
            o.zero_grad()
        loss.backward()
        for o in optimizers:
            o.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_convolutions_with_batch_norm_keep_their_statistics():
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, groups=4),
        nn.Flatten(),
        nn.Linear(256, 4),
    )
    before = {k: v.clone() for k, v in model.state_dict().items()}
    sample = torch.randn(8, 3, 8, 8)
    where = parameter_roles(model, sample)
    assert where["0.weight"].fan_in == 27
    assert where["3.weight"].fan_in == 36
    assert [where[f"{k}.weight"].role for k in (0, 1, 3, 5)] == [
        "input",
        "norm",
        "hidden",
        "readout",
    ]
    parameter_groups(model, sample, "sgd", in_place=False)
    for k, v in model.state_dict().items():
        torch.testing.assert_close(v, before[k])


def test_hugging_face_classes():
    transformers = needs("transformers", "hf")
    config = transformers.GPT2Config(
        n_layer=2, n_embd=32, n_head=4, n_positions=16, vocab_size=19, attn_pdrop=0.0
    )
    model = transformers.GPT2LMHeadModel(config)
    sample = {"input_ids": torch.randint(0, 19, (2, 16))}
    where = parameter_roles(model, sample)
    assert where["transformer.h.0.mlp.c_fc.weight"].fan_in == 32  # stored as (in, out)
    assert where["transformer.h.0.mlp.c_proj.weight"].fan_in == 128
    assert where["transformer.h.0.attn.c_attn.weight"].role == "attention"
    assert where["transformer.wte.weight"].tied
    groups = parameter_groups(model, sample, "adamw")
    torch.optim.AdamW(groups)
    assert all(math.isfinite(g["lr"]) and g["lr"] > 0 for g in groups)


def test_parameters_without_response_borrow_a_rate():
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 2))
    nn.init.zeros_(model[0].bias)
    spare = nn.Linear(8, 8)
    model.add_module("spare", nn.Sequential(nn.Identity()))
    model.register_parameter("unused", nn.Parameter(torch.zeros(3)))
    del spare
    groups = {g["name"]: g for g in parameter_groups(model, torch.randn(4, 6), "adam")}
    assert groups["unused"]["share"] == 0
    assert groups["unused"]["lr"] > 0


def test_bad_calls():
    model, sample = mlp(4, 8, 2, 1), torch.randn(3, 4)
    with pytest.raises(UsageError, match="optimizer"):
        parameter_groups(model, sample, "lion")
    with pytest.raises(UsageError, match="family"):
        parameter_groups(model, sample, s=1.5)
    with pytest.raises(UsageError, match="base"):
        parameter_groups(model, sample, base=-1.0)
    with pytest.raises(UsageError, match="trainable"):
        parameter_groups(nn.Identity(), sample)
    nn.init.zeros_(model[-1].weight)
    nn.init.zeros_(model[-1].bias)
    with torch.no_grad():
        model[-1].weight.fill_(math.nan)
    with pytest.raises(AnalysisError, match="finite"):
        parameter_groups(model, sample)


def test_the_response_is_reproducible():
    model, sample = mlp(4, 8, 2, 1), torch.randn(3, 4)
    state = torch.get_rng_state()
    first = measure_response(model, sample)
    assert torch.equal(state, torch.get_rng_state())
    assert measure_response(model, sample) == first


def test_complex_weights_count_with_both_parts():
    class Spectral(nn.Module):
        def __init__(self):
            super().__init__()
            self.first = nn.Linear(6, 6, bias=False)
            self.modes = nn.Parameter(torch.randn(4, dtype=torch.complex64))
            self.readout = nn.Linear(6, 2, bias=False)

        def forward(self, x):
            return self.readout(torch.fft.irfft(self.modes * torch.fft.rfft(self.first(x)), n=6))

    torch.manual_seed(0)
    model, x = Spectral(), torch.randn(64, 6)
    found = measure_response(model, x, probes=200)["modes"]

    class Split(Spectral):
        def __init__(self, other):
            super().__init__()
            self.load_state_dict(other.state_dict(), strict=False)
            self.parts = nn.Parameter(torch.view_as_real(other.modes.detach()).clone())
            del self.modes

        def forward(self, x):
            modes = torch.view_as_complex(self.parts)
            return self.readout(torch.fft.irfft(modes * torch.fft.rfft(self.first(x)), n=6))

    expected = measure_response(Split(model), x, probes=200)["parts"]
    assert found == pytest.approx(expected, rel=1e-5)


def test_matrices_of_a_recurrent_network_are_hidden_ones_and_its_biases_vectors():
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.gru = nn.Embedding(16, 8), nn.GRU(8, 8, batch_first=True)
            self.out = nn.Linear(8, 16)

        def forward(self, tokens):
            return self.out(self.gru(self.embed(tokens))[0])

    torch.manual_seed(0)
    groups = {
        g["name"]: g
        for g in parameter_groups(Reader(), torch.arange(12).view(3, 4), "adamw", weight_decay=0.1)
    }
    for name in ("gru.weight_ih_l0", "gru.weight_hh_l0", "gru.bias_ih_l0"):
        assert groups[name]["role"] == "hidden"
    assert groups["gru.weight_ih_l0"]["weight_decay"] > 0
    assert groups["gru.bias_ih_l0"]["weight_decay"] == 0
    # a vector has a tenth of a matrix's share
    share = {n: g["share"] for n, g in groups.items()}
    assert share["gru.bias_ih_l0"] == pytest.approx(0.1 * share["gru.weight_ih_l0"])
