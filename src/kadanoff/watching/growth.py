"""How fast a signal doubles, and how many steps are left until it meets a limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Growth", "about", "doubling", "in_steps"]

LOOKED_AT = 8  # frames
SURE = 4.0  # standard errors by which the slope differs from zero
FEWEST = 4


@dataclass(frozen=True)
class Growth:
    """Exponential growth of a positive signal.

    Attributes
    ----------
    steps : float
        Steps in which it doubles.
    stderr : float
        Their standard error.
    value : float
        The signal now, by the fit.
    since : int
        First step of the fit.
    """

    steps: float
    stderr: float
    value: float
    since: int

    @property
    def pace(self) -> str:
        """How fast it grows, in words."""
        if self.steps < 1:
            return f"grows by a factor of {2 ** min(1 / self.steps, 1000):.2g} a step"
        return f"doubles every {in_steps(self.steps)}"

    def until(self, limit: float) -> float:
        """Steps until the signal meets a limit if it goes on so; 0 if it has.

        Parameters
        ----------
        limit : float
        """
        if self.value >= limit:
            return 0.0
        return self.steps * math.log2(limit / self.value)


def doubling(steps: Sequence[int], values: Sequence[float]) -> Growth | None:
    r"""Fit exponential growth to the latest values, None if they do not surely grow.

    Least squares of :math:`\log_2 v` against the step; the slope must be four standard errors
    above zero, with errors taken from the residuals.

    Parameters
    ----------
    steps : sequence of int
    values : sequence of float
        Values that are not positive and finite are left out.
    """
    seen = [(s, math.log2(v)) for s, v in zip(steps, values) if v > 0 and math.isfinite(v)]
    seen = seen[-LOOKED_AT:]
    if len(seen) < FEWEST or seen[0][0] == seen[-1][0]:
        return None
    count = len(seen)
    middle = sum(s for s, _ in seen) / count
    mean = sum(v for _, v in seen) / count
    spread = sum((s - middle) ** 2 for s, _ in seen)
    slope = sum((s - middle) * (v - mean) for s, v in seen) / spread
    residual = sum((v - mean - slope * (s - middle)) ** 2 for s, v in seen)
    error = math.sqrt(residual / (count - 2) / spread)
    # growth must be told from noise, and be more than a creep: a tenth of a doubling altogether
    if slope <= SURE * error or slope * (seen[-1][0] - seen[0][0]) < 0.1:
        return None
    now = mean + slope * (seen[-1][0] - middle)
    return Growth(1 / slope, error / slope**2, 2.0**now, seen[0][0])


def in_steps(count: float) -> str:
    """A number of steps in words.

    Parameters
    ----------
    count : float
    """
    text = f"{count:.1f}" if count < 9.95 else f"{about(count)}"
    return f"{text.removesuffix('.0')} step{'' if text in ('1', '1.0') else 's'}"


def about(count: float) -> str:
    """A number to two figures, as one says it.

    Parameters
    ----------
    count : float
    """
    if count < 10:
        return f"{max(count, 1):.0f}"
    size = 10 ** (math.floor(math.log10(count)) - 1)
    return f"{round(count / size) * size:,.0f}"
