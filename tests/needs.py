"""Optional parts in tests: what is missing is named, and where all is installed nothing may be."""

from __future__ import annotations

import importlib
import os
from typing import Any

import pytest

__all__ = ["needs"]

# `python bootstrap.py test` installs every extra and says so
EVERYTHING = "KADANOFF_TEST_EVERYTHING"


def needs(module: str, extra: str) -> Any:
    """Import an optional package, or skip the test with what to install.

    Parameters
    ----------
    module : str
        Importable name, e.g. ``"transformers"``.
    extra : str
        The extra of this project that brings it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        told = f"{module} is missing on this machine ({error}): pip install '.[{extra}]'"
        if os.environ.get(EVERYTHING):
            pytest.fail(told)
        pytest.skip(told, allow_module_level=True)
