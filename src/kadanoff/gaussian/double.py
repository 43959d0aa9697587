"""⟨f(z₁) g(z₂)⟩ over two correlated Gaussian variables, up to and at correlation ±1.

The inner average is over z₂ given z₁, with panels cut where z₂ crosses the structure of g; the
outer one is over z₁, cut at the structure of f and where the inner mean crosses that of g. Near
correlation ±1 the inner average of a kinked g turns over within √D of the kink (D the
conditional variance), so cuts at a few √D guard it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from kadanoff.errors import DomainError
from kadanoff.gaussian.single import (
    REACH,
    Estimate,
    Function,
    check_variance,
    gaussian_cuts,
    panel_nodes,
    refine,
    structure_cuts,
)

__all__ = ["conditional", "two"]

# elements of the (z1, z2) grid held at once, for cache and memory
_CHUNK = 4_000_000
# each refinement costs four times the one before
_REFINEMENTS = 3
_GUARD = (-8.0, -5.0, -3.0, -1.5, 0.0, 1.5, 3.0, 5.0, 8.0)


def conditional(K11: Tensor, K12: Tensor, K22: Tensor) -> tuple[Tensor, Tensor]:
    """Slope µ and variance D of z₂ given z₁: E[z₂|z₁] = µ z₁, Var[z₂|z₁] = D ≥ 0.

    Parameters
    ----------
    K11, K12, K22 : Tensor
        Covariance of z₁ and z₂, elementwise; shapes broadcast.

    Raises
    ------
    DomainError
        K is not positive semi-definite (beyond rounding).
    """
    slope = torch.where(K11 > 0, K12 / K11.clamp_min(1e-300), torch.zeros_like(K11))
    D = K22 - slope * K12
    limit = 1e-9 * K22 + 1e-300
    if bool((-limit > D).any()) or bool(((K11 == 0) & (K12.abs() > 1e-300)).any()):
        at = int(torch.argmin(D + limit))
        a, b, c = (float(v.flatten()[at]) for v in (K11, K12, K22))
        raise DomainError(
            f"The kernel [[{a:g}, {b:g}], [{b:g}, {c:g}]] is not positive semi-definite.",
            "A covariance needs |K12| <= sqrt(K11 K22).",
        )
    # rounding in K22 - K12²/K11 leaves 1e-16 of K22 at correlation ±1: that is zero
    return slope, torch.where(D <= 4e-16 * K22, torch.zeros_like(D), D)


def two(
    f: Function,
    g: Function,
    K11,
    K12,
    K22,
    kinks_f: Sequence[float] = (),
    kinks_g: Sequence[float] = (),
    *,
    tolerance: float = 1e-12,
) -> Estimate:
    """⟨f(z₁) g(z₂)⟩ for (z₁, z₂) ~ N(0, [[K11, K12], [K12, K22]]).

    Parameters
    ----------
    f, g : callable
        Elementwise functions of a float64 tensor.
    K11, K12, K22 : float or Tensor
        Broadcast against each other; correlations ±1 and zero variances are allowed.
    kinks_f, kinks_g : sequence of float
        Where f, g or a derivative jump.

    Returns
    -------
    Estimate
        Of the broadcast shape.

    Raises
    ------
    DomainError, ConvergenceError
    """
    K11, K22 = check_variance(K11, "K11"), check_variance(K22, "K22")
    K12 = torch.as_tensor(K12, dtype=torch.float64)
    K11, K12, K22 = torch.broadcast_tensors(K11, K12, K22)
    shape = K11.shape
    flat = [v.reshape(-1) for v in (K11, K12, K22)]
    slope, D = conditional(*flat)
    if not flat[0].numel():
        return Estimate(K11.clone(), K11.clone())
    values, errors = [], []
    # about 400 nodes each way: a chunk of rows that keeps the grid within _CHUNK elements
    rows = max(1, _CHUNK // 160_000)
    for start in range(0, len(D), rows):
        part = slice(start, start + rows)
        estimate = _rows(f, g, flat[0][part], slope[part], D[part], kinks_f, kinks_g, tolerance)
        values.append(estimate.value)
        errors.append(estimate.error)
    return Estimate(torch.cat(values).reshape(shape), torch.cat(errors).reshape(shape))


def _rows(f, g, K11: Tensor, slope: Tensor, D: Tensor, kinks_f, kinks_g, tolerance) -> Estimate:
    root1, rootD = K11.sqrt()[:, None], D.sqrt()[:, None]
    bell = gaussian_cuts()
    spread = float((slope.abs()[:, None] * root1 + rootD).max())
    cuts_f = structure_cuts(REACH * float(root1.max()), kinks_f)
    cuts_g = structure_cuts(REACH * spread, kinks_g)
    outer = [_in_units(cuts_f, root1), bell.expand(len(K11), -1)]
    # where the inner mean µ z1 meets the structure of g, blurred by √D
    guards = torch.tensor(_GUARD, dtype=torch.float64)
    sharp = torch.tensor(sorted({0.0, *map(float, kinks_g)}), dtype=torch.float64)
    blurred = (sharp[None, :, None] + rootD[:, :, None] * guards).flatten(1)
    outer += [_in_units(cuts_g, slope[:, None] * root1), _in_units(blurred, slope[:, None] * root1)]
    edges = torch.cat([e.clamp(-REACH, REACH) for e in outer], 1).sort(1).values

    def attempt(order: int, halvings: int) -> tuple[Tensor, Tensor]:
        x, w = panel_nodes(edges, order, halvings)
        z1 = root1 * x
        mean = slope[:, None] * z1
        inner, size = _inner(g, mean, rootD, cuts_g, bell, order, halvings)
        fz = f(z1)
        return (w * fz * inner).sum(1), (w * fz.abs() * size).sum(1)

    return refine(attempt, tolerance, _REFINEMENTS)


def _inner(
    g: Function,
    mean: Tensor,
    rootD: Tensor,
    cuts_g: Tensor,
    bell: Tensor,
    order: int,
    halvings: int,
) -> tuple[Tensor, Tensor]:
    """E[g(z₂)|z₁] and E[|g(z₂)||z₁] for each conditional mean, shapes as ``mean``."""
    if not bool((rootD > 0).any()):
        value = g(mean)
        return value, value.abs()
    value, size = torch.empty_like(mean), torch.empty_like(mean)
    for row in range(len(mean)):
        if float(rootD[row]) == 0:
            value[row] = g(mean[row])
            size[row] = value[row].abs()
            continue
        crossings = (cuts_g - mean[row][:, None]) / rootD[row]
        edges = (
            torch.cat([crossings.clamp(-REACH, REACH), bell.expand(len(crossings), -1)], 1)
            .sort(1)
            .values
        )
        w_x, w_w = panel_nodes(edges, order, halvings)
        values = g(mean[row][:, None] + rootD[row] * w_x)
        value[row] = (w_w * values).sum(1)
        size[row] = (w_w * values.abs()).sum(1)
    return value, size


def _in_units(cuts: Tensor, root: Tensor) -> Tensor:
    """Cuts in z as cuts in x = z / root; where root is 0 they fall on the centre."""
    safe = torch.where(root == 0, torch.ones_like(root), root)
    return torch.where(root == 0, torch.zeros_like(root), cuts / safe)
