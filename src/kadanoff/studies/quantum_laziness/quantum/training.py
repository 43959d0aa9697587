"""Gradient descent on circuits, without noise and with noisy angles or finite shots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.errors import UsageError
from kadanoff.studies.quantum_laziness.quantum.circuits import Circuit
from kadanoff.studies.quantum_laziness.quantum.observables import Observable

__all__ = ["Descent", "descend"]


@dataclass(frozen=True)
class Descent:
    """Trajectories of B starts.

    Attributes
    ----------
    epsilon : Tensor (steps + 1, B)
        Residual z − O_0 before each step, and at the end.
    K : Tensor (steps + 1, B)
        Quantum NTK along the way.
    output_variance : Tensor (steps + 1, B)
        ⟨O²⟩ − ⟨O⟩² of the output state: K ≈ c times this.
    first_move, total_move : Tensor (B,)
        Root mean square change of an angle, in the first step and altogether.
    theta : Tensor (B, L)
        At the end.
    """

    epsilon: Tensor
    K: Tensor
    output_variance: Tensor
    first_move: Tensor
    total_move: Tensor
    theta: Tensor


def descend(
    circuit: Circuit,
    theta: Tensor,
    observable: Observable,
    target: float,
    *,
    eta: float | Tensor,
    steps: int,
    sigma: float = 0.0,
    shots: int | None = None,
    seed: int = 0,
    progress: Callable[..., None] | None = None,
) -> Descent:
    """Train θ ← θ − η ε ∂ε (+ noise) for the loss ε²/2, ε = z − O_0.

    Parameters
    ----------
    circuit : Circuit
    theta : Tensor (B, L)
        Starts.
    target : float
        O_0.
    eta : float or Tensor (B,)
    sigma : float
        Standard deviation of the Gaussian noise added to every angle at every step.
    shots : int, optional
        Estimate z from this many single measurements of O in place of the exact value (Pauli
        words: outcomes ±1). Gradients stay exact: their shot noise is multiplied by ε and sets no
        floor.
    seed : int
        Of the noise.
    progress : callable, optional
    """
    if shots is not None and observable.word is None:
        raise UsageError("Shots are simulated for Pauli words only (outcomes ±1).")
    if sigma < 0 or steps < 1:
        raise UsageError(f"sigma = {sigma} and steps = {steps}: expected >= 0 and >= 1.")
    generator = torch.Generator().manual_seed(seed)
    rate = torch.as_tensor(eta, dtype=theta.dtype).reshape(-1, 1)
    start, first = theta, torch.zeros(len(theta), dtype=theta.dtype)
    epsilons, kernels, spreads = [], [], []
    for step in range(steps + 1):
        z, g, state = circuit.gradient(theta, observable)
        epsilons.append(z - target)
        kernels.append(g.square().sum(1))
        spreads.append(observable.variance(state))
        if step == steps:
            break
        seen = z if shots is None else _measured(z, shots, generator)
        move = -rate * (seen - target)[:, None] * g
        if step == 0:
            first = move.square().mean(1).sqrt()
        if sigma:
            noise = torch.randn(theta.shape, generator=generator, dtype=theta.dtype)
            move = move + sigma * noise
        theta = theta + move
        if progress:
            progress(step + 1, steps)
    return Descent(
        torch.stack(epsilons),
        torch.stack(kernels),
        torch.stack(spreads),
        first,
        (theta - start).square().mean(1).sqrt(),
        theta,
    )


def _measured(z: Tensor, shots: int, generator: torch.Generator) -> Tensor:
    up = ((1 + z) / 2).clamp(0, 1)
    return 2 * torch.binomial(torch.full_like(up, shots), up, generator=generator) / shots - 1
