"""χ∥ and χ⊥: how the magnitude of a signal, and the difference of two, change per layer."""

from __future__ import annotations

import torch
from torch import Tensor

from kadanoff.activations import Activation
from kadanoff.gaussian import one, pair
from kadanoff.gaussian.single import check_variance

__all__ = ["slope_of_variance", "square_mean", "squared_slope", "susceptibilities"]


def square_mean(act: Activation, K) -> Tensor:
    """⟨σ²⟩_K."""
    K = check_variance(K)
    exact = act.closed(0, 0, K, K, K)
    return one(lambda z: act(z) ** 2, K, act.kinks).value if exact is None else exact


def squared_slope(act: Activation, K) -> Tensor:
    """⟨σ'²⟩_K, with C_W in front: χ⊥."""
    K = check_variance(K)
    exact = act.closed(1, 1, K, K, K)
    if exact is not None:
        return exact
    if any(act.jump(0, kink) for kink in act.kinks):
        return pair(act, K, K, K, 1, 1).value  # a step in σ: this says that σ'² does not exist
    d1 = act.derivative(1)
    return one(lambda z: d1(z) ** 2, K, act.kinks).value


def slope_of_variance(act: Activation, K) -> Tensor:
    """d⟨σ²⟩/dK = ⟨z σ σ'⟩/K, with C_W in front: χ∥. Needs no derivative at kinks of σ'.

    At K = 0 the limit is the mean of σ'² over the two sides, plus σ σ'' for a smooth σ.
    """
    K = check_variance(K)
    if act.slopes is not None:
        half = 0.5 * (act.slopes[0] ** 2 + act.slopes[1] ** 2)
        return torch.full_like(K, half)
    d1 = act.derivative(1)
    # K below 1e-12 is the limit K -> 0 to all digits that cancellation leaves
    safe = K.clamp_min(1e-12)
    value = one(lambda z: z * act(z) * d1(z), safe, act.kinks).value / safe
    for kink in act.kinks:
        if jump := act.jump(0, kink):
            # a step in σ: ⟨z σ σ'⟩ gains the mean of σ at the step times the density there
            middle = sum(act.limits(0, kink)) / 2
            density = torch.exp(-0.5 * kink**2 / safe) / (2 * torch.pi * safe).sqrt()
            value = value + kink * jump * middle * density / safe
    return value


def susceptibilities(act: Activation, K, C_W: float, gamma: float = 0.0) -> tuple[Tensor, Tensor]:
    """(χ∥, χ⊥) at kernel K.

    χ∥ = γ² + C_W d⟨σ²⟩/dK is the growth per layer of a difference in magnitude, χ⊥ =
    γ² + C_W ⟨σ'²⟩ that of a difference in direction, and of the squared gradient.

    Parameters
    ----------
    act : Activation
    K : float or Tensor
    C_W : float
        Var W = C_W / fan-in.
    gamma : float
        Strength of a skip connection.

    Returns
    -------
    Two tensors shaped like ``K``, dimensionless.

    Notes
    -----
    Infinite width. Roberts, Yaida & Hanin, chapter 5.
    """
    return gamma**2 + C_W * slope_of_variance(act, K), gamma**2 + C_W * squared_slope(act, K)
