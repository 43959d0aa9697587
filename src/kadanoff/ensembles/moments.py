"""Sums over networks in a fixed number of bins: mergeable, of constant memory, with errors.

Every function of the means, linear or not (a covariance is not), gets its standard error from the
jackknife over bins: leave one bin out, see how much the result moves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["BINS", "Measured", "Moments"]

BINS = 64


@dataclass(frozen=True)
class Measured:
    """A measured value with its standard error, of the same shape."""

    value: Tensor
    stderr: Tensor

    def __repr__(self) -> str:
        shape = tuple(self.value.shape)
        return f"Measured(shape={shape}, largest error {float(self.stderr.max()):.2g})"


@lru_cache(maxsize=BINS)
def _student(freedom: int) -> float:
    """Half the width of the interval that holds 68.3 %, for an error with so many degrees."""
    from scipy.stats import norm, t

    return float(t.ppf(norm.cdf(1.0), freedom))


class Moments:
    """Accumulates sums of channels; the piece ``i`` of the stream goes to bin ``i mod BINS``.

    Attributes
    ----------
    counts : Tensor, shape (BINS,)
        Networks in each bin.
    sums : dict of Tensor, shape (BINS, ...)
    pieces : int
        Pieces added so far.
    """

    def __init__(self) -> None:
        self.counts = torch.zeros(BINS, dtype=torch.float64)
        self.sums: dict[str, Tensor] = {}
        self.pieces = 0

    @property
    def n(self) -> int:
        """Networks so far."""
        return int(self.counts.sum())

    def add(self, count: int, sums: dict[str, Tensor]) -> None:
        """Add the next piece: sums over ``count`` networks."""
        for name, value in sums.items():
            if name not in self.sums:
                self.sums[name] = torch.zeros(BINS, *value.shape, dtype=torch.float64)
            self.sums[name][self.pieces % BINS] += value
        self.counts[self.pieces % BINS] += count
        self.pieces += 1

    def merge(self, other: Moments) -> None:
        """Add what another accumulator holds, bin by bin."""
        for name, value in other.sums.items():
            self.sums[name] = self.sums[name] + value if name in self.sums else value.clone()
        self.counts = self.counts + other.counts
        self.pieces += other.pieces

    def estimate(
        self, function: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    ) -> dict[str, Measured]:
        """``function`` of the means, with jackknife errors: dict of name to :class:`Measured`.

        Parameters
        ----------
        function : callable
            From mean channels, with one or no leading axis, to results with the same axis.

        Notes
        -----
        Bins may hold different numbers of networks (delete-m_j jackknife: Busing, Meijer and
        van der Leeden 1999). Few bins know their own scatter badly: the error is widened by
        Student's factor, so that one standard error holds 68 % from two bins on. With fewer than
        two bins the errors are NaN.
        """
        used = torch.nonzero(self.counts).squeeze(1)
        counts = self.counts[used]
        total = counts.sum()
        whole = {name: value.sum(0) for name, value in self.sums.items()}
        values = function({name: value / total for name, value in whole.items()})
        if len(used) < 2:
            return {k: Measured(v, torch.full_like(v, torch.nan)) for k, v in values.items()}
        left: dict[str, Tensor] = {}
        for name, value in self.sums.items():
            rest = (total - counts).view(-1, *[1] * (value.ndim - 1))
            left[name] = (whole[name] - value[used]) / rest
        without = function(left)
        h = total / counts
        widen = _student(len(used) - 1)
        out = {}
        for name, value in values.items():
            ratio = h.view(-1, *[1] * value.ndim)
            pseudo = ratio * value - (ratio - 1) * without[name]
            mean = len(used) * value - ((1 - 1 / ratio) * without[name]).sum(0)
            variance = ((pseudo - mean).square() / (ratio - 1)).mean(0)
            out[name] = Measured(value, widen * variance.sqrt())
        return out
