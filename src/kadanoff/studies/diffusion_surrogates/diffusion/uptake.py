"""Non-linear (Michaelis–Menten) uptake, with fixed-value vessels: Newton on the fast solver."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.errors import ConvergenceError, DataError
from kadanoff.studies.diffusion_surrogates.diffusion.krylov import conjugate_gradients, implicit
from kadanoff.studies.diffusion_surrogates.diffusion.poisson import ScreenedPoisson2D

__all__ = ["Uptake", "Uptake2D"]


@dataclass(frozen=True)
class Uptake:
    """A stationary field and what it took.

    Attributes
    ----------
    u : Tensor (..., H, W)
    newton : int
        Newton steps.
    linear : int
        Conjugate-gradient iterations, all Newton steps together.
    residual : float
        Largest |F(u)| over the lattice and the batch, relative to the largest term of F.
    """

    u: Tensor
    newton: int
    linear: int
    residual: float


class Uptake2D:
    r"""Stationary field of −D∇²u + γu + V u/(K + u) = α, with u held fixed on vessels.

    Parameters
    ----------
    solver : ScreenedPoisson2D
        The linear part; γ may be 0 with Neumann walls only through a preconditioner that has
        decay, so give a small one.
    v_max, k_m : float or Tensor
        Largest uptake V ≥ 0 and half-saturation K > 0: numbers, one a field (B,), or fields.
    mask : bool Tensor (..., H, W), optional
        Vessel nodes; ``values`` there.
    values : float or Tensor
        Concentration in the vessels.
    tolerance : float
        Relative residual at which Newton stops.

    Notes
    -----
    Newton with clipping at zero concentration; each step is solved by conjugate gradients with the
    direct solver, its γ raised by the mean slope of the uptake, as preconditioner. The uptake is
    concave, so that a step from above never overshoots; clipping covers starts from elsewhere.
    """

    def __init__(
        self,
        solver: ScreenedPoisson2D,
        v_max: float | Tensor,
        k_m: float | Tensor,
        mask: Tensor | None = None,
        values: float | Tensor = 1.0,
        *,
        tolerance: float = 1e-8,
        max_newton: int = 50,
    ) -> None:
        self.solver, self.mask, self.values = solver, mask, values
        self.v_max, self.k_m = _columns(v_max, solver), _columns(k_m, solver)
        if bool((self.v_max < 0).any()) or bool((self.k_m <= 0).any()):
            raise DataError("v_max must not be negative and k_m must be positive.")
        self.tolerance, self.max_newton = tolerance, max_newton

    def uptake(self, u: Tensor) -> Tensor:
        """V u/(K + u)."""
        return self.v_max.to(u) * u / (self.k_m.to(u) + u)

    def slope(self, u: Tensor) -> Tensor:
        """Derivative V K/(K + u)² of the uptake."""
        return self.v_max.to(u) * self.k_m.to(u) / (self.k_m.to(u) + u) ** 2

    def imbalance(self, u: Tensor, alpha: Tensor) -> Tensor:
        """α − A u − V u/(K + u) outside the vessels; values − u inside."""
        r = self.solver.residual(u, alpha) - self.uptake(u)
        return r if self.mask is None else torch.where(self.mask, self._values(u) - u, r)

    def solve(self, alpha: Tensor, u0: Tensor | None = None) -> Uptake:
        """Solve for a source α (..., H, W) from a first guess; no gradients.

        Raises
        ------
        ConvergenceError
        """
        with torch.no_grad():
            return self._newton(alpha, u0)

    def _newton(self, alpha: Tensor, u0: Tensor | None) -> Uptake:
        shape = torch.broadcast_shapes(
            alpha.shape, self.v_max.shape[:-2] + alpha.shape[-2:], _shape(self.mask)
        )
        alpha = alpha.expand(shape)
        u = self._start(alpha) if u0 is None else u0.clamp_min(0).expand(shape)
        if self.mask is not None:
            u = torch.where(self.mask, self._values(u), u)
        scale = self._scale(alpha, u)
        linear = 0
        for step in range(self.max_newton + 1):
            F = self.imbalance(u, alpha)
            error = float((F.abs().amax((-2, -1), keepdim=True) / scale).max())
            if error <= self.tolerance:
                return Uptake(u, step, linear, error)
            if step == self.max_newton:
                break
            # inexact Newton: the linear solve need not be better than the step itself
            inner = min(0.1, max(0.1 * error, 0.2 * self.tolerance / error))
            solution = self._linear(u, F, max(inner, 1e-12))
            linear += solution.iterations
            u = (u + solution.x).clamp_min(0)
        raise ConvergenceError(
            f"Newton stopped at a relative residual of {error:.3g} after {self.max_newton} steps; "
            f"{self.tolerance:g} was asked for.",
            "Use float64 or a larger tolerance.",
        )

    def _linear(self, u: Tensor, b: Tensor, tolerance: float):
        slope = self.slope(u)
        free = torch.ones_like(u) if self.mask is None else (~self.mask).to(u).expand_as(u)
        extra = (slope * free).mean((-2, -1))
        gamma = torch.as_tensor(self.solver.gamma, dtype=u.dtype, device=u.device) + extra
        base = _with_gamma(self.solver, gamma)

        # held nodes drop out of both: the operator stays symmetric and positive on the rest
        def apply(x: Tensor) -> Tensor:
            return free * (self.solver.apply(free * x) + slope * (free * x)) + (1 - free) * x

        def precondition(r: Tensor) -> Tensor:
            return free * base(free * r) + (1 - free) * r

        return conjugate_gradients(apply, b, precondition=precondition, tolerance=tolerance)

    def _start(self, alpha: Tensor) -> Tensor:
        # no uptake: a supersolution, from which Newton comes down monotonically
        top = torch.as_tensor(self.values, dtype=alpha.dtype, device=alpha.device)
        if self.mask is not None:
            return self.solver(alpha.abs()).clamp_min(0) * 0 + top
        return self.solver(alpha.clamp_min(0)).clamp_min(0)

    def _values(self, u: Tensor) -> Tensor:
        return torch.as_tensor(self.values, dtype=u.dtype, device=u.device).expand_as(u)

    def _scale(self, alpha: Tensor, u: Tensor) -> Tensor:
        top = alpha.abs().amax((-2, -1), keepdim=True)
        uptake = self.uptake(u).abs().amax((-2, -1), keepdim=True)
        return torch.maximum(top, uptake).clamp_min(torch.finfo(u.dtype).tiny)

    def __call__(self, alpha: Tensor) -> Tensor:
        """The field u, differentiable in the source, V, K, D and γ."""
        u = self.solve(alpha).u
        return implicit(
            u, lambda x: self.imbalance(x, alpha), lambda g: self._linear(u, g, self.tolerance).x
        )


def _with_gamma(solver: ScreenedPoisson2D, gamma: Tensor) -> ScreenedPoisson2D:
    import copy

    other = copy.copy(solver)
    other.gamma = gamma
    return other


def _columns(value: float | Tensor, solver: ScreenedPoisson2D) -> Tensor:
    tensor = torch.as_tensor(value, dtype=torch.float64 if not torch.is_tensor(value) else None)
    if tensor.ndim >= 2 and tuple(tensor.shape[-2:]) == solver.shape:
        return tensor
    return tensor[..., None, None]


def _shape(mask: Tensor | None) -> tuple[int, ...]:
    return () if mask is None else tuple(mask.shape)
