"""Where the samples, positions and channels of a user's tensor are.

Every random tensor is a view of a node, whose entries are (sample n, position p, channel c). Its
``ids`` say which entry of the node each entry of the user's tensor is,

.. math:: \\text{id} = (n P + p)\\, C + c, \\qquad -1 \\text{ where padding put a zero.}

Functions that only move entries act on ``ids`` as they act on the tensor, whatever they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Layout", "canonical_ids", "layout_of", "sample_split", "split_ids"]


@dataclass(frozen=True)
class Layout:
    """The axes of a tensor on a traced batch.

    Attributes
    ----------
    shape : tuple of int
        On the traced batch.
    sample : int or None
        The axis of samples; None if all samples share the tensor.
    inner, outer : int
        Entries behind and before each sample on that axis: above 1 where it was merged with
        others.
    channels : tuple of int
        Axes of channels.
    """

    shape: tuple[int, ...]
    sample: int | None
    inner: int
    channels: tuple[int, ...]
    outer: int = 1

    def to_rows(self, tensor: Tensor, batch: int) -> Tensor:
        """(samples, positions, channels) from a tensor of this layout on ``batch`` samples."""
        shape = self._full(batch)
        width = _product(shape[d] for d in self.channels)
        axes = range(len(shape))
        kept = [d for d in axes if d not in self.channels and d != self.sample]
        tensor = tensor.expand(shape)
        if self.sample is None:
            return tensor.permute(*kept, *self.channels).reshape(1, -1, width)
        at = self.sample
        tensor = tensor.unflatten(at, (self.outer, batch, self.inner))
        # axes behind the split one have moved up by two
        up = [d + 2 * (d > at) for d in axes]
        order = [at + 1]
        for d in axes:
            if d == at:
                order += [at, at + 2]
            elif d in kept:
                order.append(up[d])
        order += [up[d] for d in self.channels]
        return tensor.permute(*order).reshape(batch, -1, width)

    def from_rows(self, rows: Tensor, batch: int) -> Tensor:
        """A tensor of this layout from (samples, positions, channels)."""
        if self.sample is None:
            batch = 1
        index = torch.arange(rows[0].numel() * batch)
        where = self.to_rows(index.reshape(self._full(batch)), batch).reshape(-1)
        out = torch.empty_like(rows.reshape(-1))
        inverse = torch.empty_like(where)
        inverse[where] = torch.arange(len(where))
        out = rows.reshape(-1)[inverse]
        return out.reshape(self._full(batch))

    def _full(self, batch: int) -> list[int]:
        shape = list(self.shape)
        if self.sample is not None:
            shape[self.sample] = self.outer * batch * self.inner
        return shape


def _product(sizes) -> int:
    total = 1
    for size in sizes:
        total *= size
    return total


def canonical_ids(batch: int, positions: int, channels: int) -> Tensor:
    """All entries of a node in order, (batch, positions, channels).

    Parameters
    ----------
    batch, positions, channels : int
    """
    return torch.arange(batch * positions * channels).view(batch, positions, channels)


def split_ids(ids: Tensor, positions: int, channels: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sample, position and channel of each entry; of zeros from padding −1 each.

    Parameters
    ----------
    ids : Tensor
    positions, channels : int
        Of the node.
    """
    zero = ids < 0
    n = torch.div(ids, positions * channels, rounding_mode="floor")
    p = torch.div(ids, channels, rounding_mode="floor") % positions
    c = ids % channels
    return n.masked_fill(zero, -1), p.masked_fill(zero, -1), c.masked_fill(zero, -1)


def _varies(label: Tensor, dim: int) -> bool:
    """Whether a label differs along an axis, zeros from padding aside."""
    if label.shape[dim] < 2:
        return False
    high = label.amax(dim)
    low = label.masked_fill(label < 0, 1 << 60).amin(dim)
    return bool(((high > low) & (high >= 0)).any())


def layout_of(
    ids: Tensor, positions: int, channels: int, batch: int, channel_axes: tuple[int, ...] = ()
) -> Layout | None:
    """The layout of a view, None if it has none (an axis that mixes positions and channels).

    Parameters
    ----------
    ids : Tensor
    positions, channels : int
        Of the node.
    batch : int
        Samples in the trace.
    channel_axes : tuple of int
        Axes to be taken for channels whatever varies along them.
    """
    n, p, c = split_ids(ids, positions, channels)
    sample, found = None, []
    for dim in range(ids.ndim):
        if dim in channel_axes:
            found.append(dim)
            continue
        if _varies(n, dim):
            if sample is not None:
                return None
            sample = dim
        elif _varies(c, dim):
            if _varies(p, dim):
                return None
            found.append(dim)
    if sample is None:
        return Layout(tuple(ids.shape), None, 1, tuple(found))
    split = sample_split(n, sample, batch)
    if split is None:
        return None
    outer, inner = split
    if outer * inner > 1:
        parts = c.unflatten(sample, (outer, batch, inner))
        if _varies(parts, sample) or _varies(parts, sample + 2):
            return None
    return Layout(tuple(ids.shape), sample, inner, tuple(found), outer)


def sample_split(owner: Tensor, axis: int, batch: int) -> tuple[int, int] | None:
    """How an axis of samples is merged with others: entries before and behind; None if it isn't.

    Parameters
    ----------
    owner : Tensor
        The sample of each entry; −1 where it is none.
    axis, batch : int
    """
    size = owner.shape[axis]
    if size % batch:
        return None
    line = owner.movedim(axis, 0).reshape(size, -1).amax(1)
    changed = (line[1:] != line[:-1]).nonzero()
    inner = int(changed[0]) + 1 if len(changed) else size
    if (size // batch) % inner:
        return None
    outer = size // (batch * inner)
    parts = owner.unflatten(axis, (outer, batch, inner)).movedim(axis + 1, -1)
    pattern = torch.arange(batch)
    if bool(((parts != pattern) & (parts >= 0)).any()):
        return None
    return outer, inner
