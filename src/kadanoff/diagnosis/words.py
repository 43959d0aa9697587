"""Numbers in sentences: ``1.02(3)``."""

from __future__ import annotations

import math

__all__ = ["number"]


def number(value: float, error: float = math.nan) -> str:
    """A number with its standard error in units of the last digits shown."""
    if not math.isfinite(value):
        return str(value)
    if not math.isfinite(error) or error <= 0:
        return f"{value:.3g}"
    size = math.floor(math.log10(max(abs(value), error)))
    power = size if not -3 <= size < 5 else 0
    value, error = value / 10**power, error / 10**power
    place = math.floor(math.log10(error))
    if error / 10**place < 1.95:
        place -= 1
    digits = min(max(-place, 0), 6)
    last = max(round(error * 10**digits), 1)
    return f"{value:.{digits}f}({last})" + (f"e{power}" if power else "")
