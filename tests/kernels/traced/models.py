"""Small modules, and the laws of neural-tangents' NTK parametrisation for them."""

import math

import torch
from torch import nn

from kadanoff.program import Law

C_W, C_b = 1.5, 0.1


def rows(N=4, d=5):
    n = torch.arange(N * d, dtype=torch.float64)
    return torch.sin(1.0 + n * 0.7 + n**2 * 0.013).view(N, d)


def images(N=3, side=6, c=3):
    n = torch.arange(N * c * side * side, dtype=torch.float64)
    return torch.sin(1.0 + n * 0.7 + n**2 * 0.013).view(N, c, side, side)


def laws_of(model, C_W=C_W, C_b=C_b, own=None):
    """Weights of variance C_W over the fan-in, biases of variance C_b."""
    found = {}
    for name, p in model.named_parameters():
        if p.ndim > 1:
            found[name] = Law(std=math.sqrt(C_W / p[0].numel()))
        else:
            found[name] = Law(std=math.sqrt(C_b)) if C_b else Law.constant(0.0)
        found[name] = (own or {}).get(name, found[name])
    return found


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Add(nn.Module):
    """x + f(x), or g(x) + f(x)."""

    def __init__(self, *branch, short=None):
        super().__init__()
        self.branch, self.short = nn.Sequential(*branch), short or nn.Identity()

    def forward(self, x):
        return self.short(x) + self.branch(x)


class Gate(nn.Module):
    """f(x) erf(g(x))."""

    def __init__(self, n):
        super().__init__()
        self.value, self.gate = nn.Linear(n, n), nn.Linear(n, n)

    def forward(self, x):
        return self.value(x) * torch.erf(self.gate(x))


def dense(*middle, d=5, n=8):
    return nn.Sequential(nn.Linear(d, n), *middle, nn.Linear(n, 1))


def conv(c=8, size=3, stride=1, padding=1, mode="zeros"):
    return nn.Conv2d(c, 8, size, stride, padding, padding_mode=mode)


def pooled(*layers):
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1))


class Same(nn.Module):
    """A strided convolution whose padding stax's SAME puts behind, as TensorFlow does."""

    def __init__(self, c=8, size=3, stride=2):
        super().__init__()
        self.inner = nn.Conv2d(c, 8, size, stride)

    def forward(self, x):
        return self.inner(nn.functional.pad(x, (0, 1, 0, 1)))


def wide_block(stride=1, mismatch=False):
    first = Same() if stride == 2 else conv()
    short = None
    if mismatch:
        short = Same() if stride == 2 else conv()
    return Add(nn.ReLU(), first, nn.ReLU(), conv(), short=short)


def stax_models():
    """By the names in stax.json."""
    relu = nn.ReLU
    return {
        "relu": dense(relu()),
        "erf": dense(Apply(torch.erf)),
        "gelu": dense(nn.GELU()),
        "leaky": dense(nn.LeakyReLU(0.2)),
        "abs": dense(Apply(torch.abs)),
        "sin": dense(Apply(torch.sin)),
        "cos": dense(Apply(torch.cos)),
        "deep": dense(relu(), nn.Linear(8, 8), Apply(torch.erf), nn.Linear(8, 8), relu()),
        "residual": dense(Add(relu(), nn.Linear(8, 8)), relu()),
        "norm": dense(nn.LayerNorm(8, eps=1e-12, elementwise_affine=False), relu()),
        "product": nn.Sequential(nn.Linear(5, 8), relu(), Gate(8), nn.Linear(8, 1)),
        "flatten": nn.Sequential(conv(3), relu(), conv(8, 3, 2, 0), relu(), nn.Flatten(),
                                 nn.Linear(32, 1)),
        "global": pooled(conv(3), relu(), conv(8, 3, 2, 0), relu()),
        "myrtle": nn.Sequential(conv(3), relu(), conv(), relu(), nn.AvgPool2d(2), conv(), relu(),
                                nn.AvgPool2d(3), nn.Flatten(), nn.Linear(8, 1)),
        "wrn": pooled(conv(3), wide_block(1, True), wide_block(), wide_block(2, True)),
        "circular": pooled(conv(3, mode="circular"), relu()),
        "imagenorm": pooled(conv(3), nn.LayerNorm((8, 6, 6), 1e-12, False), relu(), conv(), relu()),
    }  # fmt: skip


class Attention(nn.Module):
    """stax.GlobalSelfAttention with one head: without a softmax, or with tied queries and keys."""

    def __init__(self, n=8, softmax=False, bias=True):
        super().__init__()
        self.key, self.value = nn.Linear(n, n, bias=False), nn.Linear(n, n, bias=False)
        self.query = self.key if softmax else nn.Linear(n, n, bias=False)
        self.out, self.softmax = nn.Linear(n, n, bias=bias), softmax

    def forward(self, x):
        rows = x.flatten(2).transpose(1, 2)
        key, value = self.key(rows), self.value(rows)
        if self.softmax:
            weights = (key @ key.transpose(1, 2) / key.shape[-1]).softmax(-1)
        else:
            weights = self.query(rows) @ key.transpose(1, 2) / key.shape[-1] ** 0.5
        return self.out(weights @ value).transpose(1, 2).unflatten(2, x.shape[2:])


def attention_model(softmax):
    """With the laws of its weights."""
    model = pooled(
        conv(3), nn.ReLU(), conv(), Attention(softmax=softmax, bias=not softmax), nn.ReLU()
    )
    std = {"query": 0.9, "key": 1.1, "value": 1.2, "out": 1.3}
    own = {f"3.{k}.weight": Law(std=v * 8**-0.5) for k, v in std.items()}
    own["3.out.bias"] = Law(std=0.3)
    return model, laws_of(model, own=own)
