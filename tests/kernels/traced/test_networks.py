"""Kernels at infinite width against networks that are wide, drawn at random: |z| < 4.

The standard parametrisation: Θ is what ``empirical_ntk`` measures. Networks of width n differ from
the limit by O(1/n), which two widths take out: 2 (width 2n) − (width n).
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kadanoff as kd
from tests.kernels.traced.models import Add, Gate, images, rows


class Last(nn.Module):
    """What is before the readout, and the readout."""

    def __init__(self, body, n):
        super().__init__()
        self.body, self.out = body, nn.Linear(n, 1, bias=False)
        nn.init.normal_(self.out.weight, std=n**-0.5)

    def forward(self, x):
        return self.out(self.body(x))


class Swish(nn.Module):
    def forward(self, x):
        return x * torch.sigmoid(1.3 * x) / 1.1 + 0.2


class ByHand(nn.Module):
    """An RMSNorm written out, as transformers do."""

    def __init__(self, n):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n))

    def forward(self, x):
        variance = x.pow(2).mean(-1, keepdim=True)
        return self.weight * (x * torch.rsqrt(variance + 1e-3))


class Dense(nn.Module):
    """Concatenated channels, as in DenseNet."""

    def __init__(self, n):
        super().__init__()
        self.one, self.two = nn.Conv2d(3, n, 3, padding=1), nn.Conv2d(n, n // 2, 3, padding=1)
        self.norm, self.three = nn.BatchNorm2d(n + n // 2), nn.Conv2d(n + n // 2, n, 1)

    def forward(self, x):
        x = self.one(x)
        x = torch.cat([x, self.two(F.relu(x))], 1)
        return self.three(F.relu(self.norm(x))).mean((2, 3))


class Tokens(nn.Module):
    """Embedding, positions, a class token, and a mean over the rest."""

    def __init__(self, n):
        super().__init__()
        self.embed, self.place = nn.Embedding(9, n), nn.Embedding(5, n)
        self.first = nn.Parameter(torch.empty(1, 1, n).normal_(std=0.7))
        self.map, self.norm = nn.Linear(n, n), nn.LayerNorm(n)

    def forward(self, x):
        h = self.embed(x) + self.place(torch.arange(x.shape[1]))
        h = torch.cat([self.first.expand(x.shape[0], -1, -1), h], 1)
        h = F.gelu(self.map(self.norm(h)))
        return h[:, 1:].mean(1)


def groups(n):
    return nn.Sequential(
        nn.Conv2d(3, n, 3, 2, 1), nn.GroupNorm(4, n), nn.SiLU(),
        nn.Conv2d(n, n, 3, padding=2, dilation=2, groups=4), nn.Tanh(), nn.Flatten(1),
    )  # fmt: skip


BODIES = {
    "hand-written swish": (
        lambda n: nn.Sequential(nn.Linear(5, n), Swish(), nn.Linear(n, n), Swish()), rows, 1),
    "hand-written norm": (
        lambda n: nn.Sequential(nn.Linear(5, n), ByHand(n), Add(nn.Linear(n, n), nn.Tanh(),
                                nn.Linear(n, n)), nn.LayerNorm(n), nn.ELU()), rows, 1),
    "gate": (lambda n: nn.Sequential(nn.Linear(5, n), Gate(n), nn.Linear(n, n), nn.GLU()), rows,
             0.5),
    "densenet": (Dense, images, 1),
    "group norm, groups, dilation": (groups, images, 9),
    "pools": (
        lambda n: nn.Sequential(nn.Conv2d(3, n, 3), nn.Softplus(), nn.AvgPool2d(3, 1, 1),
                                nn.Upsample(scale_factor=2), nn.Conv2d(n, n, 3, 2), nn.ReLU6(),
                                nn.AdaptiveAvgPool2d(1), nn.Flatten()), images, 1),
    "tokens": (Tokens, lambda: torch.tensor([[1, 2, 3, 2, 1], [1, 2, 4, 5, 6], [7, 8, 0, 1, 2]]),
               1),
}  # fmt: skip


def measured(make, X, n, factor, draws, seed, mode=None):
    """Means and standard errors over networks of K (readout integrated out) and Θ / n."""
    K, T = [], []
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        for _ in range(draws):
            width = int(n * factor)
            model = Last(make(n), width).double().eval()
            T.append(kd.empirical_ntk(model, X) / n)
            with torch.no_grad():
                h = model.body(X)
            K.append(h @ h.T / width)
    return [(torch.stack(v).mean(0), torch.stack(v).std(0) / math.sqrt(draws)) for v in (K, T)]


def predicted(make, X, n, factor, **options):
    def factory():
        return Last(make(n), int(n * factor)).double().eval()

    from kadanoff.program import laws

    found = laws(factory)
    kernel = kd.kernel(factory(), laws=found, **options)
    return kernel(X)


def compare(make, X, factor, n=32, draws=60, seed=3, **options):
    """z of both kernels after the order 1/n is taken out."""
    narrow = measured(make, X, n, factor, draws, seed)
    wide = measured(make, X, 2 * n, factor, draws, seed + 1)
    # Θ / n at infinite width: the terms that stay finite at n -> ∞ are in it at each n
    gram, at_two = predicted(make, X, n, factor, **options), predicted(
        make, X, 2 * n, factor, **options)  # fmt: skip
    worst = []
    for name, a, b in zip(("nngp", "ntk"), narrow, wide):
        scale = n if name == "ntk" else 1
        limit_a = getattr(gram, name) / scale
        limit_b = getattr(at_two, name) / (2 * scale if name == "ntk" else 1)
        gap = 2 * (b[0] - limit_b) - (a[0] - limit_a)
        error = (4 * b[1] ** 2 + a[1] ** 2).sqrt()
        if gram.stderr:
            error = (error**2 + (gram.stderr[name] / scale) ** 2
                     + (2 * at_two.stderr[name] / (2 * scale)) ** 2).sqrt()  # fmt: skip
        assert float(error.max()) < 0.12 * float(limit_b.abs().max())
        worst.append(float((gap / error).abs().max()))
    return worst, gram


@pytest.mark.parametrize("name", BODIES)
def test_agrees_with_drawn_networks(name):
    make, inputs, factor = BODIES[name]
    worst, gram = compare(make, inputs(), factor)
    assert gram.sampled == ()
    assert max(worst) < 4
