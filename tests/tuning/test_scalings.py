"""Named scalings: each moves its layers with width and depth as its exponents say."""

from __future__ import annotations

import copy
import itertools
import math

import pytest
import torch
from torch import nn

from kadanoff.errors import UsageError
from kadanoff.tuning.movement import coordinates
from kadanoff.tuning.scalings import SCALINGS, TABLE, scale

G = torch.Generator().manual_seed(0)
X = torch.randn(32, 12, generator=G)
Y = torch.sin(2 * X[:, :3])


def mlp(width, seed, depth=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        sizes = [12, *[width] * depth]
        layers = []
        for a, b in itertools.pairwise(sizes):
            layers += [nn.Linear(a, b), nn.ReLU()]
        model = nn.Sequential(*layers, nn.Linear(width, 3))
        for layer in model[::2]:
            nn.init.kaiming_normal_(layer.weight)
        with torch.no_grad():
            # outputs small beside the targets at every width: the error drives all alike
            model[-1].weight.mul_(0.2)
        return model


class Residual(nn.Module):
    """Pre-activation blocks without any factor of their own."""

    def __init__(self, width, depth):
        super().__init__()
        self.stem, self.readout = nn.Linear(12, width), nn.Linear(width, 3)
        self.up = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.down = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))

    def forward(self, x):
        z = self.stem(x)
        for up, down in zip(self.up, self.down, strict=True):
            z = z + down(torch.relu(up(z)))
        return self.readout(z)


def residual(width, depth, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = Residual(width, depth)
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                # branches that make the stream of the base model grow by half, not sixteenfold
                gain = 0.1 if "down" in name else 1.0
                nn.init.normal_(parameter, std=math.sqrt(gain / parameter.shape[1]))
        return model


def check(scaling, optimizer, lr, sizes=(64, 256, 1024)):
    def prepare(model, seed):
        base = mlp(sizes[0], seed)
        return scale(model, base, X, scaling, optimizer=optimizer, lr=lr).optimizers()

    return coordinates(
        mlp, prepare, (X, Y), sizes, predicted=TABLE[scaling].moves, steps=3, seeds=4
    )


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
@pytest.mark.parametrize("scaling", ["mup", "spectral", "completep", "ntk"])
def test_layers_move_with_width_as_the_exponents_say(scaling, optimizer):
    found = check(scaling, optimizer, 2e-3 if optimizer == "adam" else 0.02)
    hidden = found[1:-1]
    assert len(hidden) == 2
    for c in hidden:
        assert c.slope_stderr < 0.1
        assert abs(c.slope - TABLE[scaling].moves) < 0.15 + 3 * c.slope_stderr, c


def test_standard_parametrisation_moves_more_the_wider_it_is():
    found = check("standard", "adam", 2e-3)
    assert all(c.slope - 3 * c.slope_stderr > 0.3 for c in found[1:-1])
    assert all(c.fine for c in found)  # nothing is predicted, so nothing can be off


@pytest.mark.parametrize(
    ("scaling", "optimizer"),
    [("depth-mup", "adam"), ("completep", "adam"), ("depth-mup", "sgd"), ("completep", "sgd")],
)
def test_the_stream_moves_alike_at_any_depth(scaling, optimizer):
    """The readout's input and the output do not move more the more branches there are."""

    def prepare(model, seed):
        base = residual(96, 4, seed)
        lr = 1e-4 if optimizer == "adam" else 0.005
        return scale(model, base, X, scaling, optimizer=optimizer, lr=lr).optimizers()

    found = coordinates(
        lambda depth, seed: residual(96, depth, seed), prepare, (X, Y), (4, 12, 36),
        predicted=0.0, steps=2, seeds=4,
    )  # fmt: skip
    output = found[-1]
    assert output.layer == "readout"
    # L branches of L^(-1/2) let the stream itself grow by a constant only: slopes of 0
    assert abs(output.slope) < 0.25 + 3 * output.slope_stderr, output


def test_without_a_scaling_depth_makes_it_move_more():
    def prepare(model, seed):
        base = residual(96, 4, seed)
        return scale(model, base, X, "mup", optimizer="adam", lr=1e-4).optimizers()

    found = coordinates(
        lambda depth, seed: residual(96, depth, seed), prepare, (X, Y), (4, 12, 36),
        predicted=0.0, steps=2, seeds=4,
    )  # fmt: skip
    assert found[-1].slope - 3 * found[-1].slope_stderr > 0.5


def test_rates_decay_and_weights_of_completep():
    """Against the published table: rates 1, 1/m_N, 1/m_N; decay of hidden weights m_N."""
    base, model = residual(32, 2, 0), residual(128, 8, 0)
    gains = {n: _gain(p) for n, p in base.named_parameters() if p.ndim > 1}
    found = scale(model, base, X, "completep", optimizer="adamw", lr=1.0, weight_decay=0.1)
    groups = {g["name"]: g for g in found}
    assert groups["stem.weight"]["lr"] == pytest.approx(1.0)
    assert groups["up.3.weight"]["lr"] == pytest.approx(1 / 4)
    assert groups["up.3.weight"]["weight_decay"] == pytest.approx(0.4)
    # the branch's factor 1/m_L = 1/4 lies in its last map: weight and rate
    assert groups["down.3.weight"]["lr"] == pytest.approx(1 / 4 / 4)
    assert groups["up.3.bias"]["lr"] == pytest.approx(1.0)
    assert groups["readout.weight"]["lr"] == pytest.approx(1 / 4)
    new = {n: _gain(p) for n, p in model.named_parameters() if p.ndim > 1}
    down = sum(gains[f"down.{k}.weight"] for k in range(2)) / 2
    assert new["down.5.weight"] == pytest.approx(down / 16, rel=1e-4)
    assert new["readout.weight"] == pytest.approx(gains["readout.weight"] / 4, rel=1e-4)


def _gain(weight):
    return weight.shape[1] * float(weight.detach().square().mean())


def test_nothing_but_one_model_is_needed_and_undo_restores():
    model = mlp(128, 0)
    before = copy.deepcopy(model.state_dict())
    found = scale(model, None, X, "mup", lr=1e-3)
    rates = {g["name"]: g["lr"] for g in found}
    assert rates["2.weight"] == pytest.approx(1e-3 * 64 / 128)
    assert rates["0.weight"] == pytest.approx(1e-3)
    assert not torch.equal(model[6].weight, before["6.weight"])
    found.undo()
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in before.items())


def test_bad_calls():
    with pytest.raises(UsageError, match="standard, ntk, mup"):
        scale(mlp(16, 0), None, X, "up")
    with pytest.raises(UsageError, match="no parameter like"):
        scale(residual(16, 2, 0), mlp(16, 0), X)
    assert set(SCALINGS) == {"standard", "ntk", "mup", "spectral", "depth-mup", "completep"}


def test_muon_has_one_rate_for_hidden_matrices_at_any_width():
    """Its steps have a spectral norm of their own; what AdamW steps is scaled as ever."""
    found = scale(mlp(64, 0), mlp(16, 0), X, "mup", optimizer="muon", lr=0.02)
    hidden = [g for g in found if g["algorithm"] == "muon"]
    assert hidden
    assert all(g["lr"] == pytest.approx(0.02) for g in hidden)
    readout = [g for g in found if g["role"] == "readout" and g["params"][0].ndim == 2]
    assert readout[0]["lr"] == pytest.approx(0.02 / 4)
    lazy = scale(mlp(64, 0), mlp(16, 0), X, "ntk", optimizer="muon", lr=0.02)
    assert next(g["lr"] for g in lazy if g["algorithm"] == "muon") == pytest.approx(0.02 / 2)
    assert len(found.optimizers()) == 2


def gradients(width, depth, scaling):
    """Root mean square gradients of 8 nets, and Adam's ε over torch's."""
    total: dict[str, float] = {}
    eps = {}
    for seed in range(8):
        base, model = residual(32, 2, seed), residual(width, depth, seed)
        for group in scale(model, base, X, scaling, optimizer="adam"):
            eps[group["name"]] = group["eps"] / 1e-8
        nn.functional.mse_loss(model(X), Y).backward()
        for name, p in model.named_parameters():
            total[name] = total.get(name, 0.0) + float(p.grad.square().mean())
    return {n: math.sqrt(v / 8) for n, v in total.items()}, eps


@pytest.mark.parametrize("scaling", ["mup", "completep", "ntk"])
def test_adams_epsilon_goes_with_width_as_the_gradients(scaling):
    small, one = gradients(32, 2, scaling)
    large, other = gradients(128, 2, scaling)
    assert set(one.values()) == {1.0}
    # beside the readout's, which has the error in it and no power of the width
    error = large["readout.weight"] / small["readout.weight"]
    for name in ("stem.weight", "up.0.weight", "down.1.weight", "stem.bias"):
        assert large[name] / small[name] / error == pytest.approx(other[name], rel=0.3), name
    assert other["readout.weight"] == 1


@pytest.mark.parametrize("scaling", ["completep", "depth-mup"])
def test_adams_epsilon_goes_with_depth_as_the_gradients(scaling):
    """Beside that of the stem, which the growth of the stream changes at any depth alike."""
    small, _ = gradients(48, 2, scaling)
    large, eps = gradients(48, 8, scaling)
    stem = large["stem.weight"] / small["stem.weight"]
    for name in ("up.0.weight", "down.0.weight"):
        assert large[name] / small[name] / stem == pytest.approx(
            eps[name] / eps["stem.weight"], rel=0.3
        ), name
