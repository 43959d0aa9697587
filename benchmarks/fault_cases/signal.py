"""Faults of data, of the learning signal, and numbers that are not finite."""

from __future__ import annotations

import torch
from torch import nn

from kadanoff.diagnosis.recipe import Recipe

from .base import Job, conv, digits, fault, mlp, regression, seeded, waves
from .output import REAL, WIDE, binary, classify

# -- data ----------------------------------------------------------------------------------------


@fault("inputs-unscaled")
def pixels_to_255():
    sgd = Recipe("sgd", 0.05, 0.9)
    return Job(mlp(WIDE), *digits(scale=16 / 255), recipe=sgd), Job(
        mlp(WIDE), *digits(), recipe=sgd
    )


@fault("inputs-unscaled")
def pixels_into_a_convnet_without_norm():
    sick = Job(conv(False), *digits(True, 16 / 255), recipe=Recipe("sgd", 0.05, 0.9))
    return sick, Job(conv(False), *digits(True, 8.0), recipe=Recipe("sgd", 0.05, 0.9))


@fault("inputs-unscaled")
def inputs_far_from_zero():
    (x, y), (xt, yt) = waves()
    net = [8, 64, 64, 1]
    data = (50 + x, y), (50 + xt, yt)
    return Job(mlp(net), *data, score="fit"), Job(mlp(net), (x, y), (xt, yt), score="fit")


@fault("inputs-unscaled")
def tiny_inputs():
    (x, y), (xt, yt) = waves()
    net = [8, 64, 64, 1]
    data = (1e-4 * x, y), (1e-4 * xt, yt)
    return Job(mlp(net), *data, score="fit"), Job(mlp(net), (x, y), (xt, yt), score="fit")


@fault("inputs-unscaled", "saturated")
def tanh_net_on_raw_counts():
    (x, y), (xt, yt) = binary()
    net = [8, 64, 64, 1]
    data = (300 * x, y), (300 * xt, yt)
    return Job(mlp(net, nn.Tanh), *data), Job(mlp(net, nn.Tanh), (x, y), (xt, yt))


@fault("feature-scales", "inputs-unscaled")
def one_column_of_100000():
    (x, y), (xt, yt) = binary()
    big = torch.ones(8)
    big[5] = 1e5
    net = [8, 64, 64, 1]
    return Job(mlp(net), (x * big, y), (xt * big, yt)), Job(mlp(net), (x, y), (xt, yt))


@fault("feature-scales", "inputs-unscaled")
def years_and_shares():
    (x, y), (xt, yt) = regression()
    scale, shift = torch.ones(10), torch.zeros(10)
    scale[3], shift[3] = 15.0, 1990.0
    sick = (x * scale + shift, y), (xt * scale + shift, yt)
    return Job(mlp(REAL), *sick, score="fit"), Job(mlp(REAL), (x, y), (xt, yt), score="fit")


@fault("targets-unscaled")
def prices_in_cents():
    (x, y), (xt, yt) = regression()
    sick = (x, 3e5 + 8e4 * y), (xt, 3e5 + 8e4 * yt)
    return Job(mlp(REAL), *sick, score="fit"), Job(mlp(REAL), (x, y), (xt, yt), score="fit")


@fault("targets-unscaled")
def wide_targets_in_a_tanh_net():
    (x, y), (xt, yt) = waves()
    sick = (x, 2000 * y), (xt, 2000 * yt)
    net = [8, 64, 64, 1]
    good = Job(mlp(net, nn.Tanh), (x, y), (xt, yt), score="fit")
    return Job(mlp(net, nn.Tanh), *sick, score="fit"), good


@fault("repeated-samples", "one-class")
def a_loader_that_repeats_one_sample():
    (x, y), test = digits()
    sick = Job(mlp(WIDE), (x[:1].expand(256, -1).clone(), y[:1].expand(256).clone()), test)
    return sick, Job(mlp(WIDE), *digits())


@fault("one-class")
def sorted_and_not_shuffled():
    (x, y), test = digits(n=800)
    zeros = (y == 0).nonzero().flatten()[:64]
    sick = Job(mlp(WIDE), (x[zeros], y[zeros]), test)
    return sick, Job(mlp(WIDE), (x[:256], y[:256]), test)


# -- learning signal -----------------------------------------------------------------------------


class Split(nn.Module):
    """An encoder and a head, joined in several ways."""

    def __init__(self, join: str = "", depth: int = 3):
        super().__init__()
        torch.manual_seed(0)
        layers: list[nn.Module] = []
        for _ in range(depth):
            layers += [nn.Linear(64, 64), nn.ReLU()]
        self.encoder, self.head, self.join = nn.Sequential(*layers), nn.Linear(64, 10), join
        nn.init.zeros_(self.head.weight)

    def forward(self, x):
        if self.join == "no_grad":
            with torch.no_grad():
                h = self.encoder(x)
        else:
            h = self.encoder(x)
        if self.join == "detach":
            h = h.detach()
        elif self.join == "data":
            h = h.data
        elif self.join == "round":
            h = torch.round(4 * h) / 4
        elif self.join == "sign":
            h = torch.sign(h)
        elif self.join == "step":
            h = (h > 0).float()
        return self.head(h)


def _split(join: str):
    return classify(Split(join, 1)), classify(Split("", 1))


@fault("detached")
def encoder_in_no_grad():
    return _split("no_grad")


@fault("detached")
def detached_features():
    return _split("detach")


@fault("detached")
def data_attribute():
    return _split("data")


@fault("zero-gradient", "detached")
def rounded_features():
    return _split("round")


@fault("zero-gradient", "detached")
def sign_features():
    return _split("sign")


@fault("detached", "zero-gradient")
def step_features():
    return _split("step")


@fault("nothing-trainable")
def all_frozen():
    sick = mlp(WIDE)
    sick.requires_grad_(False)
    return classify(sick), classify(mlp(WIDE))


class Hidden(nn.Module):
    """Layers in a plain list."""

    def __init__(self, seen: bool):
        super().__init__()
        torch.manual_seed(0)
        layers = [nn.Linear(64, 64) for _ in range(3)]
        self.layers = nn.ModuleList(layers) if seen else layers
        self.head = nn.Linear(64, 10)

    def forward(self, x):
        for layer in self.layers:
            x = torch.relu(layer(x))
        return self.head(x)


@fault("unregistered")
def layers_in_a_list():
    return classify(Hidden(False)), classify(Hidden(True))


@fault("unregistered")
def layers_in_a_dict():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.blocks = {"a": nn.Linear(64, 64), "b": nn.Linear(64, 64)}
            self.head = nn.Linear(64, 10)

        def forward(self, x):
            return self.head(torch.relu(self.blocks["b"](torch.relu(self.blocks["a"](x)))))

    return classify(Net()), classify(Hidden(True))


# -- not finite ----------------------------------------------------------------------------------


class Risky(nn.Module):
    """A net with an operation that is not finite on some samples."""

    def __init__(self, what: str, safe: bool):
        super().__init__()
        torch.manual_seed(0)
        self.net, self.what, self.safe = mlp([64, 64, 10]), what, safe

    def forward(self, x):
        e = 1e-6 if self.safe else 0.0
        if self.what == "log":
            x = (x + e).log()
        elif self.what == "norm":
            x = x / (x.sum(1, keepdim=True) + e)
        elif self.what == "sqrt":
            z = self.net(x)
            return z - (z.relu().sum(1, keepdim=True) * 0 + e).sqrt()
        elif self.what == "exp":
            x = (x * (1 if self.safe else 200)).exp()
        return self.net(x)


@fault("not-finite")
def log_of_zero():
    return classify(Risky("log", False)), classify(Risky("log", True))


@fault("not-finite")
def division_by_zero_on_one_sample():
    (x, y), test = digits()
    x = x.clone()
    x[100] = 0
    return Job(Risky("norm", False), (x, y), test), Job(Risky("norm", True), (x, y), test)


@fault("not-finite")
def slope_of_a_root_at_zero():
    return classify(Risky("sqrt", False)), classify(Risky("sqrt", True))


@fault("not-finite")
def exp_overflows():
    return classify(Risky("exp", False)), classify(Risky("exp", True))


@fault("not-finite")
def log_in_the_loss():
    def careless(p, y):
        return -(p.gather(1, y[:, None]).log()).mean()

    def careful(p, y):
        return -((p + 1e-6).gather(1, y[:, None]).log()).mean()

    class Hard(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp(WIDE, init="he")

        def forward(self, x):
            return torch.softmax(60 * self.net(x), 1)

    return classify(Hard(), loss=careless), classify(Hard(), loss=careful)


# -- dtype ---------------------------------------------------------------------------------------


@fault("updates-vanish", "rate-too-low", told=True)
def bfloat16_weights_and_a_small_rate():
    (x, y), (xt, yt) = digits()
    low = torch.bfloat16
    small = Recipe("sgd", 1e-5)
    sick = Job(mlp(WIDE).to(low), (x.to(low), y), (xt.to(low), yt), recipe=small)
    return sick, Job(mlp(WIDE), (x, y), (xt, yt), recipe=Recipe("sgd", 0.1, 0.9))


_ = seeded
