"""The envelope every ``--json`` output shares: schema, versions, seed."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import runpy
import sys
from pathlib import Path
from typing import Any

from kadanoff import __version__
from kadanoff.files import jsonable

__all__ = ["SCHEMA_VERSION", "dumps", "envelope", "versions"]

SCHEMA_VERSION = 1


def versions() -> dict[str, str]:
    """Versions of Kadanoff, torch and Python that made a result."""
    return {
        "kadanoff": __version__,
        "torch": _torch(),
        "python": platform.python_version(),
    }


def _torch() -> str:
    """The version of torch with its build (+cpu, +cu130), without importing it for that."""
    loaded = sys.modules.get("torch")
    if loaded is not None:
        return str(loaded.__version__)
    found = importlib.util.find_spec("torch")
    for folder in (found.submodule_search_locations or []) if found else []:
        file = Path(folder) / "version.py"
        if file.is_file():
            return str(runpy.run_path(str(file))["__version__"])
    return importlib.metadata.version("torch")


def envelope(kind: str, payload: dict[str, Any], *, seed: int | None = None) -> dict[str, Any]:
    """Wrap a result in ``schema_version``, ``kind``, ``versions`` and ``seed``, all JSON values.

    Parameters
    ----------
    kind : str
        What the result is: ``"diagnosis"``, ``"study"``, …
    payload : dict
        Its fields; anything that :func:`kadanoff.files.jsonable` takes.
    seed : int, optional
        None where nothing was drawn.
    """
    head = {
        "schema_version": SCHEMA_VERSION,
        "kind": kind,
        "versions": versions(),
        "seed": seed,
    }
    return head | jsonable(payload)


def dumps(tree: Any) -> str:
    """Return indented JSON without NaN (see :func:`kadanoff.files.jsonable`)."""
    return json.dumps(jsonable(tree), indent=1, ensure_ascii=False, allow_nan=False)
