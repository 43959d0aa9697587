"""Time stepping to the stationary state: the baseline that surrogates were measured against."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.errors import UsageError
from kadanoff.studies.diffusion_surrogates.diffusion.poisson import ScreenedPoisson2D

__all__ = ["Stepped", "relax"]


@dataclass(frozen=True)
class Stepped:
    """The field at the end, and how many evaluations of the right-hand side it took."""

    u: Tensor
    steps: int
    evaluations: int


def relax(
    solver: ScreenedPoisson2D,
    alpha: Tensor,
    *,
    t_end: float = 3000.0,
    method: str = "chebyshev",
    steps: int | None = None,
    u0: Tensor | None = None,
) -> Stepped:
    """Integrate ∂u/∂t = D∇²u − γu + α from u = α until it is stationary.

    Parameters
    ----------
    solver : ScreenedPoisson2D
        Gives the right-hand side and its spectral radius; nothing is solved with it.
    alpha : Tensor (..., H, W)
    t_end : float
        3000 in the paper: the slowest mode has then decayed by e⁻¹³.
    method : {"chebyshev", "euler"}
        Stabilised Runge–Kutta–Chebyshev of second order (the family of ROCK2, which the authors
        use), or the largest stable explicit Euler steps.
    steps : int, optional
        Time steps; default 240 for chebyshev (error 1e-6).

    Notes
    -----
    Chebyshev coefficients: Sommeijer, Shampine & Verwer, "RKC" (1998).
    """
    rho = float(solver.spectrum.max()) * float(torch.as_tensor(solver.D).max())
    rho += float(torch.as_tensor(solver.gamma).max())

    def slope(u: Tensor) -> Tensor:
        return solver.residual(u, alpha)

    with torch.no_grad():
        u = (alpha if u0 is None else u0).clone()
        if method == "euler":
            # 5 % below the limit, where the roughest mode would never decay
            count = steps or math.ceil(t_end * rho / 1.9)
            h = t_end / count
            for _ in range(count):
                u = u + h * slope(u)
            return Stepped(u, count, count)
        if method != "chebyshev":
            raise UsageError(f"Unknown method {method!r}.", "Choose chebyshev or euler.")
        count = steps or 240
        h = t_end / count
        stages = max(2, math.ceil(math.sqrt(1 + 1.54 * h * rho)))
        step = _chebyshev(stages)
        for _ in range(count):
            u = step(slope, u, h)
        return Stepped(u, count, count * stages)


def _chebyshev(s: int) -> Callable[[Callable[[Tensor], Tensor], Tensor, float], Tensor]:
    """One step of the s-stage second-order Runge–Kutta–Chebyshev method."""
    w0 = 1 + (2 / 13) / s**2
    T, dT, ddT = [1.0, w0], [0.0, 1.0], [0.0, 0.0]
    for j in range(2, s + 1):
        T.append(2 * w0 * T[-1] - T[-2])
        dT.append(2 * T[j - 1] + 2 * w0 * dT[-1] - dT[-2])
        ddT.append(4 * dT[j - 1] + 2 * w0 * ddT[-1] - ddT[-2])
    w1 = dT[s] / ddT[s]
    b = [0.0, 0.0] + [ddT[j] / dT[j] ** 2 for j in range(2, s + 1)]
    b[0] = b[1] = b[2]
    a = [1 - b[j] * T[j] for j in range(s + 1)]

    def step(slope: Callable[[Tensor], Tensor], u: Tensor, h: float) -> Tensor:
        F0 = slope(u)
        before, now = u, u + b[1] * w1 * h * F0
        for j in range(2, s + 1):
            mu, nu = 2 * b[j] * w0 / b[j - 1], -b[j] / b[j - 2]
            mu_t = 2 * b[j] * w1 / b[j - 1]
            after = (1 - mu - nu) * u + mu * now + nu * before
            after = after + mu_t * h * slope(now) - a[j - 1] * mu_t * h * F0
            before, now = now, after
        return now

    return step
