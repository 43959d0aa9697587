"""The infinite-width point that finite networks are compared with, and the map's slopes there.

Deviations of finite networks are measured from K and Θ. The derivatives of the layer map at
(K, Θ) serve the control variates alone: any numbers in their place would leave every average
right and only make it noisier, so a moderate accuracy is good enough.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.architecture import Network
from kadanoff.errors import DomainError
from kadanoff.gaussian.cholesky import batch_factor_inverse

__all__ = ["Reference", "reference"]

_TOLERANCE = 1e-5
# inputs up to which second derivatives pay: they have (2 N²)³ components
_MOST_INPUTS = 4


@dataclass
class Reference:
    """K and Θ at every layer index, and derivatives of the map from one to the next.

    Attributes
    ----------
    K, Theta, root : Tensor, shape (L, N, N)
        ``root`` is the Cholesky factor of K.
    values, vectors : Tensor, shape (L, N) and (L, N, N)
        Eigenvalues and eigenvectors of K.
    jacobian : list of Tensor, shape (2 N², 2 N²)
        f' on (metric, NTK). None where control variates do not hold (weights that are not
        Gaussian, skips).
    bend : list of Tensor, shape (2 N², 2 N², 2 N²), or None
        ½ f''; None for many inputs.
    slope_dd : list of Tensor, shape (N², N²)
        Derivative of ⟨σ'σ'⟩ by the metric.
    """

    K: Tensor
    Theta: Tensor
    root: Tensor
    values: Tensor
    vectors: Tensor
    jacobian: list[Tensor] | None = None
    bend: list[Tensor] | None = None
    slope_dd: list[Tensor] | None = None

    def to(self, device: str) -> Reference:
        """The same on another device."""

        def moved(tensors: list[Tensor] | None) -> list[Tensor] | None:
            return None if tensors is None else [x.to(device) for x in tensors]

        return Reference(
            K=self.K.to(device),
            Theta=self.Theta.to(device),
            root=self.root.to(device),
            values=self.values.to(device),
            vectors=self.vectors.to(device),
            jacobian=moved(self.jacobian),
            bend=moved(self.bend),
            slope_dd=moved(self.slope_dd),
        )


def reference(arch: Network, X: Tensor) -> Reference:
    """K and Θ of all layers by :func:`kadanoff.flow`, and the slopes for Gaussian weights."""
    from kadanoff.rgflow import flow

    found = flow(arch, X, order=0)
    out = Reference(
        found.K, found.Theta, batch_factor_inverse(found.K)[0], *torch.linalg.eigh(found.K)
    )
    if arch.init == "gaussian" and not arch.residual and arch.block == "single":
        slopes = [_slopes(arch, l, found.K[l], found.Theta[l]) for l in range(arch.L - 1)]
        out.jacobian = [jacobian for jacobian, _, _ in slopes]
        out.slope_dd = [slope for _, _, slope in slopes]
        if len(X) <= _MOST_INPUTS:
            out.bend = [bend for _, bend, _ in slopes]
    return out


def _slopes(arch: Network, l: int, K: Tensor, Theta: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """f', ½ f'' and ∂⟨σ'σ'⟩/∂K of the step from layer index ``l``."""
    from kadanoff.rgflow.averages import tables

    C_W, lambda_W = arch.C_W[l + 1], arch.lambda_W[l + 1]
    N = K.shape[0]
    M = N * N
    bend = K.new_zeros(*[2 * M if N <= _MOST_INPUTS else 0] * 3)
    try:
        t = tables(arch.activations[l], K, (), _TOLERANCE)[1][0]
    except DomainError:  # a kink at an input of zero norm: there is no derivative
        return K.new_zeros(2 * M, 2 * M), bend, K.new_zeros(M, M)
    pairs = torch.eye(M, dtype=K.dtype).view(N, N, N, N)
    J0, J1 = (t.J(p, pairs).reshape(M, M) for p in (0, 1))
    theta = Theta.flatten()
    to_ntk = lambda_W * J0 + C_W * theta[:, None] * J1
    above = torch.cat([C_W * J0, torch.zeros_like(J0)], 1)
    jacobian = torch.cat([above, torch.cat([to_ntk, torch.diag(C_W * t.dd.flatten())], 1)])
    if N <= _MOST_INPUTS:
        each = torch.eye(M * M, dtype=K.dtype).view(M * M, N, N, N, N)
        half0, half1 = (
            torch.stack([t.hessian(p, V).flatten() for V in each], 1).view(M, M, M) for p in (0, 1)
        )
        bend[:M, :M, :M] = C_W * half0
        bend[M:, :M, :M] = lambda_W * half0 + C_W * theta[:, None, None] * half1
        at = torch.arange(M)
        bend[M + at, :, M + at] = torch.cat([C_W * J1, torch.zeros_like(J1)], 1)
    return jacobian.nan_to_num(), bend.nan_to_num(), J1.nan_to_num()
