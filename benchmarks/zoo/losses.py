"""What is minimised: one function of what the model returned and the targets."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from .data import IGNORED
from .family import Output, logits

__all__ = ["binary", "cross_entropy", "elbo", "own_loss", "squares"]


def cross_entropy(output: Output, targets: Tensor) -> Tensor:
    """Mean cross entropy; classes last in the logits, positions of target -100 left out."""
    found = logits(output)
    return F.cross_entropy(
        found.reshape(-1, found.shape[-1]), targets.reshape(-1), ignore_index=IGNORED
    )


def squares(output: Output, targets: Tensor) -> Tensor:
    """Mean square error."""
    return F.mse_loss(logits(output), targets)


def binary(output: Output, targets: Tensor) -> Tensor:
    """Mean binary cross entropy of logits."""
    return F.binary_cross_entropy_with_logits(logits(output), targets)


def elbo(output: Output, targets: Tensor) -> Tensor:
    """Half the square error plus the divergence from the prior, a pixel."""
    assert isinstance(output, tuple)
    picture, mu, logvar = output
    fit = 0.5 * F.mse_loss(picture, targets)
    divergence = -0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()
    return fit + divergence / targets[0].numel()


def own_loss(output: Output, targets: Tensor) -> Tensor:
    """The loss that the model computed itself."""
    assert isinstance(output, tuple)
    loss = output[1]
    assert isinstance(loss, torch.Tensor)
    return loss
