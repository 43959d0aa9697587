"""The envelope every ``--json`` output shares: schema, versions, seed."""

from __future__ import annotations

import json
import platform
from typing import Any

from kadanoff import __version__
from kadanoff.files import jsonable

__all__ = ["SCHEMA_VERSION", "dumps", "envelope", "versions"]

SCHEMA_VERSION = 1


def versions() -> dict[str, str]:
    """Versions of Kadanoff, torch and Python that made a result."""
    import torch

    return {
        "kadanoff": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }


def envelope(kind: str, payload: dict[str, Any], *, seed: int | None = None) -> dict[str, Any]:
    """Wrap a result in ``schema_version``, ``kind``, ``versions`` and ``seed``, all JSON values."""
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
