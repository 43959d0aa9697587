"""Faults of initialisation, structure and norms."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

from kadanoff.diagnosis.recipe import Recipe

from .base import Job, conv, digits, fault, mlp, seeded
from .output import WIDE, binary, classify

SGD = Recipe("sgd", 0.05, 0.9)


def _scaled(model: nn.Module, factor: float) -> nn.Module:
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, (nn.Linear, nn.Conv2d)):
                m.weight.mul_(factor)
    return model


def _deep(depth: int, act=nn.ReLU, init="default", width: int = 64, factor: float = 1.0):
    return _scaled(mlp([64, *[width] * depth, 10], act, init=init), factor)


@fault("vanishing", "ordered", "collapsed", "output-constant")
def default_relu_of_30_layers():
    return classify(_deep(30)), classify(_deep(30, init="he"), recipe=Recipe("adam", 3e-4))


@fault("vanishing", "ordered", "collapsed", "output-constant")
def default_gelu_of_20_layers():
    return classify(_deep(20, nn.GELU)), classify(_deep(20, nn.GELU, "he"))


@fault("vanishing", "ordered", "collapsed", "output-constant")
def default_sigmoid_of_8_layers():
    return classify(_deep(8, nn.Sigmoid)), classify(_deep(8, nn.Tanh, "unit"))


@fault("exploding", "loss-at-start", "chaotic")
def relu_with_weights_too_large():
    return classify(_deep(8, init="he", factor=3.0), recipe=SGD), classify(_deep(8, init="he"))


@fault("saturated", "chaotic", "exploding")
def tanh_with_unit_normal_weights():
    return classify(_deep(6, nn.Tanh, "unit", factor=8.0)), classify(_deep(6, nn.Tanh, "unit"))


@fault("saturated")
def sigmoid_with_unit_normal_weights():
    sick = _scaled(mlp([64, 128, 10], nn.Sigmoid, init="unit"), 20.0)
    return classify(sick, recipe=SGD), classify(mlp([64, 128, 10], nn.Sigmoid, init="unit"))


@fault("vanishing", "ordered", "collapsed", "output-constant")
def weights_of_0_001():
    sick = _deep(4)
    with torch.no_grad():
        for m in sick.modules():
            if isinstance(m, nn.Linear):
                m.weight.normal_(0, 1e-3, generator=seeded(0))
                m.bias.zero_()
    return classify(sick, recipe=SGD), classify(_deep(4, init="he"), recipe=SGD)


@fault("vanishing", "ordered", "collapsed", "output-constant")
def convnet_of_16_layers_without_norm():
    data = digits(image=True)
    good = conv(False, depth=16)
    for m in good.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.kaiming_normal_(m.weight)
            nn.init.zeros_(m.bias)
    return Job(conv(False, depth=16), *data), Job(good, *data)


@fault("loss-at-start")
def head_fifty_times_too_large():
    sick = mlp(WIDE, init="he")
    with torch.no_grad():
        sick[-1].weight.mul_(50)
    return classify(sick), classify(mlp(WIDE, init="he"))


@fault("odd_layer", "exploding", "loss-at-start", "vanishing")
def one_layer_out_of_eight_too_large():
    sick = _deep(8, init="he")
    with torch.no_grad():
        sick[8].weight.mul_(30)
    return classify(sick, recipe=SGD), classify(_deep(8, init="he"), recipe=SGD)


@fault("symmetric-weights")
def constant_weights():
    sick = mlp(WIDE)
    for m in sick.modules():
        if isinstance(m, nn.Linear):
            nn.init.constant_(m.weight, 0.02)
    return classify(sick), classify(mlp(WIDE))


@fault("symmetric-weights")
def ones_in_a_convnet():
    sick = conv()
    for m in sick.modules():
        if isinstance(m, nn.Conv2d):
            nn.init.constant_(m.weight, 1 / m.weight[0].numel())
            nn.init.zeros_(m.bias)
    return Job(sick, *digits(True)), Job(conv(), *digits(True))


@fault("symmetric-weights")
def copied_rows():
    sick = mlp(WIDE)
    with torch.no_grad():
        for m in list(sick.modules())[1:4:2]:
            m.weight.copy_(m.weight[:1].expand_as(m.weight))
            m.bias.fill_(0.1)
    return classify(sick), classify(mlp(WIDE))


@fault("symmetric-weights", "zero-gradient", "silent")
def all_weights_zero():
    sick = mlp(WIDE)
    for p in sick.parameters():
        nn.init.zeros_(p)
    return classify(sick), classify(mlp(WIDE))


@fault("dead", "zero-gradient", "output-constant")
def biases_too_negative():
    sick = mlp([64, 128, 128, 10])
    with torch.no_grad():
        sick[2].bias.fill_(-10.0)
    return classify(sick), classify(mlp([64, 128, 128, 10]))


@fault("dead", "zero-gradient", "output-constant")
def units_killed_by_a_large_step():
    sick = mlp([64, 128, 128, 10])
    x, y = digits()[0]
    optimizer = torch.optim.SGD(sick.parameters(), 30.0)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(sick(x), y).backward()
        optimizer.step()
    return classify(sick), classify(mlp([64, 128, 128, 10]))


@fault("no-nonlinearity")
def no_activation_at_all():
    data = binary()
    two = (data[0][0], data[0][1][:, 0].long()), (data[1][0], data[1][1][:, 0].long())
    return Job(mlp([8, 64, 64, 64, 2], nn.Identity), *two), Job(mlp([8, 64, 64, 64, 2]), *two)


@fault("no-nonlinearity")
def batch_norms_and_no_activation():
    torch.manual_seed(0)
    data = binary()
    two = (data[0][0], data[0][1][:, 0].long()), (data[1][0], data[1][1][:, 0].long())

    def net(act):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(8, 64), nn.BatchNorm1d(64), act(), nn.Linear(64, 64), nn.BatchNorm1d(64),
            act(), nn.Linear(64, 64), act(), nn.Linear(64, 2),
        )  # fmt: skip

    return Job(net(nn.Identity), *two), Job(net(nn.ReLU), *two)


@fault("half-loaded")
def a_block_that_was_not_loaded():
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.inp, self.out = nn.Linear(64, 64), nn.Linear(64, 10)
            self.blocks = nn.ModuleList(nn.Linear(64, 64) for _ in range(6))

        def forward(self, x):
            x = self.inp(x)
            for b in self.blocks:
                x = x + b(torch.relu(x))
            return self.out(x)

    good = Net()
    x, y = digits()[0]
    optimizer = torch.optim.AdamW(good.parameters(), 3e-3)
    for _ in range(100):
        optimizer.zero_grad()
        F.cross_entropy(good(x), y).backward()
        optimizer.step()
    sick = copy.deepcopy(good)
    torch.manual_seed(5)
    sick.blocks[2] = nn.Linear(64, 64)
    frozen = Recipe("sgd", 0.0)
    return classify(sick, recipe=frozen), classify(good, recipe=frozen)


# -- norms ---------------------------------------------------------------------------------------


def _trained(momentum: float, shift: float = 0.0) -> nn.Module:
    net = conv(depth=4)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.momentum = momentum
    x, y = digits(True)[0]
    optimizer = torch.optim.Adam(net.parameters(), 3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(net(x * (1 + shift) + shift), y).backward()
        optimizer.step()
    return net.eval()


@fault("stale-statistics")
def momentum_too_small():
    frozen = Recipe("sgd", 0.0)
    data = digits(True)
    sick = Job(_trained(1e-3), *data, recipe=frozen, mode="eval")
    return sick, Job(_trained(0.1), *data, recipe=frozen, mode="eval")


@fault("stale-statistics")
def statistics_of_other_data():
    frozen = Recipe("sgd", 0.0)
    data = digits(True)
    sick = Job(_trained(0.3, 4.0), *data, recipe=frozen, mode="eval")
    return sick, Job(_trained(0.3), *data, recipe=frozen, mode="eval")


@fault("norm-over-one", "output-constant", "zero-gradient")
def layer_norm_over_one_feature():
    def net(norm):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 1), norm, nn.Linear(1, 2))

    data = binary()
    two = (data[0][0], data[0][1][:, 0].long()), (data[1][0], data[1][1][:, 0].long())
    return Job(net(nn.LayerNorm(1)), *two), Job(net(nn.Identity()), *two)


@fault("norm-over-one", "output-constant", "zero-gradient")
def instance_norm_on_one_pixel():
    def net(norm):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(1, 16, 3, 2), nn.ReLU(), nn.Conv2d(16, 32, 3, 2), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), norm, nn.Flatten(), nn.Linear(32, 10),
        )  # fmt: skip

    data = digits(True)
    # torch refuses instance norm of one pixel in training mode
    return Job(net(nn.GroupNorm(32, 32)), *data), Job(net(nn.Identity()), *data)


_ = math
