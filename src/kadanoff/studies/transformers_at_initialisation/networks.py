"""The Transformers of the study: plain torch modules, every weight with its own variance."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Language", "Setting", "Stack", "linear", "tokens_at_angle"]

ACTIVATIONS = {"relu": F.relu, "gelu": F.gelu, "silu": F.silu, "tanh": torch.tanh}


@dataclass(frozen=True)
class Setting:
    """A stack of blocks.

    Attributes
    ----------
    width : int
        n, of the stream.
    blocks : int
    head : int
        Channels of a head; the number of heads is ``width // head``.
    scores : float
        C_Q C_K, the variance of an attention score between unit vectors at 1/√d.
    C_A : float
        C_V C_O of an attention branch.
    attention : float
        Factor on attention branches; 0 leaves them out.
    mlp : float
        Factor on MLP branches; 0 leaves them out.
    C_U, C_D : float
        Of the maps into and out of the hidden units of an MLP, as many as ``width``.
    activation : {"relu", "gelu", "silu", "tanh"}
    gated : bool
        Hidden units φ(u) v with a second map v = W x, as in Llama.
    order : {"pre", "post"}
        Norm in each branch, or of the stream after each branch.
    keys : int
        Key and value heads; 0: as many as query heads.
    """

    width: int
    blocks: int
    head: int = 32
    scores: float = 0.01
    C_A: float = 1.0
    attention: float = 1.0
    mlp: float = 1.0
    C_U: float = 1.0
    C_D: float = 1.0
    activation: str = "gelu"
    gated: bool = False
    order: str = "pre"
    keys: int = 0

    def wider(self, factor: int) -> Setting:
        """The same stack, its width times ``factor`` at the same head size."""
        return replace(self, width=factor * self.width)


def linear(fan_in: int, fan_out: int, C: float) -> nn.Linear:
    """A map without bias, entries N(0, C/fan_in)."""
    layer = nn.Linear(fan_in, fan_out, bias=False)
    nn.init.normal_(layer.weight, 0.0, math.sqrt(C / fan_in))
    return layer


class Attention(nn.Module):
    """Heads of softmax attention, scores over √d."""

    def __init__(self, s: Setting, causal: bool) -> None:
        super().__init__()
        n, C = s.width, math.sqrt(s.scores)
        self.heads, self.causal = n // s.head, causal
        self.groups = s.keys or self.heads
        shared = self.groups * s.head
        self.q, self.k = linear(n, n, C), linear(n, shared, C)
        self.v, self.o = linear(n, shared, s.C_A), linear(n, n, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        N, T, n = x.shape
        q = self.q(x).view(N, T, self.heads, -1).transpose(1, 2)
        k, v = (m(x).view(N, T, self.groups, -1).transpose(1, 2) for m in (self.k, self.v))
        k, v = (t.repeat_interleave(self.heads // self.groups, 1) for t in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        return self.o(y.transpose(1, 2).reshape(N, T, n))


class MLP(nn.Module):
    """One hidden layer, plain or gated."""

    def __init__(self, s: Setting) -> None:
        super().__init__()
        self.up, self.down = linear(s.width, s.width, s.C_U), linear(s.width, s.width, s.C_D)
        self.gate = linear(s.width, s.width, s.C_U) if s.gated else None
        self.act = ACTIVATIONS[s.activation]

    def forward(self, x: Tensor) -> Tensor:
        if self.gate is None:
            return self.down(self.act(self.up(x)))
        return self.down(self.act(self.gate(x)) * self.up(x))


class Block(nn.Module):
    """An attention branch and an MLP branch."""

    def __init__(self, s: Setting, causal: bool) -> None:
        super().__init__()
        self.order = s.order
        kinds = [(s.attention, "attention"), (s.mlp, "mlp")]
        self.strengths = [strength for strength, _ in kinds if strength]
        self.branches = nn.ModuleList(
            Attention(s, causal) if kind == "attention" else MLP(s)
            for strength, kind in kinds
            if strength
        )
        self.norms = nn.ModuleList(nn.LayerNorm(s.width, eps=1e-8) for _ in self.branches)

    def forward(self, x: Tensor) -> Tensor:
        for strength, branch, norm in zip(self.strengths, self.branches, self.norms):
            if self.order == "pre":
                x = x + strength * branch(norm(x))
            else:
                x = norm(x + strength * branch(x))
        return x


class Stack(nn.Module):
    """Blocks alone: the stream in (N, T, n), the stream out.

    Parameters
    ----------
    s : Setting
    mean : bool
        Return the mean over tokens, so that all tokens have one cotangent.
    causal : bool
    norm : bool
        A last norm after the blocks.
    """

    def __init__(
        self, s: Setting, mean: bool = False, causal: bool = False, norm: bool = False
    ) -> None:
        super().__init__()
        self.mean = mean
        self.norm = nn.LayerNorm(s.width, eps=1e-8) if norm else nn.Identity()
        self.blocks = nn.ModuleList(Block(s, causal) for _ in range(s.blocks))

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return x.mean(1) if self.mean else x


class Language(nn.Module):
    """Tokens in, logits out: stem, causal pre-norm blocks, norm, readout of its own.

    Parameters
    ----------
    s : Setting
    vocabulary, length : int
    embedding : float
        Standard deviation of token and position embeddings; their sum has twice its square.
    """

    def __init__(
        self, s: Setting, vocabulary: int = 64, length: int = 16, embedding: float = 2**-0.5
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, s.width)
        self.positions = nn.Embedding(length, s.width)
        for table in (self.tokens, self.positions):
            nn.init.normal_(table.weight, 0.0, embedding)
        self.stack = Stack(s, causal=True)
        self.norm = nn.LayerNorm(s.width)
        self.head = linear(s.width, vocabulary, 1.0)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        return self.head(self.norm(self.stack(x)))


def tokens_at_angle(T: int, width: int, correlation: float) -> Tensor:
    """T tokens of unit mean square with one correlation between all pairs: (1, T, width).

    Their channels have mean zero, so that a layer norm leaves them as they are.
    """
    generator = torch.Generator().manual_seed(0)
    frame = torch.randn(width, T + 2, generator=generator, dtype=torch.float64)
    frame[:, 0] = 1.0
    basis = torch.linalg.qr(frame)[0].T[1:] * math.sqrt(width)
    x = math.sqrt(correlation) * basis[0] + math.sqrt(1 - correlation) * basis[1:]
    return x[None].float()
