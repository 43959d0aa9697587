"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from kadanoff.errors import StorageError

__all__ = ["atomic_open", "atomic_write", "jsonable", "make_folder", "write_json"]


@contextmanager
def atomic_open(path: str | os.PathLike[str], mode: str = "wb") -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path`` and rename it over ``path`` on success.

    An exception leaves the old file as it was and removes the temporary one.

    Raises
    ------
    StorageError
        The folder is missing or read-only, or the disk is full.
    """
    target = Path(path)
    text = "b" not in mode
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent or ".")
        # mkstemp makes the file private; the user expects what open() would have given
        umask = os.umask(0)
        os.umask(umask)
        os.fchmod(handle, 0o666 & ~umask)
        with os.fdopen(handle, mode, encoding="utf-8" if text else None) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except OSError as error:
        _remove(temporary)
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"Could not write {str(target)!r}: {error.strerror or error}.",
            "Check that the folder exists, is writable and has space left.",
        ) from error
    except BaseException:
        _remove(temporary)
        raise


def _remove(path: str) -> None:
    if path and os.path.exists(path):
        os.unlink(path)


def atomic_write(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write ``content`` to ``path`` all at once or not at all (see :func:`atomic_open`)."""
    with atomic_open(path, "w" if isinstance(content, str) else "wb") as stream:
        stream.write(content)


def make_folder(path: str | os.PathLike[str], remedy: str) -> Path:
    """Make a folder and those above it, and return its path.

    Raises
    ------
    StorageError
        It cannot be made; the message ends with ``remedy``.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            f"Could not make the folder {str(folder)!r}: {error.strerror}.", remedy
        ) from error
    return folder


def jsonable(value: Any) -> Any:
    """Turn tensors, arrays, dataclasses, paths and non-finite floats into JSON values.

    NaN and infinities become ``None`` and strings respectively, as JSON has neither.
    """
    import dataclasses
    import math

    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: jsonable(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [jsonable(item) for item in value]
    tolist: Callable[[], Any] | None = getattr(value, "tolist", None)
    if tolist is not None:
        return jsonable(tolist())
    return str(value)


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write ``value`` as indented JSON, atomically; converts with :func:`jsonable`."""
    atomic_write(path, json.dumps(jsonable(value), indent=1, ensure_ascii=False) + "\n")
