"""Measuring the order 1/n of trained networks: a small difference, with little noise.

The quantity is ``n (trained networks - infinite width)``, of the mean and of the covariance. Three
exact steps take the noise out of it: pairs with opposite readouts (no noise from initial outputs);
the network's own NTK as control variate (trained minus linearised network, a small difference that
needs training, plus the linearised network, that needs none); and the part linear in the spread of
metric and NTK, whose mean is known at two layers and needs nothing but kernels at more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.ensembles.fits import fit_widths
from kadanoff.ensembles.normals import Normals
from kadanoff.ensembles.tangent import output_ntk
from kadanoff.ensembles.trunk import drawn_trunk
from kadanoff.learning.trained import Weights, descend, draw_batch, outputs, train_weights

__all__ = ["MeasuredCorrection", "extrapolate", "measure_correction", "network_ntk", "newton_step"]


@dataclass(frozen=True)
class MeasuredCorrection:
    """n (trained - infinite width) of the mean, (M, n_L), and covariance, (n_L, n_L, M, M)."""

    n: int
    value: Tensor
    stderr: Tensor
    cov: Tensor
    cov_stderr: Tensor
    pairs: int
    residual: float


def network_ntk(arch: Network, weights: Weights, X: Tensor) -> Tensor:
    """NTK of each network of a batch, shape (S, N n_L, N n_L), sample index slowest.

    The learning-rate tensor is included. Cost: one backward pass an output.

    Parameters
    ----------
    arch : Network
    weights : list of (W, b)
        As :func:`kadanoff.learning.trained.draw_batch` draws them, S networks.
    X : Tensor, shape (N, n_0)
    """
    return output_ntk(drawn_trunk(arch, X.to(weights[0][0].dtype), weights, Normals(0, 0)))


def _linearised(
    ntk: Tensor, z: Tensor, metric: Tensor, K: Tensor, theta: Tensor, y: Tensor
) -> tuple[Tensor, Tensor]:
    """What the linearised networks are off the infinite-width law, whole and first order alone.

    Each row holds the deviation of the mean (M n_L numbers) and then that of the second moment
    ((n_L M)^2 numbers). The first-order part has a known mean at two layers.
    """
    n_train, n_out = y.shape
    S, M = ntk.shape[0], theta.shape[0] - n_train
    cut = n_train * n_out
    solve = torch.linalg.solve(ntk[:, :cut, :cut], ntk[:, :cut, cut:]).mT
    solved = torch.linalg.solve(theta[:n_train, :n_train], y)
    transfer = torch.linalg.solve(theta[:n_train, :n_train], theta[:n_train, n_train:]).mT
    base = (transfer @ y).reshape(-1)
    shift = (solve @ y.reshape(-1, 1))[..., 0] - base
    eye = torch.eye(n_out, dtype=theta.dtype)
    spread = ((ntk - torch.kron(theta, eye))[:, :, :cut] @ solved.reshape(-1, 1))[..., 0]
    first = spread[:, cut:] - spread[:, :cut] @ torch.kron(transfer, eye).mT
    z = z.reshape(S, -1)
    left = z[:, cut:] - torch.einsum("smn,sn->sm", solve, z[:, :cut])
    plain = z[:, cut:] - z[:, :cut] @ torch.kron(transfer, eye).mT
    moved = _outer(left) - _outer(plain) + _outer(shift)
    project = torch.cat([-transfer, torch.eye(M, dtype=theta.dtype)], 1)
    start = project @ (metric - K) @ project.mT
    start = torch.einsum("sab,ij->saibj", start, eye).reshape(S, -1)
    return torch.cat([shift - first, moved], 1), torch.cat([first, start], 1)


def _outer(x: Tensor) -> Tensor:
    return torch.einsum("sm,sn->smn", x, x).flatten(1)


def measure_correction(
    arch: Network,
    K: Tensor,
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
    algorithm: str = "descent",
    progress: Callable[..., None] | None = None,
) -> MeasuredCorrection:
    """Train ``pairs`` pairs to the end; measure the order 1/n of their mean and covariance.

    Parameters
    ----------
    K, theta : Tensor, shape (N+M, N+M)
        Infinite-width kernel and NTK of the output layer, training points first.
    linear : int
        Further networks of which only the NTK is evaluated.
    dtype : torch.dtype
        Of the networks; the NTKs are always solved in float64.
    algorithm : {"descent", "flow", "giant_leap"}
        Full-batch steps of size ``eta``; gradient flow, integrated at fourth order with that
        step; or one Newton-like step through the network's own NTK first.

    Returns
    -------
    MeasuredCorrection
    """
    X = torch.cat([X_train, X_test])
    n = arch.n[-2]
    n_train, n_out = y.shape
    M = X_test.shape[0]
    cut = M * n_out
    transfer = torch.linalg.solve(theta[:n_train, :n_train], theta[:n_train, n_train:]).mT
    base = (transfer @ y).reshape(-1)
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
        ntk = network_ntk(arch, one, X)
        z = outputs(arch, one, X)
        last = arch.activations[-1](z[-2])
        metric = arch.C_b[-1] + arch.C_W[-1] / n * last @ last.mT
        whole, known = _linearised(ntk, z[-1], metric, K, theta, y)
        second.append(whole)
        first.append(known)
        if training:
            if algorithm == "giant_leap":
                newton_step(arch, weights, X_train, y)
            left = train_weights(
                arch,
                weights,
                X_train,
                y,
                eta,
                steps,
                tolerance=tolerance,
                flow=algorithm == "flow",
            )
            residual = max(residual, left)
            end = outputs(arch, weights, X_test)[-1].double().reshape(2, size, cut)
            half, odd = end.mean(0) - base, 0.5 * (end[0] - end[1])
            start = z[-1].reshape(size, -1)
            plain = (
                start[:, n_train * n_out :]
                - start[:, : n_train * n_out]
                @ torch.kron(transfer, torch.eye(n_out, dtype=theta.dtype)).mT
            )
            moment = _outer(half) + _outer(odd) - _outer(plain)
            trained.append(torch.cat([half, moment], 1) - whole - _mean_only(known, cut))
        done += size
        index += 1
        if progress is not None:
            progress(done, pairs + linear)
    parts = [torch.cat(trained), torch.cat(second)]
    if arch.L > 2:  # at two layers the means of metric and NTK are exactly those of infinite width
        parts.append(torch.cat(first))
    value, stderr = _combine(parts, pairs, linear)
    mean, error = value[:cut].reshape(M, n_out), stderr[:cut].reshape(M, n_out)
    cov = value[cut:].reshape(cut, cut) - torch.outer(value[:cut], value[:cut])
    shape = (M, n_out, M, n_out)
    cov = cov.reshape(shape).permute(1, 3, 0, 2)
    cov_error = stderr[cut:].reshape(shape).permute(1, 3, 0, 2)
    return MeasuredCorrection(n, n * mean, n * error, n * cov, n * cov_error, pairs, residual)


def _mean_only(known: Tensor, cut: int) -> Tensor:
    out = torch.zeros_like(known)
    out[:, :cut] = known[:, :cut]
    return out


def _combine(parts: list[Tensor], pairs: int, linear: int) -> tuple[Tensor, Tensor]:
    """Sum of the parts' means and its error; all parts but the first have ``linear`` more rows."""
    value = torch.stack([p.mean(0) for p in parts]).sum(0)
    rest = torch.stack(list(parts[1:])).sum(0)
    share = pairs / (pairs + linear)
    variance = (parts[0] + share * rest[:pairs]).var(0) / pairs
    if linear:
        variance = variance + (1 - share) ** 2 * rest[pairs:].var(0) / linear
    return value, variance.sqrt()


def newton_step(arch: Network, weights: Weights, X: Tensor, y: Tensor) -> None:
    """One step along the gradient preconditioned by the inverse of the network's training NTK.

    In place; to first order in the step every training point is fitted at once.

    Parameters
    ----------
    arch : Network
    weights : list of (W, b)
        Of S networks; changed.
    X : Tensor, shape (N, n_0)
    y : Tensor, shape (N, n_L)
    """
    z = outputs(arch, [(W.double(), b.double()) for W, b in weights], X)
    S, N, n_out = z[-1].shape
    ntk = network_ntk(arch, [(W.double(), b.double()) for W, b in weights], X)
    error = (z[-1] - y).reshape(S, -1, 1)
    pull = torch.linalg.solve(ntk, error).reshape(S, N, n_out)
    descend(arch, weights, X, pull.to(weights[0][0].dtype), 1.0)


def extrapolate(
    widths: Sequence[int], values: Tensor, stderr: Tensor, degree: int = 1
) -> tuple[Tensor, Tensor, Tensor]:
    """Value and error at n = infinity, by :func:`kadanoff.ensembles.fits.fit_widths`.

    Parameters
    ----------
    widths : sequence of int, length w
    values, stderr : Tensor, shape (w, ...)
    degree : int
        Of the polynomial in 1/n.

    Returns
    -------
    (value, stderr, chi2) : Tensors, shape (...)
        chi2 per degree of freedom (NaN if there are none).
    """
    fit = fit_widths(widths, values, stderr, degree)
    limit = fit.coefficients[0]
    return limit.value, limit.stderr, fit.chi2
