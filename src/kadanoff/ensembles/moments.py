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

from kadanoff.errors import UsageError

__all__ = ["BINS", "Jackknife", "Measured", "Moments", "each_measured", "measured_jointly", "ready"]

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


@dataclass(frozen=True)
class Jackknife:
    """Numbers with each bin left out: their joint distribution, and that of any function of them.

    Attributes
    ----------
    h : Tensor, shape (B,)
        All networks over those of each bin.
    left_out : dict of str to Tensor, shape (B, …)
        Each number without the networks of one bin.
    """

    h: Tensor
    left_out: dict[str, Tensor]

    def measured(self, value: Tensor, without: Tensor) -> Measured:
        """A number with its standard error.

        Parameters
        ----------
        value : Tensor
            From all networks.
        without : Tensor, shape (B, …)
            The same without each bin.
        """
        bins = len(self.h)
        ratio = self.h.view(-1, *[1] * value.ndim)
        pseudo = ratio * value - (ratio - 1) * without
        mean = bins * value - ((1 - 1 / ratio) * without).sum(0)
        variance = ((pseudo - mean).square() / (ratio - 1)).mean(0)
        return Measured(value, _student(bins - 1) * variance.sqrt())

    def of(
        self, values: dict[str, Tensor], function: Callable[[dict[str, Tensor]], Tensor]
    ) -> Measured:
        """Any function of the numbers, with its standard error, correlations included.

        Parameters
        ----------
        values : dict of str to Tensor
            From all networks.
        function : callable
            From a dict like ``values`` to a tensor or a number.

        Raises
        ------
        UsageError
            It returns something else.
        """
        singles = [
            {name: left[bin] for name, left in self.left_out.items()} for bin in range(len(self.h))
        ]
        without = torch.stack([_number(function(single)) for single in singles])
        return self.measured(_number(function(values)), without)


def each_measured(values: dict[str, Tensor], joint: Jackknife | None) -> dict[str, Measured]:
    """Every number with its standard error; NaN where there are fewer than two bins."""
    if joint is None:
        return {k: Measured(v, torch.full_like(v, torch.nan)) for k, v in values.items()}
    return {k: joint.measured(v, joint.left_out[k]) for k, v in values.items()}


def measured_jointly(
    values: dict[str, Tensor],
    joint: Jackknife | None,
    function: Callable[[dict[str, Tensor]], Tensor],
) -> Measured:
    """A function of numbers with its standard error; NaN where there are fewer than two bins.

    Parameters
    ----------
    values : dict of str to Tensor
    joint : Jackknife or None
        Of the same names; None where it was not kept.
    function : callable
        From those values to a tensor or a number.
    """
    if joint is not None:
        return joint.of(values, function)
    value = _number(function(values))
    return Measured(value, torch.full_like(value, torch.nan))


def _number(found: object) -> Tensor:
    try:
        return torch.as_tensor(found, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise UsageError(
            f"The function gave a {type(found).__name__}.", "Return a tensor or a number."
        ) from None


def ready() -> None:
    """Import now what the first estimate needs: Ctrl-C must not meet a half-made import later."""
    _student(BINS - 1)


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
        return each_measured(*self.jackknife(function))

    def jackknife(
        self, function: Callable[[dict[str, Tensor]], dict[str, Tensor]]
    ) -> tuple[dict[str, Tensor], Jackknife | None]:
        """``function`` of the means, and of the means without each bin; None below two bins.

        Parameters
        ----------
        function : callable
            As :meth:`estimate` takes it.
        """
        used = torch.nonzero(self.counts).squeeze(1)
        counts = self.counts[used]
        total = counts.sum()
        whole = {name: value.sum(0) for name, value in self.sums.items()}
        values = function({name: value / total for name, value in whole.items()})
        if len(used) < 2:
            return values, None
        left: dict[str, Tensor] = {}
        for name, value in self.sums.items():
            rest = (total - counts).view(-1, *[1] * (value.ndim - 1))
            left[name] = (whole[name] - value[used]) / rest
        return values, Jackknife(total / counts, function(left))
