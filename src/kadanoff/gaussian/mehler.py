"""⟨σσ⟩ and ⟨σ'σ'⟩ at many correlations at once: what compiling a kernel map needs.

Closed forms where they exist. Smooth activations without one are expanded in Hermite polynomials,
⟨σ(z₁)σ(z₂)⟩ = Σ_k h_k(K11) h_k(K22) ρᵏ (Mehler), with Parseval's identity as the measure of what
was cut off; whatever does not converge goes through :func:`kadanoff.gaussian.pair`. The compiled
kernels are checked on sampled entries at run time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from kadanoff.gaussian.pairs import pair

__all__ = ["averages"]

_TERMS = (96, 384, 1536)
# the weight exp(−x²/4) of the normalised Hermite functions ends here
_REACH = 13.0
_POINTS = 641
_BLOCK = 1024


def averages(
    act: Any, K11: Tensor, K12: Tensor, K22: Tensor, *, tolerance: float = 3e-13
) -> tuple[Tensor, Tensor]:
    """⟨σ(z₁)σ(z₂)⟩ and ⟨σ'(z₁)σ'(z₂)⟩, float64, shapes broadcast.

    Parameters
    ----------
    act : Activation
    K11, K12, K22 : Tensor
        Kernel entries; K12 is clipped to what Cauchy-Schwarz allows.
    tolerance : float
        Relative to the diagonal averages, for expansions.

    Returns
    -------
    ss, dd : Tensor
    """
    coincident = K11 is K12 and K12 is K22
    K11, K12, K22 = torch.broadcast_tensors(K11, K12, K22)
    limit = (K11 * K22).sqrt()
    K12 = torch.minimum(torch.maximum(K12, -limit), limit)
    ss, dd = act.closed(0, 0, K11, K12, K22), act.closed(1, 1, K11, K12, K22)
    if ss is not None and dd is not None:
        return ss, dd
    if act.smooth and coincident:
        found = _squares(act, K11, tolerance)
        if found is not None:
            return found
    if act.smooth:
        for terms in _TERMS:
            found = _mehler(act, K11, K12, K22, terms, tolerance)
            if found is not None:
                return found
    return pair(act, K11, K12, K22).value, pair(act, K11, K12, K22, 1, 1).value


@lru_cache(maxsize=4)
def _hermite(terms: int, step: float) -> tuple[Tensor, Tensor, Tensor]:
    """x, weights w(x), and He_k(x)/√k! exp(−x²/4) for k < terms, on a uniform grid."""
    half = round(_REACH / step)
    x = step * torch.arange(-half, half + 1, dtype=torch.float64)
    bell = torch.exp(-0.25 * x**2)
    bell = bell / (bell**2).sum().sqrt()
    table = torch.empty(terms, len(x), dtype=torch.float64)
    table[0], table[1] = bell, x * bell
    for k in range(2, terms):
        table[k] = (x * table[k - 1] - (k - 1) ** 0.5 * table[k - 2]) / k**0.5
    return x, bell, table


def _squares(act: Any, K: Tensor, tolerance: float) -> tuple[Tensor, Tensor] | None:
    """⟨σ²⟩ and ⟨σ'²⟩ by the trapezoidal rule, held against the rule of twice its step."""
    step = _REACH / (_POINTS - 1)
    x, bell, _ = _hermite(2, step)
    sizes, where = torch.unique(K, return_inverse=True)
    z = sizes.sqrt()[:, None] * x
    sums = []
    for f in (act, act.derivative(1)):
        values = (f(z) * bell) ** 2
        total = values.sum(1)
        coarse = 2 * values[:, ::2].sum(1)
        if bool(((total - coarse).abs() > tolerance * total.max()).any()):
            return None
        sums.append(total[where])
    return sums[0], sums[1]


def _mehler(
    act: Any, K11: Tensor, K12: Tensor, K22: Tensor, terms: int, tolerance: float
) -> tuple[Tensor, Tensor] | None:
    step = 2 * _REACH / (_POINTS - 1) if terms == _TERMS[0] else _REACH / (_POINTS - 1)
    x, bell, table = _hermite(terms, step)
    sizes, where = torch.unique(torch.stack([K11, K22]), return_inverse=True)
    z = sizes.sqrt()[:, None] * x
    series = []
    norm = (K11 * K22).sqrt()
    rho = torch.where(norm > 0, K12 / norm.clamp_min(1e-300), torch.zeros_like(K12)).clamp(-1, 1)
    for f in (act, act.derivative(1)):
        values = f(z) * bell  # (sizes, x)
        h = values @ table.T  # (sizes, terms)
        whole = (values**2).sum(1)
        # a derivative's own size is no measure where σ is flat: compare with the largest
        if bool(((whole - (h**2).sum(1)).abs() > tolerance * whole.max()).any()):
            return None
        series.append(h)
    # ρᵏ for all k: (n, terms) for flat entries, a block at a time
    flat, one, two = rho.reshape(-1), where[0].reshape(-1), where[1].reshape(-1)
    sums = [torch.empty_like(flat) for _ in series]
    for at in torch.arange(len(flat)).split(_BLOCK):
        powers = flat[at, None].expand(-1, terms).clone()
        powers[:, 0] = 1
        powers.cumprod_(1)
        for h, total in zip(series, sums):
            if len(h) == 1:
                total[at] = powers @ (h[0] ** 2)
            else:
                total[at] = torch.linalg.vecdot(h[one[at]] * h[two[at]], powers)
    return sums[0].view_as(rho), sums[1].view_as(rho)
