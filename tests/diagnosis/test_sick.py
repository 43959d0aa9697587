"""True alarms on broken nets, with the right name, number and layer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kadanoff.diagnosis import diagnose
from tests.trace.models import mlp


def data(seed: int = 0, n: int = 24, width: int = 32) -> torch.Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


def codes(found) -> list[str]:
    return [finding.code for finding in found.findings]


@pytest.mark.parametrize(
    "act,depth,severity",
    [
        (nn.Tanh, 5, "note"),
        (nn.Tanh, 10, "note"),
        (nn.Tanh, 24, "warning"),
        (nn.ReLU, 5, "note"),
        (nn.ReLU, 10, "note"),
        (nn.ReLU, 24, "critical"),
        (nn.GELU, 5, "note"),
        (nn.GELU, 10, "warning"),
        (nn.GELU, 24, "critical"),
    ],
)
def test_default_initialisation(act, depth, severity):
    """How bad it is goes by what the exponential adds up to: χ⊥ = 1/3, 1/6 and 1/12 a layer."""
    found = diagnose(mlp(act, depth, 64, default=True), data())
    first = next(f for f in found.findings if f.code in ("ordered", "vanishing"))
    assert "critical" in first.sentence
    assert first.severity == severity
    assert found.exit_code == (severity != "note")
    if act is nn.Tanh and depth == 24:
        # χ⊥ = C_W <σ'²> with C_W = 1/3 and σ' close to 1 once the signal is small
        assert first.value == pytest.approx(1 / 3, rel=0.05)
        assert first.stderr < 0.05 * first.value
        assert "depth scale 0.9 layers" in first.sentence
        assert found.verdict == first.sentence


@pytest.mark.parametrize("seed", range(3))
def test_chaotic_tanh(seed):
    found = diagnose(mlp(nn.Tanh, 24, 96, 3.0, seed=seed), data(seed))
    assert codes(found) == ["chaotic"]
    # fixed point of C_W = 3: χ⊥ = 1.24
    assert found.findings[0].value == pytest.approx(1.24, abs=0.05)


def test_ordered_by_biases_alone():
    found = diagnose(mlp(nn.Tanh, 24, 96, 1.0, 0.1), data())
    ordered = next(f for f in found.findings if f.code == "ordered")
    assert "biases" in ordered.remedy


@pytest.mark.parametrize("gain,code", [(0.33, "vanishing"), (2.0, "exploding")])
def test_linear_nets_off_criticality(gain, code):
    found = diagnose(mlp(nn.Identity, 30, 64, gain), data())
    assert codes(found)[0] == "no-nonlinearity"
    off = next(f for f in found.findings if f.code == code)
    assert off.severity in ("critical", "warning")
    assert off.value == pytest.approx(gain**0.5, rel=0.05)
    assert f"by {off.value:.2f}"[:6] in off.sentence


def test_one_bad_layer_in_the_middle():
    for factor in (10.0, 0.1):
        model = mlp(nn.Tanh, 12, 64)
        with torch.no_grad():
            model[12].weight.mul_(factor)
        found = diagnose(model, data())
        assert "odd_layer" in codes(found)
        odd = next(f for f in found.findings if f.code == "odd_layer")
        assert odd.layers == (7,)
        assert odd.value == pytest.approx(factor**2, rel=0.1)


def test_dead_relu_from_negative_biases():
    model = mlp(nn.ReLU, 3, 64, 2.0)
    with torch.no_grad():
        model[2].bias.fill_(-6.0)
    found = diagnose(model, data())
    dead = next(f for f in found.findings if f.code == "dead")
    assert dead.layers == (2,)
    assert dead.value > 0.9
    with torch.no_grad():
        model[2].bias.fill_(-1e3)
    assert {"dead"} <= set(codes(diagnose(model, data())))


def test_saturated_tanh():
    found = diagnose(mlp(nn.Tanh, 3, 64, 50.0), data())
    assert "saturated" in codes(found)


def test_zero_layer_silences_the_net():
    model = mlp(nn.ReLU, 6, 32, 2.0)
    with torch.no_grad():
        model[6].weight.zero_()
    assert "silent" in codes(diagnose(model, data()))


def test_overflow():
    found = diagnose(mlp(nn.Identity, 10, 32, 1e10), data())
    assert codes(found)[0] == "not-finite"
    assert found.exit_code == 1


def test_narrow_deep_net():
    assert "narrow" in codes(diagnose(mlp(nn.ReLU, 40, 16, 2.0), data()))


def test_deep_post_norm_transformer_loses_its_gradient():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(
        64, 4, 256, batch_first=True, norm_first=False, activation="gelu"
    )
    encoder = nn.TransformerEncoder(layer, 24, enable_nested_tensor=False)
    for p in encoder.parameters():  # clones start alike: draw each anew
        if p.ndim > 1:
            nn.init.xavier_uniform_(p)
    model = nn.Sequential(nn.Embedding(48, 64), encoder, nn.Linear(64, 48))
    found = diagnose(model, torch.randint(0, 48, (8, 32)))
    back = [x.jacobian_to_output.value for x in found.layers if x.role == "stream"]  # type: ignore
    # of the gradient at the end little is left in the middle: sick without warm-up
    assert min(back) < 0.2 * back[-1]
    assert found.exit_code == 1


def test_findings_are_ranked_and_carry_number_threshold_remedy():
    found = diagnose(mlp(nn.Tanh, 24, 64, default=True), data())
    # a cause stands before what it brings about, notes stand last
    codes_before: set[str] = set()
    for finding in found.findings:
        assert set(finding.because_of) <= codes_before
        codes_before.add(finding.code)
    notes = [f.severity == "note" for f in found.findings]
    assert notes == sorted(notes)
    for finding in found.findings:
        assert finding.remedy
        assert finding.severity in ("critical", "warning", "note")
        assert any(character.isdigit() for character in finding.sentence)


class SquashedConvolutions(nn.Module):
    """Blocks conv → tanh → conv → sigmoid − ½, every third one closed by a group norm."""

    def __init__(self, blocks: int = 10, c: int = 16):
        super().__init__()
        self.stem = nn.Conv2d(1, c, 3, padding=1)
        self.wide = nn.ModuleList(nn.Conv2d(c, 2 * c, 3, padding=1) for _ in range(blocks))
        self.narrow = nn.ModuleList(nn.Conv2d(2 * c, c, 1) for _ in range(blocks))
        self.norms = nn.ModuleList(
            nn.GroupNorm(2, c) if i % 3 == 0 else nn.Identity() for i in range(blocks)
        )
        self.head = nn.Linear(c, 4)

    def forward(self, x):
        x = self.stem(x)
        for wide, narrow, norm in zip(self.wide, self.narrow, self.norms):
            x = norm(torch.sigmoid(narrow(torch.tanh(wide(x)))) - 0.5)
        return self.head(x.mean((2, 3)))


def test_an_activation_without_a_critical_point_gets_no_number_and_tuning_no_complaint():
    from kadanoff.tuning import tune

    torch.manual_seed(0)
    model = SquashedConvolutions()
    images = torch.randn(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    found = diagnose(model, images)
    assert codes(found)[0] in ("ordered", "collapsed")
    for finding in found.findings:
        assert "nan" not in finding.sentence + finding.remedy
    assert {layer.critical_gain for layer in found.layers} <= {None, 1.0}
    tune(model, images)
    # like layers that read something else, or stand behind a norm, want other gains
    assert "odd_layer" not in codes(diagnose(model, images))
