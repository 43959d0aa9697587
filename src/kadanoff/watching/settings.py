"""What a user may give, checked before anything runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kadanoff.errors import UsageError

__all__ = ["counted", "listed"]


def counted(value: Any, name: str, remedy: str) -> int:
    """A whole number from 1 on.

    Parameters
    ----------
    value
    name, remedy : str
        What it is called, and what to do.

    Raises
    ------
    UsageError
        Something else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(f"{name} = {value!r} is no whole number from 1 on.", remedy)
    return value


def listed(value: Any) -> Sequence[Any]:
    """One, several or none, as a list.

    Parameters
    ----------
    value
    """
    if value is None:
        return ()
    return list(value) if isinstance(value, (list, tuple)) else [value]
