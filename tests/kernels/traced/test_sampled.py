"""What does not close is sampled, with an error, and the result says what: |z| < 4."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import kadanoff as kd
from tests.kernels.traced.models import Add, images, laws_of
from tests.kernels.traced.test_networks import compare

TOKENS = torch.tensor([[1, 2, 3, 2], [1, 5, 4, 0], [7, 8, 6, 6]])


class Heads(nn.Module):
    """Causal attention with rotary positions and shared keys and values, d = 4."""

    def __init__(self, n, d=4):
        super().__init__()
        self.q, self.kv = nn.Linear(n, n, bias=False), nn.Linear(n, n, bias=False)
        self.out, self.norm, self.d = nn.Linear(n, n), nn.RMSNorm(n, eps=1e-5), d
        angle = torch.arange(8)[:, None] * torch.tensor([1.0, 0.3])
        self.register_buffer("cos", torch.cat([angle.cos(), angle.cos()], -1))
        self.register_buffer("sin", torch.cat([angle.sin(), angle.sin()], -1))

    def turned(self, x):
        half = self.d // 2
        other = torch.cat([-x[..., half:], x[..., :half]], -1)
        T = x.shape[-2]
        return x * self.cos[:T] + other * self.sin[:T]

    def forward(self, x):
        B, T, n = x.shape
        h = self.norm(x)
        q = self.q(h).view(B, T, -1, self.d).transpose(1, 2)
        k, v = self.kv(h).view(B, T, 2, -1, self.d).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(
            self.turned(q), self.turned(k), v, is_causal=True, enable_gqa=True
        )
        return x + self.out(y.transpose(1, 2).reshape(B, T, n))


class Decoder(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.embed, self.mix, self.up = nn.Embedding(9, n), Heads(n), nn.Linear(n, n)

    def forward(self, x):
        return torch.tanh(self.up(self.mix(self.embed(x))))[:, -1]


class Encoder(nn.Module):
    """torch's own layer, with a padding mask that depends on the tokens."""

    def __init__(self, n):
        super().__init__()
        self.embed, self.place = nn.Embedding(9, n), nn.Parameter(torch.empty(4, n).normal_())
        self.layer = nn.TransformerEncoderLayer(
            n, n // 4, n, 0.0, "gelu", batch_first=True, norm_first=True
        )

    def forward(self, x):
        h = self.layer(self.embed(x) + self.place, src_key_padding_mask=x == 0)
        return h.mean(1)


def maxima(n):
    return nn.Sequential(nn.Conv2d(3, n, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(n, n, 2),
                         nn.ReLU(), nn.Flatten())  # fmt: skip


def postponed(n):
    """A residual stream that is rectified, as in the first ResNets."""
    return nn.Sequential(
        nn.Linear(5, n), nn.ReLU(), Add(nn.Linear(n, n)), nn.ReLU(), Add(nn.Linear(n, n)), nn.ReLU()
    )


BODIES = {
    "causal, rotary, shared keys": (Decoder, lambda: TOKENS, 1),
    "torch's encoder, padding": (Encoder, lambda: TOKENS, 1),
    "max pooling": (maxima, images, 1),
    "rectified stream": (postponed, lambda: torch.randn(3, 5, dtype=torch.float64,
                         generator=torch.Generator().manual_seed(4)), 1),
}  # fmt: skip


@pytest.mark.parametrize("name", BODIES)
def test_agrees_with_drawn_networks(name):
    make, inputs, factor = BODIES[name]
    worst, gram = compare(make, inputs(), factor, draws=60)
    assert gram.method == "sampled"
    assert len(gram.sampled) > 0
    assert float(gram.stderr["ntk"].max()) > 0
    assert max(worst) < 4


def test_the_first_token_of_causal_attention_attends_to_itself():
    class First(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.qkv = nn.Embedding(9, 16), nn.Linear(16, 48, bias=False)

        def forward(self, x):
            q, k, v = self.qkv(self.embed(x)).view(*x.shape, 3, 4, 4).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return y.transpose(1, 2).flatten(2)[:, 0]

    model = First()
    gram = kd.kernel(model, laws=laws_of(model, 1.5, 0.0), draws=64)(TOKENS, get=("nngp",))
    # one position: K = C_V σ_e², where the tokens agree
    expected = 1.5 * 1.5 / 16 * (TOKENS[:, None, 0] == TOKENS[None, :, 0]).double()
    z = (gram.nngp - expected) / gram.stderr["nngp"].clamp_min(1e-4)
    assert float(z.abs().max()) < 4
    assert float(gram.stderr["nngp"].max()) < 0.005


class Recurrent(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.cell = nn.LSTM(3, n, batch_first=True)

    def forward(self, x):
        return self.cell(x)[0][:, -1]


def test_everything_is_sampled_where_nothing_closes():
    X = torch.randn(3, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    worst, gram = compare(Recurrent, X, 1, draws=40)
    assert gram.method == "pooled"
    assert "lstm in body.cell" in gram.sampled[0]
    assert max(worst) < 4


def test_batch_statistics_are_sampled_together():
    model = nn.Sequential(nn.Linear(3, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 1))
    X = torch.randn(6, 3, generator=torch.Generator().manual_seed(4))
    gram = kd.kernel(model.train())(X)
    assert gram.method == "pooled"
    assert "training mode" in gram.sampled[0]
    closed = kd.kernel(model.eval())(X)
    assert closed.sampled == ()
