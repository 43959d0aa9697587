"""A deep tanh network: as PyTorch initialises it (sick), and at criticality (healthy).

    kadanoff diagnose examples/deep_tanh.py:default --data digits
    kadanoff diagnose examples/deep_tanh.py:critical --data digits

``nn.Linear`` draws its weights with n·Var(W) = 1/3, so each tanh layer passes on a third of the
signal's variance, and after 30 layers nothing is left. With n·Var(W) = 1 and zero biases the
variance falls like 1/depth instead, and gradients reach the first layer.
"""

from __future__ import annotations

import torch
from torch import nn


def default(depth: int = 30, width: int = 256, n_in: int = 64, n_out: int = 10) -> nn.Sequential:
    """``depth`` tanh layers, initialised as PyTorch does it."""
    layers: list[nn.Module] = []
    for i in range(depth):
        layers += [nn.Linear(n_in if i == 0 else width, width), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(width, n_out))


def critical(depth: int = 30, width: int = 256, n_in: int = 64, n_out: int = 10) -> nn.Sequential:
    """The same network with n·Var(W) = 1 and zero biases."""
    model = default(depth, width, n_in, n_out)
    for layer in model:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            nn.init.zeros_(layer.bias)
    return model


if __name__ == "__main__":
    from rich import print

    import kadanoff as kd

    data = kd.data.load("digits", batch=128, seed=0)
    for factory in (default, critical):
        torch.manual_seed(0)
        print(kd.diagnose(factory(), data.inputs))
