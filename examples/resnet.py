"""A small residual network with batch normalisation, in the style of torchvision's ResNet.

kadanoff diagnose examples/resnet.py:small --data digits
"""

from __future__ import annotations

import torch
from torch import nn


class Block(nn.Module):
    """Two normalised convolutions beside a skip connection; one ReLU module is used twice."""

    def __init__(self, n_in: int, n_out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(n_out)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(n_out)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or n_in != n_out:
            self.shortcut = nn.Sequential(
                nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        return self.relu(out + self.shortcut(x))


def small(width: int = 32, n_out: int = 10) -> nn.Sequential:
    """Six residual blocks for 8 x 8 images."""
    model = nn.Sequential(
        nn.Conv2d(1, width, 3, 1, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
        Block(width, width),
        Block(width, width),
        Block(width, 2 * width, stride=2),
        Block(2 * width, 2 * width),
        Block(2 * width, 4 * width, stride=2),
        Block(4 * width, 4 * width),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4 * width, n_out),
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


if __name__ == "__main__":
    from rich import print

    import kadanoff as kd

    torch.manual_seed(0)
    model = small()
    data = kd.data.adapt(model, kd.data.load("digits", batch=128, seed=0))
    print(kd.diagnose(model, data.inputs))
