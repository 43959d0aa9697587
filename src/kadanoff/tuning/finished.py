"""Runs of a sweep that are finished, kept in a file: an interrupted sweep goes on where it was."""

from __future__ import annotations

import hashlib
import json
import math
import os
from pathlib import Path
from typing import Any

from torch import Tensor

from kadanoff.errors import StorageError, UsageError
from kadanoff.files import write_json

__all__ = ["Finished"]


class Finished:
    """Losses by size, base rate and seed; without a path nothing is kept.

    Parameters
    ----------
    path : path or None
        The file; made by the first run that finishes.
    settings : dict
        What the losses depend on besides; a file made for other settings is refused.

    Raises
    ------
    StorageError
        The file cannot be read.
    UsageError
        It belongs to another sweep.
    """

    def __init__(self, path: str | os.PathLike[str] | None, settings: dict[str, Any]) -> None:
        self.path = None if path is None else Path(path)
        tensors = {k: _digest(v) for k, v in settings.items() if isinstance(v, Tensor)}
        self.settings = json.loads(json.dumps(settings | tensors, sort_keys=True))
        self.losses: dict[str, float] = {}
        if self.path is None or not self.path.exists():
            return
        try:
            held = json.loads(self.path.read_text("utf-8"))
            theirs = held["settings"]
            self.losses = {k: math.inf if v is None else float(v) for k, v in held["runs"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise StorageError(
                f"{str(self.path)!r} is no checkpoint of a sweep ({error}).",
                "Choose another file, or remove this one.",
            ) from None
        if theirs != self.settings:
            other = sorted(k for k in self.settings if theirs.get(k) != self.settings[k])
            raise UsageError(
                f"{str(self.path)!r} was made with other settings ({', '.join(other)}).",
                "Choose another file, or remove this one.",
            )

    def loss(self, width: int, depth: int, base: float, seed: int) -> float | None:
        """The loss of a finished run, or None.

        Parameters
        ----------
        width, depth : int
        base : float
            Rate, or value of the knob.
        seed : int
        """
        return self.losses.get(_name(width, depth, base, seed))

    def keep(self, width: int, depth: int, base: float, seed: int, loss: float) -> None:
        """Add a finished run and write the file.

        Parameters
        ----------
        width, depth : int
        base : float
            Rate, or value of the knob.
        seed : int
        loss : float
        """
        self.losses[_name(width, depth, base, seed)] = loss
        if self.path is not None:
            runs = {k: v if math.isfinite(v) else None for k, v in self.losses.items()}
            write_json(self.path, {"settings": self.settings, "runs": runs})


def _name(width: int, depth: int, base: float, seed: int) -> str:
    return f"width {width}, depth {depth}, base {base!r}, seed {seed}"


def _digest(x: Tensor) -> str:
    return hashlib.sha256(x.detach().cpu().contiguous().numpy().tobytes()).hexdigest()
