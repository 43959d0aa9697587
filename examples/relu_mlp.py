"""A ReLU network with He's initialisation (healthy) and with PyTorch's own (sick).

kadanoff diagnose examples/relu_mlp.py:he --data breast_cancer
kadanoff diagnose examples/relu_mlp.py:default --data breast_cancer
"""

from __future__ import annotations

import torch
from torch import nn


def default(depth: int = 12, width: int = 256, n_in: int = 30, n_out: int = 2) -> nn.Sequential:
    """``depth`` ReLU layers, initialised as PyTorch does it: n·Var(W) = 1/3 where 2 is critical."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(n_in if i == 0 else width, width), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(width, n_out))


def he(depth: int = 12, width: int = 256, n_in: int = 30, n_out: int = 2) -> nn.Sequential:
    """The same with n·Var(W) = 2 in every hidden layer, 1 in the readout, and zero biases."""
    model = default(depth, width, n_in, n_out)
    linear = [layer for layer in model if isinstance(layer, nn.Linear)]
    for layer in linear:
        gain = 1.0 if layer is linear[-1] else 2.0
        nn.init.normal_(layer.weight, std=(gain / layer.in_features) ** 0.5)
        nn.init.zeros_(layer.bias)
    return model


if __name__ == "__main__":
    from rich import print

    import kadanoff as kd

    data = kd.data.load("breast_cancer", batch=128, seed=0)
    for factory in (he, default):
        torch.manual_seed(0)
        print(kd.diagnose(factory(), data.inputs))
