"""Finding the object behind ``package.module:name`` or ``path/to/file.py:name``."""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from kadanoff.errors import DataError, UsageError

__all__ = ["attribute", "names_object", "where"]

_LOADED: dict[tuple[str, float], ModuleType] = {}

_HERE = Path(__file__).parent.parent


def attribute(spec: str, *, what: str) -> Any:
    """Import a module or file and return the named (possibly dotted) attribute of it.

    Parameters
    ----------
    spec : str
        ``package.module:name`` (the current folder is importable) or ``path/to/file.py:name``.
    what : str
        ``"data"`` or ``"target"``, for messages.

    Raises
    ------
    UsageError
        The file, module or attribute is missing, or importing it fails. For ``"data"`` the
        subclass :class:`DataError`.
    """
    failure = DataError if what == "data" else UsageError
    place, _, name = spec.rpartition(":")
    if not names_object(spec):
        raise failure(f"{spec!r} names no {what}.", "Write path/to/file.py:name or module:name.")
    module = _from_file(place, failure) if place.endswith(".py") else _by_name(place, failure)
    value: Any = module
    for part in name.split("."):
        if not hasattr(value, part):
            public = _public(value)
            near = difflib.get_close_matches(part, public, n=3, cutoff=0.5)
            shown = ", ".join(repr(n) for n in (near or public[:8]))
            hint = "Did you mean" if near else "It has"
            raise failure(
                f"{place!r} has no attribute {part!r}.",
                f"{hint} {shown}{'?' if near else '.'}" if shown else "It defines nothing public.",
            )
        value = getattr(value, part)
    return value


def names_object(spec: str) -> bool:
    """Whether a word has the form ``module:name`` or ``path/to/file.py:name``."""
    place, _, name = spec.rpartition(":")
    return bool(place and name)


def _public(module: Any) -> list[str]:
    own = getattr(module, "__name__", None)
    names = [n for n in dir(module) if not n.startswith("_")]
    # what the module merely imported is no candidate
    return [
        n
        for n in names
        if not isinstance(getattr(module, n), ModuleType)
        and getattr(getattr(module, n), "__module__", own) == own
    ]


def _from_file(place: str, failure: type[UsageError]) -> ModuleType:
    path = Path(place)
    if not path.is_file():
        folder = path.parent if path.parent.is_dir() else Path()
        near = difflib.get_close_matches(path.name, os.listdir(folder), n=1)
        hint = f"Did you mean {str(folder / near[0])!r}?" if near else "Check the path."
        raise failure(f"There is no file {place!r}.", hint)
    resolved = path.resolve()
    key = (str(resolved), resolved.stat().st_mtime)
    if key not in _LOADED:
        name = f"_kadanoff_target_{resolved.stem}_{len(_LOADED)}"
        loader = importlib.util.spec_from_file_location(name, resolved)
        if loader is None or loader.loader is None:
            raise failure(f"{place!r} cannot be imported.", "Is it a Python file?")
        module = importlib.util.module_from_spec(loader)
        sys.modules[name] = module  # dataclasses and pickling look themselves up there
        try:
            with _importable(str(resolved.parent)), _import_errors(place, failure):
                loader.loader.exec_module(module)
        except BaseException:
            sys.modules.pop(name, None)
            raise
        _LOADED[key] = module
    return _LOADED[key]


def _by_name(place: str, failure: type[UsageError]) -> ModuleType:
    with _importable(os.getcwd()):
        try:
            found = importlib.util.find_spec(place)
        except (ImportError, ValueError, AttributeError):
            found = None
        if found is None and place not in sys.modules:
            hint = "a path ends in .py, a module is importable from here"
            raise failure(f"There is no module {place!r}.", f"Check the name ({hint}).")
        with _import_errors(place, failure):
            return importlib.import_module(place)


@contextmanager
def _importable(folder: str) -> Iterator[None]:
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


@contextmanager
def _import_errors(place: str, failure: type[UsageError]) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit) as error:
        raise failure(
            f"Importing {place!r} failed: {type(error).__name__}: {error}{where(error)}",
            "Fix the file, or install what it imports.",
        ) from error


def where(error: BaseException) -> str:
    """Return `` (file.py, line 12)`` of the innermost frame outside the import machinery."""
    if isinstance(error, SyntaxError) and error.lineno:
        return ""  # the message has the place already
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if not f.filename.startswith("<") and not f.filename.startswith(str(_HERE))
    ]
    return f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
