"""Faults of attention, recurrences and graphs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from kadanoff.diagnosis.recipe import Recipe

from .base import Job, fault, seeded


def tokens(n: int = 128, length: int = 16, vocab: int = 32) -> tuple[tuple, tuple]:
    """The next token is 3 times the last plus one, nine times out of ten."""
    g = seeded(3)
    rows = [torch.randint(vocab, (2 * n,), generator=g)]
    for _ in range(length):
        new = (3 * rows[-1] + 1) % vocab
        noise = torch.randint(vocab, (2 * n,), generator=g)
        rows.append(torch.where(torch.rand(2 * n, generator=g) < 0.9, new, noise))
    t = torch.stack(rows, 1)
    return (t[:n, :-1], t[:n, 1:]), (t[n:, :-1], t[n:, 1:])


class Block(nn.Module):
    """One Transformer block."""

    def __init__(self, d: int, heads: int, scale: float | None, pre: bool, skip: bool):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 2 * d), nn.Linear(2 * d, d)
        self.heads, self.scale, self.pre, self.skip = heads, scale, pre, skip

    def attend(self, x: Tensor) -> Tensor:
        b, t, d = x.shape
        q, k, v = self.qkv(x).reshape(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        s = self.scale if self.scale is not None else 1 / math.sqrt(d // self.heads)
        w = (q @ k.transpose(-1, -2)) * s
        w = w.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), float("-inf")).softmax(-1)
        return self.proj((w @ v).transpose(1, 2).reshape(b, t, d))

    def forward(self, x: Tensor) -> Tensor:
        if not self.skip:
            return self.down(torch.relu(self.up(self.attend(x))))
        if not self.pre:
            x = self.n1(x + self.attend(x))
            return self.n2(x + self.down(nn.functional.gelu(self.up(x))))
        x = x + self.attend(self.n1(x))
        return x + self.down(nn.functional.gelu(self.up(self.n2(x))))


class Decoder(nn.Module):
    """A GPT in small."""

    def __init__(
        self, d: int = 64, depth: int = 2, heads: int = 2, scale: float | None = None,
        pre: bool = True, skip: bool = True, seed: int = 0,
    ):  # fmt: skip
        super().__init__()
        torch.manual_seed(seed)
        self.wte, self.wpe = nn.Embedding(32, d), nn.Embedding(16, d)
        nn.init.normal_(self.wte.weight, std=0.1)
        nn.init.normal_(self.wpe.weight, std=0.1)
        self.blocks = nn.ModuleList(Block(d, heads, scale, pre, skip) for _ in range(depth))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 32)

    def forward(self, t: Tensor) -> Tensor:
        x = self.wte(t) + self.wpe(torch.arange(t.shape[1]))
        for b in self.blocks:
            x = b(x)
        return self.head(self.norm(x))


ADAM = Recipe("adam", 1e-3)


def _language(model: nn.Module, **more) -> Job:
    return Job(model, *tokens(), **({"recipe": ADAM} | more))


def _hot(scale: float, weights: float = 0.0) -> Decoder:
    net = Decoder(scale=scale)
    for b in net.blocks:
        nn.init.normal_(b.qkv.weight, std=weights or 64**-0.5)
    return net


@fault("attention-without-scale", "attention-saturated")
def scores_without_scale():
    return _language(_hot(1.0)), _language(_hot(32**-0.5))


@fault("attention-saturated")
def query_weights_too_large():
    return _language(_hot(32**-0.5, 0.6)), _language(_hot(32**-0.5))


@fault("drowned-summand")
def positions_drown_tokens():
    sick = Decoder()
    nn.init.normal_(sick.wpe.weight, std=5.0)
    return _language(sick), _language(Decoder())


@fault("drowned-summand")
def sinusoids_beside_small_tokens():
    def net(std):
        sick = Decoder()
        nn.init.normal_(sick.wte.weight, std=std)
        t = torch.arange(16)[:, None] / 10000 ** (torch.arange(32) / 32)
        with torch.no_grad():
            sick.wpe.weight.copy_(torch.cat([t.sin(), t.cos()], 1))
        sick.wpe.weight.requires_grad_(False)
        return sick

    return _language(net(0.01)), _language(net(0.7))


@fault("loss-at-start")
def head_of_unit_variance():
    sick = Decoder()
    nn.init.normal_(sick.head.weight, std=1.0)
    return _language(sick), _language(Decoder())


@fault("tokens-collapse", "collapsed", "vanishing", "ordered", "output-constant")
def attention_without_skips():
    return _language(Decoder(depth=8, skip=False)), _language(Decoder(depth=8))


class Padded(nn.Module):
    """Attention over padded sequences."""

    def __init__(self, fill: float | None):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(50, 32, padding_idx=0)
        self.q, self.k, self.v = (nn.Linear(32, 32) for _ in range(3))
        self.norm, self.head, self.fill = nn.LayerNorm(32), nn.Linear(32, 4), fill

    def forward(self, t: Tensor) -> Tensor:
        x = self.embed(t)
        s = self.q(x) @ self.k(x).transpose(1, 2) / 32**0.5
        if self.fill is not None:
            s = s.masked_fill((t == 0)[:, None, :], self.fill)
        return self.head(self.norm(x + s.softmax(-1) @ self.v(x)).mean(1))


def _padded(empty: bool) -> tuple[tuple, tuple]:
    g = seeded(0)
    t = torch.randint(1, 50, (256, 12), generator=g)
    n = torch.randint(2, 12, (256,), generator=g)
    if empty:
        n[7] = n[200] = 0
    t = t * (torch.arange(12) < n[:, None])
    y = t[:, 0] % 4
    return (t[:128], y[:128]), (t[128:], y[128:])


@fault("not-finite", "masked-row")
def a_sequence_of_nothing_but_padding():
    return Job(Padded(float("-inf")), *_padded(True)), Job(Padded(-1e9), *_padded(True))


@fault("padding-attended")
def padding_is_attended_to():
    return Job(Padded(None), *_padded(False)), Job(Padded(-1e9), *_padded(False))


class Remember(nn.Module):
    """The class is told by the first of many inputs."""

    def __init__(self, kind, good: bool = False):
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.out = kind(2, 32, batch_first=True), nn.Linear(32, 2)
        if good:
            nn.init.eye_(self.rnn.weight_hh_l0)
            nn.init.zeros_(self.rnn.bias_hh_l0)
            nn.init.zeros_(self.rnn.bias_ih_l0)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.rnn(x)[0][:, -1])


def _first(steps: int) -> tuple[tuple, tuple]:
    g = seeded(0)
    x = 0.1 * torch.randn(256, steps, 2, generator=g)
    y = torch.randint(2, (256,), generator=g)
    x[:, 0, 0] = 2.0 * y - 1
    return (x[:128], y[:128]), (x[128:], y[128:])


@fault("vanishing-in-time")
def rnn_over_150_steps():
    data = _first(150)
    return Job(Remember(nn.RNN), *data), Job(Remember(nn.RNN, True), *data)


@fault("vanishing-in-time")
def gru_over_200_steps():
    data = _first(200)
    return Job(Remember(nn.GRU), *data), Job(Remember(nn.RNN, True), *data)


class Loop(nn.Module):
    """A recurrence written by hand."""

    def __init__(self, gain: float):
        super().__init__()
        torch.manual_seed(0)
        self.inp, self.rec, self.out = nn.Linear(2, 32), nn.Linear(32, 32), nn.Linear(32, 2)
        nn.init.orthogonal_(self.rec.weight, gain)
        nn.init.zeros_(self.rec.bias)
        nn.init.zeros_(self.inp.bias)

    def forward(self, x: Tensor) -> Tensor:
        h = x.new_zeros(len(x), 32)
        for t in range(x.shape[1]):
            h = torch.tanh(self.inp(x[:, t]) + self.rec(h))
        return self.out(h)


@fault("vanishing-in-time")
def hand_written_loop_that_contracts():
    data = _first(120)
    return Job(Loop(0.3), *data), Job(Loop(1.0), *data)


class Graph(nn.Module):
    """Graph convolutions."""

    def __init__(self, depth: int, skip: bool):
        super().__init__()
        torch.manual_seed(0)
        y = torch.arange(200) % 4
        p = torch.where(y[:, None] == y[None], 0.10, 0.01)
        a = (torch.rand(200, 200, generator=seeded(0)) < p).float().triu(1)
        a = a + a.T + torch.eye(200)
        d = a.sum(1).rsqrt()
        self.register_buffer("A", d[:, None] * a * d)
        self.layers = nn.ModuleList(nn.Linear(32, 32) for _ in range(depth))
        self.inp, self.out, self.skip = nn.Linear(16, 32), nn.Linear(32, 4), skip

    def forward(self, x: Tensor) -> Tensor:
        x = self.inp(x)
        for m in self.layers:
            new = torch.relu(self.A @ m(x))
            x = x + new if self.skip else new
        return self.out(x)


@fault("collapsed", "vanishing", "ordered", "output-constant")
def twenty_graph_convolutions():
    g = seeded(1)
    y = torch.arange(200) % 4
    x = torch.randn(200, 16, generator=g)
    x[torch.arange(200), y] += 1.0
    return Job(Graph(20, False), (x, y), (x, y)), Job(Graph(2, True), (x, y), (x, y))
