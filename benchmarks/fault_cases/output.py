"""Faults of what the model ends in, against the loss and the targets."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional as F

from kadanoff.diagnosis.recipe import Recipe

from .base import Job, conv, digits, fault, mlp, regression, seeded, waves

SGD = Recipe("sgd", 0.05, 0.9)


def classify(model: nn.Module, **more) -> Job:
    """Digits by a plain net."""
    return Job(model, *digits(), **more)


def regress(model: nn.Module, **more) -> Job:
    """Diabetes."""
    return Job(model, *regression(), score="fit", **more)


WIDE = [64, 128, 64, 10]
REAL = [10, 64, 64, 1]


@fault("softmax-before-cross-entropy")
def softmax_module_and_cross_entropy():
    return classify(mlp(WIDE, tail=nn.Softmax(1)), recipe=SGD), classify(mlp(WIDE), recipe=SGD)


@fault("softmax-before-cross-entropy")
def softmax_after_a_convnet():
    class Net(nn.Module):
        def __init__(self, soft):
            super().__init__()
            self.body, self.soft = conv(), soft

        def forward(self, x):
            z = self.body(x)
            return torch.softmax(z, -1) if self.soft else z

    data = digits(image=True)
    return Job(Net(True), *data, recipe=SGD), Job(Net(False), *data, recipe=SGD)


@fault("softmax-before-cross-entropy")
def softmax_inside_the_users_loss():
    def twice(z, y):
        return F.cross_entropy(z.softmax(1), y)

    return classify(mlp(WIDE), loss=twice, recipe=SGD), classify(mlp(WIDE), recipe=SGD)


@fault("squashed-logits")
def sigmoid_before_cross_entropy():
    return classify(mlp(WIDE, tail=nn.Sigmoid()), recipe=SGD), classify(mlp(WIDE), recipe=SGD)


@fault("squashed-logits")
def relu_on_logits():
    return classify(mlp(WIDE, tail=nn.ReLU(), seed=3)), classify(mlp(WIDE, seed=3))


@fault("squashed-logits")
def sigmoid_and_with_logits():
    data = binary()
    loss = nn.BCEWithLogitsLoss()
    sick = Job(mlp([8, 64, 64, 1], tail=nn.Sigmoid()), *data, loss=loss, recipe=SGD)
    return sick, Job(mlp([8, 64, 64, 1]), *data, loss=loss, recipe=SGD)


def binary(n: int = 256):
    """Two classes by the sign of x₁x₂, targets (N, 1) of zeros and ones."""
    x = torch.randn(2 * n, 8, generator=seeded(1))
    y = (x[:, :1] * x[:, 1:2] > 0).float()
    return (x[:n], y[:n]), (x[n:], y[n:])


@fault("softmax-over-one-unit")
def softmax_over_one_unit():
    data = binary()
    sick = Job(mlp([8, 64, 64, 1], tail=nn.Softmax(1)), *data, loss=nn.BCELoss())
    return sick, Job(mlp([8, 64, 64, 1], tail=nn.Sigmoid()), *data, loss=nn.BCELoss())


@fault("softmax-over-wrong-axis", "softmax-before-cross-entropy")
def softmax_over_the_batch():
    def nll(p, y):
        return F.nll_loss(p.clamp_min(1e-9).log(), y)

    sick = classify(mlp(WIDE, tail=nn.Softmax(0)), loss=nll)
    return sick, classify(mlp(WIDE, tail=nn.Softmax(1)), loss=nll)


@fault("output-cannot-reach-targets")
def relu_and_signed_targets():
    sick = mlp([8, 64, 64, 1], tail=nn.ReLU())
    data = waves()
    return Job(sick, *data, score="fit"), Job(mlp([8, 64, 64, 1]), *data, score="fit")


@fault("output-cannot-reach-targets")
def sigmoid_and_standardised_targets():
    return regress(mlp(REAL, tail=nn.Sigmoid())), regress(mlp(REAL))


@fault("output-cannot-reach-targets")
def tanh_and_wide_targets():
    (x, y), (xt, yt) = waves()
    data = (x, 4 * y), (xt, 4 * yt)
    net = [8, 64, 64, 1]
    return Job(mlp(net, tail=nn.Tanh()), *data, score="fit"), Job(mlp(net), *data, score="fit")


@fault("output-cannot-reach-targets")
def softplus_decoder_of_signed_data():
    (x, _), (xt, _) = regression()
    data = (x, x.clone()), (xt, xt.clone())
    net = [10, 32, 6, 32, 10]
    sick = Job(mlp(net, nn.Tanh, tail=nn.Softplus()), *data, score="fit")
    return sick, Job(mlp(net, nn.Tanh), *data, score="fit")


@fault("probabilities-expected")
def nll_of_logits():
    sick = classify(mlp(WIDE), loss=nn.NLLLoss(), recipe=Recipe("sgd", 0.5, 0.9))
    return sick, classify(mlp(WIDE, tail=nn.LogSoftmax(1)), loss=nn.NLLLoss())


@fault("probabilities-expected")
def nll_of_probabilities():
    sick = classify(mlp(WIDE, tail=nn.Softmax(1)), loss=nn.NLLLoss(), recipe=SGD)
    return sick, classify(mlp(WIDE, tail=nn.LogSoftmax(1)), loss=nn.NLLLoss(), recipe=SGD)


@fault("broadcast-loss")
def column_against_row():
    (x, y), (xt, yt) = regression()
    sick = Job(mlp(REAL), (x, y[:, 0]), (xt, yt[:, 0]), loss=F.mse_loss, score="fit")
    return sick, regress(mlp(REAL), loss=F.mse_loss)


@fault("broadcast-loss")
def hand_written_difference():
    def square(z, y):
        return (z - y).pow(2).mean()

    (x, y), (xt, yt) = regression()
    sick = Job(mlp(REAL), (x, y[:, 0]), (xt, yt[:, 0]), loss=square, score="fit")
    return sick, regress(mlp(REAL), loss=square)


class PerPosition(nn.Module):
    """Classes at each of ten positions, on the last axis."""

    def __init__(self, turn: bool):
        super().__init__()
        torch.manual_seed(0)
        self.up, self.out, self.turn = nn.Linear(6, 64), nn.Linear(64, 10), turn

    def forward(self, x):
        z = self.out(torch.relu(self.up(x)))
        return z.transpose(1, 2) if self.turn else z


@fault("wrong-class-axis")
def classes_on_the_last_axis():
    x = torch.randn(512, 10, 6, generator=seeded(2))
    y = (3 * x[..., 0].sigmoid() + 6 * x[..., 1].sigmoid()).long().clamp(0, 9)
    data = (x[:256], y[:256]), (x[256:], y[256:])
    loss = nn.CrossEntropyLoss()

    class Last(PerPosition):
        def forward(self, x):
            return super().forward(x)

    def right(z, y):
        return loss(z.transpose(1, 2), y)

    return Job(Last(False), *data, loss=loss), Job(Last(False), *data, loss=right)


@fault("classes-as-numbers")
def class_index_by_mean_square():
    (x, y), (xt, yt) = digits()

    def square(z, y):
        return F.mse_loss(z.squeeze(-1), y.float())

    return Job(mlp([64, 64, 1]), (x, y), (xt, yt), loss=square, score="fit"), None


@fault("labels-out-of-range")
def labels_from_one():
    (x, y), (xt, yt) = digits()
    return Job(mlp(WIDE), (x, y + 1), (xt, yt + 1)), Job(mlp(WIDE), (x, y), (xt, yt))


@fault("float-class-labels")
def labels_as_floats():
    (x, y), (xt, yt) = digits()
    return Job(mlp(WIDE), (x, y.float()), (xt, yt)), Job(mlp(WIDE), (x, y), (xt, yt))


@fault("target-count")
def five_targets():
    (x, y), (xt, yt) = digits()
    return Job(mlp(WIDE), (x, y[:5]), (xt, yt)), Job(mlp(WIDE), (x, y), (xt, yt))
