"""Weighted polynomial fits in 1/n: what networks of several widths say of infinite width."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kadanoff.ensembles.moments import Measured

__all__ = ["WidthFit", "fit_widths"]

# an error bar this much smaller than the largest counts as if it were so large: a width at which
# hardly anything was seen to vary must not decide the fit alone
_SMALLEST_ERROR = 1e-3


@dataclass(frozen=True)
class WidthFit:
    """c_0 + c_1 / n + c_2 / n² + …, entry by entry.

    Attributes
    ----------
    coefficients : list of Measured, each of shape (...)
        c_0, the limit, first.
    chi2 : Tensor, shape (...)
        χ² per degree of freedom; NaN where none is left.
    fixed : Tensor of bool, shape (...)
        Entries that are the same for every network: their coefficients have no error, and their χ²
        says nothing.
    """

    coefficients: list[Measured]
    chi2: Tensor
    fixed: Tensor

    @property
    def mean_chi2(self) -> float:
        """χ² per degree of freedom of all entries that have an error; NaN if none is left."""
        live = ~self.fixed
        if not bool(live.any()) or bool(self.chi2.isnan().all()):
            return float("nan")
        return float(self.chi2[live].nansum() / live.sum())


def fit_widths(
    widths: Sequence[int] | Tensor, values: Tensor, stderr: Tensor, degree: int
) -> WidthFit:
    """Fit a polynomial in 1/n by weighted least squares.

    Parameters
    ----------
    widths : sequence of int, length w
    values, stderr : Tensor, shape (w, ...)
    degree : int
        Below the number of different widths.
    """
    x = 1 / torch.as_tensor(widths, dtype=torch.float64)
    # the same for every network (rounding aside) at one width or at all: no error to weigh by
    largest = stderr.amax(0)
    fixed = largest <= 0
    floor = torch.where(fixed, 1.0, _SMALLEST_ERROR * largest)
    error = torch.maximum(stderr, floor)
    # powers of numbers up to one keep the normal matrix well conditioned
    scale = x.max()
    powers = torch.stack([(x / scale) ** k for k in range(degree + 1)], 1)  # (w, degree + 1)
    weight = error.square().reciprocal().movedim(0, -1)  # (..., w)
    normal = torch.einsum("...w,wi,wj->...ij", weight, powers, powers)
    right = torch.einsum("...w,wi,...w->...i", weight, powers, values.movedim(0, -1))
    good = torch.isfinite(normal).all(-1).all(-1)
    eye = torch.eye(degree + 1, dtype=x.dtype)
    covariance = torch.linalg.inv(torch.where(good[..., None, None], normal, eye))
    found = (covariance @ right[..., None])[..., 0]
    found = torch.where(good[..., None], found, torch.nan)
    sigma = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    sigma = torch.where(fixed[..., None], 0.0, sigma)
    coefficients = [
        Measured(found[..., k] / scale**k, sigma[..., k] / scale**k) for k in range(degree + 1)
    ]
    freedom = len(x) - degree - 1
    fitted = torch.einsum("wi,...i->w...", powers, found)
    pulls = torch.where(fixed, 0.0, (values - fitted) / error)
    chi2 = pulls.square().sum(0) / freedom if freedom else torch.full_like(largest, torch.nan)
    return WidthFit(coefficients, chi2, fixed)
