"""Reading arrays and tables from files; every complaint names the file and what to change."""

from __future__ import annotations

import csv
import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kadanoff.data.batch import Batch, check_inputs, check_targets
from kadanoff.data.built_in import standardise
from kadanoff.errors import DataError, require_extra

__all__ = [
    "SUFFIXES",
    "from_arrays",
    "labelled",
    "read_file",
    "tensor",
]

INPUT_KEYS = ("X", "x", "inputs", "input", "input_ids", "data", "features")
TARGET_KEYS = ("y", "Y", "targets", "target", "labels", "label", "class")


def read_file(path: Path, column: str | None) -> Batch:
    """Read a data file; ``column`` names the target of a table or the array of an archive.

    Raises
    ------
    DataError
        The file is missing, broken, empty, or holds no usable numbers.
    """
    name = repr(str(path))
    if not path.exists():
        near = difflib.get_close_matches(path.name, _neighbours(path), n=1)
        hint = f"Did you mean {near[0]!r}?" if near else "Check the path."
        raise DataError(f"There is no data file {name}.", hint)
    if path.is_dir():
        raise DataError(f"{name} is a folder, not a data file.", "Name one file in it.")
    reader = SUFFIXES[path.suffix.lower()]
    try:
        return reader(path, column)
    except DataError:
        raise
    except ImportError:
        raise
    except Exception as error:
        # a broken file fails in as many ways as there are formats; all of them are the user's
        first = str(error).strip().splitlines() or [""]
        raise DataError(
            f"Could not read {name} as {path.suffix}: {type(error).__name__}: {first[0][:160]}",
            "Check that the file is complete and of the kind its name says.",
        ) from error


def _neighbours(path: Path) -> list[str]:
    try:
        return [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return []


def tensor(value: Any, name: str) -> torch.Tensor:
    """Convert an array to a tensor; refuses what is not a real or integer number."""
    if isinstance(value, torch.Tensor):
        return value.detach()
    array = np.asarray(value)
    if array.dtype == object or array.dtype.kind not in "biufc":
        raise DataError(f"{name} holds {array.dtype} values, not numbers.", "Give a numeric array.")
    if array.dtype == np.float16 or array.dtype.kind in "bic":
        return torch.tensor(array)
    if array.dtype.kind == "u":
        return torch.tensor(array.astype(np.int64))
    return torch.tensor(array.astype(np.float64 if array.dtype.itemsize >= 8 else np.float32))


def from_arrays(inputs: Any, targets: Any, name: str) -> Batch:
    """Make a checked :class:`Batch` of two arrays or tensors (``targets`` may be None).

    Parameters
    ----------
    inputs, targets : array or Tensor, the samples along the first axis
    name : str
        What the data is called in messages.
    """
    x = tensor(inputs, name)
    if x.ndim == 1:
        raise DataError(
            f"{name} has shape {tuple(x.shape)}; samples must come along a first axis.",
            "Reshape to (samples, features): x.reshape(-1, 1) for one feature, "
            "x.reshape(1, -1) for one sample.",
        )
    check_inputs(x, name)
    return labelled(x, targets, name)


def labelled(x: Any, targets: Any, name: str) -> Batch:
    """Put checked inputs (a tensor, or tensors in a dict or tuple) and targets together.

    Parameters
    ----------
    x : Tensor, or a dict or tuple of them
    targets : array or Tensor, or None
    name : str
        What the data is called in messages.
    """
    if targets is None:
        return Batch(x, None, name.strip("'"))
    y = tensor(targets, f"The target array of {name}")
    check_targets(y, len(Batch(x, None, name)), name)
    if y.is_floating_point():
        y = y[:, None] if y.ndim == 1 else y
        return Batch(x, y, name.strip("'"), "regression")
    return Batch(x, y.long(), name.strip("'"), "classification", int(y.max()) + 1)


def _npy(path: Path, column: str | None) -> Batch:
    return from_arrays(np.load(path, allow_pickle=False), None, repr(str(path)))


def _npz(path: Path, column: str | None) -> Batch:
    with np.load(path, allow_pickle=False) as archive:
        return _mapping(dict(archive), column, path)


def _safetensors(path: Path, column: str | None) -> Batch:
    library = require_extra("safetensors.torch", "files")
    return _mapping(library.load_file(str(path)), column, path)


def _pt(path: Path, column: str | None) -> Batch:
    # weights_only: a data file must not be able to run code
    content = torch.load(path, map_location="cpu", weights_only=True)
    if isinstance(content, Mapping):
        return _mapping(content, column, path)
    if isinstance(content, (tuple, list)) and len(content) == 2:
        return from_arrays(content[0], content[1], repr(str(path)))
    if isinstance(content, torch.Tensor):
        return from_arrays(content, None, repr(str(path)))
    raise DataError(
        f"{str(path)!r} holds a {type(content).__name__}.",
        "Save a tensor, a pair (inputs, targets) or a dict of tensors.",
    )


def _mapping(arrays: Mapping[str, Any], column: str | None, path: Path) -> Batch:
    keys = [str(key) for key in arrays]
    if column is not None and column not in keys:
        raise DataError(f"{str(path)!r} has no array {column!r}.", f"It has: {_listed(keys)}.")
    target = column or next((k for k in TARGET_KEYS if k in keys), None)
    rest = [key for key in keys if key != target]
    chosen = next((k for k in INPUT_KEYS if k in rest), rest[0] if len(rest) == 1 else None)
    if chosen is None:
        raise DataError(
            f"{str(path)!r} does not say which array holds the inputs; it has: {_listed(keys)}.",
            "Name the inputs 'X' and the targets 'y'.",
        )
    return from_arrays(arrays[chosen], arrays[target] if target else None, repr(str(path)))


def _csv(path: Path, column: str | None) -> Batch:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        sample = stream.read(65536)
        stream.seek(0)
        delimiter = max(",;\t", key=sample.split("\n", 1)[0].count)
        rows = [row for row in csv.reader(stream, delimiter=delimiter) if any(row)]
    if not rows:
        raise DataError(f"{str(path)!r} is empty.", "Give a table with one sample a row.")
    headed = not all(_is_number(cell) for cell in rows[0])
    header = [h.strip() for h in rows[0]] if headed else [f"column{i}" for i in range(len(rows[0]))]
    body = rows[1:] if headed else rows
    for number, row in enumerate(body, start=2 if headed else 1):
        if len(row) != len(header):
            raise DataError(
                f"Row {number} of {str(path)!r} has {len(row)} cells, the first has {len(header)}.",
                "Give every row the same number of columns.",
            )
    columns = {name: [row[i].strip() for row in body] for i, name in enumerate(header)}
    return _table(columns, column, path, first_row=2 if headed else 1)


def _parquet(path: Path, column: str | None) -> Batch:
    library = require_extra("pyarrow.parquet", "files")
    content = library.read_table(str(path))
    columns = {name: content.column(name).to_pylist() for name in content.column_names}
    return _table(columns, column, path, first_row=1)


def _table(columns: dict[str, list[Any]], column: str | None, path: Path, first_row: int) -> Batch:
    name = repr(str(path))
    if column is not None and column not in columns:
        near = difflib.get_close_matches(column, columns, n=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"It has: {_listed(list(columns))}."
        raise DataError(f"{name} has no column {column!r}.", hint)
    if not columns or not next(iter(columns.values())):
        raise DataError(f"{name} has a header but no rows.", "Give some samples.")
    target = column or next((k for k in columns if k.lower() in TARGET_KEYS), None)
    features = {key: cells for key, cells in columns.items() if key != target}
    if not features:
        raise DataError(f"{name} has no column besides the target.", "Give some features.")
    matrix = [_numbers(cells, key, name, first_row) for key, cells in features.items()]
    x = torch.tensor(np.stack(matrix, axis=1), dtype=torch.float32)
    check_inputs(x, name)
    y = None if target is None else _target(columns[target], target, name, first_row)
    batch = from_arrays(standardise(x), y, name)
    from dataclasses import replace

    return replace(batch, notes=("features standardised to mean 0 and variance 1",))


def _numbers(cells: list[Any], key: str, name: str, first_row: int) -> np.ndarray:
    values = np.empty(len(cells))
    for i, cell in enumerate(cells):
        try:
            values[i] = float(cell)
        except (TypeError, ValueError):
            shown = "empty" if cell in ("", None) else f"{str(cell)[:40]!r}"
            raise DataError(
                f"Column {key!r} of {name} is not numeric: row {i + first_row} is {shown}.",
                f"Encode or drop it, or name it as the target: --data {name.strip(chr(39))}:{key}.",
            ) from None
    return values


def _target(cells: list[Any], key: str, name: str, first_row: int) -> torch.Tensor:
    if any(not _is_number(cell) for cell in cells):  # words: classes, in alphabetical order
        classes = {label: i for i, label in enumerate(sorted({str(cell) for cell in cells}))}
        return torch.tensor([classes[str(cell)] for cell in cells])
    values = _numbers(cells, key, name, first_row)
    whole = np.isfinite(values).all() and (values == np.round(values)).all()
    # few distinct whole numbers starting at 0 or 1 are classes, anything else a real quantity
    if whole and values.min() in (0, 1) and len(np.unique(values)) <= max(2, len(values) // 5):
        return torch.tensor(values - values.min(), dtype=torch.int64)
    y = torch.tensor(values, dtype=torch.float32)[:, None]
    check_targets(y, len(y), name)
    return standardise(y)


def _is_number(cell: Any) -> bool:
    try:
        float(cell)
    except (TypeError, ValueError):
        return False
    return True


def _listed(names: list[str], limit: int = 12) -> str:
    shown = ", ".join(repr(name) for name in names[:limit])
    return shown + (f", ... ({len(names)} in all)" if len(names) > limit else "") or "nothing"


SUFFIXES: dict[str, Callable[[Path, str | None], Batch]] = {
    ".npy": _npy,
    ".npz": _npz,
    ".csv": _csv,
    ".parquet": _parquet,
    ".safetensors": _safetensors,
    ".pt": _pt,
}
