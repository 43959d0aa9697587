"""Diffusion constants and decay rates that vary in space: preconditioned conjugate gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kadanoff.errors import DataError, UsageError
from kadanoff.studies.diffusion_surrogates.diffusion.krylov import (
    KrylovSolution,
    conjugate_gradients,
    implicit,
)
from kadanoff.studies.diffusion_surrogates.diffusion.poisson import ScreenedPoisson2D

__all__ = ["VariableDiffusion2D"]


class VariableDiffusion2D:
    r"""Solver of −∇·(D∇u) + γu = α with D(x) > 0 and γ(x) ≥ 0 given on the nodes.

    Between two nodes flows the harmonic mean of their D. Conjugate gradients, preconditioned by
    the direct solver with constant coefficients between two diagonal scalings: with
    B = D^{1/2}, the operator B⁻¹(−∇·D∇)B⁻¹ is close to the plain Laplacian wherever D is smooth.

    Parameters
    ----------
    D : Tensor (..., H, W)
    gamma : float or Tensor (..., H, W)
    walls : {"dirichlet", "neumann", "periodic"}, or a pair
    tolerance : float
        Relative residual at which the iteration ends.

    Attributes
    ----------
    last : KrylovSolution or None
        Iterations and residuals of the latest solve.

    Examples
    --------
    >>> D = 1 + torch.rand(16, 16, dtype=torch.float64)
    >>> solver = VariableDiffusion2D(D, gamma=0.01)
    >>> u = solver(torch.ones(16, 16, dtype=torch.float64))
    >>> bool((solver.apply(u) - 1).abs().max() < 1e-6)
    True
    """

    def __init__(
        self,
        D: Tensor,
        gamma: float | Tensor = 1 / 400,
        walls: str | Sequence[str] = "dirichlet",
        *,
        tolerance: float = 1e-8,
        max_iterations: int = 2000,
    ) -> None:
        if D.ndim < 2 or bool((D <= 0).any()) or not bool(torch.isfinite(D).all()):
            raise DataError("D must be a field (..., H, W) of positive, finite numbers.")
        if bool((torch.as_tensor(gamma) < 0).any()):
            raise UsageError("gamma must not be negative.")
        self.D, self.gamma = D, torch.as_tensor(gamma, dtype=D.dtype, device=D.device)
        self.tolerance, self.max_iterations = tolerance, max_iterations
        self.last: KrylovSolution | None = None
        with torch.no_grad():
            scale = D.detach()
            # in the scaled unknown B u the decay is γ/D; its geometric middle serves as constant
            rate = (self.gamma / scale).expand_as(scale).flatten(-2)
            rate = rate.clamp_min(1e-12).log().mean(-1).exp()
            self._root = scale.sqrt()
            self.base = ScreenedPoisson2D(
                (D.shape[-2], D.shape[-1]), D=1.0, gamma=rate, walls=walls
            )
        self.walls = self.base.walls

    def apply(self, u: Tensor) -> Tensor:
        """−∇·(D∇u) + γu."""
        out = self.gamma * u
        for axis, wall in zip((-2, -1), self.walls):
            M = u.shape[axis]
            D = self.D
            a, b = D.narrow(axis, 0, M - 1), D.narrow(axis, 1, M - 1)
            step = u.narrow(axis, 1, M - 1) - u.narrow(axis, 0, M - 1)
            inner = 2 * a * b / (a + b) * step  # flux between neighbours
            ends = D.narrow(axis, 0, 1), D.narrow(axis, M - 1, 1)
            first, last = u.narrow(axis, 0, 1), u.narrow(axis, M - 1, 1)
            if wall == "dirichlet":
                left, right = ends[0] * first, -ends[1] * last
            elif wall == "neumann":
                left, right = torch.zeros_like(first), torch.zeros_like(last)
            else:
                left = right = 2 * ends[0] * ends[1] / (ends[0] + ends[1]) * (first - last)
            left, right = left.expand_as(inner.narrow(axis, 0, 1)), right
            flux = torch.cat((left, inner, right.expand_as(left)), dim=axis)
            out = out - flux.narrow(axis, 1, M) + flux.narrow(axis, 0, M)
        return out

    def precondition(self, r: Tensor) -> Tensor:
        """D^{−1/2} (κ² − ∇²)⁻¹ D^{−1/2} r: one direct solve."""
        root = self._root.to(r)
        return self.base(r / root) / root

    def solve(self, alpha: Tensor, x0: Tensor | None = None) -> KrylovSolution:
        """Solve without gradients, from a first guess, and tell the iterations.

        Raises
        ------
        ConvergenceError
        """
        shape = torch.broadcast_shapes(alpha.shape, self.D.shape)
        if alpha.shape[-2:] != self.D.shape[-2:]:
            raise DataError(
                f"The source has shape {tuple(alpha.shape)}, D has {tuple(self.D.shape)}."
            )
        self.last = conjugate_gradients(
            self.apply,
            alpha.detach().expand(shape),
            precondition=self.precondition,
            x0=x0,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )
        return self.last

    def __call__(self, alpha: Tensor) -> Tensor:
        """The field u of a source α (..., H, W), differentiable in α, D and γ."""
        return implicit(
            self.solve(alpha).x, lambda u: alpha - self.apply(u), lambda g: self.solve(g).x
        )
