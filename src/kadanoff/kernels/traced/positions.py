"""Nodes that move, sum and average positions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kadanoff.kernels.traced.nodes import Environment, Node, Pair

__all__ = ["Convolved", "Gathered", "Joined", "Mean", "Resampled", "summed_over_shifts"]


class Gathered(Node):
    """Positions in another order, some of them, some several times; −1 is a zero."""

    def __init__(self, source: Node, index: Tensor, channels: int = 0, mask: int = 0) -> None:
        sources = source.sources
        if mask:
            sources = dict.fromkeys(source.sources, mask)
        channels = channels or source.channels
        super().__init__((source,), len(index), channels, source.gaussian, sources)
        self.index = index
        self.same = torch.equal(index, torch.arange(source.positions))
        self.holes = bool((index < 0).any())

    def centred(self) -> bool:
        return self.inputs[0].centred()

    def forward(self, env: Environment) -> Pair:
        full = env.full(self)
        S, T = env.get(self.inputs[0], full)
        if self.same:
            return S, T
        return self._taken(S, full), self._taken(T, full) if env.ntk else self._empty(S, full)

    def _empty(self, S: Tensor, full: bool) -> Tensor:
        count = len(self.index)
        return S.new_zeros((len(S), count, count) if full else (len(S), count))

    def _taken(self, S: Tensor, full: bool) -> Tensor:
        index = self.index.clamp_min(0)
        S = S[:, index]
        if full:
            S = S[:, :, index]
        if self.holes:
            there = (self.index >= 0).to(S.dtype)
            S = S * (there[:, None] * there if full else there)
        return S


class Joined(Node):
    """Positions of several inputs one after the other, independent of each other."""

    def __init__(self, parts: Sequence[Node], channels: int) -> None:
        positions = sum(part.positions for part in parts)
        super().__init__(parts, positions, channels, all(part.gaussian for part in parts))

    def centred(self) -> bool:
        return all(part.centred() for part in self.inputs)

    def forward(self, env: Environment) -> Pair:
        full = env.full(self)
        found = [env.get(part, full) for part in self.inputs]
        return self._joined([S for S, _ in found], full), self._joined([T for _, T in found], full)

    def _joined(self, blocks: list[Tensor], full: bool) -> Tensor:
        batch = max(len(b) for b in blocks)
        if not full:
            return torch.cat([b.expand(batch, -1) for b in blocks], 1)
        out = blocks[0].new_zeros(batch, self.positions, self.positions)
        at = 0
        for block in blocks:
            stop = at + block.shape[1]
            out[:, at:stop, at:stop] = block
            at = stop
        return out


class Convolved(Node):
    """K'[o, o'] = C_b + C_W/k Σ_u K[so + du − p, so' + du − p], the same u on both sides."""

    def __init__(
        self,
        source: Node,
        channels: int,
        C_W: float,
        C_b: float,
        rates: tuple[float, float],
        grid: tuple[int, ...],
        kernel: tuple[int, ...],
        stride: tuple[int, ...],
        padding: tuple[tuple[int, int], ...],
        dilation: tuple[int, ...],
        wide: bool,
    ) -> None:
        self.grid, self.kernel, self.stride = grid, kernel, stride
        self.padding, self.dilation = padding, dilation
        self.out = tuple(
            (n + low + high - d * (k - 1) - 1) // s + 1
            for n, k, s, (low, high), d in zip(grid, kernel, stride, padding, dilation)
        )
        positions = 1
        for n in self.out:
            positions *= n
        super().__init__((source,), positions, channels, gaussian=wide)
        self.C_W, self.C_b, self.rates = C_W, C_b, rates
        self.own_source()

    def demand(self, full: bool) -> bool:
        return full

    def centred(self) -> bool:
        return True

    def forward(self, env: Environment) -> Pair:
        full = env.full(self)
        S, T = env.get(self.inputs[0], full)
        S = self._sum(S, full)
        rate_W, rate_b = self.rates
        if env.ntk:
            T = self._sum(T, full).mul_(self.C_W)
            T.add_(S, alpha=rate_W).add_(rate_b)
        else:
            T = torch.zeros_like(S)
        return S.mul_(self.C_W).add_(self.C_b), T

    def _sum(self, S: Tensor, full: bool) -> Tensor:
        d, area = len(self.grid), 1
        out = S.reshape(len(S), *self.grid, *(self.grid if full else ()))
        for i in reversed(range(d)):
            axes = (1 + i, 1 + d + i) if full else (1 + i,)
            out = summed_over_shifts(
                out, axes, self.kernel[i], self.stride[i], self.padding[i], self.dilation[i]
            )
            area *= self.kernel[i]
        shape = (len(S), self.positions, self.positions) if full else (len(S), self.positions)
        return out.reshape(shape).mul_(1 / area)


def summed_over_shifts(
    S: Tensor, axes: tuple[int, ...], size: int, stride: int, pad: tuple[int, int], dilation: int
) -> Tensor:
    """Σ_u S[…, s o + d u − pad, …], the same u along all of ``axes``; zero outside.

    Parameters
    ----------
    S : Tensor
    axes : tuple of int
        Of the same length each.
    size, stride, dilation : int
    pad : (int, int)
        Before and after.
    """
    if size == 1 and stride == 1 and pad == (0, 0):
        return S.clone()
    n = S.shape[axes[0]]
    count = (n + sum(pad) - dilation * (size - 1) - 1) // stride + 1
    shape = list(S.shape)
    for axis in axes:
        shape[axis] = count
    out = S.new_zeros(shape)
    for u in range(size):
        shift = dilation * u - pad[0]
        first = max(0, -(shift // stride))
        last = min(count - 1, (n - 1 - shift) // stride)
        if last < first:
            continue
        source, target = [slice(None)] * S.ndim, [slice(None)] * S.ndim
        low = first * stride + shift
        for axis in axes:
            source[axis] = slice(low, low + (last - first) * stride + 1, stride)
            target[axis] = slice(first, last + 1)
        out[tuple(target)] += S[tuple(source)]
    return out


class Mean(Node):
    """The mean over groups of positions, ``groups`` (P', M), times a number."""

    mixes = True

    def __init__(self, source: Node, groups: Tensor, factor: float = 1.0) -> None:
        super().__init__((source,), len(groups), source.channels, source.gaussian)
        self.groups, self.factor = groups, factor
        whole = torch.sort(groups.reshape(-1)).values
        self.whole = len(groups) == 1 and torch.equal(whole, torch.arange(source.positions))

    def centred(self) -> bool:
        return self.inputs[0].centred()

    def forward(self, env: Environment) -> Pair:
        full = env.full(self)
        S, T = env.get(self.inputs[0], True)
        return self._mean(S, full), self._mean(T, full)

    def _mean(self, S: Tensor, full: bool) -> Tensor:
        factor = self.factor**2
        if self.whole:
            out = S.mean((1, 2), keepdim=True)
        else:
            count, each = self.groups.shape
            index = self.groups.reshape(-1)
            out = S[:, index].view(len(S), count, each, -1).mean(2)
            out = out[:, :, index].view(len(S), count, count, each).mean(3)
        out = out * factor
        return out if full else out.diagonal(dim1=1, dim2=2)


class Resampled(Node):
    """A linear map over positions that a torch function computes: pooling, resizing."""

    mixes = True

    def __init__(
        self,
        source: Node,
        call: Callable[[Tensor], Tensor],
        grid: tuple[int, ...],
        out: tuple[int, ...],
    ) -> None:
        positions = 1
        for n in out:
            positions *= n
        super().__init__((source,), positions, source.channels, source.gaussian)
        self.call, self.grid = call, grid

    def centred(self) -> bool:
        return self.inputs[0].centred()

    def forward(self, env: Environment) -> Pair:
        full = env.full(self)
        S, T = env.get(self.inputs[0], True)
        S = self._mapped(S)
        T = self._mapped(T) if env.ntk else torch.zeros_like(S)
        return (S, T) if full else (S.diagonal(dim1=1, dim2=2), T.diagonal(dim1=1, dim2=2))

    def _mapped(self, S: Tensor) -> Tensor:
        for _ in range(2):
            # one side, then the other
            count = S.shape[1]
            found = self.call(S.reshape(-1, 1, *self.grid))
            S = found.reshape(len(S), count, -1).mT
        return S
