"""Packages whose names are imported when they are first used, so that importing one costs nothing.

Such a package writes each of its names once, for type checkers and readers, as an import under
``if TYPE_CHECKING:`` of its ``__init__.py``; :func:`attach` reads them there.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from typing import Any

from kadanoff._moved import moved

__all__ = ["attach"]


def attach(package: str) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """Return the ``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    Parameters
    ----------
    package : str
        Its ``__name__``.
    """
    homes = _homes(package)

    def getattr_(name: str) -> Any:
        if name not in homes:
            now = moved(f"{package}.{name}")
            raise AttributeError(now or f"module {package!r} has no attribute {name!r}")
        module = homes[name]
        if module == package:
            return importlib.import_module(f"{package}.{name}")
        value = getattr(importlib.import_module(module), name)
        setattr(sys.modules[package], name, value)  # the next look finds it without us
        return value

    def dir_() -> list[str]:
        dunders = {name for name in vars(sys.modules[package]) if name.startswith("__")}
        return sorted({*homes, *dunders})

    return getattr_, dir_, list(homes)


def _homes(package: str) -> dict[str, str]:
    """Each public name and the module it comes from, as ``if TYPE_CHECKING:`` has them."""
    spec = sys.modules[package].__spec__
    source = spec.loader.get_data(spec.origin)  # pyright: ignore
    homes: dict[str, str] = {}
    for statement in ast.parse(source).body:
        if not (isinstance(statement, ast.If) and ast.unparse(statement.test) == "TYPE_CHECKING"):
            continue
        for line in statement.body:
            assert isinstance(line, ast.ImportFrom), ast.unparse(line)
            homes |= {alias.name: line.module or "" for alias in line.names}
    return homes
