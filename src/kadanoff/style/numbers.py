"""Numbers as people read them: ``1.02(3)``, ``4.2e-07``, ``12.3%``."""

from __future__ import annotations

import math

__all__ = ["data_size", "percent", "short", "uncertain"]


def short(value: float | None, digits: int = 3) -> str:
    """Write a number with ``digits`` significant figures; ``-`` stands for a missing one."""
    if value is None or math.isnan(value):
        return "-"
    if math.isinf(value):
        return "inf" if value > 0 else "-inf"
    if value == 0:
        return "0"
    # the size after rounding: 0.99996 is 1.00, not 1.000
    size = int(f"{value:.{digits - 1}e}".split("e")[1])
    if not -3 <= size < 5:
        mantissa, exponent = f"{value:.{max(digits - 2, 0)}e}".split("e")
        return f"{mantissa}e{int(exponent)}"
    return f"{value:.{max(digits - 1 - size, 0)}f}"


def uncertain(value: float | None, error: float | None = None) -> str:
    """Write ``value`` with its standard error in units of the last digits: ``1.02(3)``.

    The error keeps one digit, two if the first of them is 1; so ``uncertain(0.58123, 0.0123)``
    is ``0.581(12)``. Without a usable error the number has three significant figures. Very large
    and very small numbers carry an exponent after the bracket, ``4.21(6)e-7``.
    """
    if value is None or math.isnan(value) or math.isinf(value):
        return short(value)
    if error is None or not math.isfinite(error) or error <= 0:
        return short(value)
    scale = max(abs(value), error)
    size = math.floor(math.log10(scale))
    exponent = size if not -2 <= size < 5 else 0
    value, error = float(value / 10**exponent), float(error / 10**exponent)
    place = math.floor(math.log10(error))
    if error / 10**place < 1.95:
        place -= 1
    elif error / 10**place >= 9.5:  # rounds up to the next decade
        place += 1
    decimals = max(-place, 0)
    if decimals > 6:  # a nearly exact number: the digits would say nothing
        return short(value * 10**exponent, 6)
    last = round(error / 10**-decimals) if decimals else round(error)
    if place > 0:  # 1234(50): no digits finer than the error
        value, last = round(value, -place), round(error, -place)
    tail = f"e{exponent}" if exponent else ""
    return f"{value:.{decimals}f}({last:g}){tail}"


def percent(value: float | None) -> str:
    """Write a fraction as a percentage, without pretending that a small one is zero."""
    if value is None or math.isnan(value):
        return "-"
    if value == 0:
        return "0%"
    if value < 0.001:
        return "<0.1%"
    return f"{100 * value:.1f}%"


def data_size(count: float) -> str:
    """Write a number of bytes: ``4.19 MB``."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"
