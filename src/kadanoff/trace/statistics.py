"""What is kept of a tensor: a handful of numbers per sample, reduced where it is made."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Statistics",
    "Units",
    "mean_and_error",
    "pair_correlation",
    "picks",
    "reduce",
    "rows_of",
    "thin",
]

SAMPLES = 32  # samples (rows, for correlations) that enter a statistic
ELEMENTS = 1 << 18  # elements a reduction looks at: below 1 % error on any second moment


@dataclass(frozen=True)
class Statistics:
    """Per-sample reductions of one tensor of shape (samples, ..., neurons).

    Attributes
    ----------
    shape : tuple of int
        Shape of the tensor itself.
    mean, second_moment, kurtosis : Tensor, shape (samples,)
        Over all entries of a sample; the excess kurtosis is ``(n+2)/n · <z⁴>/<z²>² − 3``, whose
        mean is exactly zero for independent Gaussian neurons.
    correlation : Tensor, shape (rows,) or (0,)
        For each row, the mean cosine with the other rows looked at.
    finite : Tensor, shape ()
        Whether all entries looked at are finite.
    """

    shape: tuple[int, ...]
    mean: Tensor
    second_moment: Tensor
    kurtosis: Tensor
    correlation: Tensor
    finite: Tensor


@dataclass(frozen=True)
class Units:
    """Counts of an activation's values.

    Attributes
    ----------
    zeros, near_zeros, saturated : Tensor, shape (samples,)
        Fractions per sample: exactly zero; below 0.01 of the root mean square; on a plateau of a
        bounded activation.
    dead : Tensor, shape ()
        Fraction of units that are silent on every sample; NaN where the notion has no meaning.
    n_units : int
    """

    zeros: Tensor
    near_zeros: Tensor
    saturated: Tensor
    dead: Tensor
    n_units: int


def rows_of(z: Tensor, channel: int = -1) -> Tensor:
    """View (B, n), (B, T, n) as rows of neurons; (B, C, H, W) as one row a sample."""
    if z.ndim <= 1:
        return z.reshape(1, -1)
    if z.ndim == 2:
        return z
    if channel == 1:
        return z.flatten(1)
    return z.reshape(-1, z.shape[-1])


def picks(count: int, device: torch.device | str = "cpu") -> Tensor:
    """Evenly spaced positions among ``count`` samples: those that enter a statistic."""
    return torch.linspace(0, count - 1, min(count, SAMPLES), device=device).round().long()


def thin(z: Tensor, channel: int) -> Tensor:
    """Evenly spaced samples (and positions) of a large tensor, so that reductions stay cheap."""
    if z.ndim < 2:
        return z.reshape(1, -1)
    if z.shape[0] > SAMPLES:
        z = z[picks(z.shape[0], z.device)]
    excess = z.numel() / ELEMENTS
    if excess > 1 and z.ndim > 2:
        # an odd stride meets even and odd positions alike
        stride = int(excess) | 1
        z = z.flatten(2)[:, :, ::stride] if channel == 1 else z.flatten(1, -2)[:, ::stride]
    return z


def reduce(z: Tensor, channel: int = -1) -> Statistics:
    """Reduce a tensor to :class:`Statistics`; never changes it and keeps no graph.

    Parameters
    ----------
    z : Tensor
    channel : int
        1 if neurons are counted by (channel, position) as in a convolution, −1 if the last axis
        holds the neurons and every other axis counts samples or positions.
    """
    with torch.no_grad():
        shape = tuple(z.shape)
        z = z.detach()
        z = thin(z, channel)
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        rows = rows_of(z, channel)
        square = rows * rows
        second = square.mean(-1)
        n = rows.shape[-1]
        fourth = (square * square).mean(-1)
        tiny = torch.finfo(rows.dtype).tiny
        kurtosis = (n + 2) / n * fourth / (second * second).clamp_min(tiny) - 3
        mean = rows.mean(-1)
        samples = z.shape[0] if rows.shape[0] % max(z.shape[0], 1) == 0 else rows.shape[0]
        if samples == 1:  # a single sequence: its positions must serve as samples
            samples = rows.shape[0]

        def by_sample(values: Tensor) -> Tensor:
            return values.reshape(samples, -1).mean(-1)

        return Statistics(
            shape,
            by_sample(mean),
            by_sample(second),
            by_sample(kurtosis),
            pair_correlation(rows),
            torch.isfinite(second).all(),
        )


def pair_correlation(rows: Tensor) -> Tensor:
    """Mean cosine of each row with the others; shape (rows looked at,), empty for one row."""
    count = rows.shape[0]
    if count < 2:
        return rows.new_zeros(0)
    if count > SAMPLES:
        rows = rows[picks(count, rows.device)]
        count = SAMPLES
    # squares of very large or small entries would leave the range of float32
    peak = rows.abs().amax(-1, keepdim=True)
    unit = torch.nn.functional.normalize(rows / peak.clamp_min(torch.finfo(rows.dtype).tiny))
    cosine = unit @ unit.T
    return (cosine.sum(-1) - cosine.diagonal()) / (count - 1)


def mean_and_error(values: Tensor, pairs: bool = False) -> tuple[float, float]:
    """Mean over samples and its standard error; NaN error for a single sample.

    ``pairs=True``: the values are row means of a symmetric table of pairs, whose grand mean has
    twice the standard error of independent values (Hoeffding, 1948).
    """
    values = values.double()
    count = values.numel()
    if count == 0:
        return math.nan, math.nan
    error = values.std().item() / math.sqrt(count) if count > 1 else math.nan
    return values.mean().item(), 2 * error if pairs else error
