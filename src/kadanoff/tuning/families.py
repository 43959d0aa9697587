"""Small model families of given width and depth, critical at the start: for transfer runs."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor, nn

from kadanoff.errors import UsageError

__all__ = ["FAMILIES", "mlp", "residual", "transformer"]

# activation -> (module, C_W, C_b): the critical points of chapter 5
_CRITICAL = {
    "relu": (nn.ReLU, 2.0, 0.0),
    "tanh": (nn.Tanh, 1.0, 0.0),
    "gelu": (nn.GELU, 1.98305826, 0.17292239),
}


def _activation(name: str) -> tuple[type[nn.Module], float, float]:
    if name not in _CRITICAL:
        raise UsageError(f"No family with activation {name!r}.", f"Choose from {list(_CRITICAL)}.")
    return _CRITICAL[name]


def _linear(
    n_in: int, n_out: int, C_W: float, generator: torch.Generator, C_b: float = 0.0
) -> nn.Linear:
    layer = nn.Linear(n_in, n_out)
    with torch.no_grad():
        layer.weight.normal_(0.0, math.sqrt(C_W / n_in), generator=generator)
        layer.bias.normal_(0.0, math.sqrt(C_b), generator=generator)
    return layer


def mlp(
    n_in: int, width: int, depth: int, n_out: int, *, activation: str = "relu", seed: int = 0
) -> nn.Sequential:
    """``depth`` hidden layers of ``width`` at criticality, and a readout.

    Parameters
    ----------
    n_in, n_out : int
        Inputs and outputs.
    width, depth : int
    activation : {"relu", "tanh", "gelu"}
    seed : int
        Of the weights.
    """
    act, C_W, C_b = _activation(activation)
    g = torch.Generator().manual_seed(seed)
    sizes = [n_in] + [width] * depth
    layers: list[nn.Module] = []
    for k, (a, b) in enumerate(itertools.pairwise(sizes)):
        # the first map sees the data, not activations: unit metric in, unit metric out
        layers += [_linear(a, b, C_W if k else 1.0, g, C_b if k else 0.0), act()]
    return nn.Sequential(*layers, _linear(width, n_out, 1.0, g))


class _Branch(nn.Module):
    def __init__(self, width: int, strength: float, act: nn.Module, linear: nn.Linear) -> None:
        super().__init__()
        self.act, self.linear, self.strength = act, linear, strength

    def forward(self, z: Tensor) -> Tensor:
        return z + self.strength * self.linear(self.act(z))


def residual(
    n_in: int, width: int, depth: int, n_out: int, *, activation: str = "relu", seed: int = 0
) -> nn.Sequential:
    """``depth`` blocks z + W s(z) / sqrt(depth) between an input map and a readout.

    Parameters
    ----------
    n_in, n_out : int
        Inputs and outputs.
    width, depth : int
    activation : {"relu", "tanh", "gelu"}
    seed : int
        Of the weights.
    """
    act, C_W, _ = _activation(activation)
    g = torch.Generator().manual_seed(seed)
    blocks = [
        _Branch(width, depth**-0.5, act(), _linear(width, width, C_W, g)) for _ in range(depth)
    ]
    first, last = _linear(n_in, width, 1.0, g), _linear(width, n_out, 1.0, g)
    return nn.Sequential(first, *blocks, act(), last)


class _Block(nn.Module):
    """Pre-norm block with causal attention; branches scaled by ``strength``."""

    def __init__(self, width: int, heads: int, strength: float, g: torch.Generator) -> None:
        super().__init__()
        self.heads, self.strength = heads, strength
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.ModuleDict(
            {"qkv": _linear(width, 3 * width, 1.0, g), "out": _linear(width, width, 1.0, g)}
        )
        self.mlp = nn.Sequential(
            _linear(width, 4 * width, 1.0, g), nn.GELU(), _linear(4 * width, width, 2.0, g)
        )

    def forward(self, x: Tensor) -> Tensor:
        B, T, C = x.shape
        q, k, v = self.attn["qkv"](self.norm1(x)).split(C, 2)
        q, k, v = (u.reshape(B, T, self.heads, -1).transpose(1, 2) for u in (q, k, v))
        # 1/d at large d, equal to 1/sqrt(d) at d = 16: q and k align during training
        scale = 4.0 / q.shape[-1]
        y = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scale)
        x = x + self.strength * self.attn["out"](y.transpose(1, 2).reshape(B, T, C))
        return x + self.strength * self.mlp(self.norm2(x))


class _Transformer(nn.Module):
    def __init__(
        self,
        width: int,
        depth: int,
        n_out: int,
        vocabulary: int,
        context: int,
        heads: int,
        seed: int,
    ) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(seed)
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(context, width)
        with torch.no_grad():
            for table in (self.token, self.position):
                table.weight.normal_(0.0, math.sqrt(0.5), generator=g)
        strength = (2 * depth) ** -0.5
        self.blocks = nn.Sequential(*[_Block(width, heads, strength, g) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.readout = _linear(width, n_out, 1.0, g)

    def forward(self, tokens: Tensor) -> Tensor:
        here = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.blocks(self.token(tokens) + self.position(here))
        return self.readout(self.norm(x))


def transformer(
    width: int,
    depth: int,
    n_out: int,
    *,
    vocabulary: int,
    context: int,
    heads: int = 4,
    seed: int = 0,
) -> nn.Module:
    """Pre-norm causal Transformer: tokens (B, T) to logits (B, T, n_out).

    Parameters
    ----------
    width, depth : int
        Of the stream; blocks.
    n_out : int
    vocabulary, context : int
        Number of tokens; positions T.
    heads : int
        Of width ``width / heads`` each.
    seed : int
        Of the weights.
    """
    if width % heads:
        raise UsageError(f"width = {width} does not divide into {heads} heads.", "Change either.")
    return _Transformer(
        width, depth, n_out, vocabulary=vocabulary, context=context, heads=heads, seed=seed
    )


FAMILIES = {"mlp": mlp, "resnet": residual, "transformer": transformer}
