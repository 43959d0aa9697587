"""Small models and real data on which sparsity can be watched to emerge on a laptop.

Text: the characters of ``pydoc_data.topics``, which every Python carries. Images: the digits of
scikit-learn. Everything is seeded and takes ``device=``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kadanoff.errors import UsageError
from kadanoff.sparsity.keep import TopKMLP

__all__ = ["Chain", "Characters", "Decoder", "Digits", "Vit", "digits", "generate", "text", "train"]


@dataclass(frozen=True)
class Characters:
    """Characters as integers: ``train`` and ``valid``; ``symbols[i]`` is character i."""

    train: Tensor
    valid: Tensor
    symbols: str

    def batch(self, size: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Random windows (size, length) and the same, one character on."""
        start = torch.randint(len(self.train) - length - 1, (size, 1), generator=generator)
        window = self.train[start + torch.arange(length + 1)]
        return window[:, :-1], window[:, 1:]

    def held_out(self, size: int, length: int) -> tuple[Tensor, Tensor]:
        """The first windows of the validation part."""
        window = self.valid[: size * length + 1]
        return window[:-1].view(size, length), window[1:].view(size, length)


def text() -> Characters:
    """Characters of Python's own help topics; the last tenth is held out."""
    from pydoc_data.topics import topics

    whole = "\n".join(topics[name] for name in sorted(topics))
    symbols = "".join(sorted(set(whole)))
    place = {symbol: index for index, symbol in enumerate(symbols)}
    codes = torch.tensor([place[symbol] for symbol in whole])
    cut = len(codes) * 9 // 10
    return Characters(codes[:cut], codes[cut:], symbols)


class Chain:
    """An endless source of symbols, each drawn given the two before it; no window comes twice.

    The logits are a sum of what the last and the last but one symbol say, both Gaussian with
    standard deviation ``sharpness``, so that there is something to learn.
    """

    def __init__(self, n_symbols: int = 64, sharpness: float = 2.0, seed: int = 7) -> None:
        self.n_symbols = n_symbols
        generator = torch.Generator().manual_seed(seed)
        shape = (2, n_symbols, n_symbols)
        last, before = sharpness * torch.randn(shape, generator=generator)
        self._sums = torch.softmax(before[:, None] + last[None], -1).cumsum(-1)

    def batch(self, size: int, length: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """A window (size, length) and the same, one symbol on."""
        x = torch.empty(size, length + 1, dtype=torch.long)
        x[:, :2] = torch.randint(self.n_symbols, (size, 2), generator=generator)
        u = torch.rand(length + 1, size, 1, generator=generator)
        for t in range(2, length + 1):
            chances = self._sums[x[:, t - 2], x[:, t - 1]]
            x[:, t] = torch.searchsorted(chances, u[t]).squeeze(1).clamp(max=self.n_symbols - 1)
        return x[:, :-1], x[:, 1:]


class _Attention(nn.Module):
    def __init__(self, d: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(d, 3 * d, bias=False)
        self.out = nn.Linear(d, d, bias=False)

    def forward(self, x: Tensor, past: tuple[Tensor, Tensor] | None, causal: bool):
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=causal and past is None)
        return self.out(y.transpose(1, 2).reshape(b, t, d)), (k, v)


class _Layer(nn.Module):
    def __init__(self, d: int, m: int, heads: int, k: int | None, gated: bool) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.attention = _Attention(d, heads)
        self.mlp = TopKMLP(d, m, k, gated=gated, bias=False)

    def forward(self, x: Tensor, past=None, causal: bool = True):
        y, kept = self.attention(self.norm1(x), past, causal)
        x = x + y
        return x + self.mlp(self.norm2(x)), kept


def _initialise(model: nn.Module, layers: int, generator: torch.Generator) -> None:
    for name, p in model.named_parameters():
        if p.ndim < 2:
            if name.endswith("bias"):
                nn.init.zeros_(p)
            continue
        scale = 0.02 if "embed" in name or "position" in name else p.shape[1] ** -0.5
        if name.endswith(("out.weight", "down.weight")):
            scale /= math.sqrt(2 * layers)
        with torch.no_grad():
            p.copy_(scale * torch.randn(p.shape, generator=generator))


class Decoder(nn.Module):
    """Causal pre-norm Transformer with ReLU (or Top-k) MLP blocks, without MLP biases.

    Parameters
    ----------
    n_symbols, d, m, layers, heads, length : int
        Alphabet, stream width, MLP width, depth, heads and longest context.
    k : int, optional
        Neurons kept per token and block; None: plain ReLU.
    gated : bool
        ReGLU blocks.
    """

    def __init__(
        self,
        n_symbols: int,
        d: int = 64,
        m: int = 256,
        layers: int = 3,
        heads: int = 4,
        length: int = 64,
        k: int | None = None,
        gated: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.length = length
        self.embed = nn.Embedding(n_symbols, d)
        self.position = nn.Embedding(length, d)
        self.layers = nn.ModuleList(_Layer(d, m, heads, k, gated) for _ in range(layers))
        self.norm = nn.LayerNorm(d)
        self.readout = nn.Linear(d, n_symbols, bias=False)
        _initialise(self, layers, torch.Generator().manual_seed(seed))

    def step(self, ids: Tensor, past: list[Any] | None = None) -> tuple[Tensor, list[Any]]:
        """Logits (B, T, symbols) and the keys and values to go on from."""
        start = 0 if past is None else past[0][0].shape[2]
        place = torch.arange(start, start + ids.shape[1], device=ids.device)
        x = self.embed(ids) + self.position(place)
        kept = []
        for index, layer in enumerate(self.layers):
            x, memory = layer(x, None if past is None else past[index])
            kept.append(memory)
        return self.readout(self.norm(x)), kept

    def forward(self, ids: Tensor) -> Tensor:
        return self.step(ids)[0]


@torch.no_grad()
def generate(model: Decoder, prompt: Tensor, count: int) -> Tensor:
    """Greedy continuation of ``prompt`` (1, T) by ``count`` symbols, one at a time, with memory.

    Raises
    ------
    UsageError
        The text would be longer than the model's context.
    """
    if prompt.shape[1] + count > model.length:
        raise UsageError(
            f"{prompt.shape[1]} + {count} symbols exceed the context of {model.length}.",
            "Ask for fewer.",
        )
    logits, past = model.step(prompt)
    out = []
    for _ in range(count):
        last = logits[:, -1:].argmax(-1)
        out.append(last)
        logits, past = model.step(last, past)
    return torch.cat(out, 1)


@dataclass(frozen=True)
class Digits:
    """8×8 images scaled to mean 0 and variance 1: rows of 64, and classes."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor


def digits(seed: int = 0, label_noise: float = 0.0) -> Digits:
    """scikit-learn's digits, 1,297 to train and 500 to test; some training labels replaced.

    ``label_noise``: fraction of training labels replaced by a uniform random class.
    """
    if not 0.0 <= label_noise <= 1.0:
        raise UsageError(f"label_noise = {label_noise} is not in [0, 1].", "Pass a fraction.")
    from sklearn.datasets import load_digits

    generator = torch.Generator().manual_seed(seed)
    raw: Any = load_digits()
    x, y = torch.tensor(raw.data, dtype=torch.float32), torch.tensor(raw.target)
    x = (x - x.mean()) / x.std()
    order = torch.randperm(len(x), generator=generator)
    x, y = x[order], y[order]
    train_y = y[500:].clone()
    noisy = torch.rand(len(train_y), generator=generator) < label_noise
    train_y[noisy] = torch.randint(10, (int(noisy.sum()),), generator=generator)
    return Digits(x[500:], train_y, x[:500], y[:500])


class Vit(nn.Module):
    """Vision Transformer for 8×8 images in 2×2 patches, with ReLU or Top-k MLP blocks."""

    def __init__(
        self,
        d: int = 64,
        m: int = 256,
        layers: int = 3,
        heads: int = 4,
        k: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.embed = nn.Linear(4, d)
        self.position = nn.Parameter(torch.empty(16, d))
        self.layers = nn.ModuleList(_Layer(d, m, heads, k, False) for _ in range(layers))
        self.norm = nn.LayerNorm(d)
        self.readout = nn.Linear(d, 10)
        generator = torch.Generator().manual_seed(seed)
        _initialise(self, layers, generator)
        with torch.no_grad():
            self.embed.weight.mul_(0.5 / 0.02)
            # as large as a patch: patches that do not know their places are a bag of strokes
            self.position.copy_(0.5 * torch.randn(16, d, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        patches = x.view(-1, 4, 2, 4, 2).transpose(2, 3).reshape(-1, 16, 4)
        h = self.embed(patches) + self.position
        for layer in self.layers:
            h, _ = layer(h, None, causal=False)
        return self.readout(self.norm(h.mean(1)))


def train(
    model: nn.Module,
    batches: Any,
    steps: int,
    rate: float = 3e-3,
    device: str = "cpu",
    at: Any = None,
    every: int = 0,
    decay: bool = True,
) -> list[float]:
    """AdamW (no weight decay), cosine to zero after a short warm-up; returns the losses.

    Parameters
    ----------
    batches : callable ``step -> (inputs, targets)``
    at : callable ``step -> None``, optional
        Called before step 0, every ``every`` steps, and after the last.
    decay : bool
        False: warm-up over 20 steps, then the same rate throughout.
    """
    model.to(device).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
    warm = max(1, steps // 20) if decay else 20
    losses = []
    for step in range(steps):
        if at is not None and (step == 0 or (every and step % every == 0)):
            at(step)
        model.train()
        done = (step - warm) / max(1, steps - warm) if decay else 0.0
        factor = (step + 1) / warm if step < warm else 0.5 * (1 + math.cos(math.pi * done))
        for group in optimiser.param_groups:
            group["lr"] = rate * factor
        x, y = batches(step)
        logits = model(x.to(device))
        loss = F.cross_entropy(logits.reshape(-1, logits.shape[-1]), y.to(device).reshape(-1))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    if at is not None:
        at(steps)
    model.eval()
    return losses
