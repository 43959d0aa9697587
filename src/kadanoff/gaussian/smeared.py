"""Functions smeared by a Gaussian, for any mean and width at once: tables for expansions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["MOST_ORDERS", "Smeared"]

Function = Callable[[Tensor], Tensor]

MOST_ORDERS = 64
_U_NODES, _S_NODES = 320, 40
# ξ reaches past the turning point of the highest polynomial
_REACH, _STEP = 14.0, 0.1
# points and orders at which the tables are held against direct sums
_CHECKS = 17
_CHECKED_ORDERS = (0, 1, 4, 15, 40)

# which polynomials: first degree and step
_Kind = tuple[int, int]


@dataclass(frozen=True)
class _Group:
    """Columns whose polynomials in u are of one parity, with their coefficients (s, column, u)."""

    keys: list[tuple]
    kind: _Kind
    coefficients: Tensor


class Smeared:
    r"""Tables of ⟨f(u + sξ) He_m(ξ)⟩/√m! and of ⟨f(u + sξ) g(u + sξ)⟩, ξ a unit Gaussian.

    Parameters
    ----------
    functions : sequence of callables
    singles : sequence of int
        Functions that are wanted with every m.
    products : sequence of pairs of int
    scale : float
        Largest s; u reaches to ``reach * scale``.
    cut : float
        Relative size of what the polynomials leave out.
    """

    def __init__(
        self,
        functions: Sequence[Function],
        singles: Sequence[int],
        products: Sequence[tuple[int, int]],
        scale: float,
        reach: float,
        cut: float,
    ) -> None:
        self.singles, self.products = list(singles), list(products)
        self.scale, self.limit, self.cut = scale, reach * scale, cut
        self._functions = functions
        xi, taps = _taps(_STEP, MOST_ORDERS)
        bell = taps[:, 0]
        self._norms = [max(float(bell @ f(scale * xi) ** 4) ** 0.25, 1e-300) for f in functions]
        u = self.limit * _nodes(_U_NODES)
        s = 0.5 * scale * (1 + _nodes(_S_NODES))
        single = {k: [] for k in singles}
        double = {pair: [] for pair in products}
        for width in s:
            z = u[:, None] + width * xi
            f = {k: functions[k](z) for k in set(singles).union(*products)}
            for k, rows in single.items():
                rows.append(f[k] @ taps)
            for (k, l), rows in double.items():
                rows.append((f[k] * f[l]) @ bell)
        self._sizes = self._measure({k: torch.stack(v) for k, v in single.items()}, u, s)
        self._widths = s.flip(0).contiguous()
        columns: dict[tuple, Tensor] = {}
        for k, rows in single.items():
            table = torch.stack(rows)
            columns |= {("m", k, m): table[:, :, m] / self._norms[k] for m in range(MOST_ORDERS)}
        for (k, l), rows in double.items():
            size = self._norms[k] * self._norms[l]
            columns["product", k, l] = torch.stack(rows) / size
        to_u, to_s = _transform(_U_NODES), _transform(_S_NODES)
        self._columns = {key: to_s @ value @ to_u.T for key, value in columns.items()}
        self._kinds = {key: _kind(c) for key, c in self._columns.items()}
        self._groups: dict[tuple, list[_Group]] = {}
        lengths: dict[_Kind, int] = {}
        for group in self._grouped(tuple(singles), 0, MOST_ORDERS, torch.float64):
            lengths[group.kind] = group.coefficients.shape[2]
        self._lengths = lengths

    def defect(self) -> float:
        """Largest error of the tables at points between their nodes, relative to the norms.

        Far from the origin an error counts by the root of the Gaussian weight there.
        """
        u = self.limit * torch.linspace(0.013, 0.987, _CHECKS, dtype=torch.float64)
        s = self.scale * torch.linspace(0.03, 0.99, _CHECKS, dtype=torch.float64)
        orders = [m for m in _CHECKED_ORDERS if m < MOST_ORDERS]
        taps = _taps(_STEP / 4, max(orders) + 1)[1][:, orders]
        xi = _taps(_STEP / 4, 1)[0]
        z = u[:, None] + s[:, None] * xi
        weight = torch.exp(-0.25 * (u / self.scale) ** 2)
        rows = self.values(self.basis(u[:, None]), s, tuple(self.singles), 0, MOST_ORDERS)
        worst = 0.0
        for k in self.singles:
            exact = self._functions[k](z) @ taps
            table = torch.cat([rows["m", k, m] for m in orders], 1)
            off = (exact - table).abs() * weight[:, None] / self._norms[k]
            worst = max(worst, float(off.max()))
        return worst

    def norm(self, pattern: Sequence[int]) -> float:
        """Product of ⟨f⁴⟩^¼ at the largest variance: by Hölder it bounds the average."""
        return math.prod(self._norms[k] for k in pattern)

    def size(self, function: int, order: int, s: Tensor) -> Tensor:
        """Largest root mean square over u from this order on, relative to the function's norm.

        Parameters
        ----------
        function, order : int
            Which function, and from which order of its expansion on.
        s : Tensor
            Widths of the Gaussian.
        """
        at = torch.searchsorted(self._widths, s.clamp_max(self.scale)).clamp_max(_S_NODES - 1)
        return self._sizes[function][order].flip(0)[at]

    def basis(self, u: Tensor) -> dict[_Kind, Tensor]:
        """Polynomials at u (rows, nodes), each (degrees, rows, nodes)."""
        v = (u / self.limit).clamp(-1, 1)
        return {kind: _polynomials(v, *kind, n) for kind, n in self._lengths.items()}

    def values(
        self,
        basis: dict[_Kind, Tensor],
        s: Tensor,
        singles: tuple[int, ...],
        start: int,
        stop: int,
    ) -> dict[tuple, Tensor]:
        """Tables read at the points of ``basis``, in its precision, and widths s (rows,).

        Parameters
        ----------
        basis : dict
            From :meth:`basis`.
        s : Tensor, shape (rows,)
            Widths of the Gaussian.
        singles : tuple of int
            Functions that are wanted by themselves.
        start, stop : int
            Orders of the expansion.

        Returns
        -------
        dict
            ("m", function, order) for ``singles`` and orders start to stop and, if start is 0,
            ("product", function, function) -> Tensor of shape (rows, nodes).
        """
        t = (2 * s / self.scale - 1).clamp(-1, 1)
        dtype = next(iter(basis.values())).dtype
        out: dict[tuple, Tensor] = {}
        for group in self._grouped(singles, start, stop, dtype):
            degree, count, length = group.coefficients.shape
            front = _polynomials(t, 0, 1, degree).T.to(dtype) @ group.coefficients.flatten(1)
            rows = basis[group.kind][:length].transpose(0, 1)
            values = torch.bmm(front.view(-1, count, length), rows)
            out |= {key: values[:, c] for c, key in enumerate(group.keys)}
        return out

    def _measure(self, single: dict[int, Tensor], u: Tensor, s: Tensor) -> dict[int, Tensor]:
        """For each function (order, s)."""
        rest = (self.scale**2 - s**2).clamp_min(1e-4 * self.scale**2)
        weight = torch.exp(-0.5 * u**2 / rest[:, None]) * (1 - (u / self.limit) ** 2).sqrt()
        weight = weight / weight.sum(1, keepdim=True)
        found = {}
        for k, values in single.items():
            size = torch.einsum("su,sum->ms", weight, values**2).sqrt() / self._norms[k]
            # every other order of an even or odd function is small near u = 0
            found[k] = size.flip(0).cummax(0).values.flip(0)
        return found

    def _grouped(
        self, singles: tuple[int, ...], start: int, stop: int, dtype: torch.dtype
    ) -> list[_Group]:
        """The columns of some orders by parity in u, cut where nothing is left."""
        at = (singles, start, stop, dtype)
        if at in self._groups:
            return self._groups[at]
        sorted_keys: dict[_Kind, list[tuple]] = {}
        for key, kind in self._kinds.items():
            single = key[0] == "m"
            if (key[1] in singles and start <= key[2] < stop) if single else start == 0:
                sorted_keys.setdefault(kind, []).append(key)
        groups = []
        for kind, keys in sorted_keys.items():
            block = torch.stack([self._columns[key] for key in keys], 1)[:, :, kind[0] :: kind[1]]
            # (s, column, u): drop the tail of the polynomials
            size = block.abs()
            length = _last(size.amax((0, 1)) > self.cut / 10)
            degree = _last(size.amax((1, 2)) > self.cut / 10)
            norms = torch.tensor([self._norm_of(key) for key in keys], dtype=block.dtype)
            block = block[:degree, :, :length] * norms[:, None]
            groups.append(_Group(keys, kind, block.to(dtype).contiguous()))
        self._groups[at] = groups
        return groups

    def _norm_of(self, key: tuple) -> float:
        kind, k, l = key
        return self._norms[k] * (self._norms[l] if kind == "product" else 1.0)


def _taps(step: float, orders: int) -> tuple[Tensor, Tensor]:
    """Nodes ξ, and the weight of each times He_m(ξ)/√m!, (nodes, orders)."""
    count = round(_REACH / step)
    xi = step * torch.arange(-count, count + 1, dtype=torch.float64)
    bell = torch.exp(-0.5 * xi**2) * (step / math.sqrt(2 * math.pi))
    hermite = [torch.ones_like(xi), xi]
    for m in range(2, orders):
        # √m h_m = ξ h_{m-1} − √(m−1) h_{m-2}
        hermite.append((xi * hermite[-1] - math.sqrt(m - 1) * hermite[-2]) / math.sqrt(m))
    return xi, torch.stack(hermite[:orders], 1) * bell[:, None]


def _kind(column: Tensor) -> _Kind:
    size = column.abs()
    even, odd = float(size[:, ::2].max()), float(size[:, 1::2].max())
    small = 1e-13 * max(even, odd) + 1e-14
    return (0, 2) if odd < small else (1, 2) if even < small else (0, 1)


def _last(kept: Tensor) -> int:
    """Length up to the last entry that is kept, at least 1."""
    return int(kept.nonzero()[-1, 0]) + 1 if bool(kept.any()) else 1


def _nodes(count: int) -> Tensor:
    """Chebyshev points on (-1, 1), largest first."""
    return torch.cos(math.pi * (torch.arange(count, dtype=torch.float64) + 0.5) / count)


def _transform(count: int) -> Tensor:
    """Values at the Chebyshev points -> coefficients, (count, count)."""
    k = torch.arange(count, dtype=torch.float64)
    matrix = torch.cos(math.pi * k[:, None] * (k + 0.5) / count) * (2 / count)
    matrix[0] /= 2
    return matrix


def _polynomials(x: Tensor, start: int, stride: int, count: int) -> Tensor:
    """T_start, T_{start+stride}, ... at x, (count, *x.shape)."""
    out = x.new_empty(count, *x.shape)
    twice = 2 * x if stride == 1 else 4 * x**2 - 2  # 2 T_stride
    out[0] = x if start else 1.0
    if count > 1:
        # T_{start + stride} = 2 T_stride T_start - T_{|start - stride|}
        back = x if (start or stride == 1) else x.new_ones(x.shape)
        if start == 0:
            out[1] = 0.5 * twice
        else:
            out[1] = twice * out[0] - back
    for k in range(2, count):
        torch.mul(twice, out[k - 1], out=out[k])
        out[k] -= out[k - 2]
    return out
