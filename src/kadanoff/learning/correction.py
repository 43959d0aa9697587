"""Measuring the order 1/n of trained networks: a small difference, with little noise.

The quantity is ``n (mean of trained networks - infinite-width mean)``. Three exact steps take the
noise out of it: pairs with opposite readouts (no noise from initial outputs); the network's own
NTK as control variate (trained minus linearised network, a small difference that needs training,
plus the linearised network, that needs none); and the part linear in the NTK's spread, whose mean
is known at two layers and needs nothing but NTKs at more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kadanoff.learning.trained import Weights, draw_batch, outputs, train_weights

__all__ = ["Measured", "extrapolate", "measure_correction", "network_ntk"]


@dataclass(frozen=True)
class Measured:
    """n (mean - infinite-width mean) at one width; shapes (M, n_L)."""

    n: int
    value: Tensor
    stderr: Tensor
    pairs: int
    residual: float


def network_ntk(arch: Any, weights: Weights, X: Tensor) -> Tensor:
    """NTK of each network of a batch, shape (S, N n_L, N n_L), sample index slowest.

    The learning-rate tensor is included. Cost: one backward pass an output.
    """
    z = outputs(arch, weights, X)
    S, N, n_out = z[-1].shape
    eye = torch.eye(n_out, dtype=z[-1].dtype)
    # d z^L_i / d z^l_k at each sample: (S, N, n_L, n_l)
    jac = eye.expand(S, N, n_out, n_out)
    total = torch.zeros(S, N * n_out, N * n_out, dtype=z[-1].dtype)
    for l in range(arch.L - 1, -1, -1):
        W, _ = weights[l]
        source = arch.activations[l - 1](z[l - 1]) if l else X.to(W.dtype).expand(S, *X.shape)
        inner = torch.bmm(source, source.mT) * (arch.lambda_W[l] / arch.n[l]) + arch.lambda_b[l]
        flat = jac.reshape(S, N * n_out, -1)
        inner = inner.repeat_interleave(n_out, 1).repeat_interleave(n_out, 2)
        total = total + torch.bmm(flat, flat.mT) * inner
        if l:
            slope = arch.activations[l - 1].derivative(1)(z[l - 1])
            back = torch.matmul(jac, W[:, None]) * slope[:, :, None, :]
            jac = back + arch.gamma[l] * jac if arch.gamma[l] else back
    return total


def _linearised(ntk: Tensor, theta: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Linearised networks minus the infinite-width mean: whole, and first order in the spread."""
    n_train, n_out = y.shape
    M = theta.shape[0] - n_train
    cut = n_train * n_out
    flat = y.reshape(-1, 1)
    end = ntk[:, cut:, :cut] @ torch.linalg.solve(ntk[:, :cut, :cut], flat)
    solved = torch.linalg.solve(theta[:n_train, :n_train], y)
    base = theta[n_train:, :n_train] @ solved
    transfer = torch.linalg.solve(theta[:n_train, :n_train], theta[:n_train, n_train:]).mT
    full = torch.kron(theta, torch.eye(n_out, dtype=theta.dtype))
    spread = ((ntk - full)[:, :, :cut] @ solved.reshape(-1, 1))[..., 0]
    spread = spread.reshape(-1, theta.shape[0], n_out)
    first = spread[:, n_train:] - torch.einsum("ma,sai->smi", transfer, spread[:, :n_train])
    return end.reshape(-1, M, n_out) - base, first


def measure_correction(
    arch: Any,
    theta: Tensor,
    X_train: Tensor,
    y: Tensor,
    X_test: Tensor,
    *,
    eta: float,
    pairs: int,
    linear: int = 0,
    seed: int = 0,
    steps: int = 20_000,
    tolerance: float = 1e-8,
    dtype: torch.dtype = torch.float64,
    block: int = 512,
    progress: Callable[..., None] | None = None,
) -> Measured:
    """Train ``pairs`` pairs to the end and measure the order 1/n of their mean.

    Parameters
    ----------
    theta : Tensor, shape (N+M, N+M)
        Infinite-width NTK of the output layer, training points first.
    linear : int
        Further networks of which only the NTK is evaluated.
    dtype : torch.dtype
        Of the networks; the NTKs are always solved in float64.

    Returns
    -------
    Measured
    """
    X = torch.cat([X_train, X_test])
    n = arch.n[-2]
    n_train = X_train.shape[0]
    trained: list[Tensor] = []
    second: list[Tensor] = []
    first: list[Tensor] = []
    residual, done, index = 0.0, 0, 0
    while done < pairs + linear:
        training = done < pairs
        size = min(block, (pairs if training else pairs + linear) - done)
        generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
        weights = draw_batch(arch, 2 * size, generator, antithetic=True, dtype=dtype)
        one = [(W[:size].double(), b[:size].double()) for W, b in weights]
        linearised, linear_part = _linearised(network_ntk(arch, one, X), theta, y)
        second.append(linearised - linear_part)
        first.append(linear_part)
        if training:
            base = theta[n_train:, :n_train] @ torch.linalg.solve(theta[:n_train, :n_train], y)
            left = train_weights(arch, weights, X_train, y, eta, steps, tolerance=tolerance)
            residual = max(residual, left)
            end = outputs(arch, weights, X_test)[-1].double()
            trained.append(0.5 * (end[:size] + end[size:]) - base - linearised)
        done += size
        index += 1
        if progress is not None:
            progress(done, pairs + linear)
    parts = [torch.cat(trained), torch.cat(second)]
    if arch.L > 2:  # at two layers the mean of the NTK is exactly that of infinite width
        parts.append(torch.cat(first))
    value = torch.stack([p.mean(0) for p in parts]).sum(0)
    # the parts share networks: bound the error of the sum by treating shared pairs jointly
    joint = torch.stack([p[:pairs] for p in parts]).sum(0)
    extra = parts[1][pairs:] + (parts[2][pairs:] if len(parts) > 2 else 0)
    if linear:
        # mean = mean(trained) + weighted mean of the rest over both samples
        w = pairs / (pairs + linear)
        rest = torch.stack([p[:pairs] for p in parts[1:]]).sum(0)
        variance = (parts[0] + w * rest).var(0) / pairs + ((1 - w) ** 2) * extra.var(0) / linear
    else:
        variance = joint.var(0) / pairs
    return Measured(n, n * value, n * variance.sqrt(), pairs, residual)


def extrapolate(
    widths: Sequence[int], values: Tensor, stderr: Tensor, degree: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Fit a polynomial in 1/n by weighted least squares; value and error at n = infinity.

    Parameters
    ----------
    widths : sequence of int, length w
    values, stderr : Tensor, shape (w, ...)

    Returns
    -------
    (value, stderr, chi2) : Tensors, shape (...)
        chi2 per degree of freedom (NaN if there are none).
    """
    u = torch.tensor([1 / n for n in widths], dtype=torch.float64)
    design = torch.stack([u**k for k in range(degree + 1)], 1)
    shape = values.shape[1:]
    y, s = values.reshape(len(widths), -1), stderr.reshape(len(widths), -1)
    A = design[:, None, :] / s[..., None]
    cov = torch.linalg.inv(torch.einsum("wmk,wml->mkl", A, A))
    coef = torch.einsum("mkl,wml,wm->mk", cov, A, y / s)
    free = len(widths) - degree - 1
    pull = (y - design @ coef.mT) / s
    chi2 = pull.pow(2).sum(0) / free if free else torch.full_like(y[0], math.nan)
    return coef[:, 0].reshape(shape), cov[:, 0, 0].sqrt().reshape(shape), chi2.reshape(shape)
