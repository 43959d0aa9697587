r"""Order 1/n of the NTK: its mean shift H1, its covariances A and D, and B and F.

The metric and the diagonal NTK are one collective variable (:mod:`kadanoff.rgflow.collective`),
whose noise is made of the fields

.. math:: C_W\sigma_1\sigma_2 \quad\text{and}\quad
          \Omega_{12} = \lambda_W\sigma_1\sigma_2 + C_W\Theta_{12}\sigma'_1\sigma'_2 .

A Haar-distributed W preserves overlaps: with M = σ'Ĥσ' it leaves no fluctuation of z zᵀ and of the
trace of W M Wᵀ, and a multiple of the identity stays one. Its fourth cumulant,
:math:`-n^{-3}` for every pairing of rows with another pairing of columns, counts at order 1/n only
where both traces over columns are of order n: in V, B and F, from which it takes the product of
the two means.

B and F live between different neurons, where the mean map is a product of single-neuron maps:

.. math::
   B'_{1324} &= C_W^2\left[\langle\sigma'_1\sigma'_2\sigma'_3\sigma'_4\rangle\Theta_{12}\Theta_{34}
        + \rho\langle\sigma'_1\sigma'_3\rangle\langle\sigma'_2\sigma'_4\rangle B_{1324}\right] \\
   F'_{1324} &= C_W^2\left[\langle\sigma_1\sigma_2\sigma'_3\sigma'_4\rangle\Theta_{34}
        + \rho\textstyle\sum_{ab}\langle\partial_a(\sigma_1\sigma'_3)\rangle
          \langle\partial_b(\sigma_2\sigma'_4)\rangle F_{a3b4}\right]
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.rgflow.averages import Tables
from kadanoff.rgflow.collective import Covariance, Field, MeanMap, propagate, propagate_mean
from kadanoff.rgflow.kernel import Step

__all__ = ["Tangent", "tangent_step"]


@dataclass(frozen=True)
class Tangent:
    """Mean shifts and covariances of metric and NTK at one layer; slots as in ``Flow``."""

    G1: Tensor
    H1: Tensor
    V: Tensor
    D: Tensor
    A: Tensor
    B: Tensor
    F: Tensor

    @classmethod
    def first_layer(cls, K: Tensor, V: Tensor | None = None) -> Tangent:
        """All zero: nothing fluctuates yet; V is that of a Haar matrix where there is one."""
        N = K.shape[0]
        two, four = K.new_zeros(N, N), K.new_zeros(N, N, N, N)
        return cls(two, two, four if V is None else V, four, four, four, four)


def tangent_step(step: Step, t: Tables, Theta: Tensor, old: Tangent) -> Tangent:
    """All of them at layer l+1 from layer l, for a plain layer.

    Parameters
    ----------
    step : Step
    t : Tables
        Averages at layer l.
    Theta : Tensor, shape (N, N)
        At layer l.
    old : Tangent
    """
    mean_map = MeanMap(mean_derivative(step, t, Theta), noise(step, t, Theta))
    swapped = old.D.permute(2, 3, 0, 1)
    (V, D), (_, A) = propagate(mean_map, ((old.V, old.D), (swapped, old.A)), step.rho)
    G1, H1 = propagate_mean(mean_map, (old.G1, old.H1), _curvature(step, t, Theta, old), step.rho)
    B = _next_B(step, t, Theta, old.B)
    F = _next_F(step, t, Theta, old.F)
    return Tangent(G1=G1, H1=H1, V=V, D=D, A=A, B=B, F=F)


def mean_derivative(step: Step, t: Tables, Theta: Tensor) -> Callable[[Field], Field]:
    """f' of f(G, H) = (C_b + C_W⟨σσ⟩_G, λ_b + λ_W⟨σσ⟩_G + C_W⟨σ'σ'⟩_G H)."""
    c, rate = step.C_W, step.lambda_W

    def push(fields: Field) -> Field:
        metric, ntk = fields
        shape = (*Theta.shape, *(1,) * (metric.ndim - 2))
        bent = t.J(0, metric)
        turned = Theta.reshape(shape) * t.J(1, metric) + t.dd.reshape(shape) * ntk
        return c * bent, rate * bent + c * turned

    return push


def noise(step: Step, t: Tables, Theta: Tensor) -> Covariance:
    """Covariance of a neuron's (C_W σσ, Ω), Ω = λ_W σσ + C_W Θ σ'σ'."""
    c, rate = step.C_W, step.lambda_W
    ss, dd = t.ss[:, :, None, None], (Theta * t.dd)[:, :, None, None]
    theta = Theta[:, :, None, None]
    cov_ss = t.four[0, 0, 0, 0] - ss * t.ss
    cov_sd = t.four[0, 0, 1, 1] * Theta - ss * (Theta * t.dd)
    cov_dd = t.four[1, 1, 1, 1] * theta * Theta - dd * (Theta * t.dd)
    metric = c * c * cov_ss
    if step.orthogonal:
        metric = metric - step.orthogonal * haar(c * t.ss)
    metric_ntk = c * (rate * cov_ss + c * cov_sd)
    ntk_ntk = rate**2 * cov_ss + rate * c * (cov_sd + cov_sd.permute(2, 3, 0, 1)) + c**2 * cov_dd
    return (metric, metric_ntk), (metric_ntk.permute(2, 3, 0, 1), ntk_ntk)


def _curvature(step: Step, t: Tables, Theta: Tensor, old: Tangent) -> Field:
    """½ f'':C; the NTK also feels F, the covariance across neurons of z z and Ĥ."""
    c, rate = step.C_W, step.lambda_W
    bent = t.hessian(0, old.V)
    turned = Theta * t.hessian(1, old.V) + t.bend(1, old.D, old.F)
    return c * bent, rate * bent + c * turned


def haar(q: Tensor) -> Tensor:
    """q_13 q_24 + q_14 q_23 as [1, 2, 3, 4]: Cov(z_1z_2, z_3z_4) of a Gaussian with metric q."""
    return torch.einsum("ac,bd->abcd", q, q) + torch.einsum("ad,bc->abcd", q, q)


def haar_across(step: Step, t: Tables, Theta: Tensor) -> Tensor:
    """What a Haar matrix takes out of F: C_W² ⟨σ_1σ_2⟩ ⟨σ'_3σ'_4⟩ Θ_34, slots of F."""
    front = step.orthogonal * step.C_W**2
    return front * torch.einsum("ab,cd->acbd", t.ss, t.dd * Theta)


def _next_B(step: Step, t: Tables, Theta: Tensor, B: Tensor) -> Tensor:
    four = t.four[1, 1, 1, 1]
    if step.orthogonal:
        four = four - step.orthogonal * t.dd[:, :, None, None] * t.dd
    fresh = torch.einsum("abcd,ab,cd->acbd", four, Theta, Theta)
    carried = torch.einsum("ac,bd,acbd->acbd", t.dd, t.dd, B)
    return step.C_W**2 * (fresh + step.rho * carried)


def _next_F(step: Step, t: Tables, Theta: Tensor, F: Tensor) -> Tensor:
    fresh = torch.einsum("abcd,cd->acbd", t.four[0, 0, 1, 1], Theta)
    X = t.X(0, 1)
    carried = X.behind(X.behind(F).permute(2, 3, 0, 1)).permute(2, 3, 0, 1)
    total = step.C_W**2 * (fresh + step.rho * carried)
    return total - haar_across(step, t, Theta) if step.orthogonal else total
