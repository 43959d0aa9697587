"""Packages whose names are imported when they are first used, so that importing one costs nothing.

Type checkers and editors do not run this: for them each such package repeats its names in an
``if TYPE_CHECKING`` block, and a test holds the two against each other.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["attach"]


def attach(
    package: str, home: Mapping[str, str], modules: tuple[str, ...] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and ``__dir__`` of a package.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    home : mapping
        Each public name and the module that defines it.
    modules : tuple of str
        Submodules that are public names themselves.
    """

    def getattr_(name: str) -> Any:
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(home[name]), name)
        setattr(sys.modules[package], name, value)  # the next look finds it without us
        return value

    def dir_() -> list[str]:
        return sorted({*home, *modules, *vars(sys.modules[package])})

    return getattr_, dir_
