"""Nodes whose value is held fixed (vessels), by the capacitance matrix."""

from __future__ import annotations

import torch
from torch import Tensor

from kadanoff.errors import ConvergenceError, DataError
from kadanoff.studies.diffusion_surrogates.diffusion.krylov import conjugate_gradients, implicit
from kadanoff.studies.diffusion_surrogates.diffusion.poisson import ScreenedPoisson2D

__all__ = ["FixedValues2D"]


class FixedValues2D:
    """Solver of (γ − D∇²) u = α where u is held at given values on the nodes of a mask.

    The walls of the mask are sources of unknown strength q. They follow from C q = u_m − (A⁻¹α)_m
    with the capacitance matrix C = (A⁻¹)_mm, so that any mask costs a few direct solves on the
    full lattice.

    Parameters
    ----------
    solver : ScreenedPoisson2D
    mask : bool Tensor (..., H, W)
        Where values are fixed: one mask for all sources, or one each.
    method : {"auto", "factor", "cg"}
        Factor C once (one mask; its number of nodes in direct solves), or conjugate gradients on
        C (about 30 solves for a pair of discs, any batch). Auto factors one mask of up to 600
        nodes.
    tolerance : float
        Of the conjugate gradients, relative.

    Examples
    --------
    >>> mask = torch.zeros(20, 20, dtype=torch.bool); mask[8:11, 5:8] = True
    >>> held = FixedValues2D(ScreenedPoisson2D(20), mask)
    >>> u = held(torch.zeros(20, 20, dtype=torch.float64), 1.0)
    >>> bool((u[mask] - 1).abs().max() < 1e-9)
    True
    """

    def __init__(
        self,
        solver: ScreenedPoisson2D,
        mask: Tensor,
        method: str = "auto",
        *,
        tolerance: float = 1e-10,
        max_iterations: int = 1000,
    ) -> None:
        if mask.dtype != torch.bool or tuple(mask.shape[-2:]) != solver.shape:
            raise DataError(
                f"The mask has shape {tuple(mask.shape)} and dtype {mask.dtype}; expected a bool "
                f"tensor of shape (..., {solver.shape[0]}, {solver.shape[1]})."
            )
        nodes = int(mask.sum())
        if method not in ("auto", "factor", "cg"):
            raise DataError(f"Unknown method {method!r}: choose auto, factor or cg.")
        if method == "factor" and mask.ndim != 2:
            raise DataError("method='factor' takes one mask (H, W); use 'cg' for a batch of masks.")
        self.solver, self.mask, self.tolerance = solver, mask, tolerance
        self.max_iterations = max_iterations
        self.factor: Tensor | None = None
        if method == "factor" or (method == "auto" and mask.ndim == 2 and nodes <= 600):
            self.factor = self._factored()

    def _factored(self) -> Tensor:
        at = self.mask.flatten().nonzero()[:, 0]
        H, W = self.solver.shape
        unit = torch.zeros(len(at), H * W, dtype=torch.float64, device=self.mask.device)
        unit[torch.arange(len(at), device=at.device), at] = 1.0
        with torch.no_grad():
            C = self.solver(unit.view(-1, H, W)).flatten(1)[:, at]
        factor, info = torch.linalg.cholesky_ex((C + C.mT) / 2)
        if int(info.max()):
            raise ConvergenceError(
                "The capacitance matrix could not be factored: D and gamma must be single numbers.",
                "Use method='cg'.",
            )
        return factor

    def _strength(self, value: Tensor) -> Tensor:
        """q on the mask (zero elsewhere) with (A⁻¹ q) = value on the mask."""
        if self.factor is not None:
            at = self.mask.flatten().nonzero()[:, 0]
            rows = value.flatten(-2)[..., at]
            flat = rows.reshape(-1, len(at)).to(self.factor)
            q = torch.cholesky_solve(flat.mT, self.factor).mT.to(value).reshape(rows.shape)
            out = torch.zeros_like(value).flatten(-2)
            out[..., at] = q
            return out.view(value.shape)
        held = self.mask.to(value)
        return conjugate_gradients(
            lambda q: held * self.solver(held * q),
            held * value,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        ).x

    def __call__(self, alpha: Tensor, values: float | Tensor) -> Tensor:
        """The field of a source outside the mask, with ``values`` (a number or a field) on it.

        Differentiable in the source, the values, D and γ. The source on the mask is ignored.
        """
        held = self.mask.to(alpha)
        shape = torch.broadcast_shapes(alpha.shape, self.mask.shape)
        outside = ((1 - held) * alpha).expand(shape)
        value = held * torch.as_tensor(values, dtype=alpha.dtype, device=alpha.device)

        def missing(q: Tensor) -> Tensor:
            return value - held * self.solver(outside + held * q)

        with torch.no_grad():
            q = self._strength(missing(torch.zeros_like(outside)))
        q = implicit(q, missing, self._strength)
        return self.solver(outside + held * q)
