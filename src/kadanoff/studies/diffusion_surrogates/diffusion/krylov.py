"""Conjugate gradients for batches of fields, and gradients through any solve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kadanoff.errors import ConvergenceError, UsageError

__all__ = ["KrylovSolution", "conjugate_gradients", "implicit"]

Linear = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class KrylovSolution:
    """Result of an iterative solve.

    Attributes
    ----------
    x : Tensor (..., H, W)
    iterations : int
        Of the slowest field of the batch.
    each : Tensor (...)
        Iterations that each field needed.
    residual : Tensor (...)
        ‖b − A x‖ / ‖b‖ of each field.
    """

    x: Tensor
    iterations: int
    each: Tensor
    residual: Tensor


def conjugate_gradients(
    apply: Linear,
    b: Tensor,
    *,
    precondition: Linear | None = None,
    x0: Tensor | None = None,
    tolerance: float = 1e-8,
    max_iterations: int = 2000,
) -> KrylovSolution:
    """Solve A x = b for a batch of fields, A symmetric and positive definite.

    Parameters
    ----------
    apply : callable
        x ↦ A x, fields in the last two axes.
    b : Tensor (..., H, W)
    precondition : callable, optional
        r ↦ M⁻¹ r, symmetric and positive definite.
    x0 : Tensor (..., H, W), optional
        First guess, by default zero; a surrogate's prediction, say.
    tolerance : float
        Every field stops at ‖b − A x‖ ≤ tolerance · ‖b‖.
    max_iterations : int

    Raises
    ------
    ConvergenceError
        Some field is not there after ``max_iterations``.

    Notes
    -----
    Fields that have arrived stay as they are while the others go on. No gradient is recorded: see
    :func:`implicit`.
    """
    if not 0 < tolerance < 1:
        raise UsageError(f"tolerance = {tolerance} must lie between 0 and 1.")
    with torch.no_grad():
        return _iterate(apply, b, precondition or _copy, x0, tolerance, max_iterations)


def _copy(r: Tensor) -> Tensor:
    return r


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((-2, -1), keepdim=True)


def _iterate(
    apply: Linear,
    b: Tensor,
    precondition: Linear,
    x0: Tensor | None,
    tolerance: float,
    max_iterations: int,
) -> KrylovSolution:
    x = torch.zeros_like(b) if x0 is None else x0.clone()
    r = b.clone() if x0 is None else b - apply(x)
    goal = (tolerance**2 * _dot(b, b)).clamp_min(torch.finfo(b.dtype).tiny)
    z = precondition(r)
    p, rho = z, _dot(r, z)
    each = torch.zeros(goal.shape, dtype=torch.int64, device=b.device)
    size, k = _dot(r, r), 0
    while bool((active := size > goal).any()):
        if k == max_iterations or not bool(torch.isfinite(size).all()):
            worst = float((size / _dot(b, b)).max()) ** 0.5
            raise ConvergenceError(
                f"Conjugate gradients stopped at a relative residual of {worst:.3g} after {k} "
                f"iterations; {tolerance:g} was asked for.",
                "Use a better preconditioner, float64, or a larger tolerance.",
            )
        q = apply(p)
        step = torch.where(active, rho / _dot(p, q), 0.0)
        x = x + step * p
        r = r - step * q
        z = precondition(r)
        new = _dot(r, z)
        p = z + torch.where(active, new / rho, 0.0) * p
        rho, size = torch.where(active, new, rho), _dot(r, r)
        each += active
        k += 1
    norm = _dot(b, b).clamp_min(torch.finfo(b.dtype).tiny)
    return KrylovSolution(x, k, each[..., 0, 0], (size / norm).sqrt()[..., 0, 0])


class _Implicit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, residual: Tensor, solve: Linear) -> Tensor:
        ctx.solve = solve
        return torch.zeros_like(residual)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return ctx.solve(grads[0]), None


def implicit(x: Tensor, residual: Callable[[Tensor], Tensor], solve: Linear) -> Tensor:
    """Give a solution its gradient with respect to everything its equation depends on.

    Parameters
    ----------
    x : Tensor
        Solves F(x) = 0; found by whatever means.
    residual : callable
        x ↦ −F(x), differentiable in the parameters of the equation.
    solve : callable
        g ↦ (∂F/∂x)⁻ᵀ g.

    Returns
    -------
    Tensor
        x itself, with dx = −(∂F/∂x)⁻¹ ∂F by the implicit function theorem: one solve backward, no
        stored iterations.
    """
    found = x.detach()
    minus = residual(found)
    if not minus.requires_grad:
        return found
    return found + _Implicit.apply(minus, solve)  # pyright: ignore[reportOperatorIssue]
