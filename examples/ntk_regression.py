"""Regression with the NTK of a ConvNet on the 8 x 8 digits, beside an RBF kernel of tuned width.

The network is an ordinary module; its kernel at infinite width comes from its own forward pass.
``python examples/ntk_regression.py`` takes half a minute.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

import kadanoff as kd


class ConvNet(nn.Module):
    """Three convolutions, a pooling, global average, readout."""

    def __init__(self, n: int = 64) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, n, 3, padding=1) for c in (1, n, n))
        self.out = nn.Linear(n, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:  # (N, 1, 8, 8) -> (N, 10)
        for i, conv in enumerate(self.convs):
            x = F.relu(conv(x))
            x = F.avg_pool2d(x, 2) if i == 1 else x
        return self.out(x.mean((2, 3)))


def digits(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """So many images, in a random order."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = torch.randperm(len(found.target), generator=torch.Generator().manual_seed(0))[:count]
    x = torch.tensor(found.images)[order, None] / 16 - 0.3
    return x, torch.tensor(found.target)[order].long()


def main(train: int = 200, test: int = 100) -> dict[str, float]:
    """Accuracies on the test images."""
    x, y = digits(train + test)
    found = kd.predict(ConvNet(), x[:train], y[:train], x[train:], ridge=1e-3)
    scores = {"NTK": float((found.labels == y[train:]).double().mean())}
    targets = F.one_hot(y[:train], 10).double()
    distance = torch.cdist(x.flatten(1), x.flatten(1)) ** 2
    best = None
    for width in (0.5, 1.0, 2.0, 4.0, 8.0):
        K = torch.exp(-distance / (2 * width))
        inverse = torch.linalg.inv(K[:train, :train] + 1e-3 * torch.eye(train))
        # each training point predicted from the others
        error = float(((inverse @ targets) / inverse.diagonal()[:, None]).square().mean())
        guess = (K[train:, :train] @ inverse @ targets).argmax(1)
        if best is None or error < best[0]:
            best = error, float((guess == y[train:]).double().mean())
    assert best is not None
    return scores | {"RBF": best[1]}


if __name__ == "__main__":
    for name, accuracy in main().items():
        print(f"{name}: {accuracy:.1%} of the test images")
