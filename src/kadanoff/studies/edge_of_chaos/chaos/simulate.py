"""Random recurrent networks of finite size, integrated in time with a nearby copy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from kadanoff.activations import activation
from kadanoff.errors import UsageError

__all__ = ["Simulation", "simulate_recurrent"]


@dataclass(frozen=True)
class Simulation:
    """Measured over ``n_networks`` drawn networks of N neurons; the last axis is the network.

    Attributes
    ----------
    variance : ndarray, shape (n_networks,)
        Mean of h² over neurons and time.
    lyapunov : ndarray, shape (n_networks,)
        Growth rate of an infinitesimal difference.
    tau : ndarray, shape (T,)
    C : ndarray, shape (T, n_networks)
        Autocorrelation ⟨h(t) h(t + τ)⟩ over neurons and time.
    """

    N: int
    variance: np.ndarray
    lyapunov: np.ndarray
    tau: np.ndarray
    C: np.ndarray

    def mean(self, name: str) -> tuple[float, float]:
        """Mean over networks of ``variance`` or ``lyapunov``, and its standard error."""
        x = getattr(self, name)
        return float(x.mean()), float(x.std(ddof=1) / math.sqrt(len(x))) if len(x) > 1 else math.nan


def simulate_recurrent(
    spec: Any,
    C_W: float,
    C_b: float = 0.0,
    *,
    gamma: float = 1.0,
    N: int = 500,
    n_networks: int = 4,
    time: float = 300.0,
    warm_up: float = 100.0,
    dt: float = 0.05,
    lags: float = 20.0,
    seed: int = 0,
    device: str = "cpu",
    progress: Callable[..., None] | None = None,
) -> Simulation:
    """Integrate ḣ = −γh + Wσ(h) + b with its linearisation, for several drawn networks.

    Parameters
    ----------
    spec : name, callable, torch module or Activation
    C_W, C_b : float
        Var W = C_W/N without a diagonal exception, Var b = C_b.
    N, n_networks : int
    time, warm_up : float
        Measured and discarded times.
    dt : float
        Step of the fourth-order Runge–Kutta rule.
    lags : float
        Longest τ of the autocorrelation.
    progress : callable, optional
        ``progress(done, total)`` in steps.

    Returns
    -------
    Simulation

    Raises
    ------
    UsageError
    """
    act = activation(spec)
    if not (0 < dt < 1 / gamma and time > lags > 0 and warm_up >= 0):
        raise UsageError(
            f"Need 0 < dt < 1/gamma and time > lags > 0, got dt = {dt}, time = {time}, "
            f"lags = {lags}, gamma = {gamma}."
        )
    if N < 2 or n_networks < 1:
        raise UsageError(f"Need N >= 2 and n_networks >= 1, got {N} and {n_networks}.")
    d1 = act.derivative(1)
    # the signal and its difference are the two rows of one product: a matrix is read once
    generator = torch.Generator(device).manual_seed(seed)
    double: dict[str, Any] = {"dtype": torch.float64, "device": device}
    W = torch.randn(n_networks, N, N, generator=generator, **double) * math.sqrt(C_W / N)
    W = W.mT.contiguous()
    b = torch.randn(n_networks, N, generator=generator, **double) * math.sqrt(C_b)
    h = torch.randn(n_networks, N, generator=generator, **double)
    delta = torch.randn(n_networks, N, generator=generator, **double)

    def velocity(h, delta):
        drive = torch.stack([act(h), d1(h) * delta], 1) @ W
        return drive[:, 0] + b - gamma * h, drive[:, 1] - gamma * delta

    steps, skipped = round(time / dt), round(warm_up / dt)
    every = max(1, round(0.2 / dt))
    growth = torch.zeros(n_networks, **double)
    kept = []
    for step in range(skipped + steps):
        k1 = velocity(h, delta)
        k2 = velocity(h + dt / 2 * k1[0], delta + dt / 2 * k1[1])
        k3 = velocity(h + dt / 2 * k2[0], delta + dt / 2 * k2[1])
        k4 = velocity(h + dt * k3[0], delta + dt * k3[1])
        h = h + dt / 6 * (k1[0] + 2 * k2[0] + 2 * k3[0] + k4[0])
        delta = delta + dt / 6 * (k1[1] + 2 * k2[1] + 2 * k3[1] + k4[1])
        size = delta.norm(dim=1)
        delta = delta / size[:, None]
        if step >= skipped:
            growth += size.log()
            if step % every == 0:
                kept.append(h)
        if progress and step % 500 == 0:
            progress(step, skipped + steps)
    path = torch.stack(kept)  # (T, networks, N)
    count = min(len(path) - 1, round(lags / (every * dt))) + 1
    C = torch.stack([(path[: len(path) - lag] * path[lag:]).mean((0, 2)) for lag in range(count)])
    return Simulation(
        N,
        C[0].cpu().numpy(),
        (growth / (steps * dt)).cpu().numpy(),
        np.arange(count) * every * dt,
        C.cpu().numpy(),
    )
