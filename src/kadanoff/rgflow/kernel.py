r"""Infinite width: the kernel K and the frozen NTK, for every layer and every pair of inputs.

.. math::
    K'_{12} &= C_b + C_W\langle\sigma_1\sigma_2\rangle_K + \gamma^2 K_{12} \\
    \Theta'_{12} &= \lambda_b + \lambda_W\langle\sigma_1\sigma_2\rangle_K
        + (C_W\langle\sigma'_1\sigma'_2\rangle_K + \gamma^2)\,\Theta_{12}

A two-layer block :math:`z' = b_2 + W_2\,\sigma(b_1 + W_1 z) + \gamma z` puts the inner map's kernel
:math:`C_b + C_W K` and NTK :math:`\lambda_b + \lambda_W K + C_W\Theta` in between.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.activations import Activation
from kadanoff.architecture import Network
from kadanoff.errors import DomainError
from kadanoff.gaussian import Estimate, pair
from kadanoff.gaussian.mehler import averages

__all__ = [
    "Step",
    "first_layer",
    "inner_kernel",
    "kernels",
    "next_layer",
    "pairs",
    "squares",
    "steps",
]


@dataclass(frozen=True)
class Step:
    """What takes layer l to layer l+1.

    ``rho`` is n_l / n_{l-1}. ``orthogonal`` is 0 for independent weights, else n_l over the order
    of the Haar matrix. ``inner_ratio`` is n_l over the inner width of a two-layer block, 0 if the
    step is a single map.
    """

    layer: int
    activation: Activation
    C_b: float
    C_W: float
    lambda_b: float
    lambda_W: float
    gamma: float
    rho: float
    orthogonal: float
    inner_ratio: float = 0.0


def steps(arch: Network) -> list[Step]:
    """The L-1 steps of an architecture, with rho = n_l / n_{l-1} for each."""
    out: list[Step] = []
    for l in range(1, arch.L):
        n_in, n, n_next = arch.n[l - 1], arch.n[l], arch.n[l + 1]
        two_layer = arch.block == "two_layer" and l < arch.L - 1
        # a Haar matrix has max(n, n') orthonormal rows or columns
        share = n / max(n, n_next) if arch.init == "orthogonal" else 0.0
        step = Step(
            layer=l,
            activation=arch.activations[l - 1],
            C_b=float(arch.C_b[l]),
            C_W=float(arch.C_W[l]),
            lambda_b=float(arch.lambda_b[l]),
            lambda_W=float(arch.lambda_W[l]),
            gamma=float(arch.gamma[l]),
            rho=n / n_in,
            orthogonal=share,
            inner_ratio=n / arch.hidden if two_layer and arch.hidden else 0.0,
        )
        out.append(step)
    return out


def pairs(act: Activation, K: Tensor, k1: int = 0, k2: int = 0) -> Estimate:
    """⟨σ⁽ᵏ¹⁾(z_a) σ⁽ᵏ²⁾(z_b)⟩ for all pairs of inputs of a kernel matrix (N, N).

    Parameters
    ----------
    act : Activation
    K : Tensor, shape (N, N)
    k1, k2 : int
        Derivatives of σ at the first and the second input.
    """
    N = K.shape[-1]
    if k1 == k2:
        a, b = torch.triu_indices(N, N).unbind()
    else:
        a, b = (
            t.reshape(-1) for t in torch.meshgrid(torch.arange(N), torch.arange(N), indexing="ij")
        )
    found = pair(act, K[a, a], K[a, b], K[b, b], k1, k2)
    value, error = K.new_zeros(N, N), K.new_zeros(N, N)
    value[a, b], error[a, b] = found.value, found.error
    if k1 == k2:
        value[b, a], error[b, a] = found.value, found.error
    return Estimate(value, error)


def squares(act: Activation, K: Tensor) -> tuple[Tensor, Tensor]:
    """⟨σ(z_a) σ(z_b)⟩ and ⟨σ'(z_a) σ'(z_b)⟩ for all pairs of inputs, (N, N) each."""
    if not act.smooth:
        return pairs(act, K).value, pairs(act, K, 1, 1).value
    N = K.shape[-1]
    a, b = torch.triu_indices(N, N).unbind()
    found = averages(act, K[a, a], K[a, b], K[b, b])
    ss, dd = K.new_zeros(N, N), K.new_zeros(N, N)
    for target, value in zip((ss, dd), found, strict=True):
        target[a, b] = target[b, a] = value
    return ss, dd


def first_layer(arch: Network, metric: Tensor) -> tuple[Tensor, Tensor]:
    """K and Theta of layer 1 from x·x'/n_0, for any pairs of inputs."""
    K = arch.C_b[0] + arch.C_W[0] * metric
    Theta = arch.lambda_b[0] + arch.lambda_W[0] * metric
    return K, Theta


def kernels(arch: Network, metric: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """K and Theta at layers 1 ... L.

    Parameters
    ----------
    arch : MLP or Residual
    metric : Tensor, shape (N, N)
        X Xᵀ / n_0.

    Returns
    -------
    K, Theta : list of Tensor, each (N, N)

    Raises
    ------
    DomainError
        The kernel overflows: the network is far from criticality.
    """
    first = first_layer(arch, metric)
    K, Theta = [first[0]], [first[1]]
    for step in steps(arch):
        ss, dd = squares(step.activation, inner_kernel(step, K[-1]))
        next_K, next_Theta = next_layer(step, K[-1], Theta[-1], ss, dd)
        if not (torch.isfinite(next_K).all() and torch.isfinite(next_Theta).all()):
            raise DomainError(
                f"The kernel of layer {step.layer + 1} overflows: its largest entry at layer "
                f"{step.layer} is {K[-1].abs().max():.3g}.",
                "Choose C_W nearer to criticality (kadanoff critical), or a smaller depth.",
            )
        K.append(next_K)
        Theta.append(next_Theta)
    return K, Theta


def inner_kernel(step: Step, K: Tensor) -> Tensor:
    """Kernel of what the activation sees: K itself, or behind the inner map of a two-layer block.

    Parameters
    ----------
    step : Step
    K : Tensor, any shape
        Kernel at layer l, of any pairs of inputs.
    """
    if not step.inner_ratio:
        return K
    return step.C_b + step.C_W * K


def next_layer(
    step: Step, K: Tensor, Theta: Tensor, ss: Tensor, dd: Tensor
) -> tuple[Tensor, Tensor]:
    """K and Theta at layer l+1: the infinite-width step of every recursion of the library.

    Parameters
    ----------
    step : Step
    K, Theta : Tensor, any shape
        At layer l, for any pairs of inputs.
    ss, dd : Tensor, the same shape
        ⟨σσ⟩ and ⟨σ'σ'⟩ of these pairs at :func:`inner_kernel`.
    """
    keep = step.gamma**2
    inner_Theta = Theta
    if step.inner_ratio:
        # the inner map is linear: ⟨zz⟩ = K and ⟨z'z'⟩ = 1
        inner_Theta = step.lambda_b + step.lambda_W * K + step.C_W * Theta
    # K' = C_b + C_W ⟨σσ⟩ + γ² K
    K_next = step.C_b + step.C_W * ss + keep * K
    # Θ' = λ_b + λ_W ⟨σσ⟩ + C_W ⟨σ'σ'⟩ Θ + γ² Θ
    Theta_next = step.lambda_b + step.lambda_W * ss + step.C_W * dd * inner_Theta + keep * Theta
    return K_next, Theta_next
