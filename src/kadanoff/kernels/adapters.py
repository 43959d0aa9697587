"""Our kernels as GPyTorch and scikit-learn kernels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from kadanoff.errors import UsageError, require_extra
from kadanoff.kernels.gram import Kernel

if TYPE_CHECKING:
    from gpytorch.kernels import Kernel as GPyTorchKernel
    from numpy.typing import ArrayLike
    from sklearn.gaussian_process.kernels import Kernel as ScikitKernel

__all__ = ["gpytorch_kernel", "sklearn_kernel"]


def gpytorch_kernel(kernel: Kernel, get: str = "nngp") -> GPyTorchKernel:
    """A ``gpytorch.kernels.Kernel`` with fixed parameters (wrap it in a ScaleKernel to scale).

    Parameters
    ----------
    kernel : Kernel
    get : {"nngp", "ntk"}

    Raises
    ------
    MissingExtraError
        GPyTorch is not installed (extra ``gp``).
    """
    gpytorch = require_extra("gpytorch", "gp")

    class NetworkKernel(gpytorch.kernels.Kernel):
        has_lengthscale = False

        def forward(self, x1: Tensor, x2: Tensor, diag: bool = False, **params: Any) -> Tensor:
            if params.get("last_dim_is_batch"):
                raise UsageError("last_dim_is_batch has no meaning for a network kernel.")
            if diag:
                if torch.equal(x1, x2):
                    return (
                        kernel.diagonal(x1.reshape(-1, x1.shape[-1]), get)
                        .to(x1)
                        .view(x1.shape[:-1])
                    )
                return self.forward(x1, x2).diagonal(dim1=-2, dim2=-1)
            if x1.ndim > 2:
                batch = torch.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
                pairs = zip(
                    x1.expand(*batch, *x1.shape[-2:]).flatten(0, -3),
                    x2.expand(*batch, *x2.shape[-2:]).flatten(0, -3),
                )
                found = torch.stack([self.forward(a, b) for a, b in pairs])
                return found.view(*batch, *found.shape[-2:])
            same = x1.shape == x2.shape and torch.equal(x1, x2)
            return kernel(x1, None if same else x2, get=get)

    return NetworkKernel()


def sklearn_kernel(kernel: Kernel, get: str = "nngp") -> ScikitKernel:
    """A kernel for ``sklearn.gaussian_process`` and, as a callable, for SVC, KernelRidge, ….

    Estimators that call a kernel on single rows (KernelRidge) work, but one call for all is far
    faster: pass ``kernel="precomputed"`` and ``kernel(arch)(X, get="ntk")`` there.

    Parameters
    ----------
    kernel : Kernel
    get : {"nngp", "ntk"}
    """
    from sklearn.gaussian_process.kernels import Kernel as ScikitBase

    class FixedKernel(ScikitBase):
        """Fixed kernel of a network; combine with ``ConstantKernel() *`` to scale it."""

        def __init__(self, kernel: Kernel = kernel, get: str = get) -> None:
            self.kernel, self.get = kernel, get

        def __call__(
            self, X: ArrayLike, Y: ArrayLike | None = None, eval_gradient: bool = False
        ) -> float | np.ndarray | tuple[np.ndarray, np.ndarray]:
            X = np.asarray(X, dtype=np.float64)
            if X.ndim == 1:
                # one pair of rows, as pairwise_kernels asks for it
                other = X if Y is None else np.asarray(Y, dtype=np.float64)
                return float(self.kernel(X[None], other[None], get=self.get)[0, 0])
            Y = None if Y is None else np.asarray(Y, dtype=np.float64)
            K = self.kernel(X, Y, get=self.get).cpu().numpy()
            return (K, np.empty((len(X), len(X), 0))) if eval_gradient else K

        def diag(self, X: ArrayLike) -> np.ndarray:
            return self.kernel.diagonal(np.asarray(X, dtype=np.float64), get=self.get).cpu().numpy()

        def is_stationary(self) -> bool:
            return False

        def __repr__(self) -> str:
            return f"{self.kernel!r}[{self.get}]"

    return FixedKernel()
