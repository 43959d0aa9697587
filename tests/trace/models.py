"""Models as people write them, for the tests of recording and diagnosis."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.needs import needs


def hugging_face():
    """The transformers package; skips visibly where it is absent or its own imports fail."""
    transformers = needs("transformers", "hf")
    try:
        for name in ("GPT2LMHeadModel", "LlamaForCausalLM", "BertForSequenceClassification"):
            getattr(transformers, name)
    except (ImportError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        pytest.skip(f"transformers is installed, but does not import: {reason}")
    return transformers


class BasicBlock(nn.Module):
    """A residual block that reuses one in-place ReLU, as torchvision's does."""

    def __init__(self, i: int, o: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(i, o, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(o)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(o, o, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(o)
        self.downsample = None
        if stride != 1 or i != o:
            self.downsample = nn.Sequential(
                nn.Conv2d(i, o, 1, stride, bias=False), nn.BatchNorm2d(o)
            )

    def forward(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        y += x if self.downsample is None else self.downsample(x)
        return self.relu(y)


class ResNet18(nn.Module):
    def __init__(self, width: int = 8, classes: int = 10) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        stages, i = [], width
        for k in range(4):
            o = width * 2**k
            stages.append(nn.Sequential(BasicBlock(i, o, 1 if k == 0 else 2), BasicBlock(o, o, 1)))
            i = o
        self.layer1, self.layer2, self.layer3, self.layer4 = stages
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(i, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x):
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(torch.flatten(self.avgpool(x), 1))


class Functional(nn.Module):
    """Functional, in-place and method-style activations, a reused and a tied layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.c.weight = self.b.weight
        self.act = nn.Tanh()

    def forward(self, x):
        x = F.relu(self.a(x))
        x = torch.relu_(self.a(x))
        x = self.b(x).tanh()
        x = F.gelu(self.c(x))
        return self.act(self.act(x) @ self.b.weight)


class GPTBlock(nn.Module):
    def __init__(self, d: int, heads: int, pre_norm: bool) -> None:
        super().__init__()
        self.heads, self.pre_norm = heads, pre_norm
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.fc, self.out = nn.Linear(d, 4 * d), nn.Linear(4 * d, d)

    def attend(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.proj(y.transpose(1, 2).reshape(B, T, C))

    def forward(self, x):
        if self.pre_norm:
            x = x + self.attend(self.ln1(x))
            return x + self.out(F.gelu(self.fc(self.ln2(x))))
        x = self.ln1(x + self.attend(x))
        return self.ln2(x + self.out(F.gelu(self.fc(x))))


class GPT(nn.Module):
    def __init__(self, depth: int, d: int = 32, heads: int = 2, pre_norm: bool = True) -> None:
        super().__init__()
        self.emb = nn.Embedding(48, d)
        self.blocks = nn.ModuleList(GPTBlock(d, heads, pre_norm) for _ in range(depth))
        self.ln, self.head = nn.LayerNorm(d), nn.Linear(d, 48)

    def forward(self, ids):
        x = self.emb(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln(x))


def mlp(
    act,
    depth: int,
    width: int,
    C_W: float = 1.0,
    C_b: float = 0.0,
    *,
    n_in: int = 32,
    n_out: int = 10,
    seed: int = 0,
    default: bool = False,
) -> nn.Sequential:
    """``depth`` hidden layers; weights N(0, C_W / fan-in), biases N(0, C_b), or PyTorch's."""
    generator = torch.Generator().manual_seed(seed)
    sizes, modules = [n_in, *[width] * depth, n_out], []
    for index, (i, o) in enumerate(pairwise(sizes)):
        layer = nn.Linear(i, o)
        with torch.no_grad():
            if default:
                bound = i**-0.5
                for p in layer.parameters():
                    p.copy_(bound * (2 * torch.rand(p.shape, generator=generator) - 1))
            else:
                layer.weight.copy_(
                    torch.randn(o, i, generator=generator) * (C_W / i) ** 0.5
                )  # fmt: skip
                layer.bias.copy_(torch.randn(o, generator=generator) * C_b**0.5)
        modules.append(layer)
        if index < depth:
            modules.append(act())
    return nn.Sequential(*modules)
