"""``save`` and ``load``: one file a result, with the versions that made it."""

from __future__ import annotations

import datetime
import io
import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kadanoff.errors import StorageError, UsageError
from kadanoff.files import atomic_write
from kadanoff.results.codec import decode, encode
from kadanoff.style.json import versions

__all__ = ["from_plain", "load", "save", "to_plain"]

_FORMAT = "kadanoff result"
_SCHEMA = 1
_HEAD = "head.json"
_ENDINGS = (".npz", ".json")


def save(result: Any, path: str | os.PathLike[str]) -> Path:
    """Keep a result in one file, atomically.

    Parameters
    ----------
    result : object
        An architecture, activation, flow, ensemble, comparison, prediction, critical point,
        diagnosis, or a list, tuple or dict of these.
    path : path ending in ``.npz`` (compressed, for numbers) or ``.json`` (text, exact as well)

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    UsageError
        Another ending, or something that cannot be kept: an activation that is a lambda.
    StorageError
        The file cannot be written.

    Examples
    --------
    >>> import tempfile, kadanoff as kd
    >>> folder = tempfile.mkdtemp()
    >>> file = save(kd.criticality("relu"), f"{folder}/relu.json")
    >>> load(file).C_W
    2.0
    """
    path = Path(path)
    ending = _ending(path)
    if ending == ".json":
        atomic_write(path, json.dumps(to_plain(result), ensure_ascii=False, allow_nan=False))
        return path
    head, arrays = _written(result)
    stream = io.BytesIO()
    text = np.frombuffer(json.dumps(head, ensure_ascii=False).encode(), np.uint8)
    np.savez_compressed(stream, **{_HEAD: text, **arrays})  # pyright: ignore[reportArgumentType]
    atomic_write(path, stream.getvalue())
    return path


def load(path: str | os.PathLike[str], **given: Any) -> Any:
    """The result that :func:`save` kept; reading runs no code that the file brings.

    Parameters
    ----------
    path : path
    **given
        Activations that no file can hold, by the name they had: ``load(file, swoosh=swoosh)``.

    Raises
    ------
    StorageError
        It cannot be read, is no such file, is damaged, or is of a later version.
    UsageError
        It holds an activation that must be given, or the one given is another function.
    """
    path = Path(path)
    try:
        head, arrays = _read(path)
    except OSError as error:
        raise StorageError(f"Could not read {str(path)!r}: {error.strerror or error}.") from None
    except (ValueError, KeyError, zipfile.BadZipFile, EOFError) as error:
        raise StorageError(f"{str(path)!r} is no result kept by kadanoff.save ({error}).") from None
    return _result(head, arrays, given, repr(str(path)))


def to_plain(result: Any) -> dict[str, Any]:
    """A result as JSON values, its arrays as lists.

    Raises
    ------
    UsageError
        Something in it cannot be kept.
    """
    head, arrays = _written(result)
    return head | {"arrays": {name: _listed(array) for name, array in arrays.items()}}


def from_plain(head: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
    """The result that :func:`to_plain` wrote.

    Raises
    ------
    StorageError
        It is something else, or of another version.
    """
    try:
        arrays = {name: _unlisted(kept) for name, kept in head["arrays"].items()}
    except (KeyError, TypeError, AttributeError, ValueError):
        raise StorageError("This dict is no result kept by Kadanoff.") from None
    return _result(head, arrays, given, "This dict")


def _written(result: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    arrays: dict[str, np.ndarray] = {}
    head = {
        "format": _FORMAT,
        "schema": _SCHEMA,
        "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "versions": versions(),
        "result": encode(result, arrays),
    }
    return head, arrays


def _result(
    head: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    given: Mapping[str, Any],
    source: str,
) -> Any:
    if head.get("format") != _FORMAT:
        raise StorageError(f"{source} is no result kept by kadanoff.save.")
    if head.get("schema") != _SCHEMA:
        wrote = head.get("versions", {}).get("kadanoff", "another version")
        raise StorageError(
            f"{source} has schema {head.get('schema')}, this version reads {_SCHEMA}.",
            f"Read it with Kadanoff {wrote}.",
        )
    try:
        return decode(head["result"], arrays, given)
    except (StorageError, UsageError):
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{type(error).__name__}: {error}"
        raise StorageError(f"{source} is damaged ({what}).") from None


def _ending(path: Path) -> str:
    if path.suffix not in _ENDINGS:
        raise UsageError(
            f"{str(path)!r} must end in {' or '.join(_ENDINGS)}.",
            "Use .npz for numbers, .json to read it as text.",
        )
    return path.suffix


def _read(path: Path) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
    if _ending(path) == ".json":
        head = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(head, dict):
            raise ValueError("its top is no object")
        arrays = {name: _unlisted(kept) for name, kept in head.get("arrays", {}).items()}
        return head, arrays
    with np.load(path, allow_pickle=False) as kept:
        head = json.loads(kept[_HEAD].tobytes())
        return head, {name: kept[name] for name in kept.files if name != _HEAD}


def _listed(array: np.ndarray) -> dict[str, Any]:
    """An array as JSON: numbers as their shortest exact text, what is not finite as a string."""
    # complex numbers are pairs of real ones
    numbers = array.view(np.finfo(array.dtype).dtype) if array.dtype.kind == "c" else array
    flat = numbers.ravel().tolist()
    if numbers.dtype.kind == "f":
        flat = [x if np.isfinite(x) else repr(x) for x in flat]
    return {"dtype": str(array.dtype), "shape": list(array.shape), "numbers": flat}


def _unlisted(kept: dict[str, Any]) -> np.ndarray:
    dtype = np.dtype(kept["dtype"])
    flat = kept["numbers"]
    if dtype.kind in "fc":
        flat = [float(x) for x in flat]
    real = np.finfo(dtype).dtype if dtype.kind == "c" else dtype
    return np.array(flat, real).view(dtype).reshape(kept["shape"])
