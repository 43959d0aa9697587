"""From what the user typed after ``--data`` to a batch."""

from __future__ import annotations

import difflib
import inspect
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from kadanoff.data.batch import Batch, check_inputs
from kadanoff.data.built_in import bundled
from kadanoff.data.files import SUFFIXES, from_arrays, labelled, read_file
from kadanoff.data.forms import as_tensor
from kadanoff.data.objects import attribute
from kadanoff.errors import DataError

__all__ = ["NAMES", "load", "load_whole"]

NAMES = ("digits", "breast_cancer", "wine", "diabetes", "text")


def load(source: str | os.PathLike[str], *, batch: int | None = 128, seed: int = 0) -> Batch:
    """Load a dataset and draw a batch from it.

    Parameters
    ----------
    source : str or path
        A bundled dataset (``digits``, ``breast_cancer``, ``wine``, ``diabetes``, ``text``); a file
        ``.npy``, ``.npz`` (arrays ``X`` and ``y``), ``.csv``, ``.parquet``, ``.safetensors`` or
        ``.pt``, optionally followed by ``:column`` to name the target; or a callable
        ``package.module:function`` or ``path/to/file.py:function`` that returns inputs, a pair
        (inputs, targets), a mapping of keyword arguments for the model, or a torch data loader.
    batch : int or None
        Number of samples, drawn without replacement; None returns all.
    seed : int
        Seed of that draw, passed on to a callable that takes ``seed``.

    Returns
    -------
    Batch
        Tables and bundled data are standardised (mean 0 and variance 1 for each feature; for
        images over all pixels together); arrays and tensors are taken as they are.

    Raises
    ------
    DataError
        The data is missing, empty, complex, NaN or infinite, or not numeric.
    MissingExtraError
        The file's format needs an optional package.
    """
    return load_whole(source, batch=batch, seed=seed).sample(batch, seed)


def load_whole(source: str | os.PathLike[str], *, batch: int | None = 128, seed: int = 0) -> Batch:
    """Load a dataset and draw nothing from it; see :func:`load`.

    Parameters
    ----------
    source : str or path
        A name, a file, or ``module:callable``.
    batch : int, optional
        Passed on to a callable that takes it; bounds what is read of a torch dataset.
    seed : int
        Passed on to a callable that takes it.
    """
    if batch is not None and batch < 1:
        raise DataError(
            f"A batch of {batch} samples is empty.", "Ask for at least one (--batch 128)."
        )
    if not isinstance(source, (str, os.PathLike)):
        raise DataError(
            f"Data is named by a string or a path, got {type(source).__name__}.",
            f"Use one of {', '.join(NAMES)}, a file, or package.module:function.",
        )
    text = os.fspath(source)
    if text in NAMES:
        return bundled(text)
    path, column = _split(text)
    if path.suffix.lower() in SUFFIXES:
        return read_file(path, column)
    if ":" in text:
        return _called(text, batch, seed)
    near = difflib.get_close_matches(text, NAMES, n=1)
    if near:
        raise DataError(f"There is no dataset {text!r}.", f"Did you mean {near[0]!r}?")
    kinds = ", ".join(SUFFIXES)
    if path.suffix:
        raise DataError(
            f"Data files of type {path.suffix!r} are not supported ({text!r}).",
            f"Use one of {kinds}, or package.module:function.",
        )
    raise DataError(
        f"There is no dataset {text!r}.",
        f"Bundled are {', '.join(NAMES)}; files may be {kinds}; or give package.module:function.",
    )


def _split(text: str) -> tuple[Path, str | None]:
    head, separator, tail = text.rpartition(":")
    if separator and Path(head).suffix.lower() in SUFFIXES:
        return Path(head), tail
    return Path(text), None


def _called(text: str, batch: int | None, seed: int) -> Batch:
    function = attribute(text, what="data")
    if not callable(function):
        return _from_value(function, text, batch)
    known = {"batch": batch, "seed": seed}
    try:
        accepted = set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        accepted = set()
    try:
        given = {key: value for key, value in known.items() if value is not None}
        value = function(**{key: given[key] for key in given if key in accepted})
    except Exception as error:
        raise DataError(
            f"The data callable {text!r} raised {type(error).__name__}: {error}",
            "It is called without arguments, or with `batch` and `seed` if it takes them.",
        ) from error
    return _from_value(value, text, batch)


def _from_value(value: Any, text: str, batch: int | None) -> Batch:
    name = repr(text)
    if isinstance(value, Batch):
        return replace(value, name=text)
    if isinstance(value, torch.utils.data.Dataset) and hasattr(value, "__len__"):
        count = min(batch or len(value), len(value))  # pyright: ignore[reportArgumentType]
        value = torch.utils.data.default_collate([value[i] for i in range(count)])
    elif isinstance(value, torch.utils.data.DataLoader):
        value = next(iter(value), None)
    if value is None:
        raise DataError(f"{name} gave nothing.", "Return inputs or (inputs, targets).")
    if isinstance(value, Mapping):
        return _structured(dict(value), None, name)
    if isinstance(value, (tuple, list)) and len(value) == 2:
        inputs, targets = value
        if isinstance(inputs, Mapping):
            return _structured(dict(inputs), targets, name)
        if isinstance(inputs, tuple):
            return _structured(inputs, targets, name)
        return from_arrays(value[0], value[1], name)
    if hasattr(value, "__array__") or isinstance(value, torch.Tensor):
        return from_arrays(value, None, name)
    raise DataError(
        f"{name} gave a {type(value).__name__}.",
        "Return an array, a tensor, a mapping of the model's arguments, or a pair (inputs, "
        "targets); several arguments as ((a, b), targets).",
    )


def _structured(inputs: Any, targets: Any, name: str) -> Batch:
    inputs = (
        {key: as_tensor(item) for key, item in inputs.items()}
        if isinstance(inputs, dict)
        else tuple(map(as_tensor, inputs))
    )
    for key, item in inputs.items() if isinstance(inputs, dict) else enumerate(inputs):
        if isinstance(item, torch.Tensor):
            check_inputs(item, f"{key!r} of {name}")
    result = labelled(inputs, targets, name)
    if len(result) == 0:
        raise DataError(f"{name} gave no tensor of samples.", "Give some.")
    return result
