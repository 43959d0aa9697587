"""A character-level Transformer, normalised before (pre-LN) or after (post-LN) each branch.

kadanoff diagnose examples/transformer.py:pre_ln --data text
kadanoff diagnose examples/transformer.py:post_ln --data text
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    """Causal attention and a GELU network of width 4·d, each beside a skip connection."""

    def __init__(self, d: int, heads: int, pre: bool) -> None:
        super().__init__()
        self.heads, self.pre = heads, pre
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.up, self.down = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def attend(self, x: torch.Tensor) -> torch.Tensor:
        n, t, d = x.shape
        q, k, v = (
            part.view(n, t, self.heads, d // self.heads).transpose(1, 2)
            for part in self.qkv(x).split(d, dim=2)
        )
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(mixed.transpose(1, 2).reshape(n, t, d))

    def mlp(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.gelu(self.up(x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.pre:
            x = x + self.attend(self.norm1(x))
            return x + self.mlp(self.norm2(x))
        x = self.norm1(x + self.attend(x))
        return self.norm2(x + self.mlp(x))


class Transformer(nn.Module):
    """Token and position embeddings, ``depth`` blocks, and a linear readout."""

    def __init__(
        self, *, pre: bool, depth: int = 6, d: int = 128, heads: int = 4, length: int = 64,
        vocabulary: int = 128,
    ) -> None:  # fmt: skip
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, d)
        self.positions = nn.Embedding(length, d)
        self.blocks = nn.ModuleList(Block(d, heads, pre) for _ in range(depth))
        self.norm = nn.LayerNorm(d) if pre else nn.Identity()
        self.readout = nn.Linear(d, vocabulary, bias=False)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:  # (N, T) -> (N, T, vocabulary)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.tokens(tokens) + self.positions(places)
        for block in self.blocks:
            x = block(x)
        return self.readout(self.norm(x))


def pre_ln(depth: int = 6, d: int = 128) -> Transformer:
    """Normalise at the entrance of each branch: the skip path stays free."""
    return Transformer(pre=True, depth=depth, d=d)


def post_ln(depth: int = 6, d: int = 128) -> Transformer:
    """Normalise after each addition, as in 2017."""
    return Transformer(pre=False, depth=depth, d=d)


if __name__ == "__main__":
    from rich import print

    import kadanoff as kd

    data = kd.data.load("text", batch=32, seed=0)
    for factory in (pre_ln, post_ln):
        torch.manual_seed(0)
        print(kd.diagnose(factory(), data.inputs))
