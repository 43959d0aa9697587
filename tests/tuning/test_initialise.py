"""Tuning: criticality in closed form and by measurement, and nothing where nothing is needed."""

from __future__ import annotations

import copy
import itertools
import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kadanoff import tune
from kadanoff.errors import AnalysisError, DataError
from kadanoff.tuning import initialise


class Plain(nn.Module):
    """Layers in a list with a functional activation: nothing that could be described."""

    def __init__(self, act, widths=(96, 96, 64, 96, 96, 96, 96)):
        super().__init__()
        sizes = (64, *widths)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.readout, self.act = nn.Linear(sizes[-1], 10), act

    def forward(self, x):
        for layer in self.layers:
            x = self.act(layer(x))
        return self.readout(x)


class Skip(nn.Module):
    """Residual blocks without normalisation."""

    def __init__(self, n=64, depth=6):
        super().__init__()
        self.stem, self.readout = nn.Linear(64, n), nn.Linear(n, 10)
        self.up = nn.ModuleList(nn.Linear(n, n) for _ in range(depth))
        self.down = nn.ModuleList(nn.Linear(n, n) for _ in range(depth))

    def stream(self, x):
        states = [self.stem(x)]
        for up, down in zip(self.up, self.down):
            states.append(states[-1] + down(torch.relu(up(states[-1]))))
        return states

    def forward(self, x):
        return self.readout(self.stream(x)[-1])


def batch(n=48, d=64, seed=0):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def exact_chi(function, z):
    """(1/n')|J|² from full Jacobians, averaged over samples: no probes, no hooks."""
    jacobians = torch.func.vmap(torch.func.jacrev(function))(z).detach()
    return float(jacobians.square().sum((1, 2)).mean() / jacobians.shape[1])


def linears(model):
    return [m for m in model.modules() if isinstance(m, nn.Linear)]


@pytest.mark.parametrize("act", [torch.tanh, F.gelu, torch.relu, F.softplus, torch.sigmoid])
def test_numerical_tuning_against_full_jacobians(act):
    torch.manual_seed(1)
    model, x = Plain(act), batch()
    report = initialise(model, x)
    assert report.method == "numerical"
    z = model.layers[0](x).detach()
    for layer in [*model.layers[1:], model.readout]:
        assert exact_chi(lambda z, layer=layer: layer(act(z)), z) == pytest.approx(1, abs=0.05)
        z = layer(act(z)).detach()


def test_closed_form_reaches_the_fixed_point():
    torch.manual_seed(0)
    layers = [m for i in range(6) for m in (nn.Linear(64 if i == 0 else 400, 400), nn.GELU())]
    model, x = nn.Sequential(*layers, nn.Linear(400, 3)), 3 * batch()
    assert initialise(model, x).method == "closed form"
    from kadanoff import criticality

    point, z = criticality("gelu"), x
    for layer in model[:-1]:
        z = layer(z)
        if isinstance(layer, nn.Linear):
            assert float(z.detach().square().mean()) == pytest.approx(point.K_star, rel=0.25)
    for layer in linears(model)[1:]:
        gain = layer.in_features * float(layer.weight.detach().double().square().mean())
        assert gain == pytest.approx(point.C_W, rel=1e-5)
        assert float(layer.bias.detach().square().mean()) == pytest.approx(point.C_b, rel=1e-4)


def test_nested_sequentials_with_unequal_widths():
    model = nn.Sequential(
        nn.Sequential(nn.Flatten(), nn.Linear(64, 50), nn.ReLU()),
        nn.Sequential(nn.Linear(50, 80), nn.ReLU(), nn.Dropout(0.3)),
        nn.Linear(80, 2),
    )
    report = initialise(model, batch())
    assert report.method == "closed form"
    assert [c.gain_after for c in report.changes[1:]] == pytest.approx([2.0, 2.0], rel=1e-5)
    assert all(not layer.bias.any() for layer in linears(model))


def test_residual_blocks_are_calmed():
    torch.manual_seed(0)
    model, x = Skip(), batch()
    for layer in linears(model):
        nn.init.kaiming_normal_(layer.weight)
    initialise(model, x)
    z = model.stem(x).detach()
    for up, down in zip(model.up, model.down):
        chi = exact_chi(lambda z, up=up, down=down: z + down(torch.relu(up(z))), z)
        assert chi == pytest.approx(1, abs=0.06)
        z = (z + down(torch.relu(up(z)))).detach()


MODELS = {
    "numerical": (lambda: Plain(torch.tanh), batch),
    "residual": (Skip, batch),
    "closed form": (lambda: nn.Sequential(nn.Linear(64, 40), nn.Tanh(), nn.Linear(40, 2)), batch),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(),
            nn.MaxPool2d(2), nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(), nn.Flatten(),
            nn.Linear(384, 5),
        ),
        lambda: batch().view(-1, 1, 8, 8),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_idempotent_and_deterministic(name):
    make, sample = MODELS[name]
    torch.manual_seed(3)
    model = make()
    twin = copy.deepcopy(model)
    state, flags = torch.random.get_rng_state(), [m.training for m in model.modules()]
    initialise(model, sample(), seed=4)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [m.training for m in model.modules()] == flags
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    initialise(twin, sample(), seed=4)
    once = copy.deepcopy(model.state_dict())
    initialise(model, sample(), seed=4)
    for key, value in once.items():
        assert torch.equal(value, model.state_dict()[key])
        assert torch.equal(value, twin.state_dict()[key])


def test_normalised_models_are_left_intact():
    transformer = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(32, 4, 64, batch_first=True), 2, enable_nested_tensor=False
    )
    convolutional = nn.Sequential(
        nn.Conv2d(1, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
    )  # fmt: skip
    samples = (torch.randn(4, 6, 32), batch().view(-1, 1, 8, 8))
    for model, sample in zip((transformer, convolutional), samples):
        before = copy.deepcopy(model.state_dict())
        assert initialise(model, sample).method == "untouched"
        for key, value in before.items():
            assert torch.equal(value, model.state_dict()[key]), key


def gains(model):
    """fan-in times the mean square of each weight matrix: its C_W."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    return [float(p.detach().double().square().mean()) * p.shape[1] for p in matrices]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_dtype_is_kept(dtype):
    torch.manual_seed(6)
    model = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 32), nn.Tanh()).to(dtype)
    assert max(gains(model)) < 0.4  # the default of torch is a third
    tune(model, batch().to(dtype))
    assert {p.dtype for p in model.parameters()} == {dtype}
    # and it was tuned, to C_W = 1 of tanh; the first matrix also by what comes in
    first, second = gains(model)
    assert second == pytest.approx(1.0, rel=1e-3 if dtype is torch.bfloat16 else 1e-9)
    assert 0.9 < first < 1.1


@pytest.mark.gpu
def test_device_is_kept():
    model = Plain(torch.tanh).cuda()
    tune(model, batch().cuda())
    assert {p.device.type for p in model.parameters()} == {"cuda"}


def test_zero_weights_are_drawn():
    model = Plain(torch.relu)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    initialise(model, batch(), seed=1)
    # C_W = 2 of ReLU on average; each matrix also makes up for the one drawn before it
    hidden = torch.tensor(gains(model)[1:-1]) / 2
    assert abs(float(hidden.log().mean())) < 0.1
    # so that gradients neither grow nor shrink, layer by layer
    z = model.layers[0](batch()).detach()
    for layer in [*model.layers[1:], model.readout]:
        chi = exact_chi(lambda z, layer=layer: layer(torch.relu(z)), z)
        assert chi == pytest.approx(1, abs=0.05)
        z = layer(torch.relu(z)).detach()


def test_groups_hold_every_trainable_parameter_once():
    model = Plain(torch.tanh)
    model.readout.bias.requires_grad_(False)
    groups = tune(model, batch())
    listed = [p for group in groups for p in group["params"]]
    wanted = [p for p in model.parameters() if p.requires_grad]
    assert len(listed) == len(wanted)
    assert {id(p) for p in listed} == {id(p) for p in wanted}
    torch.optim.AdamW(groups, lr=1e-3)


def test_failure_leaves_the_weights_alone():
    model = Plain(torch.tanh)
    before = copy.deepcopy(model.state_dict())
    for sample, error in (
        (torch.full((4, 64), float("nan")), DataError),
        (torch.zeros(0, 64), DataError),
        (torch.ones(4, 5), DataError),
        ("text", DataError),
    ):
        with pytest.raises(error):
            initialise(model, sample)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.script(nn.Sequential(nn.Linear(64, 4)))
    with pytest.raises(AnalysisError, match="TorchScript"):
        initialise(script, batch())
    for key, value in before.items():
        assert torch.equal(value, model.state_dict()[key])


class _Kept(nn.Module):
    """The largest units of each sample alone."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def forward(self, x):
        values, places = x.topk(self.count, dim=-1)
        return torch.zeros_like(x).scatter(-1, places, values)


def test_a_net_that_keeps_its_largest_units_does_not_grow():
    """5 % of the units carry a fifth of the signal and a twentieth of the gradient.

    At χ = 1 the mean square would be four times as large in each layer: 4^8 in all.
    """
    torch.manual_seed(0)
    layers = [nn.Linear(64, 256)]
    for _ in range(8):
        layers += [nn.ReLU(), _Kept(13), nn.Linear(256, 256)]
    model = nn.Sequential(*layers, nn.ReLU(), _Kept(13), nn.Linear(256, 10))
    x = torch.randn(64, 64)
    found = initialise(model, x)
    assert found.method == "numerical"
    size = float(model(x).detach().square().mean())
    assert 0.2 < size < 5
    assert any("mean square" in c.reason for c in found.changes)
