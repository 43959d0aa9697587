"""Ensembles of real networks, trained in a batch, to hold predictions against.

All networks of an ensemble take their steps together (one batched matrix product a layer). Pairs
that differ in the sign of the readout have opposite outputs at the start and the same NTK, so that
the average over a pair has no noise from the initial outputs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.architecture.drawing import GeneratorNumbers, draw_weights
from kadanoff.errors import AnalysisError, UsageError

__all__ = ["TrainedEnsemble", "descend", "draw_batch", "outputs", "train_ensemble", "train_weights"]

Weights = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class TrainedEnsemble:
    """Outputs of trained networks.

    Attributes
    ----------
    start, end : Tensor, shape (S, M, n_L)
        At initialisation and after training, at the test points.
    antithetic : bool
        Whether networks s and s + S/2 are a pair with opposite readouts.
    residual : float
        Largest |z - y| left at a training point.
    """

    start: Tensor
    end: Tensor
    antithetic: bool
    residual: float

    def _means(self) -> Tensor:
        if not self.antithetic:
            return self.end
        half = self.end.shape[0] // 2
        return 0.5 * (self.end[:half] + self.end[half:])

    @property
    def mean(self) -> Tensor:
        return self._means().mean(0)

    @property
    def stderr(self) -> Tensor:
        """Standard error of the mean, pairs counted once."""
        means = self._means()
        return means.std(0) / math.sqrt(means.shape[0])


def draw_batch(
    arch: Network,
    n_networks: int,
    generator: torch.Generator,
    *,
    antithetic: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Weights:
    """Gaussian weights of ``n_networks`` networks: W (S, n_l, n_{l-1}) and b (S, n_l) a layer.

    Parameters
    ----------
    arch : Network
    n_networks : int
    generator : torch.Generator
    antithetic : bool
        Networks in pairs with opposite readouts.
    dtype : torch.dtype
    """
    if arch.block != "single" or arch.init != "gaussian":
        raise UsageError(
            f"Ensembles are trained for Gaussian single-map blocks, not {arch!r}.",
            "Use init='gaussian' and block='single'.",
        )
    if antithetic and n_networks % 2:
        raise UsageError(f"{n_networks} networks do not make pairs.", "Pass an even number.")
    drawn = n_networks // 2 if antithetic else n_networks
    numbers = GeneratorNumbers(generator, dtype)
    weights: Weights = []
    for l in range(arch.L):
        shape = (drawn, arch.n[l + 1], arch.n[l])
        W = draw_weights(shape, arch.C_W[l], arch.init, numbers)
        b = math.sqrt(arch.C_b[l]) * numbers.normal(*shape[:2])
        if antithetic:
            sign = -1.0 if l == arch.L - 1 else 1.0
            W, b = torch.cat([W, sign * W]), torch.cat([b, sign * b])
        weights.append((W, b))
    return weights


def outputs(arch: Network, weights: Weights, X: Tensor) -> list[Tensor]:
    """Preactivations of every layer, each of shape (S, N, n_l).

    Parameters
    ----------
    arch : Network
    weights : list of (W, b)
        As :func:`draw_batch` gives them.
    X : Tensor, shape (N, n_0)
    """
    W, b = weights[0]
    z = [torch.matmul(X.to(W.dtype), W.mT) + b[:, None]]
    for l in range(1, arch.L):
        W, b = weights[l]
        new = torch.baddbmm(b[:, None], arch.activations[l - 1](z[-1]), W.mT)
        if arch.gamma[l]:
            new = new + arch.gamma[l] * z[-1]
        z.append(new)
    return z


def train_weights(
    arch: Network,
    weights: Weights,
    X: Tensor,
    y: Tensor,
    eta: float,
    steps: int,
    *,
    tolerance: float = 0.0,
    batch: Callable[[int], Tensor] | None = None,
    flow: bool = False,
    ridge: float = 0.0,
    record: Callable[[int, Tensor], None] | None = None,
) -> float:
    """Descend in place on ``sum (z - y)^2 / 2``; returns the largest |z - y| left.

    Parameters
    ----------
    steps : int
        Stops earlier once every network fits to ``tolerance``.
    batch : callable, optional
        Step -> indices of the training points used in it; None uses all.
    flow : bool
        Follow the gradient flow for a time ``eta`` a step (fourth order) instead of descending.
    ridge : float
        Penalty (ridge/2) |theta - theta(0)|^2, in the metric of the learning-rate tensor.
    record : callable, optional
        ``record(step, z - y)`` before each step, z - y of shape (S, N, n_L); and after the last.

    Raises
    ------
    AnalysisError
        A network diverged.
    """
    X, y = X.to(weights[0][0].dtype), y.to(weights[0][0].dtype)
    worst = math.inf
    start = [(W.clone(), b.clone()) for W, b in weights] if ridge else []
    for step in range(steps):
        x, target = X, y
        if batch is not None:
            rows = batch(step)
            x, target = X[rows], y[rows]
        z = outputs(arch, weights, x)
        delta = z[-1] - target
        if record is not None:
            record(step, delta)
        if step % 10 == 0:
            worst = float(delta.abs().max())
            if not math.isfinite(worst):
                raise AnalysisError(
                    f"A network diverged within {step} steps of size {eta:g}.",
                    "Take a smaller step: the NTK of finite networks is sharper than its mean.",
                )
            if worst < tolerance:
                return worst
        if flow:
            _runge_kutta(arch, weights, x, target, eta)
        else:
            for pair, first in zip(weights, start, strict=False):
                for now, before in zip(pair, first, strict=True):
                    now.lerp_(before, eta * ridge)
            descend(arch, weights, x, delta, eta, z)
    left = outputs(arch, weights, X)[-1] - y
    if record is not None:
        record(steps, left)
    return float(left.abs().max()) if batch is None else worst


def descend(
    arch: Network,
    weights: Weights,
    x: Tensor,
    delta: Tensor,
    eta: float,
    z: list[Tensor] | None = None,
) -> None:
    """One step in place: theta -= eta lambda (sum delta dz/dtheta), delta of shape (S, N, n_L).

    Parameters
    ----------
    arch : Network
    weights : list of (W, b)
        Changed in place.
    x : Tensor, shape (N, n_0)
    delta : Tensor, shape (S, N, n_L)
        Derivative of the loss by the outputs.
    eta : float
    z : list of Tensor, optional
        Preactivations, if they are there already.
    """
    x = x.to(weights[0][0].dtype)
    z = outputs(arch, weights, x) if z is None else z
    for l in range(arch.L - 1, -1, -1):
        W, b = weights[l]
        source = arch.activations[l - 1](z[l - 1]) if l else x.expand(W.shape[0], *x.shape)
        back = None
        if l:
            back = arch.activations[l - 1].derivative(1)(z[l - 1]) * torch.bmm(delta, W)
            if arch.gamma[l]:
                back = back + arch.gamma[l] * delta
        W.baddbmm_(delta.mT, source, alpha=-eta * arch.lambda_W[l] / arch.n[l])
        b.sub_(delta.sum(1), alpha=eta * arch.lambda_b[l])
        if back is not None:
            delta = back


def _runge_kutta(arch: Network, weights: Weights, x: Tensor, y: Tensor, step: float) -> None:
    """Classical fourth-order step of the gradient flow, in place."""
    start = [(W.clone(), b.clone()) for W, b in weights]
    total = [(W.clone(), b.clone()) for W, b in weights]
    for ahead, share in ((0.5, 1 / 6), (0.5, 1 / 3), (1.0, 1 / 3), (0.0, 1 / 6)):
        z = outputs(arch, weights, x)
        old = [(W.clone(), b.clone()) for W, b in weights]
        descend(arch, weights, x, z[-1] - y, step, z)
        for (W, b), (W_old, b_old), (W_sum, b_sum), (W_0, b_0) in zip(
            weights, old, total, start, strict=True
        ):
            for now, before, running, first in ((W, W_old, W_sum, W_0), (b, b_old, b_sum, b_0)):
                move = now - before
                running.add_(move, alpha=share)
                now.copy_(first).add_(move, alpha=ahead)
    for (W, b), (W_sum, b_sum) in zip(weights, total, strict=True):
        W.copy_(W_sum)
        b.copy_(b_sum)


def _blocks(total: int, size: int) -> Iterator[int]:
    while total > 0:
        yield min(size, total)
        total -= size


def train_ensemble(
    arch: Network,
    X_train: Tensor,
    y: Tensor,
    X_test: Tensor,
    *,
    eta: float,
    steps: int,
    n_networks: int,
    seed: int = 0,
    antithetic: bool = True,
    tolerance: float = 0.0,
    ridge: float = 0.0,
    record: Callable[[int, Tensor], None] | None = None,
    dtype: torch.dtype = torch.float64,
    block: int = 1024,
    progress: Callable[..., None] | None = None,
) -> TrainedEnsemble:
    """Draw networks, train each by full-batch descent, and read them at the test points.

    Parameters
    ----------
    y : Tensor, shape (N, n_L)
    eta, steps, tolerance, ridge, record : see :func:`train_weights`
    block : int
        Networks trained together; each block has its own seed, so that the result does not
        depend on how many there are in flight.
    progress : callable, optional
        ``progress(done, total)``.

    Returns
    -------
    TrainedEnsemble
    """
    starts, ends, residual, done = [], [], 0.0, 0
    block += block % 2
    for index, size in enumerate(_blocks(n_networks, block)):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + index)
        weights = draw_batch(arch, size, generator, antithetic=antithetic, dtype=dtype)
        starts.append(outputs(arch, weights, X_test)[-1].double())
        left = train_weights(
            arch,
            weights,
            X_train,
            y,
            eta,
            steps,
            tolerance=tolerance,
            ridge=ridge,
            record=record,
        )
        residual = max(residual, left)
        ends.append(outputs(arch, weights, X_test)[-1].double())
        done += size
        if progress is not None:
            progress(done, n_networks)
    start, end = _pairs_first(starts, antithetic), _pairs_first(ends, antithetic)
    return TrainedEnsemble(start, end, antithetic, residual)


def _pairs_first(blocks: list[Tensor], antithetic: bool) -> Tensor:
    """Concatenate blocks so that pair partners sit half the ensemble apart."""
    if not antithetic:
        return torch.cat(blocks)
    halves = [b.chunk(2) for b in blocks]
    return torch.cat([h[0] for h in halves] + [h[1] for h in halves])
