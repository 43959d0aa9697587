"""A small convolutional network on the 8 x 8 digits; the data is reshaped to fit by itself.

kadanoff diagnose examples/small_cnn.py:he --data digits
kadanoff diagnose examples/small_cnn.py:default --data digits
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


class SmallCNN(nn.Module):
    """Six 3 x 3 convolutions with functional ReLUs, average pooling and a linear readout."""

    def __init__(self, channels: int = 64, depth: int = 6, n_out: int = 10) -> None:
        super().__init__()
        inputs = [1] + [channels] * (depth - 1)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(c, channels, kernel_size=3, padding=1, padding_mode="circular")
            for c in inputs
        )
        self.readout = nn.Linear(channels, n_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, 1, 8, 8) -> (N, n_out)
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
        return self.readout(x.mean(dim=(2, 3)))


def default(channels: int = 64, depth: int = 6) -> SmallCNN:
    """As PyTorch initialises it."""
    return SmallCNN(channels, depth)


def he(channels: int = 64, depth: int = 6) -> SmallCNN:
    """With He's initialisation and zero biases."""
    model = SmallCNN(channels, depth)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]
    return model


if __name__ == "__main__":
    from rich import print

    import kadanoff as kd

    torch.manual_seed(0)
    model = he()
    data = kd.data.adapt(model, kd.data.load("digits", batch=128, seed=0))
    print(kd.diagnose(model, data.inputs))
