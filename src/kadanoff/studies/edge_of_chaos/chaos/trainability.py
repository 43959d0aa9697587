"""Which depths train at which initial variance: deep networks across the edge of chaos.

Many networks of one depth are trained at once (one batched matrix product a layer), so that a
whole row of the phase diagram costs little more than one network.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kadanoff.activations import activation
from kadanoff.errors import UsageError

__all__ = ["Trainability", "train_across"]


@dataclass(frozen=True)
class Trainability:
    """Outcome of training one depth at several variances.

    Attributes
    ----------
    depth, width : int
        Linear maps with the readout; neurons of hidden layers.
    C_W : ndarray, shape (W,)
    rates : ndarray, shape (R,)
    accuracy : ndarray, shape (W, R, S)
        Training accuracy after the last step, for each rate and seed (S).
    loss : ndarray, shape (W, R, S)
        Cross-entropy on the training set.
    """

    depth: int
    width: int
    C_W: np.ndarray
    rates: np.ndarray
    accuracy: np.ndarray
    loss: np.ndarray

    @property
    def best(self) -> np.ndarray:
        """Accuracy at the best rate for each variance and seed, shape (W, S)."""
        return self.accuracy.max(1)


def train_across(
    spec: Any,
    X: Tensor,
    y: Tensor,
    C_W: Sequence[float],
    C_b: float,
    depth: int,
    *,
    width: int = 64,
    rates: Sequence[float] = (0.001, 0.01, 0.1),
    seeds: int = 1,
    steps: int = 300,
    batch: int = 64,
    momentum: float = 0.9,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[..., None] | None = None,
) -> Trainability:
    """Train deep networks by SGD, one for every (C_W, rate, seed), and report who learnt.

    Parameters
    ----------
    spec : name, callable, torch module or Activation
    X : Tensor, shape (N, n_0)
        Inputs are scaled to |x|² = n_0 each, so that they enter at a magnitude of order C_W.
    y : Tensor, shape (N,)
        Class numbers 0 … k − 1.
    C_W : sequence of float
        Weight variances of all maps but the readout, which has C_W = 1.
    C_b : float
    depth : int
        Linear maps, readout included, at least 2.
    rates : sequence of float
        Learning rates; gradients are clipped to norm 1.
    steps, batch : int
    momentum : float
    device : str

    Returns
    -------
    Trainability

    Raises
    ------
    UsageError

    Notes
    -----
    Schoenholz, Gilmer, Ganguli & Sohl-Dickstein (2017) find that networks train if depth ≲ 6 ξ_c.
    """
    act = activation(spec)
    if depth < 2 or width < 1 or steps < 1 or not len(C_W) or not len(rates):
        raise UsageError(
            f"Need depth >= 2, width >= 1, steps >= 1 and values of C_W and rates; got "
            f"depth = {depth}, width = {width}, steps = {steps}."
        )
    if X.ndim != 2 or y.shape != X.shape[:1]:
        raise UsageError(f"Expected X (N, n_0) and y (N,), got {tuple(X.shape)}, {tuple(y.shape)}.")
    X = X.to(device, torch.float32)
    X = X / X.norm(dim=1, keepdim=True).clamp_min(1e-12) * math.sqrt(X.shape[1])
    y = y.to(device)
    grid = list(itertools.product(C_W, rates, range(seeds)))
    generator = torch.Generator(device).manual_seed(seed)
    variance = torch.tensor([float(c) for c, _, _ in grid], device=device)
    rate = torch.tensor([float(r) for _, r, _ in grid], device=device)
    sizes = [X.shape[1], *[width] * (depth - 1), int(y.max()) + 1]
    weights, biases = _draw(sizes, variance, C_b, len(grid), generator, device)
    parameters = [p.requires_grad_(True) for p in (*weights, *biases)]
    velocity = [torch.zeros_like(p) for p in parameters]
    for step in range(steps):
        rows = torch.randint(len(X), (batch,), generator=generator, device=device)
        loss = _losses(act, weights, biases, X[rows], y[rows])
        # networks share nothing: the gradient of the sum is each one's own
        gradients = torch.autograd.grad(loss.sum(), parameters)
        norm = sum(g.square().sum((1, 2)) for g in gradients)
        assert isinstance(norm, Tensor)
        scale = 1 / norm.sqrt().clamp_min(1.0)
        scale = torch.where(torch.isfinite(scale), scale, torch.zeros_like(scale))
        with torch.no_grad():
            for p, v, g in zip(parameters, velocity, gradients, strict=True):
                v.mul_(momentum).add_(torch.nan_to_num(g) * scale[:, None, None])
                p.sub_(rate[:, None, None] * v)
        if progress:
            progress(step + 1, steps)
    with torch.no_grad():
        accuracy, loss = _evaluate(act, weights, biases, X, y)
    shape = (len(C_W), len(rates), seeds)
    return Trainability(
        depth,
        width,
        np.asarray(C_W, dtype=float),
        np.asarray(rates, dtype=float),
        accuracy.cpu().numpy().reshape(shape),
        loss.cpu().numpy().reshape(shape),
    )


def _draw(sizes, variance: Tensor, C_b: float, B: int, generator, device):
    weights, biases = [], []
    for l, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        W = torch.randn(B, n_in, n_out, generator=generator, device=device)
        readout = l == len(sizes) - 2
        size = torch.ones_like(variance) if readout else variance
        weights.append(W * (size / n_in).sqrt()[:, None, None])
        b = torch.randn(B, 1, n_out, generator=generator, device=device)
        biases.append(b * (0.0 if readout else math.sqrt(C_b)))
    return weights, biases


def _forward(act, weights, biases, X: Tensor) -> Tensor:
    z = torch.baddbmm(biases[0], X.expand(len(weights[0]), -1, -1), weights[0])
    for W, b in zip(weights[1:], biases[1:], strict=True):
        z = torch.baddbmm(b, act(z), W)
    return z


def _losses(act, weights, biases, X: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of each network, shape (networks,)."""
    z = _forward(act, weights, biases, X)
    target = y.expand(len(z), -1)
    return torch.nn.functional.cross_entropy(z.mT, target, reduction="none").mean(1)


def _evaluate(act, weights, biases, X: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    right, lost = 0.0, 0.0
    for start in range(0, len(X), 256):
        x, target = X[start : start + 256], y[start : start + 256]
        z = _forward(act, weights, biases, x)
        right = right + (z.argmax(2) == target).float().sum(1)
        lost = lost + _losses(act, weights, biases, x, target) * len(x)
    assert isinstance(right, Tensor)
    assert isinstance(lost, Tensor)
    return right / len(X), lost / len(X)
