"""Faults of the optimiser: the diagnosis is told what the user trains with."""

from __future__ import annotations

import torch
from torch import nn

from kadanoff.diagnosis.recipe import Recipe

from .base import Job, conv, digits, fault, mlp, regression, waves
from .output import REAL, WIDE, classify, regress


@fault("rate-too-high", told=True)
def sgd_rate_ten_times_too_high():
    net = [8, 128, 128, 1]
    data = waves()
    sick = Job(mlp(net, init="he"), *data, score="fit", recipe=Recipe("sgd", 1.0, 0.9))
    return sick, Job(mlp(net, init="he"), *data, score="fit", recipe=Recipe("sgd", 0.01, 0.9))


@fault("rate-too-high", told=True)
def adam_rate_of_one():
    return classify(mlp(WIDE), recipe=Recipe("adam", 1.0)), classify(mlp(WIDE))


@fault("rate-too-high", told=True)
def sgd_without_momentum_on_a_deep_net():
    sick = classify(mlp([64, *[64] * 8, 10], init="he"), recipe=Recipe("sgd", 10.0))
    return sick, classify(mlp([64, *[64] * 8, 10], init="he"), recipe=Recipe("sgd", 0.05))


@fault("rate-too-high", told=True)
def convnet_with_sgd_of_five():
    data = digits(True)
    sick = Job(conv(), *data, recipe=Recipe("sgd", 30.0, 0.9))
    return sick, Job(conv(), *data, recipe=Recipe("sgd", 0.05, 0.9))


@fault("rate-too-low", told=True)
def sgd_rate_of_a_millionth():
    return regress(mlp(REAL), recipe=Recipe("sgd", 1e-6)), regress(
        mlp(REAL), recipe=Recipe("sgd", 0.1)
    )


@fault("rate-too-low", told=True)
def adam_rate_of_ten_to_the_minus_eight():
    return classify(mlp(WIDE), recipe=Recipe("adam", 1e-8)), classify(mlp(WIDE))


@fault("not-in-optimizer", told=True)
def only_the_head_in_the_optimizer():
    def head(model):
        return torch.optim.Adam(model[-1].parameters(), 1e-3)

    return classify(mlp([64, 64, 64, 10]), optimizer=head), classify(mlp([64, 64, 64, 10]))


@fault("not-in-optimizer", told=True)
def optimizer_of_another_copy():
    def other(model):
        return torch.optim.Adam(mlp(WIDE).parameters(), 1e-3)

    return classify(mlp(WIDE), optimizer=other), classify(mlp(WIDE))


@fault("decay-too-strong", told=True)
def decay_of_ten():
    sick = classify(mlp(WIDE), recipe=Recipe("sgd", 0.05, 0.0, 3.0))
    return sick, classify(mlp(WIDE), recipe=Recipe("sgd", 0.05, 0.9, 1e-4))


@fault("decay-too-strong", told=True)
def adamw_decay_of_100():
    return classify(mlp(WIDE), recipe=Recipe("adamw", 1e-3, 0.0, 100.0)), classify(mlp(WIDE))


@fault("optimizer-settings", told=True)
def rate_of_zero():
    return classify(mlp(WIDE), recipe=Recipe("adam", 0.0)), classify(mlp(WIDE))


@fault("optimizer-settings", told=True)
def climbs_the_loss():
    def climb(model):
        return torch.optim.SGD(model.parameters(), 0.05, maximize=True)

    return classify(mlp(WIDE), optimizer=climb), classify(mlp(WIDE), recipe=Recipe("sgd", 0.1, 0.9))


_ = nn, regression
