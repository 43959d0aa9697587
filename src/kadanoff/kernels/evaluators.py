"""How a tile of inner products becomes a tile of kernels: three ways, one interface.

An evaluator is called as ``evaluator(rows, columns, s, out)``: ``s`` holds the products of its
``left`` and ``right`` rows in a block (it may be overwritten), ``out`` one block a function.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from kadanoff.activations import Activation
from kadanoff.architecture import Network
from kadanoff.gaussian import averages
from kadanoff.kernels.composite import Compiled
from kadanoff.kernels.layers import advance, propagate, walk_many
from kadanoff.rgflow.kernel import steps

__all__ = [
    "Composite",
    "DataRows",
    "Evaluator",
    "GramTask",
    "Layered",
    "UnitMap",
    "anywhere",
    "hide_diagonal",
    "homogeneous",
]

# 1 − ρ below which an inner product has lost the distance between two inputs to rounding
_NEAR = {torch.float64: 1e-9, torch.float32: 1e-2}


def homogeneous(arch: Network) -> bool:
    """Whether K(x, x') = |x||x'| κ(ρ): scale-invariant activations and no bias variance."""
    return not any(arch.C_b) and all(a.slopes is not None for a in arch.activations)


@dataclass
class DataRows:
    """Rows of one data set: the tensor, and the metric |x|²/n_0 of each in float64, both on the
    device of the tensor.
    """

    X: Tensor
    metric: Tensor

    @classmethod
    def of(cls, X: Tensor) -> DataRows:
        if X.dtype == torch.float64:
            square = torch.linalg.vecdot(X, X)
        else:
            square = torch.cat([(part.double() ** 2).sum(1) for part in X.split(4096)])
        return cls(X, square / X.shape[1])


@dataclass(frozen=True)
class GramTask:
    """What an evaluator is made for.

    Attributes
    ----------
    arch : Network
    one, two : DataRows
        The same object where the matrix is symmetric.
    equal : bool
        Whether all rows of both have one norm.
    names : tuple of {"nngp", "ntk"}
        Which kernels, in this order.
    accuracy : float
        Of compiled maps, relative to the largest entry.
    cache : dict
        Compiled maps, kept from one call to the next by what they depend on.
    """

    arch: Network
    one: DataRows
    two: DataRows
    equal: bool
    names: tuple[str, ...]
    accuracy: float
    cache: dict[tuple, Any]

    @property
    def symmetric(self) -> bool:
        return self.two is self.one


class Evaluator(Protocol):
    """Kernels of a tile from the inner products of its ``left`` and ``right`` rows."""

    left: Tensor
    right: Tensor

    def __call__(self, rows: slice, columns: slice, s: Tensor, out: Tensor) -> None: ...


class Composite:
    """One variable: the whole network compiled into polynomials of ρ.

    With unequal norms (homogeneous activations) the rows are normalised, and the part of the NTK
    that biases leave, which does not scale with the norms, is a third function.
    """

    def __init__(self, task: GramTask) -> None:
        arch, one, two, equal, names = task.arch, task.one, task.two, task.equal, task.names
        self.equal = equal
        self.names = names
        m = float(one.metric[0]) if equal else 1.0
        self.device = one.X.device
        self.split = not equal and any(arch.lambda_b) and "ntk" in names
        bare = replace(arch, lambda_b=(0.0,) * arch.L) if self.split else arch
        m11 = torch.tensor(m, dtype=torch.float64)
        K1 = arch.C_b[0] + arch.C_W[0] * m
        self.alpha = arch.C_b[0] / K1
        self.beta = arch.C_W[0] / (arch.n[0] * K1) if equal else 1.0

        def function(rho: Tensor) -> Tensor:
            m12 = (rho * K1 - arch.C_b[0]) / arch.C_W[0]
            a = m11.expand(len(rho))
            K, Theta = propagate(arch, a, m12, a)
            found = {"nngp": [K], "ntk": [Theta]}
            if self.split:
                scaling = propagate(bare, a, m12, a)[1]
                found["ntk"] = [scaling, Theta - scaling]
            return torch.stack([v for name in names for v in found[name]])

        key = (equal, m, names)
        if key not in task.cache:
            task.cache[key] = Compiled(function, task.accuracy)
        self.compiled: Compiled = task.cache[key]
        self.one, self.two = one, two
        self.left, self.scale1 = self._rows(one)
        self.right, self.scale2 = (self.left, self.scale1) if two is one else self._rows(two)

    def _rows(self, inputs: DataRows) -> tuple[Tensor, Tensor | None]:
        if self.equal:
            return inputs.X, None
        size = inputs.metric.sqrt()
        length = (size * inputs.X.shape[1] ** 0.5).clamp_min(1e-300)
        return (inputs.X / length[:, None]).to(inputs.X.dtype), size.to(inputs.X.dtype)

    def __call__(self, rows: slice, columns: slice, s: Tensor, out: Tensor) -> None:
        if self.two is self.one:
            hide_diagonal(s, rows, columns)
        low, high = (self.alpha + self.beta * float(v) for v in torch.aminmax(s))
        if 1 - high < _NEAR[s.dtype]:
            if s.dtype == torch.float32:
                self._in_double(rows, columns, out)
                return
            high = self._repair(rows, columns, s)
        self._map(rows, columns, s, out, low, high)

    def _map(
        self, rows: slice, columns: slice, s: Tensor, out: Tensor, low: float, high: float
    ) -> None:
        piece = self.compiled.piece(low, high, s.dtype, self.device)
        targets = s.new_empty(len(out) + 1, *s.shape) if self.split else out
        piece(s, self.alpha, self.beta, targets)
        if self.split:
            # the part of the NTK that does not scale follows the part that does
            at = self.names.index("ntk")
            kept = [i for i in range(len(targets)) if i != at + 1]
            out.copy_(targets[kept])
        if self.scale1 is not None and self.scale2 is not None:
            left, right = self.scale1[rows, None], self.scale2[columns]
            out.mul_(torch.mul(left, right, out=s))
        if self.split:
            out[at].add_(targets[at + 1])

    def _double_rows(self, rows: slice, inputs: DataRows) -> Tensor:
        X = inputs.X[rows].double()
        if self.equal:
            return X
        return X / (inputs.metric[rows, None] * X.shape[1]).sqrt().clamp_min(1e-300)

    def _in_double(self, rows: slice, columns: slice, out: Tensor) -> None:
        A, B = self._double_rows(rows, self.one), self._double_rows(columns, self.two)
        s = A @ B.T
        if self.two is self.one:
            hide_diagonal(s, rows, columns)
        low, high = (self.alpha + self.beta * float(v) for v in torch.aminmax(s))
        if 1 - high < _NEAR[s.dtype]:
            high = self._repair(rows, columns, s)
        results = s.new_empty(out.shape)
        self._map(rows, columns, s, results, low, high)
        out.copy_(results)

    def _repair(self, rows: slice, columns: slice, s: Tensor) -> float:
        """1 − ρ of nearly coincident inputs from their difference, exact for duplicates."""
        limit = (1 - _NEAR[torch.float64] - self.alpha) / self.beta
        where = (s > limit).nonzero()
        A, B = self._double_rows(rows, self.one), self._double_rows(columns, self.two)
        for part in where.split(4096):
            i, j = part.unbind(1)
            square = ((A[i] - B[j]) ** 2).sum(1)
            s[i, j] = (1 - self.alpha - 0.5 * self.beta * square) / self.beta
        return 1.0


def hide_diagonal(s: Tensor, rows: slice, columns: slice) -> None:
    """Coincident inputs have a closed form of their own; keep their ρ = 1 out of the range.

    Parameters
    ----------
    s : Tensor, shape (rows, columns)
        A tile of correlations; entries of coincident inputs are changed in place.
    rows, columns : slice
        Where the tile lies in the matrix.
    """
    if rows.start < columns.stop and columns.start < rows.stop and s.shape[1] > 1:
        offset = rows.start - columns.start
        filler = s[0, offset - 1] if offset > 0 else s[0, 1]
        s.diagonal(offset).fill_(float(filler))


class Layered:
    """Tile by tile through all layers while the tile is in cache: always applicable.

    Homogeneous activations use a compiled map of one layer; others their closed form, or
    quadrature.
    """

    def __init__(self, task: GramTask) -> None:
        arch, one, two = task.arch, task.one, task.two
        self.arch, self.names, self.one, self.two = arch, task.names, one, two
        self.left, self.right = one.X, two.X
        self.walk1 = [K for K, _ in walk_many(arch, one.metric, task.cache)]
        self.walk2 = self.walk1
        if not task.symmetric:
            self.walk2 = [K for K, _ in walk_many(arch, two.metric, task.cache)]
        unit = {act for act in arch.activations if act.slopes is not None}
        self.maps = {act: UnitMap(act, task.accuracy / arch.L) for act in unit}

    def __call__(self, rows: slice, columns: slice, s: Tensor, out: Tensor) -> None:
        arch = self.arch
        metric = s.double() / arch.n[0]
        m1, m2 = self.one.metric[rows, None], self.two.metric[None, columns]
        # nearly coincident inputs: from the difference, or rounding decides the angle
        near = (m1 + m2 - 2 * metric < 2 * _NEAR[s.dtype] * (m1 + m2)).nonzero()
        for part in near.split(4096):
            i, j = part.unbind(1)
            difference = self.one.X[rows][i].double() - self.two.X[columns][j].double()
            square = (difference**2).sum(1) / arch.n[0]
            metric[i, j] = (m1[i, 0] + m2[0, j] - square) / 2
        K = arch.C_b[0] + arch.C_W[0] * metric
        Theta = arch.lambda_b[0] + arch.lambda_W[0] * metric
        for l, step in enumerate(steps(arch)):
            average = self.maps.get(step.activation, anywhere)
            K11, K22 = self.walk1[l][rows, None], self.walk2[l][None, columns]
            K, Theta = advance(step, K11, K, K22, Theta, average)
        found = {"nngp": K, "ntk": Theta}
        for name, o in zip(self.names, out):
            o.copy_(found[name])


def anywhere(act: Activation, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """Averages on any device: what has no closed form is expanded or integrated on the CPU.

    Parameters
    ----------
    act : Activation
    a, b, c : Tensor, one shape
        K11, K12 and K22.
    """
    if b.device.type == "cpu":
        return averages(act, a, b, c)
    ss, dd = act.closed(0, 0, a, b, c), act.closed(1, 1, a, b, c)
    if ss is None or dd is None:
        ss, dd = averages(act, a.cpu(), b.cpu(), c.cpu())
    return ss.to(b.device), dd.to(b.device)


class UnitMap:
    """⟨σσ⟩ and ⟨σ'σ'⟩ of a homogeneous activation through polynomials of ρ."""

    def __init__(self, act: Activation, accuracy: float) -> None:
        unit = torch.ones((), dtype=torch.float64)
        self.act = act
        self.compiled = Compiled(
            lambda rho: torch.stack(averages(act, unit, rho, unit)), min(accuracy, 1e-11)
        )

    def __call__(self, act: Activation, a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        if bool((a == 0).any()) or bool((c == 0).any()):
            return anywhere(act, a, b, c)
        size = a.sqrt() * c.sqrt()
        rho = b / size
        # coincident inputs: the last digits would cost half of all digits in √(1−ρ)
        rho.masked_fill_(rho > 1 - 4e-15, 1.0)
        low, high = (float(v) for v in torch.aminmax(rho))
        shape, rho = rho.shape, rho.contiguous().view(1, -1)
        out = rho.new_empty(2, *rho.shape)
        self.compiled.piece(low, high, torch.float64, rho.device)(rho, 0.0, 1.0, out)
        ss, dd = out.view(2, *shape)
        return ss.mul_(size), dd
