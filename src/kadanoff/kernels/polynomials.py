"""Several polynomials of one variable, evaluated together, in place, on cache-sized blocks."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "Polynomials",
    "chebyshev_coefficients",
    "chebyshev_nodes",
    "chebyshev_values",
    "well_conditioned",
]

# beyond this degree, powers are shared between the polynomials through one small matrix product
_HORNER = 15
# amplification of rounding by monomials that is still tolerated
_CONDITION = 300.0
_CHUNK = 8192


def chebyshev_nodes(count: int) -> Tensor:
    """The ``count`` Chebyshev points of the first kind in [−1, 1], float64."""
    k = torch.arange(count, dtype=torch.float64)
    return torch.cos(math.pi * (k + 0.5) / count)


def chebyshev_coefficients(values: Tensor) -> Tensor:
    """Coefficients (…, n) of the interpolant through values (…, n) at the Chebyshev points."""
    n = values.shape[-1]
    k = torch.arange(n, dtype=torch.float64)
    table = torch.cos(math.pi * k[:, None] * (k + 0.5) / n) * (2 / n)
    table[0] /= 2
    return values @ table.T


def chebyshev_values(coefficients: Tensor, x: Tensor) -> Tensor:
    """Σ c_k T_k(x) by Clenshaw: coefficients (P, n), x (…) -> (P, …)."""
    shape = (-1,) + (1,) * x.ndim
    b1 = b2 = torch.zeros((coefficients.shape[0], *x.shape), dtype=x.dtype)
    for k in range(coefficients.shape[1] - 1, 0, -1):
        b1, b2 = coefficients[:, k].reshape(shape) + 2 * x * b1 - b2, b1
    return coefficients[:, 0].reshape(shape) + x * b1 - b2


class Polynomials:
    """P polynomials on [−1, 1] given by Chebyshev coefficients (P, n).

    Low degrees use Horner with fused multiply-adds (if the monomials are well conditioned); high
    ones the baby steps T_0 … T_{k−1} in one small matrix product, and Clenshaw in T_k on top.
    """

    def __init__(
        self, coefficients: Tensor, dtype: torch.dtype, device: torch.device | str = "cpu"
    ) -> None:
        self.count, n = coefficients.shape
        self.degree = n - 1
        monomials = well_conditioned(coefficients)
        if monomials is not None:
            # one (P, 1, 1) coefficient a degree, highest first
            table = monomials.T.flip(0)[:, :, None, None].to(device, dtype)
            self.table = list(table.contiguous().unbind())
            self.baby = 0
        else:
            self.baby = max(2, min(8, round(math.sqrt(n))))
            blocks = _giant_blocks(coefficients, self.baby)  # P, giants, baby
            self.giants = blocks.shape[1]
            self.blocks = blocks.reshape(-1, self.baby).to(device, dtype)

    def __call__(self, x: Tensor, out: Tensor) -> None:
        """Evaluate at the contiguous block ``x`` (r, c) in [−1, 1] into ``out`` (P, r, c)."""
        if self.baby:
            flat, outs = x.view(-1), out.view(self.count, -1)
            chunk = _CHUNK if x.device.type == "cpu" else len(flat)
            for i in range(0, flat.numel(), chunk):
                self._giant(flat[i : i + chunk], outs[:, i : i + chunk])
            return
        table = self.table
        if len(table) == 1:
            out.copy_(table[0].expand_as(out))
            return
        torch.mul(x, table[0], out=out).add_(table[1])
        for c in table[2:]:
            torch.addcmul(c, out, x, out=out)

    def _giant(self, x: Tensor, out: Tensor) -> None:
        T = x.new_empty(self.baby, x.numel())
        T[0] = 1
        T[1] = x
        two_x = x * 2
        for k in range(2, self.baby):
            torch.mul(two_x, T[k - 1], out=T[k]).sub_(T[k - 2])
        # 2 T_k for the giant steps
        y = two_x.mul_(T[-1]).sub_(T[-2]).mul_(2)
        q = torch.mm(self.blocks, T).view(self.count, self.giants, -1)
        b1, b2 = q[:, self.giants - 1], None
        for j in range(self.giants - 2, 0, -1):
            row = q[:, j].addcmul_(y, b1)
            if b2 is not None:
                row.sub_(b2)
            b1, b2 = row, b1
        if self.giants == 1:
            out.copy_(b1)
            return
        # the last Clenshaw step multiplies by T_k, not by 2 T_k
        torch.addcmul(q[:, 0], y, b1, value=0.5, out=out)
        if b2 is not None:
            out.sub_(b2)


def well_conditioned(coefficients: Tensor, scale: Tensor | None = None) -> Tensor | None:
    """Monomial coefficients (P, n), or None where Horner would lose digits or be slow.

    ``scale`` is the size of the functions; by default that of their largest coefficients.
    """
    if coefficients.shape[1] > _HORNER + 1:
        return None
    monomials = _to_monomials(coefficients)
    if scale is None:
        scale = coefficients.abs().amax(1).clamp_min(1e-300)
    return monomials if bool((monomials.abs().sum(1) <= _CONDITION * scale).all()) else None


def _to_monomials(coefficients: Tensor) -> Tensor:
    n = coefficients.shape[1]
    table = torch.zeros(n, n, dtype=torch.float64)
    table[0, 0] = 1
    if n > 1:
        table[1, 1] = 1
    for k in range(2, n):
        table[k, 1:] = 2 * table[k - 1, :-1]
        table[k] -= table[k - 2]
    return coefficients @ table


def _giant_blocks(coefficients: Tensor, baby: int) -> Tensor:
    """Coefficients a[p, j, i] with Σ c_m T_m = Σ_j (Σ_i a_ji T_i) T_j(T_baby), 0 <= i < baby."""
    P, n = coefficients.shape
    giants = (n - 1) // baby + 1
    rest = torch.zeros(P, giants * baby, dtype=torch.float64)
    rest[:, :n] = coefficients
    out = torch.zeros(P, giants, baby, dtype=torch.float64)
    for j in range(giants - 1, 0, -1):
        # T_{jk+i} = 2 T_i T_{jk} − T_{jk−i}
        out[:, j, 0] = rest[:, j * baby]
        for i in range(1, baby):
            top = rest[:, j * baby + i].clone()
            out[:, j, i] = 2 * top
            rest[:, j * baby - i] -= top
    out[:, 0] = rest[:, :baby]
    return out
