"""The quantum neural tangent kernel of a circuit, its second-order companion, and averages."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.errors import UsageError
from kadanoff.studies.quantum_laziness.quantum.circuits import Circuit
from kadanoff.studies.quantum_laziness.quantum.observables import Observable

__all__ = ["GradientStatistics", "KernelEstimate", "dqntk", "gradient_statistics", "qntk"]


def qntk(
    circuit: Circuit,
    theta: Tensor,
    observable: Observable | Sequence[Observable],
    states: Tensor | None = None,
) -> Tensor:
    r"""Quantum NTK, K_ab = Σ_ℓ ∂_ℓ z_a ∂_ℓ z_b.

    Parameters
    ----------
    circuit : Circuit
    theta : Tensor (B, L)
    observable : Observable, or several
        Each output counts as a row of the kernel.
    states : Tensor (D, N), optional
        Input states (data); the circuit's own initial state by default.

    Returns
    -------
    Tensor
        (B,) for one observable on one state, else (B, A, A) with A = D · outputs, data slowest.
    """
    observables = [observable] if isinstance(observable, Observable) else list(observable)
    if not observables:
        raise UsageError("No observable to take the kernel of.")
    inputs = [circuit] if states is None else [circuit.with_state(s) for s in states]
    rows = torch.stack([c.gradient(theta, O)[1] for c in inputs for O in observables], dim=1)
    K = rows @ rows.mT
    single = states is None and isinstance(observable, Observable)
    return K[:, 0, 0] if single else K


def dqntk(circuit: Circuit, theta: Tensor, observable: Observable) -> Tensor:
    """μ = Σ_ℓℓ' ∂_ℓ∂_ℓ'z ∂_ℓz ∂_ℓ'z, shape (B,): the change of K along its own flow.

    δε = −ηKε + ½η²ε²μ + …; the kernel may be taken as frozen while the second term is small.
    """
    gradient = circuit.gradient(theta, observable)[1]
    step = theta.new_zeros(len(theta), requires_grad=True)
    with torch.enable_grad():
        z = circuit.expectation(theta + step[:, None] * gradient, observable)
        (first,) = torch.autograd.grad(z.sum(), step, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), step)
    return second


@dataclass(frozen=True)
class KernelEstimate:
    """A Monte Carlo value and its standard error."""

    value: float
    stderr: float


@dataclass(frozen=True)
class GradientStatistics:
    """Averages over random circuits and angles.

    Attributes
    ----------
    kernel, kernel_std : KernelEstimate
        Mean and spread of K.
    middle, first, last : KernelEstimate
        E[(∂_ℓ z)²] over the middle half of the gates, of the first gate, of the last layer's.
    gradient_mean : KernelEstimate
        Of all ∂_ℓ z together; zero by symmetry.
    mu, mu_std : KernelEstimate or None
        Of the dQNTK if asked for.
    circuits : int
    """

    kernel: KernelEstimate
    kernel_std: KernelEstimate
    middle: KernelEstimate
    first: KernelEstimate
    last: KernelEstimate
    gradient_mean: KernelEstimate
    mu: KernelEstimate | None
    mu_std: KernelEstimate | None
    circuits: int


def gradient_statistics(
    family: Callable[[int, int], Circuit],
    observable: Observable,
    circuits: int,
    *,
    seed: int = 0,
    block: int = 50,
    last_layer: int = 1,
    second_order: bool = False,
    dtype: torch.dtype = torch.float64,
    progress: Callable[..., None] | None = None,
) -> GradientStatistics:
    """Statistics of gradients and kernel over a family of random circuits.

    Parameters
    ----------
    family : callable
        (count, seed) ↦ a :class:`Circuit` of ``count`` circuits.
    circuits : int
        How many, drawn in blocks of ``block``.
    last_layer : int
        Number of gates counted as the last layer.
    second_order : bool
        Also the dQNTK (autograd: memory block · L · N).
    progress : callable, optional
        ``progress(done, total)``.
    """
    if circuits < 2:
        raise UsageError(f"Statistics over {circuits} circuit(s) have no error.")
    gradients, mus = [], []
    done, index = 0, 0
    while done < circuits:
        count = min(block, circuits - done)
        circuit = family(count, seed * 100_003 + index)
        generator = torch.Generator().manual_seed(seed * 100_003 + index)
        theta = circuit.angles(count, generator).to(dtype)
        gradients.append(circuit.gradient(theta, observable)[1].double())
        if second_order:
            mus.append(dqntk(circuit, theta, observable).double())
        done, index = done + count, index + 1
        if progress:
            progress(done, circuits)
    g = torch.cat(gradients)
    L = g.shape[1]
    K = g.square().sum(1)
    middle = g[:, L // 4 : max(L // 4 + 1, L - L // 4)].square().mean(1)
    mu = torch.cat(mus) if mus else None
    return GradientStatistics(
        kernel=_mean(K),
        kernel_std=_std(K),
        middle=_mean(middle),
        first=_mean(g[:, 0].square()),
        last=_mean(g[:, -last_layer:].square().mean(1)),
        gradient_mean=_mean(g.mean(1)),
        mu=None if mu is None else _mean(mu),
        mu_std=None if mu is None else _std(mu),
        circuits=circuits,
    )


def _mean(x: Tensor) -> KernelEstimate:
    return KernelEstimate(float(x.mean()), float(x.std()) / math.sqrt(len(x)))


def _std(x: Tensor) -> KernelEstimate:
    """Standard deviation, its error by the jackknife (delta method on the variance)."""
    d2 = (x - x.mean()) ** 2
    std = float(x.std())
    error = float(d2.std()) / math.sqrt(len(x)) / (2 * std) if std > 0 else 0.0
    return KernelEstimate(std, error)
