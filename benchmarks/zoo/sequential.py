"""Language models with a state: LSTM, GRU, a selective scan; and a GPT with its own loss."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .data import CHARACTERS, LENGTH

__all__ = ["gru", "lstm", "mamba", "nano_gpt"]


class Recurrent(nn.Module):
    """Embedding, ``nn.LSTM`` or ``nn.GRU`` of several layers, readout."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], width: int, depth: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, width)
        self.rnn = kind(width, width, depth, batch_first=True)
        self.readout = nn.Linear(width, CHARACTERS)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.rnn(self.embedding(tokens))
        return self.readout(states)


def lstm(width: int, depth: int) -> nn.Module:
    """An LSTM language model of ``depth`` layers, PyTorch's initialisation."""
    return Recurrent(nn.LSTM, width, depth)


def gru(width: int, depth: int) -> nn.Module:
    """A GRU language model of ``depth`` layers, PyTorch's initialisation."""
    return Recurrent(nn.GRU, width, depth)


class Scan(nn.Module):
    """The selective scan of Mamba (Gu and Dao 2023), step by step."""

    def __init__(self, width: int, states: int = 8) -> None:
        super().__init__()
        inner, rank = 2 * width, max(1, width // 16)
        self.in_proj = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, 4, groups=inner, padding=3)
        self.x_proj = nn.Linear(inner, rank + 2 * states, bias=False)
        self.dt_proj = nn.Linear(rank, inner)
        decay = torch.arange(1, states + 1).float().repeat(inner, 1)
        self.A_log = nn.Parameter(decay.log())
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(inner, width, bias=False)
        self.split = (rank, states, states)
        # time steps between 0.001 and 0.1, the bias being the inverse softplus of them
        step = torch.exp(torch.rand(inner) * math.log(100) + math.log(0.001))
        with torch.no_grad():
            self.dt_proj.bias.copy_(step + torch.log(-torch.expm1(-step)))

    def forward(self, x: Tensor) -> Tensor:
        u, gate = self.in_proj(x).chunk(2, -1)
        u = self.conv1d(u.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        u = nn.functional.silu(u)
        step, B, C = self.x_proj(u).split(self.split, -1)
        step = nn.functional.softplus(self.dt_proj(step))  # (N, T, inner)
        decay = torch.exp(step[..., None] * -self.A_log.exp())  # (N, T, inner, states)
        drive = (step * u)[..., None] * B[:, :, None]
        state = torch.zeros_like(drive[:, 0])
        outputs = []
        for t in range(x.shape[1]):
            state = decay[:, t] * state + drive[:, t]
            outputs.append((state * C[:, t, None]).sum(-1))
        y = torch.stack(outputs, 1) + self.D * u
        return self.out_proj(y * nn.functional.silu(gate))


class Mamba(nn.Module):
    """Pre-norm residual stack of scans, readout tied to the embedding."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CHARACTERS, width)
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(depth))
        self.mixers = nn.ModuleList(Scan(width) for _ in range(depth))
        self.norm = nn.RMSNorm(width)
        self.readout = nn.Linear(width, CHARACTERS, bias=False)
        nn.init.normal_(self.embedding.weight, std=0.02)
        self.readout.weight = self.embedding.weight
        with torch.no_grad():
            for mixer in self.mixers:
                assert isinstance(mixer, Scan)
                mixer.out_proj.weight /= math.sqrt(depth)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for norm, mixer in zip(self.norms, self.mixers):
            x = x + mixer(norm(x))
        return self.readout(self.norm(x))


def mamba(width: int, depth: int) -> nn.Module:
    """A Mamba-like language model of ``depth`` blocks."""
    return Mamba(width, depth)


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict(
            {"c_attn": nn.Linear(width, 3 * width), "c_proj": nn.Linear(width, width)}
        )
        self.mlp = nn.ModuleDict(
            {"c_fc": nn.Linear(width, 4 * width), "c_proj": nn.Linear(4 * width, width)}
        )
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = self.attn["c_attn"](self.ln_1(x)).split(C, 2)
        q, k, v = (u.view(B, T, self.heads, -1).transpose(1, 2) for u in (q, k, v))
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn["c_proj"](y.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp["c_proj"](nn.functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


class NanoGPT(nn.Module):
    """A GPT as small ones are written: takes targets, returns ``(logits, loss)``."""

    def __init__(self, width: int, depth: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(CHARACTERS, width), nn.Embedding(LENGTH, width)
        self.h = nn.ModuleList(_Block(width, max(2, width // 16)) for _ in range(depth))
        self.ln_f = nn.LayerNorm(width)
        self.lm_head = nn.Linear(width, CHARACTERS, bias=False)
        self.lm_head.weight = self.wte.weight
        for name, p in self.named_parameters():
            if p.ndim == 2:
                small = name.endswith("c_proj.weight")
                nn.init.normal_(p, std=0.02 / math.sqrt(2 * depth) if small else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(p)

    def forward(self, idx: Tensor, targets: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        x = self.wte(idx) + self.wpe(torch.arange(idx.shape[1], device=idx.device))
        for block in self.h:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        if targets is None:
            return logits, None
        return logits, nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())


def nano_gpt(width: int, depth: int) -> nn.Module:
    """A small GPT that returns ``(logits, loss)``."""
    return NanoGPT(width, depth)
