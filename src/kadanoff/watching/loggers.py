"""Scalars to any logger, through one small protocol.

A logger is anything with ``log(scalars, step)``. What people have is taken as it is: a TensorBoard
``SummaryWriter``, a Weights & Biases run, ``mlflow`` or its client, a logger of Lightning, a path
that ends in ``.csv``, a function.
"""

from __future__ import annotations

import csv
import io
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from kadanoff.errors import UsageError
from kadanoff.files import atomic_write
from kadanoff.watching.film import Film, Frame

__all__ = ["CsvLogger", "Logger", "logger_of", "scalars_of"]

PREFIX = "watch/"


@runtime_checkable
class Logger(Protocol):
    """Where scalars go."""

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Take the scalars of one step.

        Parameters
        ----------
        scalars : mapping
            Finite numbers by name: ``watch/loss``, ``watch/second_moment/blocks.0.mlp``.
        step : int
        """


class _Called:
    """A logger made of a function."""

    def __init__(self, function: Callable[[dict[str, float], int], Any]) -> None:
        self._function = function

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Hand the scalars on."""
        self._function(dict(scalars), step)


class CsvLogger:
    """A table that grows by a row a look; columns that appear later are added.

    Parameters
    ----------
    path : path
        Written anew at each look, all at once; rows it holds from an earlier run stay.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._rows: list[dict[str, Any]] = []
        if self._path.exists():
            with self._path.open(newline="", encoding="utf-8") as stream:
                self._rows = list(csv.DictReader(stream))

    def log(self, scalars: Mapping[str, float], step: int) -> None:
        """Append a row."""
        self._rows = [row for row in self._rows if int(row["step"]) < step]
        self._rows.append({"step": step, **scalars})
        columns = list(dict.fromkeys(name for row in self._rows for name in row))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="")
        writer.writeheader()
        writer.writerows(self._rows)
        atomic_write(self._path, text.getvalue())


def logger_of(target: Any) -> Logger:
    """What someone logs with, as a :class:`Logger`.

    Parameters
    ----------
    target
        A path ending in ``.csv``; an object with ``add_scalar(name, value, step)``
        (TensorBoard), ``log_metrics(scalars, step)`` (MLflow, Lightning) or
        ``log(scalars, step)`` (Weights & Biases); or a function of the same two.

    Raises
    ------
    UsageError
        Something else.
    """
    if isinstance(target, (str, os.PathLike)):
        if not os.fspath(target).endswith(".csv"):
            raise UsageError(f"Cannot log into {os.fspath(target)!r}.", "Name a .csv file.")
        if not Path(target).parent.is_dir():
            raise UsageError(f"There is no folder {str(Path(target).parent)!r}.", "Make it first.")
        return CsvLogger(target)
    if hasattr(target, "add_scalar"):
        writer = target

        def add(scalars: dict[str, float], step: int) -> None:
            for name, value in scalars.items():
                writer.add_scalar(name, value, step)

        return _Called(add)
    if hasattr(target, "log_metrics"):
        return _Called(lambda scalars, step: target.log_metrics(scalars, step=step))
    if hasattr(target, "log"):
        return _Called(lambda scalars, step: target.log(scalars, step=step))
    if callable(target):
        return _Called(target)
    raise UsageError(
        f"log = {target!r} is no logger.",
        "Pass a .csv path, a SummaryWriter, a wandb run, mlflow, or log(scalars, step).",
    )


def scalars_of(frame: Frame, film: Film) -> dict[str, float]:
    """The finite numbers of a frame and of the last pulse, by name.

    Parameters
    ----------
    frame : Frame
    film : Film
    """
    found = {PREFIX + name: value for name, value in frame.scalars.items()}
    if film.pulses:
        found[PREFIX + "training_loss"] = film.pulses[-1].loss
        found[PREFIX + "training_gradient"] = film.pulses[-1].gradient
    for signal, values in frame.layers.items():
        found |= {f"{PREFIX}{signal}/{_safe(name)}": v for name, v in values.items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _safe(name: str) -> str:
    """A layer's name of the letters that every logger takes."""
    kept = "".join(c if c.isalnum() or c in "._- " else " " for c in name)
    return " ".join(kept.split()) or "model"
