"""⟨σ⁽ᵏ⁾(z₁) σ⁽ᵐ⁾(z₂)⟩ of an activation, with the delta functions its kinks leave in derivatives."""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from kadanoff.errors import DomainError
from kadanoff.gaussian.double import conditional, two
from kadanoff.gaussian.single import (
    REACH,
    Estimate,
    Function,
    check_variance,
    gaussian_cuts,
    structure_cuts,
)
from kadanoff.gaussian.single import panel_nodes as _panel_nodes

__all__ = ["pair", "shifted"]


class _Activation(Protocol):
    @property
    def kinks(self) -> tuple[float, ...]: ...

    def derivative(self, k: int) -> Function: ...
    def jump(self, k: int, kink: float) -> float: ...
    def closed(self, k1: int, k2: int, K11: Tensor, K12: Tensor, K22: Tensor) -> Tensor | None: ...


def pair(act: _Activation, K11, K12, K22, k1: int = 0, k2: int = 0) -> Estimate:
    """⟨σ⁽ᵏ¹⁾(z₁) σ⁽ᵏ²⁾(z₂)⟩ with distributional derivatives.

    Closed form where the activation has one, quadrature otherwise.

    Parameters
    ----------
    act : Activation
    K11, K12, K22 : float or Tensor
        Broadcast against each other.
    k1, k2 : int
        Orders of the derivatives, 0 to 4.

    Returns
    -------
    Estimate

    Raises
    ------
    DomainError
        The average does not exist: two delta functions meet at coincident inputs, or a kink
        would need the derivative of a delta function.
    """
    K11, K22 = check_variance(K11, "K11"), check_variance(K22, "K22")
    K12 = torch.as_tensor(K12, dtype=torch.float64)
    K11, K12, K22 = torch.broadcast_tensors(K11, K12, K22)
    exact = act.closed(k1, k2, K11, K12, K22)
    if exact is not None:
        return Estimate(exact, 4e-16 * exact.abs())
    regular = two(act.derivative(k1), act.derivative(k2), K11, K12, K22, act.kinks, act.kinks)
    deltas1, deltas2 = _deltas(act, k1), _deltas(act, k2)
    value, error = regular.value, regular.error
    for kink, jump in deltas1:
        value = value + jump * _one_delta(act, k2, kink, K11, K12, K22)
    for kink, jump in deltas2:
        value = value + jump * _one_delta(act, k1, kink, K22, K12, K11)
    for c1, jump1 in deltas1:
        for c2, jump2 in deltas2:
            value = value + jump1 * jump2 * _two_deltas(c1, c2, K11, K12, K22)
    return Estimate(value, error)


def _deltas(act: _Activation, k: int) -> list[tuple[float, float]]:
    """(kink, weight) of the delta functions in σ⁽ᵏ⁾: the jumps of σ⁽ᵏ⁻¹⁾."""
    found = []
    for kink in act.kinks:
        for lower in range(k - 1):
            if act.jump(lower, kink) != 0:
                raise DomainError(
                    f"The derivative of order {k} of {act!r} holds a derivative of a delta "
                    f"function at z = {kink:g}.",
                    "Use a smoother activation for this observable.",
                )
        if k > 0 and act.jump(k - 1, kink) != 0:
            found.append((kink, act.jump(k - 1, kink)))
    return found


def _one_delta(act: _Activation, k: int, kink: float, K11: Tensor, K12: Tensor, K22: Tensor):
    """⟨δ(z₁ − c) σ⁽ᵏ⁾(z₂)⟩ with the regular part of the derivative."""
    slope, D = conditional(K11.reshape(-1), K12.reshape(-1), K22.reshape(-1))
    mean = shifted(act.derivative(k), slope * kink, D, act.kinks)
    return mean.reshape(K11.shape) * _density(kink, K11)


def _density(kink: float, K: Tensor) -> Tensor:
    if bool((K == 0).any()):
        raise DomainError(
            f"A delta function at z = {kink:g} has no average at zero variance.",
            "Leave out inputs that are exactly zero.",
        )
    return torch.exp(-0.5 * kink**2 / K) / (2 * math.pi * K).sqrt()


def _two_deltas(c1: float, c2: float, K11: Tensor, K12: Tensor, K22: Tensor) -> Tensor:
    det = K11 * K22 - K12**2
    if bool((det <= 1e-15 * K11 * K22).any()):
        raise DomainError(
            "Two delta functions of a kinked activation meet at coincident inputs: "
            "the average does not exist.",
            "Use a smooth activation, or inputs that are not parallel.",
        )
    form = (K22 * c1**2 - 2 * K12 * c1 * c2 + K11 * c2**2) / det
    return torch.exp(-0.5 * form) / (2 * math.pi * det.sqrt())


def shifted(g: Function, mean: Tensor, D: Tensor, kinks=()) -> Tensor:
    """⟨g(z)⟩ for z ~ N(mean, D), elementwise over 1-D tensors ``mean`` and ``D`` ≥ 0.

    Parameters
    ----------
    g : callable
        Elementwise.
    mean, D : Tensor, shape (n,)
        Means and variances.
    kinks : sequence of float
        Where g or one of its derivatives jumps.
    """
    mean, D = torch.broadcast_tensors(mean, D)
    root = D.sqrt()[:, None]
    cuts = structure_cuts(float((mean.abs()[:, None] + REACH * root).max()), kinks)
    safe = torch.where(root > 0, root, torch.ones_like(root))
    edges = ((cuts - mean[:, None]) / safe).clamp(-REACH, REACH)
    edges = torch.cat([edges, gaussian_cuts().expand(len(mean), -1)], 1).sort(1).values
    x, w = _panel_nodes(edges, 20, 1)
    smeared = (w * g(mean[:, None] + root * x)).sum(1)
    return torch.where(D > 0, smeared, g(mean))
