"""Laws found by watching a model being built are those its weights are really drawn from."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from kadanoff.errors import AnalysisError, UsageError
from kadanoff.program import Law, build, laws
from kadanoff.program.measured import law_of_entries


def _uniform(fan_in: float) -> tuple[str, float]:
    return "uniform", 1 / math.sqrt(3 * fan_in)


DEFAULTS = [
    (lambda: nn.Linear(20, 30), {"weight": _uniform(20), "bias": _uniform(20)}),
    (lambda: nn.Bilinear(8, 5, 7), {"weight": _uniform(8), "bias": _uniform(8)}),
    (lambda: nn.Conv1d(6, 9, 5), {"weight": _uniform(30), "bias": _uniform(30)}),
    (lambda: nn.Conv2d(8, 12, 3, groups=4), {"weight": _uniform(18), "bias": _uniform(18)}),
    (lambda: nn.Conv3d(2, 4, 3), {"weight": _uniform(54), "bias": _uniform(54)}),
    # torch takes the second axis of a transposed convolution for its fan-in
    (lambda: nn.ConvTranspose2d(8, 6, 3), {"weight": _uniform(54), "bias": _uniform(54)}),
    (lambda: nn.Embedding(50, 7), {"weight": ("normal", 1.0)}),
    (lambda: nn.EmbeddingBag(50, 7), {"weight": ("normal", 1.0)}),
    (lambda: nn.LSTM(5, 16), {"weight_ih_l0": _uniform(16), "bias_hh_l0": _uniform(16)}),
    (lambda: nn.GRU(5, 16), {"weight_hh_l0": _uniform(16), "bias_ih_l0": _uniform(16)}),
    (lambda: nn.RNN(5, 16), {"weight_ih_l0": _uniform(16), "bias_hh_l0": _uniform(16)}),
    (
        lambda: nn.MultiheadAttention(16, 2),
        {
            "in_proj_weight": ("uniform", math.sqrt(2 / (16 + 48))),
            "in_proj_bias": ("constant", 0.0),
            "out_proj.weight": _uniform(16),
            "out_proj.bias": ("constant", 0.0),
        },
    ),
    (lambda: nn.LayerNorm(8), {"weight": ("constant", 0.0), "bias": ("constant", 0.0)}),
    (lambda: nn.BatchNorm2d(8), {"weight": ("constant", 0.0), "bias": ("constant", 0.0)}),
    (lambda: nn.PReLU(), {"weight": ("constant", 0.0)}),
]


@pytest.mark.parametrize("factory, expected", DEFAULTS)
@pytest.mark.parametrize("how", ["factory", "instance", "meta"])
def test_defaults_of_torch(factory, expected, how):
    found = {
        "factory": lambda: laws(factory),
        "instance": lambda: laws(factory()),
        "meta": lambda: build(factory, meta=True).laws,
    }[how]()
    for name, (kind, std) in expected.items():
        assert found[name].kind == kind, name
        assert found[name].std == pytest.approx(std, rel=1e-12), name
        assert found[name].std_error == 0
        assert found[name].mean == (1 if kind == "constant" and name == "weight" else 0) or (
            isinstance(factory(), nn.PReLU)
        )


def _made(initialise) -> nn.Module:
    """A module with one weight (16, 32), initialised as told."""
    module = nn.Linear(32, 16, bias=False)
    with torch.no_grad():
        result = initialise(module.weight)
        if isinstance(result, Tensor) and result is not module.weight:
            module.weight = nn.Parameter(result)
    return module


def _old_truncation(w: Tensor) -> None:
    """How libraries write it by hand: uniform, inverse error function, scale, clamp."""
    reach = math.erf(2 / math.sqrt(2))
    w.uniform_(-reach, reach).erfinv_().mul_(0.02 * math.sqrt(2)).add_(0.0).clamp_(-0.04, 0.04)


# standard deviation of a unit normal number cut at ±2
CUT = 0.8796256610342398

MADE = {
    "normal_": (lambda w: w.normal_(0, 0.02), "normal", 0.02),
    "data": (lambda w: w.data.normal_(0, 0.5), "normal", 0.5),
    "divided": (lambda w: w.normal_().div_(4), "normal", 0.25),
    "in place": (lambda w: w.mul_(3), "uniform", 3 / math.sqrt(96)),
    "new": (lambda w: torch.randn(16, 32) / 8 * torch.tensor(2.0), "normal", 0.25),
    "negated, transposed": (lambda w: -torch.rand(32, 16).t(), "uniform", 1 / math.sqrt(12)),
    "xavier": (nn.init.xavier_normal_, "normal", math.sqrt(2 / 48)),
    "kaiming": (lambda w: nn.init.kaiming_normal_(w, mode="fan_out"), "normal", math.sqrt(2 / 16)),
    "orthogonal": (lambda w: nn.init.orthogonal_(w, gain=2), "orthogonal", 2 / math.sqrt(32)),
    "truncated": (
        lambda w: nn.init.trunc_normal_(w, 0, 0.02, -0.04, 0.04),
        "trunc_normal",
        CUT / 50,
    ),
    "never cut": (lambda w: nn.init.trunc_normal_(w, std=0.02), "normal", 0.02),
    "truncated by hand": (_old_truncation, "trunc_normal", CUT / 50),
    "half": (lambda w: w.normal_(0, 0.02).half(), "normal", 0.02),
    "parts": (
        lambda w: torch.cat([torch.randn(8, 32), torch.randn(8, 32)]) * 0.1,
        "normal",
        0.1,
    ),
    "zeros": (nn.init.zeros_, "constant", 0.0),
    "identity": (nn.init.eye_, "constant", 0.0),
}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("meta", [False, True])
def test_arithmetic_is_followed(name, meta):
    initialise, kind, std = MADE[name]
    law = build(lambda: _made(initialise), meta=meta).laws["weight"]
    assert law.kind == kind
    assert law.std == pytest.approx(std, rel=1e-5)
    assert law.std_error == 0
    # and so are real weights drawn
    entries = torch.stack([_made(initialise).weight.detach() for _ in range(40)]).double()
    if kind == "constant":
        value = law.mean if law.value is None else law.value
        assert torch.equal(entries, torch.as_tensor(value).double().expand_as(entries))
        return
    z_mean = float(entries.mean()) - law.mean
    assert abs(z_mean) < 4 * law.std / math.sqrt(entries.numel())
    if kind != "orthogonal":  # its mean square does not vary
        ratio = float((entries - law.mean).square().mean()) / law.std**2
        assert abs(ratio - 1) < 4 * math.sqrt((2 + law.excess) / entries.numel())


def test_the_spread_of_a_sample_is_that_of_the_law():
    law = build(lambda: _made(lambda w: nn.init.trunc_normal_(w, 0, 1.0, -2, 2))).laws["weight"]
    sample = law.sample((400, 500), torch.Generator().manual_seed(0))
    assert float(sample.abs().max()) <= law.reach == pytest.approx(2.0)
    assert float(sample.std()) == pytest.approx(law.std, rel=4 * math.sqrt(0.5 / 2e5))


def test_rows_of_padding_are_zero():
    for law in (
        laws(lambda: nn.Embedding(30, 8, padding_idx=3))["weight"],
        laws(nn.Embedding(30, 8, padding_idx=3))["weight"],
    ):
        assert law.zero_rows == (3,)
        assert law.std == 1
        sample = law.sample((30, 8), torch.Generator().manual_seed(0))
        assert not sample[3].any()
        assert sample[2].all()


def test_values_of_constants_are_kept():
    class Decay(nn.Module):
        def __init__(self):
            super().__init__()
            self.log = nn.Parameter(torch.arange(1, 9).float().repeat(3, 1).log())
            self.gain = nn.Parameter(torch.full((4,), 0.1))
            self.register_buffer("frequencies", 2.0 ** -torch.arange(4))
            rates = [float(x) for x in torch.linspace(0, 1, 3)]  # needs values while on meta
            assert rates[1] == 0.5

    for meta in (False, True):
        built = build(Decay, meta=meta)
        log, gain = built.laws["log"], built.laws["gain"]
        assert log.kind == gain.kind == "constant"
        assert log.value is not None
        torch.testing.assert_close(log.value[1], torch.arange(1, 9).float().log())
        assert gain.mean == pytest.approx(0.1)
    torch.testing.assert_close(built.buffers["frequencies"], 2.0 ** -torch.arange(4))


def test_seeds_inside_the_factory_do_not_matter():
    def factory():
        torch.manual_seed(0)
        return nn.Linear(10, 10)

    assert laws(factory)["weight"].std == pytest.approx(1 / math.sqrt(30), rel=1e-12)


def test_weights_from_numpy_are_measured_on_several_instances():
    numbers = np.random.default_rng(0)

    def factory():
        module = nn.Linear(20, 30)
        module.weight = nn.Parameter(torch.from_numpy(numbers.normal(0, 0.3, (30, 20))).float())
        return module

    law = laws(factory, instances=10)["weight"]
    assert law.kind == "normal"
    assert "10 instances" in law.source
    assert abs(law.std - 0.3) < 4 * law.std_error
    assert law.std_error == pytest.approx(0.3 / math.sqrt(2 * 6000), rel=0.1)


def test_training_inside_the_factory_is_seen_through():
    def factory():
        model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(5):
            optimizer.zero_grad()
            model(torch.randn(16, 8)).square().mean().backward()
            optimizer.step()
        return model

    law = laws(factory)["0.weight"]
    # the first weight decay multiplies by 1 - 1e-4, which is still a law
    assert law.std == pytest.approx(1 / math.sqrt(24), rel=2e-4)
    assert "trained since" in law.source


def test_own_entries_are_compared_with_what_the_class_says():
    model = nn.Linear(64, 64)
    with torch.no_grad():
        model.weight.normal_(0, 0.7, generator=torch.Generator().manual_seed(0))
    law = laws(model)["weight"]
    assert law.kind == "normal"
    assert abs(law.std - 0.7) < 4 * law.std_error
    assert law.std_error == pytest.approx(0.7 / math.sqrt(2 * 4096), rel=0.1)
    assert "entries" in law.source


def test_neither_model_nor_random_state_is_touched():
    model = nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5))
    kept = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.random.get_rng_state()
    laws(model)
    laws(lambda: nn.Linear(5, 5))
    build(lambda: nn.Linear(5, 5), meta=True)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(v, kept[k]) for k, v in model.state_dict().items())


@pytest.mark.parametrize(
    "tensor, kind",
    [
        (torch.randn(200, generator=torch.Generator().manual_seed(0)), "normal"),
        (torch.rand(200, generator=torch.Generator().manual_seed(0)) - 0.5, "uniform"),
        (torch.rand(500, generator=torch.Generator().manual_seed(0)).log(), "empirical"),
        (torch.linspace(0, 1, 20), "constant"),
        (torch.arange(8.0).repeat(6, 1), "constant"),
        (
            torch.linalg.qr(torch.randn(20, 20, generator=torch.Generator().manual_seed(0)))[0],
            "orthogonal",
        ),
        (torch.full((3, 3), 2.0), "constant"),
    ],
)
def test_kinds_are_told_from_entries(tensor, kind):
    assert law_of_entries([tensor], "test").kind == kind


def test_the_table_can_be_overridden():
    found = laws(lambda: nn.Linear(4, 3), override={"bias": Law(std=0.5, source="me")})
    assert found["bias"].std == 0.5
    assert "uniform" in str(found)
    assert "kaiming_uniform_ in Linear.reset_parameters" in str(found)
    with pytest.raises(UsageError, match="gain"):
        found.override({"gain": Law()})


def test_bad_factories_are_named():
    with pytest.raises(UsageError, match="int"):
        laws(3)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="str"):
        laws(lambda: "model")  # type: ignore[arg-type, return-value]

    def awkward():
        module = nn.Linear(3, 3)
        module.weight.data = torch.from_numpy(module.weight.detach().numpy() * 2)
        return module

    assert laws(awkward, instances=4)["weight"].random
    with pytest.raises(AnalysisError, match="meta"):
        build(awkward, meta=True)


def test_laws_of_an_unwritten_meta_model_are_asked_of_its_classes():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(10, 20), nn.LayerNorm(20))
    assert laws(model)["0.weight"].std == pytest.approx(1 / math.sqrt(30))
