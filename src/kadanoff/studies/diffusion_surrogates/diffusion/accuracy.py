"""How wrong a predicted field is, a bound that needs no exact field, and the hybrid."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.errors import DataError
from kadanoff.studies.diffusion_surrogates.diffusion.krylov import (
    KrylovSolution,
    conjugate_gradients,
)
from kadanoff.studies.diffusion_surrogates.diffusion.poisson import ScreenedPoisson2D

__all__ = ["Bound", "FieldErrors", "amplitude", "error_bound", "field_errors", "refine"]


@dataclass(frozen=True)
class FieldErrors:
    """Errors of predicted fields normalised to a maximum of 1; absolute unless said.

    Attributes
    ----------
    mean, p99, maximum : float
        Over all pixels of all fields.
    mean_of_maxima : float
        Worst pixel of each field, averaged over fields.
    gradient_mean, gradient_p99, gradient_maximum : float
        Of forward differences along both axes.
    far_mean, far_maximum, far_relative : float
        Pixels farther than ``far`` nodes from every source; last: mean of |δ|/(y + 1e-5) there.
    bands : dict
        Mean error of pixels with y in [0.2, 1], [0.1, 0.2], [0.05, 0.1] and below.
    """

    mean: float
    p99: float
    maximum: float
    mean_of_maxima: float
    gradient_mean: float
    gradient_p99: float
    gradient_maximum: float
    far_mean: float
    far_maximum: float
    far_relative: float
    bands: dict[str, float]


def field_errors(prediction: Tensor, y: Tensor, alpha: Tensor, far: int = 10) -> FieldErrors:
    """Compare predicted with exact normalised fields (B, H, W); see :class:`FieldErrors`."""
    if not prediction.shape == y.shape == alpha.shape or y.ndim != 3:
        raise DataError(
            f"Prediction {tuple(prediction.shape)}, field {tuple(y.shape)} and source "
            f"{tuple(alpha.shape)} must be of one shape (B, H, W)."
        )
    error = (prediction - y).abs()
    steps = [(prediction.diff(dim=axis) - y.diff(dim=axis)).abs().flatten() for axis in (-2, -1)]
    gradient = torch.cat(steps)
    near = torch.nn.functional.max_pool2d(
        (alpha > 0).to(y)[:, None], 2 * far + 1, stride=1, padding=far
    )[:, 0]
    away = error[near == 0]
    relative = (error / (y + 1e-5))[near == 0]
    edges = (0.0, 0.05, 0.1, 0.2, 1.01)
    bands = {}
    for low, high in itertools.pairwise(edges):
        inside = error[(y >= low) & (y < high)]
        bands[f"{low:g}-{min(high, 1):g}"] = _mean(inside)
    return FieldErrors(
        mean=_mean(error),
        p99=_quantile(error, 0.99),
        maximum=float(error.max()),
        mean_of_maxima=_mean(error.amax((-2, -1))),
        gradient_mean=_mean(gradient),
        gradient_p99=_quantile(gradient, 0.99),
        gradient_maximum=float(gradient.max()),
        far_mean=_mean(away),
        far_maximum=float(away.max()) if away.numel() else 0.0,
        far_relative=_mean(relative),
        bands=bands,
    )


def _mean(x: Tensor) -> float:
    return float(x.double().mean()) if x.numel() else 0.0


def _quantile(x: Tensor, q: float) -> float:
    # torch.quantile refuses more than 2^24 numbers
    flat = x.flatten()
    return float(flat.kthvalue(max(1, round(q * flat.numel())))[0])


def amplitude(solver: ScreenedPoisson2D, prediction: Tensor, alpha: Tensor) -> Tensor:
    """The factor c that makes c·ŷ fit its source best: ⟨Aŷ, α⟩/‖Aŷ‖², shape (...).

    Networks predict normalised fields; this gives the lost scale back without a solve.
    """
    source = solver.apply(prediction)
    return (source * alpha).sum((-2, -1)) / (source**2).sum((-2, -1)).clamp_min(1e-300)


@dataclass(frozen=True)
class Bound:
    """Rigorous bounds of the error e = u − A⁻¹α of a field u, per field of the batch.

    Attributes
    ----------
    two : Tensor (...)
        ‖e‖₂ ≤ ‖r‖₂/λ_min; one stencil pass.
    maximum : Tensor (...)
        max|e| ≤ ‖A⁻¹‖_∞ max|r|; one stencil pass.
    pointwise : Tensor (..., H, W)
        |e| ≤ A⁻¹|r| at every node; one direct solve.
    """

    two: Tensor
    maximum: Tensor
    pointwise: Tensor


def error_bound(solver: ScreenedPoisson2D, u: Tensor, alpha: Tensor) -> Bound:
    """Bound the error of any approximate field from its residual alone.

    Parameters
    ----------
    solver : ScreenedPoisson2D
    u, alpha : Tensor (..., H, W)
        A field (not normalised: see :func:`amplitude`) and its source.

    Notes
    -----
    A = γ − D∇² is symmetric, and an M-matrix: its inverse has no negative entry, which gives the
    last two. Pessimistic for rough errors, which A⁻¹ would smooth.
    """
    r = solver.residual(u, alpha)
    return Bound(
        torch.linalg.vector_norm(r, dim=(-2, -1)) / solver.smallest_eigenvalue().to(r),
        solver.inverse_norm() * r.abs().amax((-2, -1)),
        solver(r.abs()),
    )


def refine(
    solver: ScreenedPoisson2D,
    guess: Tensor,
    alpha: Tensor,
    *,
    tolerance: float = 1e-6,
    precondition: bool = False,
) -> KrylovSolution:
    """Finish a surrogate's field by conjugate gradients: the error is then under control.

    Parameters
    ----------
    guess : Tensor (..., H, W)
        Not normalised; see :func:`amplitude`.
    tolerance : float
        Relative residual to reach.
    precondition : bool
        With the direct solver, which ends in one iteration: only to check.
    """
    return conjugate_gradients(
        solver.apply,
        alpha,
        x0=guess,
        precondition=solver if precondition else None,
        tolerance=tolerance,
    )
