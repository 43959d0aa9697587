"""Variants written after the rules were frozen: how well they do on what they have not seen."""

from __future__ import annotations

import copy
import math

import torch
from torch import nn
from torch.nn import functional as F

from kadanoff.diagnosis.recipe import Recipe

from .base import Job, conv, digits, fault, mlp, regression, seeded, waves
from .output import REAL, WIDE, binary, classify, regress
from .sequence import Decoder, tokens

SGD = Recipe("sgd", 0.05, 0.9)


def late(*names: str, told: bool = False):
    """A fault that no rule was made with."""
    return fault(*names, told=told, held_out=True)


class Functional(nn.Module):
    """A net without layers of PyTorch's: bare parameters."""

    def __init__(self, end: str = "", seed: int = 0):
        super().__init__()
        g = seeded(seed)
        self.W1 = nn.Parameter(torch.randn(64, 96, generator=g) / 8)
        self.W2 = nn.Parameter(torch.randn(96, 10, generator=g) / 96**0.5)
        self.end = end

    def forward(self, x):
        z = torch.relu(x @ self.W1) @ self.W2
        if self.end == "softmax":
            e = (z - z.amax(1, keepdim=True)).exp()
            return e / e.sum(1, keepdim=True)
        return z


@late("softmax-before-cross-entropy")
def softmax_written_by_hand():
    return classify(Functional("softmax"), recipe=SGD), classify(Functional(), recipe=SGD)


@late("softmax-before-cross-entropy")
def softmax_over_channels_of_a_segmenter():
    class Net(nn.Module):
        def __init__(self, soft):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.soft = nn.Conv2d(1, 16, 3, padding=1), nn.Conv2d(16, 3, 1), soft

        def forward(self, x):
            z = self.b(torch.relu(self.a(x)))
            return z.softmax(1) if self.soft else z

    (x, _), (xt, _) = digits(image=True)
    cut = lambda t: (3 * t[:, 0]).long().clamp(max=2)  # noqa: E731
    data = (x, cut(x)), (xt, cut(xt))
    return Job(Net(True), *data, recipe=SGD), Job(Net(False), *data, recipe=SGD)


@late("squashed-logits")
def tanh_on_logits_of_a_convnet():
    sick = nn.Sequential(conv(), nn.Hardtanh())
    return Job(sick, *digits(True), recipe=SGD), Job(conv(), *digits(True), recipe=SGD)


@late("output-cannot-reach-targets")
def clamped_regression():
    class Net(nn.Module):
        def __init__(self, cut):
            super().__init__()
            self.net, self.cut = mlp(REAL), cut

        def forward(self, x):
            z = self.net(x)
            return z.clamp(min=0) if self.cut else z

    return regress(Net(True)), regress(Net(False))


@late("output-cannot-reach-targets")
def exponential_output():
    class Net(nn.Module):
        def __init__(self, exp):
            super().__init__()
            self.net, self.exp = mlp([8, 64, 64, 1]), exp

        def forward(self, x):
            z = self.net(x)
            return z.exp() if self.exp else z

    data = waves()
    return Job(Net(True), *data, score="fit"), Job(Net(False), *data, score="fit")


@late("broadcast-loss")
def smooth_l1_of_column_and_row():
    (x, y), (xt, yt) = regression()
    loss = nn.SmoothL1Loss()
    sick = Job(mlp(REAL), (x, y[:, 0]), (xt, yt[:, 0]), loss=loss, score="fit")
    return sick, regress(mlp(REAL), loss=loss)


@late("inputs-unscaled", "feature-scales")
def angles_in_thousands_for_a_sine_net():
    class Sine(nn.Module):
        def forward(self, x):
            return torch.sin(x)

    (x, y), (xt, yt) = waves()
    net = [8, 128, 128, 1]
    sick = (1000 * x, y), (1000 * xt, yt)
    good = Job(mlp(net, Sine), (x, y), (xt, yt), score="fit")
    return Job(mlp(net, Sine), *sick, score="fit"), good


@late("targets-unscaled")
def targets_with_a_large_offset():
    (x, y), (xt, yt) = regression()
    sick = (x, 500 + y), (xt, 500 + yt)
    return Job(mlp(REAL), *sick, score="fit"), Job(mlp(REAL), (x, y), (xt, yt), score="fit")


@late("detached")
def numpy_in_the_middle():
    class Net(nn.Module):
        def __init__(self, cut):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.cut = nn.Linear(64, 64), nn.Linear(64, 10), cut
            nn.init.normal_(self.a.weight, std=0.01)

        def forward(self, x):
            h = torch.relu(self.a(x))
            if self.cut:
                h = torch.from_numpy(h.detach().numpy())
            return self.b(h)

    return classify(Net(True)), classify(Net(False))


@late("detached", "zero-gradient")
def argmax_tokens_between_two_nets():
    class Net(nn.Module):
        def __init__(self, hard):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.e, self.b = nn.Linear(64, 16), nn.Embedding(16, 32), nn.Linear(32, 10)
            self.hard = hard

        def forward(self, x):
            z = self.a(x)
            h = self.e(z.argmax(1)) if self.hard else z.softmax(1) @ self.e.weight
            return self.b(h)

    return classify(Net(True)), classify(Net(False))


@late("unregistered")
def parameters_in_a_tuple():
    class Net(nn.Module):
        def __init__(self, seen):
            super().__init__()
            torch.manual_seed(0)
            made = (nn.Linear(64, 64), nn.Linear(64, 64))
            self.pair = nn.ModuleList(made) if seen else made
            self.head = nn.Linear(64, 10)

        def forward(self, x):
            for m in self.pair:
                x = F.gelu(m(x))
            return self.head(x)

    return classify(Net(False)), classify(Net(True))


@late("not-finite")
def arccos_of_a_cosine():
    class Net(nn.Module):
        def __init__(self, safe):
            super().__init__()
            self.net, self.safe = mlp([64, 64, 10]), safe

        def forward(self, x):
            z = F.normalize(self.net(x), dim=1)
            c = (z * z).sum(1, keepdim=True)
            edge = 1 - 1e-4 if self.safe else 1.0
            return 5 * z + torch.acos(c.clamp(-edge, edge))

    return classify(Net(False)), classify(Net(True))


@late("not-finite")
def standard_deviation_of_equal_numbers():
    class Net(nn.Module):
        def __init__(self, e):
            super().__init__()
            self.net, self.e = mlp([64, 64, 10]), e

        def forward(self, x):
            z = self.net(x)
            flat = (z - z).sum(1, keepdim=True)
            return z + (flat + self.e).pow(0.5)

    return classify(Net(0.0)), classify(Net(1e-4))


@late("vanishing", "ordered", "collapsed", "output-constant")
def deep_selu_with_default_weights():
    sick = mlp([64, *[64] * 40, 10], nn.ELU)
    return classify(sick), classify(mlp([64, *[64] * 40, 10], nn.SELU, init="unit"))


@late("exploding", "chaotic", "loss-at-start", "not-finite")
def residual_sums_without_scale():
    class Net(nn.Module):
        def __init__(self, factor):
            super().__init__()
            torch.manual_seed(0)
            self.blocks = nn.ModuleList(nn.Linear(64, 64) for _ in range(30))
            for b in self.blocks:
                nn.init.kaiming_normal_(b.weight)
            self.out, self.factor = nn.Linear(64, 10), factor

        def forward(self, x):
            for b in self.blocks:
                x = x + self.factor * b(torch.relu(x))
            return self.out(x)

    return classify(Net(1.0)), classify(Net(30**-0.5))


@late("symmetric-weights")
def zeros_and_ones():
    sick = mlp(WIDE, nn.Tanh)
    with torch.no_grad():
        sick[0].weight.fill_(0.1)
        sick[2].weight.fill_(1 / 128)
    return classify(sick), classify(mlp(WIDE, nn.Tanh))


@late("symmetric-weights")
def one_filter_copied():
    sick = conv()
    with torch.no_grad():
        sick[0].weight.copy_(sick[0].weight[:1].expand_as(sick[0].weight))
        sick[3].weight.copy_(sick[3].weight[:1, :1].expand_as(sick[3].weight))
        sick[6].weight.copy_(sick[6].weight[:1, :1].expand_as(sick[6].weight))
    return Job(sick, *digits(True)), Job(conv(), *digits(True))


@late("dead", "zero-gradient", "output-constant")
def threshold_above_all_values():
    class Net(nn.Module):
        def __init__(self, shift):
            super().__init__()
            torch.manual_seed(0)
            self.a, self.b, self.c = nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 10)
            self.shift = shift

        def forward(self, x):
            x = torch.relu(self.a(x))
            return self.c(torch.relu(self.b(x) - self.shift))

    return classify(Net(8.0)), classify(Net(0.0))


@late("no-nonlinearity")
def dropout_taken_for_an_activation():
    def net(act):
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(8, 64), act(), nn.Linear(64, 64), act(), nn.Linear(64, 64), act(),
            nn.Linear(64, 2),
        )  # fmt: skip

    data = binary()
    two = (data[0][0], data[0][1][:, 0].long()), (data[1][0], data[1][1][:, 0].long())
    return Job(net(lambda: nn.Dropout(0.1)), *two), Job(net(nn.ReLU), *two)


@late("stale-statistics")
def one_dimensional_statistics_of_raw_data():
    torch.manual_seed(0)

    def net():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 64),
            nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 10),
        )  # fmt: skip

    (x, y), test = digits()
    good = net()
    optimizer = torch.optim.Adam(good.parameters(), 3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(good(x), y).backward()
        optimizer.step()
    sick = copy.deepcopy(good)
    for m in sick.modules():
        if isinstance(m, nn.BatchNorm1d):
            m.reset_running_stats()
            m.running_mean.add_(5.0)
    frozen = Recipe("sgd", 0.0)
    data = (x, y), test
    return (
        Job(sick.eval(), *data, recipe=frozen, mode="eval"),
        Job(good.eval(), *data, recipe=frozen, mode="eval"),
    )


@late("attention-without-scale", "attention-saturated")
def fused_attention_with_scale_one():
    class Net(nn.Module):
        def __init__(self, scale):
            super().__init__()
            torch.manual_seed(0)
            self.e, self.h = nn.Embedding(32, 64), nn.Linear(64, 32)
            self.q, self.k, self.v = (nn.Linear(64, 64) for _ in range(3))
            for m in (self.q, self.k):
                nn.init.normal_(m.weight, std=0.125)
            self.norm, self.scale = nn.LayerNorm(64), scale

        def forward(self, t):
            x = self.norm(self.e(t))
            a = F.scaled_dot_product_attention(
                self.q(x), self.k(x), self.v(x), is_causal=True, scale=self.scale
            )
            return self.h(x + a)

    return Job(Net(1.0), *tokens()), Job(Net(None), *tokens())


@late("drowned-summand")
def class_token_and_patches():
    class Net(nn.Module):
        def __init__(self, std):
            super().__init__()
            torch.manual_seed(0)
            self.patch, self.out = nn.Linear(8, 64), nn.Linear(64, 10)
            self.pos = nn.Parameter(std * torch.randn(1, 8, 64))
            layer = nn.TransformerEncoderLayer(64, 4, 128, 0.0, batch_first=True, norm_first=True)
            self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

        def forward(self, x):
            return self.out(self.body(self.patch(x.reshape(-1, 8, 8)) + self.pos).mean(1))

    return classify(Net(20.0)), classify(Net(0.02))


@late("loss-at-start")
def tied_head_of_unit_embeddings():
    def net(std):
        sick = Decoder()
        nn.init.normal_(sick.wte.weight, std=std)
        sick.head.weight = sick.wte.weight
        return sick

    return Job(net(1.0), *tokens()), Job(net(0.1), *tokens())


@late("vanishing-in-time")
def lstm_over_300_steps():
    class Net(nn.Module):
        def __init__(self, kind, good=False):
            super().__init__()
            torch.manual_seed(0)
            self.rnn, self.out = kind(2, 24), nn.Linear(24, 2)
            if good:
                nn.init.eye_(self.rnn.weight_hh_l0)
                nn.init.zeros_(self.rnn.bias_hh_l0)
                nn.init.zeros_(self.rnn.bias_ih_l0)

        def forward(self, x):
            return self.out(self.rnn(x.transpose(0, 1))[0][-1])

    g = seeded(0)
    x = 0.1 * torch.randn(128, 300, 2, generator=g)
    y = torch.randint(2, (128,), generator=g)
    x[:, 0, 0] = 2.0 * y - 1
    data = (x[:64], y[:64]), (x[64:], y[64:])
    return Job(Net(nn.LSTM), *data), Job(Net(nn.RNN, True), *data)


@late("rate-too-high", told=True)
def rmsprop_rate_of_one():
    sick = classify(mlp(WIDE), recipe=Recipe("rmsprop", 1.0))
    return sick, classify(mlp(WIDE), recipe=Recipe("rmsprop", 1e-3))


@late("rate-too-low", told=True)
def momentum_and_a_rate_of_ten_to_the_minus_seven():
    sick = regress(mlp(REAL), recipe=Recipe("sgd", 1e-7, 0.9))
    return sick, regress(mlp(REAL), recipe=Recipe("sgd", 0.03, 0.9))


@late("not-in-optimizer", told=True)
def a_layer_added_after_the_optimizer():
    def first(model):
        return torch.optim.Adam(model[0].parameters(), 1e-3)

    return classify(mlp([64, 64, 64, 10]), optimizer=first), classify(mlp([64, 64, 64, 10]))


_ = math
