r"""Order 1/n of the NTK: its mean shift H1, its covariances A and D, and B and F.

The metric and the diagonal NTK are one collective variable (:mod:`kadanoff.rgflow.collective`),
whose noise is made of the fields

.. math:: C_W\sigma_1\sigma_2 \quad\text{and}\quad
          \Omega_{12} = \lambda_W\sigma_1\sigma_2 + C_W\Theta_{12}\sigma'_1\sigma'_2 .

B and F live between different neurons, where the mean map is a product of single-neuron maps:

.. math::
   B'_{1324} &= C_W^2\left[\langle\sigma'_1\sigma'_2\sigma'_3\sigma'_4\rangle\Theta_{12}\Theta_{34}
        + \rho\langle\sigma'_1\sigma'_3\rangle\langle\sigma'_2\sigma'_4\rangle B_{1324}\right] \\
   F'_{1324} &= C_W^2\left[\langle\sigma_1\sigma_2\sigma'_3\sigma'_4\rangle\Theta_{34}
        + \rho\textstyle\sum_{ab}\langle\partial_a(\sigma_1\sigma'_3)\rangle
          \langle\partial_b(\sigma_2\sigma'_4)\rangle F_{a3b4}\right]
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.rgflow.collective import MeanMap, blocks, matrix, propagate, propagate_mean
from kadanoff.rgflow.kernel import Step
from kadanoff.rgflow.tables import Tables

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
    def first_layer(cls, K: Tensor) -> Tangent:
        """All zero: metric and NTK of the first layer do not fluctuate."""
        N = K.shape[0]
        two, four = K.new_zeros(N, N), K.new_zeros(N, N, N, N)
        return cls(two, two, four, four, four, four, four)


def tangent_step(step: Step, t: Tables, Theta: Tensor, old: Tangent) -> Tangent:
    """All of them at layer l+1 from layer l, for a plain layer of independent weights."""
    N = Theta.shape[0]
    mean_map = _mean_map(step, t, Theta)
    V, D = matrix(old.V), matrix(old.D)
    covariance = blocks([[V, D], [D.T, matrix(old.A)]])
    new = propagate(mean_map, covariance, step.rho)
    shift = propagate_mean(
        mean_map,
        torch.cat([old.G1.flatten(), old.H1.flatten()]),
        _curvature(step, t, Theta, old),
        step.rho,
    )
    m = N * N
    shape = (N, N, N, N)
    return Tangent(
        G1=shift[:m].reshape(N, N),
        H1=shift[m:].reshape(N, N),
        V=new[:m, :m].reshape(shape),
        D=new[:m, m:].reshape(shape),
        A=new[m:, m:].reshape(shape),
        B=_next_B(step, t, Theta, old.B),
        F=_next_F(step, t, Theta, old.F),
    )


def _mean_map(step: Step, t: Tables, Theta: Tensor) -> MeanMap:
    """f(G, H) = (C_b + C_W⟨σσ⟩_G, λ_b + λ_W⟨σσ⟩_G + C_W⟨σ'σ'⟩_G H), f' and the noise of a layer."""
    c, rate = step.C_W, step.lambda_W
    J0, J1 = matrix(t.J(0)), matrix(t.J(1))
    theta = Theta.flatten()
    jacobian = blocks(
        [
            [c * J0, torch.zeros_like(J0)],
            [rate * J0 + c * theta[:, None] * J1, torch.diag(c * t.dd.flatten())],
        ]
    )
    # cov(σσ, σσ), cov(σσ, Θσ'σ'), cov(Θσ'σ', Θσ'σ')
    s, d = t.ss.flatten(), theta * t.dd.flatten()
    cov_ss = matrix(t.four[0, 0, 0, 0]) - s[:, None] * s
    cov_sd = matrix(t.four[0, 0, 1, 1]) * theta - s[:, None] * d
    cov_dd = matrix(t.four[1, 1, 1, 1]) * theta[:, None] * theta - d[:, None] * d
    metric_ntk = c * (rate * cov_ss + c * cov_sd)
    ntk_ntk = rate**2 * cov_ss + rate * c * (cov_sd + cov_sd.T) + c**2 * cov_dd
    noise = blocks([[c * c * cov_ss, metric_ntk], [metric_ntk.T, ntk_ntk]])
    return MeanMap(jacobian, noise)


def _curvature(step: Step, t: Tables, Theta: Tensor, old: Tangent) -> Tensor:
    """½ f'':C; the NTK also feels F, the covariance across neurons of z z and Ĥ."""
    c, rate = step.C_W, step.lambda_W
    bent = t.hessian(0, old.V)
    J1 = t.J(1)
    mixed = torch.einsum("abcd,cdab->ab", J1, old.D)
    across = 2 * torch.einsum("abcd,cadb->ab", J1, old.F)
    ntk = rate * bent + c * Theta * t.hessian(1, old.V) + c * (mixed + across)
    return torch.cat([(c * bent).flatten(), ntk.flatten()])


def _next_B(step: Step, t: Tables, Theta: Tensor, B: Tensor) -> Tensor:
    four = t.four[1, 1, 1, 1]
    fresh = torch.einsum("abcd,ab,cd->acbd", four, Theta, Theta)
    carried = torch.einsum("ac,bd,acbd->acbd", t.dd, t.dd, B)
    return step.C_W**2 * (fresh + step.rho * carried)


def _next_F(step: Step, t: Tables, Theta: Tensor, F: Tensor) -> Tensor:
    fresh = torch.einsum("abcd,cd->acbd", t.four[0, 0, 1, 1], Theta)
    X = t.X(0, 1)  # [1, 3, a]
    carried = torch.einsum("uva,xyb,avby->uvxy", X, X, F)
    return step.C_W**2 * (fresh + step.rho * carried)
